//! The waits slonik adds by itself, so that an event never overtakes the configuration it builds on.

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Confirmation};

use super::Lagging;
use crate::failure::Failure;
use crate::interpreter::Interpreter;
use crate::progress::{Announcements, Pace, duration_text};

/// Which events of the other nodes a wait is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CaughtUpWith<'a> {
    /// The newest event of every node but these.
    AllBut(&'a [Id]),
    /// The newest `DROP_SET` of every node.
    DroppedSets,
}

impl Interpreter<'_> {
    /// Before an event is made on `node` after one on another node: `node` must have confirmed that one.
    ///
    /// `always`: also where automatic waits are switched off (`-w`).
    pub(crate) async fn wait_for_last_event_node(&mut self, node: Id, always: bool) -> Result<(), Failure> {
        if !(self.options.automatic_waits || always) {
            return Ok(());
        }
        let Some(previous) = self.memory.last_event_node().filter(|previous| *previous != node) else {
            return Ok(());
        };
        if !self.block.may_wait() {
            return Err(Failure::Refused(format!(
                "the event origin can not be changed inside of a try block: events were made on node {previous} \
                 before, this one is made on node {node}; begin another try block here"
            )));
        }
        let Some(seqno) = self.memory.last_event(previous).filter(|seqno| *seqno > 0) else {
            return Ok(());
        };
        if self.counts_as_inactive(previous, node).await {
            return Ok(());
        }
        self.wait_until_confirmed(node, &[(previous, seqno)]).await
    }

    /// Waits until `node` has confirmed the newest events of the other nodes of the preamble.
    pub(crate) async fn wait_until_caught_up(&mut self, node: Id, with: CaughtUpWith<'_>) -> Result<(), Failure> {
        if !self.options.automatic_waits {
            return Ok(());
        }
        if !self.block.may_wait() {
            return Err(Failure::Refused(
                "WAIT operation forbidden inside a try block; put the statement first in the block or before it"
                    .to_owned(),
            ));
        }
        let mut wanted = Vec::new();
        for other in self.connections.nodes() {
            let known = self.memory.last_event(other);
            let (Some(newest), true) = (known, other != node) else {
                continue;
            };
            match with {
                CaughtUpWith::AllBut(ignored) if ignored.contains(&other) => {}
                CaughtUpWith::AllBut(_) => wanted.push((other, newest)),
                CaughtUpWith::DroppedSets => {
                    // What cannot be asked now was already reported when the block began.
                    if let Some(rehearsal) = self.connections.rehearsal()
                        && (rehearsal.planned_event(newest).is_some() || !rehearsal.is_installed(other))
                    {
                        let drops = rehearsal
                            .planned_event(newest)
                            .is_some_and(|event| event.starts_with("DROP_SET"));
                        wanted.extend(drops.then_some((other, newest)));
                        continue;
                    }
                    let Some(session) = self.connections.open_session(other) else {
                        continue;
                    };
                    let dropped = admin::drop_set_events(session, &self.cluster).await;
                    wanted.push((other, dropped.map_err(Failure::of_query("newest DROP_SET event"))?));
                }
            }
        }
        wanted.retain(|(_, seqno)| *seqno > 0);
        self.wait_until_confirmed(node, &wanted).await
    }

    /// Waits, without a limit, until `node` says that it has confirmed each (origin, event).
    pub(crate) async fn wait_until_confirmed(&mut self, node: Id, wanted: &[(Id, i64)]) -> Result<(), Failure> {
        if wanted.is_empty() {
            return Ok(());
        }
        if self.connections.rehearses() {
            return self.rehearse_confirmation(node, wanted).await;
        }
        let origins: Vec<Id> = wanted.iter().map(|(origin, _)| *origin).collect();
        let (mut pace, mut announcements) = (Pace::new(), Announcements::new());
        loop {
            let session = self.connections.session(node).await?;
            let known = admin::confirmation_of(session, &self.cluster, &origins, node)
                .await
                .map_err(Failure::of_query("confirmed events"))?;
            let open = still_open(wanted, &known, node);
            if open.is_empty() {
                if announcements.any() {
                    let after = duration_text(announcements.elapsed());
                    self.report.say(&format!("node {node} has caught up after {after}"));
                }
                return Ok(());
            }
            if announcements.due().is_some() {
                let events: Vec<String> = open
                    .iter()
                    .map(|lag| {
                        format!(
                            "({},{}) only at ({},{})",
                            lag.origin, lag.seqno, lag.origin, lag.confirmed
                        )
                    })
                    .collect();
                let events = events.join(", ");
                self.report
                    .say(&format!("waiting for events  {events} to be confirmed on node {node}"));
                for lag in open {
                    self.tell_obstacles(lag, node).await;
                }
            }
            pace.pause(None).await;
        }
    }

    /// Whether `observer` counts `node` as not active: then nobody waits for it.
    async fn counts_as_inactive(&mut self, observer: Id, node: Id) -> bool {
        let Some(session) = self.connections.open_session(observer) else {
            return false;
        };
        match admin::confirmation_of(session, &self.cluster, &[observer], node).await {
            Ok(known) => known.iter().any(|known| known.active != Some(true)),
            // The node cannot tell; the wait itself will say what is wrong.
            Err(_) => false,
        }
    }
}

/// What of `wanted` the node has not confirmed, by its own account. Events of an inactive origin are not waited for.
fn still_open(wanted: &[(Id, i64)], known: &[Confirmation], node: Id) -> Vec<Lagging> {
    wanted
        .iter()
        .filter_map(|(origin, seqno)| {
            let known = known.iter().find(|known| known.origin == *origin);
            if known.is_some_and(|known| known.has(*seqno) || known.origin_active == Some(false)) {
                return None;
            }
            let confirmed = known.and_then(|known| known.confirmed).unwrap_or(0);
            Some(Lagging {
                origin: *origin,
                seqno: *seqno,
                node,
                confirmed,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(origin: Id, confirmed: Option<i64>, origin_active: Option<bool>) -> Confirmation {
        Confirmation {
            origin,
            node: 9,
            confirmed,
            active: Some(true),
            origin_active,
        }
    }

    #[test]
    fn inactive_origins_and_confirmed_events_are_not_waited_for() {
        let wanted = [(1, 10), (2, 10), (3, 10), (4, 10)];
        let answers = [
            known(1, Some(10), Some(true)),
            known(2, Some(3), Some(false)),
            known(3, Some(9), Some(true)),
        ];
        let open = still_open(&wanted, &answers, 9);
        assert_eq!(
            open,
            [
                Lagging {
                    origin: 3,
                    seqno: 10,
                    node: 9,
                    confirmed: 9
                },
                Lagging {
                    origin: 4,
                    seqno: 10,
                    node: 9,
                    confirmed: 0
                }
            ]
        );
    }
}
