//! Nodes: making, joining, dropping, removing, cloning.

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Locks};
use trunkline_sql::install;

use crate::failure::Failure;
use crate::interpreter::{Interpreter, Leads, Submission};
use crate::progress::{Announcements, Pace};
use crate::waits::{CaughtUpWith, Lagging};

impl Interpreter<'_> {
    /// Schema, first node and its event in one transaction.
    pub(super) async fn init_cluster(&mut self, id: Id, comment: &str) -> Result<(), Failure> {
        self.install(id).await?;
        self.connections.lock(id, Locks::EventAndConfig).await?;
        let calls = admin::initialize_first_node(&self.cluster, id, comment);
        self.connections.run_all(id, &calls).await?;
        self.connections.set_identity(id, Some(id));
        self.memory.store_node(id);
        Ok(())
    }

    /// Installs the cluster schema on `node`, inside its transaction.
    async fn install(&mut self, node: Id) -> Result<(), Failure> {
        self.begin_for_install(node).await?;
        if self.connections.rehearses() {
            return self.rehearse_install(node).await;
        }
        let cluster = self.cluster.clone();
        let wrap = Failure::of_install(node, self.cluster.name());
        let report = self
            .connections
            .work(node, async |client| install::install_in(client, &cluster).await, wrap)
            .await?;
        for warning in report.warnings {
            self.report.say(&format!("warning: node {node}: {warning}"));
        }
        Ok(())
    }

    /// Installs the new node, gives it the event node's configuration, and makes it known.
    ///
    /// One transaction on each of both; the new node's is committed first, so that a node the cluster knows is there.
    pub(super) async fn store_node(&mut self, id: Id, comment: &str, event_node: Id) -> Result<(), Failure> {
        if !self.connections.knows(id) {
            return Err(Failure::NoConninfo(id));
        }
        self.must_be_itself(event_node).await?;
        self.wait_until_caught_up(event_node, CaughtUpWith::AllBut(&[id]))
            .await?;
        self.wait_for_last_event_node(event_node, false).await?;

        self.install(id).await?;
        self.connections.lock(id, Locks::EventAndConfig).await?;
        let calls = admin::initialize_further_node(&self.cluster, id, comment);
        self.connections.run_all(id, &calls).await?;

        // From here on the event node's configuration and events stand still.
        self.begin(event_node).await?;
        self.connections.lock(event_node, Locks::EventAndConfig).await?;
        self.hand_over_configuration(event_node, id).await?;

        let store = admin::store_node(&self.cluster, id, comment);
        self.submit(Submission {
            node: event_node,
            locks: Locks::None,
            call: store,
            leads: Leads::No,
        })
        .await?;
        let enable = admin::enable_node(&self.cluster, id);
        self.submit(Submission {
            node: event_node,
            locks: Locks::None,
            call: enable,
            leads: Leads::Yes,
        })
        .await?;
        self.connections.set_identity(id, Some(id));
        self.memory.store_node(id);
        Ok(())
    }

    /// The new node takes over what the event node knows, as of one moment.
    async fn hand_over_configuration(&mut self, event_node: Id, id: Id) -> Result<(), Failure> {
        if let Some(rehearsal) = self.connections.rehearsal() {
            rehearsal.forecast.copy_configuration(event_node, id);
            rehearsal.work(id, format!("take over the configuration of node {event_node}"));
            return Ok(());
        }
        let session = self.connections.session(event_node).await?;
        let mut copy = admin::read_configuration(session, &self.cluster).await?;
        if let Some(seqno) = self.highest_known_event(id, &[id]).await? {
            copy.knows_event(id, seqno);
        }
        // A number that was failed over and dropped: its events are forgotten, and the new node's shall not look like them.
        if let Some(seqno) = self.last_event_before_failover(id, event_node).await? {
            copy.knows_event(id, seqno);
        }
        self.connections
            .run_all(id, &admin::copy_configuration(&self.cluster, &copy, id))
            .await?;
        self.connections
            .run_all(id, &admin::adopt(&self.cluster, &copy, id))
            .await
    }

    /// Waits until the event node has the last events of the nodes that go, then drops them.
    pub(super) async fn drop_node(&mut self, ids: &[Id], event_node: Id) -> Result<(), Failure> {
        self.must_be_itself(event_node).await?;
        let ids = &self.not_gone_before(ids, event_node).await?;
        if ids.is_empty() {
            return Ok(());
        }
        if self.options.automatic_waits {
            self.wait_for_failovers_of(ids, event_node).await?;
            for id in ids {
                self.wait_for_events_of_dropped(*id, ids, event_node).await?;
            }
        }
        let call = admin::drop_node(&self.cluster, ids);
        self.submit(Submission {
            node: event_node,
            locks: Locks::EventAndConfig,
            call,
            leads: Leads::No,
        })
        .await?;
        for id in ids {
            self.memory.drop_node(*id);
        }
        Ok(())
    }

    /// The event node must have every event of `dropped` that any surviving node has.
    async fn wait_for_events_of_dropped(&mut self, dropped: Id, all: &[Id], event_node: Id) -> Result<(), Failure> {
        let Some(seqno) = self.highest_known_event(dropped, all).await? else {
            return Ok(());
        };
        if self.connections.rehearses() {
            return self.rehearse_confirmation(event_node, &[(dropped, seqno)]).await;
        }
        let (mut pace, mut announcements) = (Pace::new(), Announcements::new());
        loop {
            let session = self.connections.session(event_node).await?;
            let known = admin::confirmation_of(session, &self.cluster, &[dropped], event_node)
                .await
                .map_err(Failure::of_query("confirmed events"))?;
            let confirmed = known.first().and_then(|known| known.confirmed).unwrap_or(0);
            if confirmed >= seqno {
                return Ok(());
            }
            if announcements.due().is_some() {
                self.report
                    .say(&format!("debug: waiting for {dropped},{seqno} on {event_node}"));
                self.tell_obstacles(
                    Lagging {
                        origin: dropped,
                        seqno,
                        node: event_node,
                        confirmed,
                    },
                    event_node,
                )
                .await;
            }
            pace.pause(None).await;
        }
    }

    /// The newest event of `origin` that any reachable node of the preamble has stored, `ignored` ones left out.
    async fn highest_known_event(&mut self, origin: Id, ignored: &[Id]) -> Result<Option<i64>, Failure> {
        let mut highest = None;
        for node in self.connections.nodes() {
            // A node that cannot be asked was already reported when the block began.
            let Some(session) = self.connections.open_session(node).filter(|_| !ignored.contains(&node)) else {
                continue;
            };
            let question = format!("newest event of node {origin} that node {node} has");
            if admin::schema_exists(session, &self.cluster)
                .await
                .map_err(Failure::of_query(&question))?
            {
                let newest = admin::highest_event_of(session, &self.cluster, origin).await;
                highest = highest.max(newest.map_err(Failure::of_query(&question))?);
            }
        }
        Ok(highest)
    }

    /// Removes the cluster schema, in one transaction of its own, and closes the connection.
    pub(super) async fn uninstall_node(&mut self, id: Id) -> Result<(), Failure> {
        self.begin(id).await?;
        self.connections.lock(id, Locks::EventAndConfig).await?;
        self.report.quiet(true);
        let call = admin::uninstall_node(&self.cluster);
        self.connections.run(id, &call).await?;
        if let Some(rehearsal) = self.connections.rehearsal() {
            rehearsal.forecast.uninstall(id);
            rehearsal.work(
                id,
                "drop the cluster schema and with it the triggers on the tables".to_owned(),
            );
        } else {
            let cluster = self.cluster.clone();
            let wrap = Failure::of_install(id, self.cluster.name());
            self.connections
                .work(id, async |client| install::uninstall(client, &cluster).await, wrap)
                .await?;
        }
        self.connections.commit(id).await?;
        self.connections.disconnect(id);
        self.memory.remember(id, None);
        Ok(())
    }

    pub(super) async fn clone_prepare(&mut self, id: Id, provider: Id, comment: &str) -> Result<(), Failure> {
        self.wait_until_caught_up(provider, CaughtUpWith::AllBut(&[])).await?;
        let call = admin::clone_node_prepare(&self.cluster, id, provider, comment);
        // The event lock as well: without it the event could overtake one that is being made.
        let locks = Locks::EventAndConfig;
        self.submit(Submission {
            node: provider,
            locks,
            call,
            leads: Leads::Yes,
        })
        .await
    }

    /// On the copy of the provider's database, which still says it is the provider.
    pub(super) async fn clone_finish(&mut self, id: Id, provider: Id) -> Result<(), Failure> {
        self.connections.session(id).await?;
        // On a node at work it would throw its confirmations away.
        if let Some(other) = self.connections.identity(id).filter(|other| *other != provider) {
            return Err(Failure::Refused(format!(
                "the database specified in {} is no copy of node {provider}: it says it is node {other}",
                self.connections.declared(id)
            )));
        }
        self.begin(id).await?;
        let call = admin::clone_node_finish(&self.cluster, id, provider);
        self.connections.run(id, &call).await?;
        self.connections.set_identity(id, None);
        Ok(())
    }
}
