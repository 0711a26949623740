//! Installing and renewing the cluster schema, as a plan sees it.

use trunkline_grammar::Id;
use trunkline_sql::install;

use crate::failure::Failure;
use crate::interpreter::Interpreter;

impl Interpreter<'_> {
    /// The schema will be installed on `node`, if its server is fit for that.
    pub(crate) async fn rehearse_install(&mut self, node: Id) -> Result<(), Failure> {
        self.note_refusals(node, false).await?;
        let name = self.cluster.name().to_owned();
        if let Some(rehearsal) = self.connections.rehearsal() {
            if rehearsal.knows(node) {
                rehearsal.obstacle(format!(
                    "namespace \"_{name}\" already exists in database of node {node}; `uninstall node` removes it"
                ));
            }
            rehearsal.work(node, format!("install the cluster schema \"_{name}\""));
            rehearsal.forecast.install(node);
        }
        Ok(())
    }

    /// The functions of `node` will be renewed.
    pub(crate) async fn rehearse_new_functions(&mut self, node: Id) -> Result<(), Failure> {
        self.note_refusals(node, true).await?;
        if let Some(rehearsal) = self.connections.rehearsal() {
            rehearsal.work(node, "renew all functions and views of the cluster schema".to_owned());
        }
        Ok(())
    }

    async fn note_refusals(&mut self, node: Id, renew: bool) -> Result<(), Failure> {
        let session = self.connections.session(node).await?;
        let refusals = install::refusals(&**session, &self.cluster, renew)
            .await
            .map_err(Failure::of_install(node, self.cluster.name()))?;
        if let Some(rehearsal) = self.connections.rehearsal() {
            for refusal in refusals {
                rehearsal.obstacle(format!("node {node}: {refusal}"));
            }
        }
        Ok(())
    }
}
