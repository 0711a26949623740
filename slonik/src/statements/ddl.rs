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
        let nodes: Vec<String> = only_on.iter().map(ToString::to_string).collect();
        let nodes = (!nodes.is_empty()).then(|| nodes.join(","));
        self.must_be_itself(event_node).await?;
        self.begin(event_node).await?;
        for statement in statements {
            let call = admin::ddl_capture(&self.cluster, statement, nodes.as_deref());
            match self.connections.run(event_node, &call).await {
                Ok(_) => {}
                Err(Failure::Sql(error)) => {
                    return Err(Failure::Script {
                        statement: statement.to_owned(),
                        answer: error.answer(),
                    });
                }
                Err(other) => return Err(other),
            }
        }
        let call = admin::ddl_script_complete(&self.cluster, nodes.as_deref());
        self.connections.run(event_node, &call).await?;
        Ok(())
    }
}
