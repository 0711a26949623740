//! What other statements must know of failovers that have been: dropping failed nodes, using their numbers again.

use trunkline_grammar::{FailedNode, Id};
use trunkline_sql::admin::{self, Survey};

use super::Running;
use crate::failure::Failure;
use crate::interpreter::Interpreter;

impl Interpreter<'_> {
    /// Those of the nodes to be dropped that are still there: one that was failed over and dropped in an earlier run of a
    /// script is no error.
    pub(in crate::statements) async fn not_gone_before(
        &mut self,
        ids: &[Id],
        event_node: Id,
    ) -> Result<Vec<Id>, Failure> {
        if self.connections.rehearses() {
            return Ok(ids.to_vec());
        }
        let survey = self.survey_of(event_node).await?;
        let (gone, left): (Vec<Id>, Vec<Id>) = ids.iter().partition(|id| {
            !survey.configuration.nodes.contains_key(id) && survey.taken_over.iter().any(|over| over.failed == **id)
        });
        for id in gone {
            self.report.say(&format!(
                "node {id} has been failed over and dropped before, nothing is left to do"
            ));
            self.memory.drop_node(id);
        }
        Ok(left)
    }

    /// Before failed nodes are dropped, every survivor must have what is left of them: their events go with them.
    pub(in crate::statements) async fn wait_for_failovers_of(
        &mut self,
        ids: &[Id],
        event_node: Id,
    ) -> Result<(), Failure> {
        if self.connections.rehearses() {
            return Ok(());
        }
        let survey = self.survey_of(event_node).await?;
        let nodes = &survey.configuration.nodes;
        let running: Vec<Running> = survey
            .announcements
            .iter()
            .filter(|known| ids.contains(&known.failed) && nodes.get(&known.failed).is_some_and(|node| node.failed))
            .filter(|known| nodes.get(&known.leader).is_some_and(|node| node.active && !node.failed))
            .map(|known| Running {
                pair: FailedNode {
                    id: known.failed,
                    backup_node: event_node,
                },
                leader: known.leader,
                seqno: known.seqno,
                last_seqno: None,
            })
            .collect();
        let survivors = nodes
            .values()
            .filter(|node| node.active && !node.failed && !ids.contains(&node.id))
            .map(|node| node.id)
            .filter(|node| self.connections.knows(*node))
            .collect();
        self.wait_for_survivors(&running, &survivors, None).await
    }

    /// Newest event of a node that was failed over which the survivors had, as `event_node` remembers.
    pub(in crate::statements) async fn last_event_before_failover(
        &mut self,
        id: Id,
        event_node: Id,
    ) -> Result<Option<i64>, Failure> {
        let survey = self.survey_of(event_node).await?;
        let known = survey.taken_over.iter().filter(|over| over.failed == id);
        Ok(known.map(|over| over.last_seqno).max())
    }

    pub(super) async fn survey_of(&mut self, node: Id) -> Result<Survey, Failure> {
        let session = self.connections.session(node).await?;
        admin::survey(session, &self.cluster)
            .await
            .map_err(Failure::of_query(&format!("what node {node} knows of failovers")))
    }
}
