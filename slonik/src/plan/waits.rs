//! Waits as they look in a plan: what will end them, and how far that is now.

use trunkline_grammar::{Id, NodeChoice};
use trunkline_sql::admin::{self, Serving};

use crate::failure::Failure;
use crate::interpreter::Interpreter;

impl Interpreter<'_> {
    /// A wait until `node` has confirmed each (origin, event). What it has confirmed already is not waited for.
    pub(crate) async fn rehearse_confirmation(&mut self, node: Id, wanted: &[(Id, i64)]) -> Result<(), Failure> {
        let mut open = Vec::new();
        for (origin, seqno) in wanted {
            let Some(rehearsal) = self.connections.rehearsal() else {
                return Ok(());
            };
            rehearsal.forecast.confirmed(Some(*origin), Some(node));
            let text = rehearsal.event_text(*origin, *seqno);
            let planned = rehearsal.planned_event(*seqno).is_some();
            if !planned && rehearsal.is_installed(node) {
                let session = self.connections.session(node).await?;
                let known = admin::confirmation_of(session, &self.cluster, &[*origin], node)
                    .await
                    .map_err(Failure::of_query("confirmed events"))?;
                if known
                    .iter()
                    .any(|known| known.has(*seqno) || known.origin_active == Some(false))
                {
                    continue;
                }
            }
            open.push(text);
            if let Some(rehearsal) = self.connections.rehearsal() {
                rehearsal.forecast.catch_up(node, *origin);
            }
        }
        if !open.is_empty() {
            self.note_wait(node, format!("it has confirmed {}", open.join(", ")));
            self.note_missing_slon(node).await;
        }
        Ok(())
    }

    /// `wait for event`.
    pub(crate) async fn rehearse_wait_for_event(
        &mut self,
        wanted: &[(Id, i64)],
        confirmed: NodeChoice,
        wait_on: Id,
        timeout: u32,
    ) {
        let Some(rehearsal) = self.connections.rehearsal() else {
            return;
        };
        let mut events = Vec::new();
        for (origin, seqno) in wanted.iter().filter(|(_, seqno)| *seqno > 0) {
            events.push(rehearsal.event_text(*origin, *seqno));
            let receiver = match confirmed {
                NodeChoice::All => None,
                NodeChoice::Node(node) => Some(node),
            };
            rehearsal.forecast.confirmed(Some(*origin), receiver);
        }
        let who = match confirmed {
            NodeChoice::All => "all nodes have".to_owned(),
            NodeChoice::Node(node) => format!("node {node} has"),
        };
        let limit = if timeout == 0 {
            "without a limit".to_owned()
        } else {
            format!("for at most {timeout} s")
        };
        self.note_wait(wait_on, format!("{who} confirmed {}, {limit}", events.join(", ")));
        let confirming: Vec<Id> = match confirmed {
            NodeChoice::Node(node) => vec![node],
            NodeChoice::All => self.connections.nodes(),
        };
        for node in confirming {
            self.note_missing_slon(node).await;
        }
    }

    /// The wait of `merge set` until the copies of both sets are confirmed.
    pub(crate) fn rehearse_copies(&mut self, origin: Id, sets: [Id; 2]) {
        for set in sets {
            let Some(rehearsal) = self.connections.rehearsal() else {
                return;
            };
            if !rehearsal.forecast.is_copied(origin, set) {
                rehearsal.forecast.copied(set);
                rehearsal.wait(origin, format!("every subscriber has confirmed its copy of set {set}"));
            }
        }
    }

    /// Notes a wait.
    pub(crate) fn note_wait(&mut self, node: Id, until: String) {
        if let Some(rehearsal) = self.connections.rehearsal() {
            rehearsal.wait(node, until);
        }
    }

    /// Only a slon confirms events: a wait for a node without one ends when somebody starts it.
    async fn note_missing_slon(&mut self, node: Id) {
        let installed = self
            .connections
            .rehearsal()
            .is_some_and(|rehearsal| rehearsal.is_installed(node));
        let Some(session) = self.connections.open_session(node).filter(|_| installed) else {
            return;
        };
        let report = admin::inspect(session, &self.cluster, node).await;
        if report.is_ok_and(|report| report.serving == Serving::No)
            && let Some(rehearsal) = self.connections.rehearsal()
        {
            rehearsal.note(format!(
                "no slon serves node {node} now; the wait does not end before one is started"
            ));
        }
    }
}
