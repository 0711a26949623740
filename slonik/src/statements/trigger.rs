//! `store trigger` and `drop trigger` of Slony-I 1.x.

use trunkline_grammar::{Id, ScriptSource};
use trunkline_sql::admin::{self, Firing, TriggerScript};

use crate::failure::Failure;
use crate::interpreter::Interpreter;

impl Interpreter<'_> {
    /// Sets where a trigger of the user's own fires, on every node that has it, at the same point of the change stream: as
    /// `execute script` would with the statement that does it.
    pub(super) async fn set_trigger(
        &mut self,
        table: Id,
        trigger: &str,
        firing: Firing,
        event_node: Id,
    ) -> Result<(), Failure> {
        self.must_be_itself(event_node).await?;
        let sql = match self.trigger_script(table, trigger, firing, event_node).await? {
            Some(script) => {
                if !script.present {
                    self.report.say(&format!(
                        "warning: {} on node {event_node} has no trigger \"{trigger}\"; other nodes are told all the same",
                        script.table
                    ));
                }
                script.sql
            }
            // The script itself may add the table before it comes here.
            None if self.connections.rehearses() => format!("-- trigger \"{trigger}\" of table {table}"),
            None => {
                return Err(Failure::Refused(format!(
                    "node {event_node} knows no replicated table {table}; `event node` is the origin of its set"
                )));
            }
        };
        self.execute_script(&ScriptSource::Sql(sql), event_node, &[]).await
    }

    async fn trigger_script(
        &mut self,
        table: Id,
        trigger: &str,
        firing: Firing,
        event_node: Id,
    ) -> Result<Option<TriggerScript>, Failure> {
        let cluster = self.cluster.clone();
        let session = self.connections.session(event_node).await?;
        let question = format!("table {table} as node {event_node} knows it");
        let installed = admin::schema_exists(session, &cluster).await;
        if !installed.map_err(Failure::of_query(&question))? {
            return Ok(None);
        }
        admin::trigger_script(session, &cluster, table, trigger, firing)
            .await
            .map_err(Failure::of_query(&question))
    }
}
