//! A plan as people read it.

use std::fmt::{self, Display, Formatter};

use super::{Plan, PlannedStatement, Step};

/// Longest statement that is shown; the text of `execute script` may be long.
const LONGEST: usize = 400;

impl Display for Plan {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        for statement in &self.statements {
            write!(out, "{statement}")?;
        }
        let count = self.statements.len();
        let statements = if count == 1 { "statement" } else { "statements" };
        write!(out, "dry run: {count} {statements}, nothing was changed; ")?;
        match self.obstacles().count() {
            0 => write!(out, "every precondition holds")?,
            1 => write!(out, "1 precondition does not hold")?,
            more => write!(out, "{more} preconditions do not hold")?,
        }
        if let Some(stop) = self.stop() {
            write!(out, "; the script would end at {} with exit code 255", stop.place)?;
        }
        writeln!(out)
    }
}

impl Display for PlannedStatement {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.place)?;
        if !self.runs {
            write!(out, "(will not run) ")?;
        }
        for block in &self.blocks {
            write!(out, "[{block}] ")?;
        }
        writeln!(out, "{}", shortened(&self.statement))?;
        for step in &self.steps {
            writeln!(out, "  {step}")?;
        }
        let word = if self.handled { "fails, handled" } else { "cannot" };
        for obstacle in &self.obstacles {
            writeln!(out, "  {word}: {obstacle}")?;
        }
        for note in &self.notes {
            writeln!(out, "  note: {note}")?;
        }
        if self.stops {
            writeln!(
                out,
                "  the script stops here, exit code 255; what follows is planned as if this had worked"
            )?;
        }
        Ok(())
    }
}

impl Display for Step {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait { node, until } => write!(out, "node {node}: wait until {until}"),
            Self::Lock { node, tables } => write!(out, "node {node}: lock {}", tables.join(", ")),
            Self::Call { node, sql, events } => {
                write!(out, "node {node}: {}", shortened(sql))?;
                if events.is_empty() {
                    return Ok(());
                }
                write!(out, "  -> {}", events.join(", "))
            }
            Self::Work { node, what } => write!(out, "node {node}: {what}"),
            Self::Commit { node } => write!(out, "node {node}: commit"),
        }
    }
}

/// One line, cut where it is too long.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_from_top_to_bottom() {
        let statement = PlannedStatement {
            place: "s:3".to_owned(),
            statement: "create set (id = 1, origin = 1, comment = 'x');".to_owned(),
            blocks: vec!["try"],
            steps: vec![
                Step::Lock {
                    node: 1,
                    tables: vec!["sl_event_lock", "sl_config_lock"],
                },
                Step::Call {
                    node: 1,
                    sql: "select \"_c\".storeSet(1,\n 'x')".to_owned(),
                    events: vec!["STORE_SET"],
                },
                Step::Commit { node: 1 },
            ],
            obstacles: vec!["set 1 exists already".to_owned()],
            handled: false,
            stops: true,
            runs: true,
            notes: Vec::new(),
        };
        let plan = Plan {
            cluster: "c".to_owned(),
            notes: vec!["node 2 cannot be reached".to_owned()],
            statements: vec![statement],
            exit: Some(255),
        };
        assert_eq!(
            plan.to_string(),
            "note: node 2 cannot be reached\n\
             s:3: [try] create set (id = 1, origin = 1, comment = 'x');\n\
             \x20 node 1: lock sl_event_lock, sl_config_lock\n\
             \x20 node 1: select \"_c\".storeSet(1, 'x')  -> STORE_SET\n\
             \x20 node 1: commit\n\
             \x20 cannot: set 1 exists already\n\
             \x20 the script stops here, exit code 255; what follows is planned as if this had worked\n\
             dry run: 1 statement, nothing was changed; 1 precondition does not hold; the script would end at s:3 with exit \
             code 255\n"
        );
        assert!(!plan.holds());
        assert_eq!(plan.events(), [(1, "STORE_SET")]);
    }
}
