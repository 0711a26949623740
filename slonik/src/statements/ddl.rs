//! `execute script`.

use trunkline_grammar::{Id, ScriptSource};
use trunkline_sql::admin;

use super::ddl_text::{fill_in, split};
use crate::failure::Failure;
use crate::interpreter::Interpreter;

/// Most statements of one script.
const STATEMENTS: usize = 999;

impl Interpreter<'_> {
    /// Captures and runs each statement on the event node, all in its transaction. The change travels with the next SYNC.
    pub(super) async fn execute_script(
        &mut self,
        source: &ScriptSource,
        event_node: Id,
        only_on: &[Id],
    ) -> Result<(), Failure> {
        let text = match source {
            ScriptSource::Sql(text) => text.clone(),
            ScriptSource::File(name) => {
                std::fs::read_to_string(name).map_err(|error| Failure::Plain(format!("{name} - {error}")))?
            }
        };
        let text = fill_in(&text, &self.cluster);
        let statements = split(&text);
        if statements.len() > STATEMENTS {
            return Err(Failure::Plain(format!(
                "DDL - number of statements invalid - {} not between 0 and {}",
                statements.len(),
                STATEMENTS + 1
            )));
        }
        for (number, statement) in (1..).zip(&statements) {
            if let Some(words) = statement.ends_transaction() {
                return Err(Failure::Refused(format!(
                    "statement {number} of the script, `{words}`, is not allowed: all of the script is one transaction on \
                     every node, which slonik begins and commits; leave it out, or make several `execute script` of it"
                )));
            }
        }
        let nodes: Vec<String> = only_on.iter().map(ToString::to_string).collect();
        let nodes = (!nodes.is_empty()).then(|| nodes.join(","));
        self.must_be_itself(event_node).await?;
        self.begin(event_node).await?;
        for statement in statements {
            let call = admin::ddl_capture(&self.cluster, statement.text, nodes.as_deref());
            match self.connections.run(event_node, &call).await {
                Ok(_) => {}
                Err(Failure::Sql(error)) => {
                    return Err(Failure::Script {
                        statement: statement.text.to_owned(),
                        answer: error.answer(),
                    });
                }
                Err(other) => return Err(other),
            }
        }
        let call = admin::ddl_script_complete(&self.cluster, nodes.as_deref());
        self.connections.run(event_node, &call).await?;
        // What the script has set is not for the statements that follow.
        self.connections.reset_settings(event_node).await
    }
}
