//! `wait for event`, and waiting for the copies of a set before it is merged.

use std::time::{Duration, Instant};

use trunkline_grammar::{Id, NodeChoice};
use trunkline_sql::admin::{self, Confirmation};

use super::Lagging;
use crate::failure::Failure;
use crate::interpreter::Interpreter;
use crate::progress::{Announcements, Pace, duration_text};

/// How long a wait survives the loss of the node it asks.
const RECONNECT_LIMIT: Duration = Duration::from_secs(60);

impl Interpreter<'_> {
    /// `wait for event (origin, confirmed, wait on, timeout)`.
    pub(crate) async fn wait_for_event(
        &mut self,
        origin: NodeChoice,
        confirmed: NodeChoice,
        wait_on: Id,
        timeout: u32,
    ) -> Result<(), Failure> {
        let wanted = self.events_to_wait_for(origin)?;
        if self.connections.rehearses() {
            self.rehearse_wait_for_event(&wanted, confirmed, wait_on, timeout).await;
            return Ok(());
        }
        let origins: Vec<Id> = wanted.iter().map(|(origin, _)| *origin).collect();
        let (mut pace, mut announcements) = (Pace::new(), Announcements::new());
        let deadline = (timeout > 0).then(|| Instant::now() + Duration::from_secs(timeout.into()));
        let mut lost: Option<Instant> = None;
        let mut warned = false;
        loop {
            let known = match self.confirmations(wait_on, &origins).await {
                Ok(known) => {
                    lost = None;
                    known
                }
                Err(failure) => {
                    // A server that restarts must not end a wait of hours; one that stays away must.
                    let since = *lost.get_or_insert_with(Instant::now);
                    let gone = self.connections.open_session(wait_on).is_none();
                    let overdue = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                    if !gone || overdue || since.elapsed() >= RECONNECT_LIMIT {
                        return Err(failure);
                    }
                    if announcements.due().is_some() {
                        failure.print(&self.report);
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    self.connections.retry(wait_on);
                    continue;
                }
            };
            let open = lagging(&wanted, &known, confirmed);
            for (origin, node) in never_confirming(&wanted, &known, confirmed).filter(|_| !warned) {
                self.report.say(&format!(
                    "warning: node {wait_on} knows no active node {node} that confirms events of node {origin}; it is \
                     not waited for"
                ));
            }
            warned = true;
            if open.is_empty() {
                return Ok(());
            }
            let expired = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if announcements.due().is_some() || expired {
                self.tell_open_events(&open, origin, confirmed, wait_on).await;
            }
            if expired {
                return Err(Failure::Plain(
                    "timeout exceeded while waiting for event confirmation".to_owned(),
                ));
            }
            pace.pause(deadline).await;
        }
    }

    /// The newest event of each selected node, as remembered.
    fn events_to_wait_for(&self, origin: NodeChoice) -> Result<Vec<(Id, i64)>, Failure> {
        match origin {
            NodeChoice::All => {
                let nodes = self.connections.nodes();
                Ok(self.memory.known().filter(|(node, _)| nodes.contains(node)).collect())
            }
            NodeChoice::Node(node) => {
                let seqno = self.memory.last_event(node).filter(|_| self.connections.knows(node));
                seqno
                    .map(|seqno| vec![(node, seqno)])
                    .ok_or_else(|| Failure::Refused(format!("script did not generate any event on node {node}")))
            }
        }
    }

    async fn confirmations(&mut self, wait_on: Id, origins: &[Id]) -> Result<Vec<Confirmation>, Failure> {
        let session = self.connections.session(wait_on).await?;
        admin::confirmations_of(session, &self.cluster, origins)
            .await
            .map_err(Failure::of_query("confirmed events"))
    }

    /// The original's lines, then what stands in the way.
    async fn tell_open_events(&mut self, open: &[Lagging], origin: NodeChoice, confirmed: NodeChoice, wait_on: Id) {
        for line in lines(open, origin, confirmed) {
            self.report.say(&line);
        }
        for lag in open {
            self.tell_obstacles(*lag, wait_on).await;
        }
    }

    /// Before `merge set`: waits until the copies of both sets are confirmed.
    pub(crate) async fn wait_for_subscriptions(&mut self, origin: Id, sets: [Id; 2]) -> Result<(), Failure> {
        if self.connections.rehearses() {
            self.rehearse_copies(origin, sets);
            return Ok(());
        }
        let (mut pace, mut announcements) = (Pace::new(), Announcements::new());
        loop {
            let mut busy = false;
            for set in sets {
                let call = admin::subscription_in_progress(&self.cluster, set);
                busy |= self.connections.run(origin, &call).await?.as_deref() == Some("t");
            }
            if !busy {
                return Ok(());
            }
            if let Some(elapsed) = announcements.due() {
                self.report.say("subscription in progress before mergeSet. waiting");
                let waited = duration_text(elapsed);
                for set in sets {
                    let session = self.connections.session(origin).await?;
                    let open = admin::open_subscriptions(session, &self.cluster, set)
                        .await
                        .map_err(Failure::of_query("subscriptions in progress"))?;
                    for (event_origin, seqno, node) in open {
                        self.report.say(&format!(
                            "set {set} is still being copied to node {node} after {waited}"
                        ));
                        let confirmed = self.confirmed_here(origin, event_origin, node).await;
                        let lag = Lagging {
                            origin: event_origin,
                            seqno,
                            node,
                            confirmed,
                        };
                        self.tell_obstacles(lag, origin).await;
                    }
                }
            }
            pace.pause(None).await;
        }
    }

    async fn confirmed_here(&mut self, asked: Id, origin: Id, node: Id) -> i64 {
        let Some(session) = self.connections.open_session(asked) else {
            return 0;
        };
        let known = admin::confirmation_of(session, &self.cluster, &[origin], node)
            .await
            .unwrap_or_default();
        known.first().and_then(|known| known.confirmed).unwrap_or(0)
    }
}

/// Nodes that count and have not confirmed: those that are active and have confirmed anything of the origin before.
fn lagging(wanted: &[(Id, i64)], known: &[Confirmation], confirmed: NodeChoice) -> Vec<Lagging> {
    let mut open = Vec::new();
    for (origin, seqno) in wanted {
        for known in known
            .iter()
            .filter(|known| known.origin == *origin && known.active == Some(true))
        {
            let meant = match confirmed {
                NodeChoice::All => true,
                NodeChoice::Node(node) => known.node == node,
            };
            if meant && !known.has(*seqno) {
                let confirmed = known.confirmed.unwrap_or(0);
                open.push(Lagging {
                    origin: *origin,
                    seqno: *seqno,
                    node: known.node,
                    confirmed,
                });
            }
        }
    }
    open
}

/// The (origin, node) pairs for which a node was named that never confirmed anything: nobody waits for it.
fn never_confirming<'a>(
    wanted: &'a [(Id, i64)],
    known: &'a [Confirmation],
    confirmed: NodeChoice,
) -> impl Iterator<Item = (Id, Id)> + 'a {
    wanted.iter().filter_map(move |(origin, _)| match confirmed {
        NodeChoice::Node(node) if node != *origin => {
            let counts =
                |known: &Confirmation| known.origin == *origin && known.node == node && known.active == Some(true);
            (!known.iter().any(counts)).then_some((*origin, node))
        }
        _ => None,
    })
}

/// One line per awaited event, in the original's form.
fn lines(open: &[Lagging], origin: NodeChoice, confirmed: NodeChoice) -> Vec<String> {
    let all = origin == NodeChoice::All || confirmed == NodeChoice::All;
    let mut lines: Vec<((Id, i64), String)> = Vec::new();
    for lag in open {
        let event = (lag.origin, lag.seqno);
        let state = format!("node {} only on event {}", lag.node, lag.confirmed);
        match lines.last_mut().filter(|(last, _)| *last == event && all) {
            Some((_, line)) => {
                line.push_str(", ");
                line.push_str(&state);
            }
            None if all => lines.push((
                event,
                format!("waiting for event ({},{}).  {state}", lag.origin, lag.seqno),
            )),
            None => lines.push((
                event,
                format!(
                    "waiting for event ({},{}) to be confirmed on node {}",
                    lag.origin, lag.seqno, lag.node
                ),
            )),
        }
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(origin: Id, node: Id, confirmed: i64, active: bool) -> Confirmation {
        Confirmation {
            origin,
            node,
            confirmed: Some(confirmed),
            active: Some(active),
            origin_active: Some(true),
        }
    }

    #[test]
    fn only_active_nodes_that_ever_confirmed_are_waited_for() {
        let answers = [known(1, 2, 5, true), known(1, 3, 5, false), known(1, 4, 10, true)];
        let open = lagging(&[(1, 10)], &answers, NodeChoice::All);
        assert_eq!(
            open,
            [Lagging {
                origin: 1,
                seqno: 10,
                node: 2,
                confirmed: 5
            }]
        );
        assert!(lagging(&[(1, 10)], &answers, NodeChoice::Node(4)).is_empty());
        assert!(lagging(&[(1, 10)], &answers, NodeChoice::Node(7)).is_empty());
        let never = |node| never_confirming(&[(1, 10), (7, 3)], &answers, NodeChoice::Node(node)).collect::<Vec<_>>();
        assert_eq!(never(7), [(1, 7)]);
        assert_eq!(never(4), [(7, 4)]);
    }

    #[test]
    fn lines_keep_the_form_wrappers_look_for() {
        let open = [
            Lagging {
                origin: 1,
                seqno: 10,
                node: 2,
                confirmed: 5,
            },
            Lagging {
                origin: 1,
                seqno: 10,
                node: 3,
                confirmed: 6,
            },
        ];
        assert_eq!(
            lines(&open, NodeChoice::Node(1), NodeChoice::All),
            ["waiting for event (1,10).  node 2 only on event 5, node 3 only on event 6"]
        );
        assert_eq!(
            lines(&open[..1], NodeChoice::Node(1), NodeChoice::Node(2)),
            ["waiting for event (1,10) to be confirmed on node 2"]
        );
    }
}
