//! Each node's transaction: begun when a statement needs it, all of them committed or rolled back together.

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, CallError, Locks};
use trunkline_sql::error_text;

use super::Connections;
use crate::failure::Failure;

impl Connections {
    /// Begins a transaction unless one is open. Inside a `try` block (`event_lock`) it starts with the event lock, so
    /// that no daemon makes an event between ours.
    pub(crate) async fn begin(&mut self, id: Id, event_lock: bool) -> Result<(), Failure> {
        self.session(id).await?;
        let Some(node) = self.nodes.get_mut(&id) else {
            return Err(Failure::NoConninfo(id));
        };
        if node.in_transaction {
            return Ok(());
        }
        if let Some(problem) = &node.role_problem {
            return Err(Failure::Refused(format!("node {id}: {problem}")));
        }
        self.begin_unprivileged(id, event_lock).await
    }

    /// Begins without the right to set `session_replication_role`: for installing, which explains what to grant.
    pub(crate) async fn begin_unprivileged(&mut self, id: Id, event_lock: bool) -> Result<(), Failure> {
        if self.in_transaction(id) {
            return Ok(());
        }
        let cluster = self.cluster.clone();
        self.session(id).await?;
        if let Some(rehearsal) = &mut self.rehearsal {
            if event_lock && rehearsal.knows(id) {
                rehearsal.lock(id, Locks::Event);
            }
            if let Some(node) = self.nodes.get_mut(&id) {
                node.in_transaction = true;
            }
            self.begun.push(id);
            return Ok(());
        }
        let session = self.session(id).await?;
        let begin = "begin transaction isolation level read committed read write";
        session
            .batch_execute(begin)
            .await
            .map_err(|error| Failure::Sql(CallError::of_query(begin, error)))?;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.in_transaction = true;
        }
        self.begun.push(id);
        if event_lock {
            let session = self.session(id).await?;
            let installed = admin::schema_exists(session, &cluster)
                .await
                .map_err(Failure::of_query("is the cluster schema installed"))?;
            if installed && let Some(lock) = Locks::Event.call(&cluster) {
                self.run(id, &lock).await?;
            }
        }
        Ok(())
    }

    /// Commits one node's transaction, if it has one.
    pub(crate) async fn commit(&mut self, id: Id) -> Result<(), Failure> {
        let Some(node) = self.nodes.get_mut(&id) else {
            return Ok(());
        };
        if !node.in_transaction {
            return Ok(());
        }
        node.in_transaction = false;
        self.begun.retain(|begun| *begun != id);
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.commit(id);
            return Ok(());
        }
        let Some(session) = &node.session else { return Ok(()) };
        let outcome = session.batch_execute("commit").await;
        outcome.map_err(|error| {
            if error.as_db_error().is_some() {
                return Failure::Sql(CallError::of_query("commit", error));
            }
            Failure::Refused(format!(
                "node {id}: the connection was lost while the transaction was being committed ({}); look whether its \
                 changes are there before running the script again",
                error_text(&error)
            ))
        })
    }

    /// Commits all open transactions, one node after the other in the order they began; there is no two-phase commit.
    /// After a failure the others are rolled back, and the message says which nodes have committed.
    pub(crate) async fn commit_all(&mut self) -> Result<(), Failure> {
        let mut done = Vec::new();
        while let Some(id) = self.begun.first().copied() {
            if let Err(failure) = self.commit(id).await {
                let undone = self.begun.clone();
                self.rollback_all().await;
                if !done.is_empty() || !undone.is_empty() {
                    self.report.say(&format!(
                        "Error: commit failed on node {id}; already committed: {}; rolled back: {}",
                        list(&done),
                        list(&undone)
                    ));
                }
                return Err(failure);
            }
            done.push(id);
        }
        Ok(())
    }

    /// Rolls back one node's transaction, if it has one.
    pub(crate) async fn rollback(&mut self, id: Id) {
        let others = self.begun.iter().copied().filter(|begun| *begun != id).collect();
        if self.begun.contains(&id) {
            self.begun = vec![id];
            self.rollback_all().await;
        }
        self.begun = others;
    }

    /// Rolls back all open transactions. A connection that cannot even do that is dropped, which does it too.
    pub(crate) async fn rollback_all(&mut self) {
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.roll_back();
            for id in std::mem::take(&mut self.begun) {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.in_transaction = false;
                }
            }
            return;
        }
        for id in std::mem::take(&mut self.begun) {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            node.in_transaction = false;
            let broken = match &node.session {
                Some(session) => session.batch_execute("rollback").await.is_err(),
                None => false,
            };
            if broken {
                node.session = None;
                node.identity = None;
            }
        }
    }
}

/// `1, 2` or `none`.
fn list(nodes: &[Id]) -> String {
    if nodes.is_empty() {
        return "none".to_owned();
    }
    nodes
        .iter()
        .map(|id| format!("node {id}"))
        .collect::<Vec<_>>()
        .join(", ")
}
