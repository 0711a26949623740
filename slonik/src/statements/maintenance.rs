//! Looking after nodes: functions, log, OIDs, restart.

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Locks};
use trunkline_sql::install;

use crate::failure::Failure;
use crate::interpreter::Interpreter;

impl Interpreter<'_> {
    pub(super) async fn restart_node(&mut self, id: Id) -> Result<(), Failure> {
        self.begin(id).await?;
        self.connections.run(id, &admin::notify_restart(&self.cluster)).await?;
        Ok(())
    }

    /// New functions, upgraded tables and the restart of the daemon, in one transaction.
    pub(super) async fn update_functions(&mut self, id: Id) -> Result<(), Failure> {
        self.begin_for_install(id).await?;
        let version = self
            .connections
            .run(id, &admin::upgrade_schema(&self.cluster, None))
            .await?;
        // Nobody calls configuration functions while they are replaced.
        self.connections.lock(id, Locks::EventAndConfig).await?;
        if self.connections.rehearses() {
            self.rehearse_new_functions(id).await?;
        } else {
            self.renew_functions(id).await?;
        }
        let version = version.unwrap_or_default();
        self.connections
            .run(id, &admin::upgrade_schema(&self.cluster, Some(&version)))
            .await?;
        self.connections.run(id, &admin::notify_restart(&self.cluster)).await?;
        Ok(())
    }

    async fn renew_functions(&mut self, id: Id) -> Result<(), Failure> {
        let cluster = self.cluster.clone();
        let wrap = Failure::of_install(id, self.cluster.name());
        let report = self
            .connections
            .work(
                id,
                async |client| install::install_functions(client, &cluster).await,
                wrap,
            )
            .await?;
        for warning in report.warnings {
            self.report.say(&format!("warning: node {id}: {warning}"));
        }
        Ok(())
    }

    pub(super) async fn repair_config(&mut self, set: Id, node: Id, only_on: Option<Id>) -> Result<(), Failure> {
        self.must_be_itself(node).await?;
        self.begin(node).await?;
        self.connections.lock(node, Locks::Config).await?;
        self.connections
            .run(node, &admin::update_reloid(&self.cluster, set, only_on))
            .await?;
        if !self.knows_set(node, set).await? {
            self.report.say(&format!(
                "warning: node {node} knows no set {set}; `repair config` looks at the tables and sequences of all its sets, \
                 whatever `set id` is"
            ));
        }
        Ok(())
    }

    async fn knows_set(&mut self, node: Id, set: Id) -> Result<bool, Failure> {
        if let Some(rehearsal) = self.connections.rehearsal() {
            let state = rehearsal.forecast.state(node);
            return Ok(state.is_some_and(|state| state.sets.contains_key(&set)));
        }
        let cluster = self.cluster.clone();
        let session = self.connections.session(node).await?;
        let found = admin::set_origin(session, &cluster, set).await;
        let question = format!("whether node {node} knows set {set}");
        Ok(found.map_err(Failure::of_query(&question))?.is_some())
    }

    pub(super) async fn switch_log(&mut self, id: Id) -> Result<(), Failure> {
        self.must_be_itself(id).await?;
        self.begin(id).await?;
        self.connections.lock(id, Locks::EventAndConfig).await?;
        self.connections.run(id, &admin::logswitch_start(&self.cluster)).await?;
        Ok(())
    }
}
