//! The report as text.

use std::fmt;

use super::report::{NodeReport, NodeState, Report, SetReport};
use crate::console::{Said, age};
use crate::view::Lag;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "cluster {} at {}: {} of {} nodes answer\n",
            self.cluster,
            self.at,
            self.answered,
            self.nodes.len()
        )?;
        writeln!(f, "{:<6}{:<13}{:<36}slon", "node", "state", "role")?;
        let mut said = Said::default();
        for node in &self.nodes {
            write_node(f, node, &mut said)?;
        }
        for set in &self.sets {
            write_set(f, set)?;
        }
        write_list(
            f,
            "What holds back cleanup",
            self.cleanup.iter().map(|held| held.reason.as_str()),
        )?;
        write_list(
            f,
            "Changes of the cluster under way",
            self.calls.iter().map(|call| call.text.as_str()),
        )?;
        write_list(f, "Note", self.notes.iter().map(String::as_str))
    }
}

fn write_list<'a>(f: &mut fmt::Formatter<'_>, title: &str, lines: impl Iterator<Item = &'a str>) -> fmt::Result {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        writeln!(f, "\n{title}")?;
    }
    for line in lines {
        writeln!(f, "  - {}", indented(line, 4))?;
    }
    Ok(())
}

fn write_node(f: &mut fmt::Formatter<'_>, node: &NodeReport, said: &mut Said) -> fmt::Result {
    let state = match node.state {
        NodeState::Up => "up",
        NodeState::Unreachable => "UNREACHABLE",
        NodeState::Outcast => "OUTCAST",
        NodeState::Fenced => "FENCED",
    };
    writeln!(f, "{:<6}{state:<13}{:<36}{}", node.node, role(node), slon(node))?;
    for reason in node.reasons.iter().flat_map(|reason| reason.lines()) {
        writeln!(f, "      {}", said.once(reason))?;
    }
    if node.state == NodeState::Unreachable
        && let Some(last) = &node.last_event
    {
        writeln!(
            f,
            "      last heard of {} ago (its event {}, by the word of node {})",
            age(last.age_seconds),
            last.event,
            last.told_by
        )?;
    }
    for fence in &node.fenced_sets {
        let origin = fence
            .new_origin
            .map_or_else(String::new, |origin| format!(", whose origin is node {origin} now"));
        writeln!(
            f,
            "      must not write to set {}{origin}, for {} now: {}",
            fence.set,
            age(fence.since_seconds),
            indented(&fence.reason, 8)
        )?;
    }
    for trouble in &node.troubles {
        writeln!(
            f,
            "      {} is stuck for {}, {} attempts: {}",
            trouble.actor,
            age(trouble.since_seconds),
            trouble.attempts,
            indented(&said.once(&trouble.message), 8)
        )?;
    }
    for missing in &node.missing_indexes {
        writeln!(
            f,
            "      index {} of table {} is missing for {}, it could not be built after the copy: {}\n      when that is mended: {}",
            missing.index,
            missing.table,
            age(missing.since_seconds),
            indented(&said.once(&missing.reason), 8),
            indented(&missing.definition, 8)
        )?;
    }
    Ok(())
}

fn role(node: &NodeReport) -> String {
    let mut parts = Vec::new();
    let mut add = |word: &str, sets: &[i32]| {
        if !sets.is_empty() {
            parts.push(format!("{word} {}", numbers(sets)));
        }
    };
    add("origin of", &node.origin_of);
    add("receives", &node.receives);
    let provides: Vec<i32> = node
        .provides
        .iter()
        .copied()
        .filter(|set| !node.origin_of.contains(set))
        .collect();
    add("provides", &provides);
    if parts.is_empty() {
        return "none".to_owned();
    }
    parts.join(", ")
}

fn numbers(sets: &[i32]) -> String {
    sets.iter().map(ToString::to_string).collect::<Vec<_>>().join("+")
}

fn slon(node: &NodeReport) -> String {
    let Some(slon) = &node.slon else {
        return "not known".to_owned();
    };
    let since = slon.since_seconds.map(age);
    if !slon.alive {
        return since.map_or_else(
            || "NOT RUNNING".to_owned(),
            |since| format!("NOT RUNNING, last sign {since} ago"),
        );
    }
    let place = match (slon.pid, &slon.host) {
        (Some(pid), Some(host)) => format!(" (pid {pid} on {host})"),
        _ => String::new(),
    };
    format!(
        "up {}{place}",
        since.unwrap_or_else(|| "for an unknown time".to_owned())
    )
}

fn write_set(f: &mut fmt::Formatter<'_>, set: &SetReport) -> fmt::Result {
    let comment = if set.comment.is_empty() {
        String::new()
    } else {
        format!(" ({})", set.comment)
    };
    let locked = if set.locked { ", LOCKED" } else { "" };
    let told = if set.told_by == set.origin {
        String::new()
    } else {
        format!(", by the word of node {}", set.told_by)
    };
    writeln!(
        f,
        "\nset {}{comment}: origin node {}{locked}, {}, {}{told}",
        set.set,
        set.origin,
        count(set.tables, "table"),
        count(set.sequences, "sequence")
    )?;
    if set.subscribers.is_empty() {
        return writeln!(f, "  no subscribers");
    }
    for subscriber in &set.subscribers {
        let forward = if subscriber.forward {
            "forwards"
        } else {
            "does not forward"
        };
        let state = if subscriber.active {
            subscriber.lag.as_ref().map_or_else(|| "lag not known".to_owned(), lag)
        } else {
            "first copy not done".to_owned()
        };
        writeln!(
            f,
            "  node {:<4} from node {:<4} {forward:<18}{state}",
            subscriber.node, subscriber.provider
        )?;
    }
    Ok(())
}

fn lag(lag: &Lag) -> String {
    let rows = match lag.rows {
        Some(rows) if lag.rows_at_least => format!("{rows} rows or more"),
        Some(rows) => count(rows, "row"),
        None => "rows not known".to_owned(),
    };
    let events = count(lag.events, "event");
    if let Some(ago) = lag.heard_seconds_ago {
        return format!(
            "was behind {}, {events}, {rows} when node {} last heard of the origin, {} ago (stale)",
            age((lag.seconds - ago).max(0.0)),
            lag.told_by,
            age(ago)
        );
    }
    let level = lag.events == 0 && lag.rows.unwrap_or(0) == 0;
    match (level, lag.stale) {
        (true, false) => "up to date".to_owned(),
        (false, false) => format!("behind {}, {events}, {rows}", age(lag.seconds)),
        (true, true) => format!(
            "has all that node {} got from the origin, up to {} ago (stale: what came after that is not known)",
            lag.told_by,
            lag.newest_seconds.map_or_else(|| "an unknown time".to_owned(), age)
        ),
        (false, true) => format!(
            "behind {}, {events}, {rows} (stale: of what node {} last got from the origin)",
            age(lag.seconds),
            lag.told_by
        ),
    }
}

/// `1 row`, `2 rows`.
fn count(number: i64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// The text with all lines but the first moved in by so many columns.
fn indented(text: &str, columns: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:columns$}", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_lines_stand_below_the_first() {
        assert_eq!(indented("one\ntwo\nthree\n", 4), "one\n    two\n    three");
    }
}
