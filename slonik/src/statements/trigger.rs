//! `store trigger` and `drop trigger` of Slony-I 1.x.

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Firing};

use crate::failure::Failure;
use crate::interpreter::Interpreter;

impl Interpreter<'_> {
    /// Sets where a trigger of the user's own fires, on every node that has it, at the same point of the change stream.
    pub(super) async fn set_trigger(
        &mut self,
        table: Id,
        trigger: &str,
        firing: Firing,
        event_node: Id,
    ) -> Result<(), Failure> {
        self.must_be_itself(event_node).await?;
        let cluster = self.cluster.clone();
        let session = self.connections.session(event_node).await?;
        let script = admin::trigger_script(session, &cluster, table, trigger, firing)
            .await
            .map_err(Failure::of_query(&format!(
                "table {table} as node {event_node} knows it"
            )))?;
        let Some(script) = script else {
            return Err(Failure::Refused(format!(
                "node {event_node} knows no replicated table {table}; `event node` is the origin of its set"
            )));
        };
        if !script.present {
            self.report.say(&format!(
                "warning: {} on node {event_node} has no trigger \"{trigger}\"; other nodes are told all the same",
                script.table
            ));
        }
        self.begin(event_node).await?;
        let capture = admin::ddl_capture(&self.cluster, &script.sql, None);
        self.connections.run(event_node, &capture).await?;
        let complete = admin::ddl_script_complete(&self.cluster, None);
        self.connections.run(event_node, &complete).await?;
        Ok(())
    }
}
