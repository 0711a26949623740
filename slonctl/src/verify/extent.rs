//! Comparing as much as can be compared in a given time: the proof that ends a change of roles.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use trunkline_sql::copy::SetTable;
use trunkline_sql::verification;

use super::point::{Pair, Purpose};
use super::table::{Walk, differing_sequences, tables};
use super::{Manner, VerifyError};
use crate::duration;
use crate::view::ClusterView;

/// How long a subscriber may take to come to a SYNC where no time is set.
const WAIT: Duration = Duration::from_secs(300);
/// How long the server may take to hear that a statement is given up.
const CANCELLING: Duration = Duration::from_secs(5);
/// Most tables named.
const MOST_NAMES: usize = 8;

/// How much is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything, however long it takes.
    All,
    /// Nothing.
    None,
    /// Small tables first, until the time is over.
    Within(Duration),
}

/// Reads `all`, `none` or a time.
pub(crate) fn parse(text: &str) -> Result<Extent, String> {
    match text.trim() {
        "all" => Ok(Extent::All),
        "none" => Ok(Extent::None),
        time => duration::parse(time)
            .map(Extent::Within)
            .map_err(|error| format!("{error}, or `all`, or `none`")),
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    /// Tables that were compared and are equal.
    equal: usize,
    /// Rows in them.
    rows: i64,
    /// First and last SYNC at which was compared.
    syncs: Option<(i64, i64)>,
    /// What differs, in words.
    differing: Vec<String>,
    /// Names of tables that time was too short for.
    left: Vec<String>,
}

impl Glance {
    /// Whether nothing that was compared differs.
    pub(crate) fn is_equal(&self) -> bool {
        self.differing.is_empty()
    }

    /// What was compared and what came of it; None: there was no time for anything.
    pub(crate) fn compared(&self, origin: i32, receiver: i32) -> Option<String> {
        let (first, last) = self.syncs?;
        let at = if first == last {
            format!("SYNC {first}")
        } else {
            format!("SYNCs {first} to {last}")
        };
        if !self.is_equal() {
            return Some(format!(
                "differs from node {origin} at {at} in {}; `slonctl verify --node {receiver}` names the rows, with \
                 `--repair` it makes them equal",
                self.differing.join(", ")
            ));
        }
        let all = if self.left.is_empty() { "all " } else { "" };
        Some(format!(
            "has the same rows as node {origin} at {at}: {all}{} tables, {} rows",
            self.equal, self.rows
        ))
    }

    /// What was left out, and how it is made good; None: nothing.
    pub(crate) fn left(&self, receiver: i32) -> Option<String> {
        if self.left.is_empty() {
            return None;
        }
        let mut names = self.left[..self.left.len().min(MOST_NAMES)].join(", ");
        if self.left.len() > MOST_NAMES {
            let _ = write!(names, " and {} more", self.left.len() - MOST_NAMES);
        }
        Some(format!(
            "not compared, for want of time: {names}; `slonctl verify --node {receiver}` does it"
        ))
    }
}

/// Compares a subscriber with the origin of `sets`; None: without a limit in time.
pub(crate) async fn glance(
    view: &ClusterView,
    origin: i32,
    receiver: i32,
    sets: Vec<i32>,
    limit: Option<Duration>,
) -> Result<Glance, VerifyError> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let pair = Pair::connect(view, origin, receiver, sets, limit.unwrap_or(WAIT)).await?;
    let mut open = by_size(&pair).await?;
    let mut glance = Glance::default();
    let compared = within(deadline, compare(&pair, &mut open, &mut glance)).await;
    glance.left = open.iter().map(|(_, table)| table.qualified()).collect();
    match compared {
        Some(Ok(())) => {}
        // It does not come along: that is a matter of time as well.
        Some(Err(VerifyError::Behind { .. })) if deadline.is_some() => {}
        Some(Err(error)) => return Err(error),
        None => {
            for session in [&pair.source, &pair.target] {
                // The session ends with the pair in any case.
                let _ = tokio::time::timeout(CANCELLING, session.cancel()).await;
            }
        }
    }
    Ok(glance)
}

/// The tables of the pair's sets with their sets, the largest first.
async fn by_size(pair: &Pair) -> Result<Vec<(i32, SetTable)>, VerifyError> {
    let sizes = verification::table_bytes(&pair.source, &pair.cluster, &pair.sets)
        .await
        .map_err(VerifyError::database(pair.origin, "reading sizes of tables"))?;
    let mut tables = tables(pair).await?;
    let size = |table: &SetTable| {
        sizes
            .iter()
            .find(|(id, _)| *id == table.id)
            .map_or(0, |(_, bytes)| *bytes)
    };
    tables.sort_by_key(|(_, table)| std::cmp::Reverse((size(table), table.id)));
    Ok(tables)
}

/// Takes tables off the end of `open` as they are compared.
async fn compare(pair: &Pair, open: &mut Vec<(i32, SetTable)>, glance: &mut Glance) -> Result<(), VerifyError> {
    let point = pair.point(Purpose::Compare).await?;
    glance.syncs = Some((point.sync, point.sync));
    for sequence in differing_sequences(&point) {
        glance.differing.push(format!(
            "sequence {} ({} and {})",
            sequence.name, sequence.at_origin, sequence.at_receiver
        ));
    }
    let mut walk = Walk::new(pair, Manner::default(), point);
    while let Some((set, table)) = open.last() {
        let (report, differences) = walk.table(*set, table).await?;
        glance.syncs = glance.syncs.map(|(first, _)| (first, report.syncs.1));
        if differences.is_empty() {
            glance.equal += 1;
            glance.rows += report.origin_rows;
        } else {
            let more = if report.more { "more than " } else { "" };
            glance
                .differing
                .push(format!("{}: {more}{} rows", report.name, differences.len()));
        }
        open.pop();
    }
    walk.close().await
}

/// The outcome, unless the deadline comes first.
async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.ok(),
        None => Some(work.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_a_word_or_a_time() {
        assert_eq!(parse("all"), Ok(Extent::All));
        assert_eq!(parse("none"), Ok(Extent::None));
        assert_eq!(parse("2m"), Ok(Extent::Within(Duration::from_secs(120))));
        assert!(parse("some").is_err_and(|error| error.contains("`all`, or `none`")));
    }

    #[test]
    fn what_was_left_is_named_but_not_without_end() {
        let mut glance = Glance {
            left: (0..20).map(|n| format!("t{n}")).collect(),
            ..Glance::default()
        };
        let left = glance.left(3).unwrap_or_default();
        assert!(left.contains("t7 and 12 more; `slonctl verify --node 3`"), "{left}");
        assert_eq!(glance.compared(1, 3), None);
        glance.syncs = Some((5, 5));
        glance.left.clear();
        glance.equal = 2;
        assert_eq!(
            glance.compared(1, 3).as_deref(),
            Some("has the same rows as node 1 at SYNC 5: all 2 tables, 0 rows")
        );
    }
}
