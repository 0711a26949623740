//! Statements on a node: sent under watch, or only noted while the script is planned.

use tokio_postgres::Client;
use trunkline_grammar::Id;
use trunkline_sql::admin::{Call, Locks, SETTINGS};

use super::blockers::watch_locks;
use super::{Connections, LOCAL_ROLE};
use crate::failure::Failure;
use crate::progress::Announcements;

impl Connections {
    /// Runs a statement; while it waits for a lock, says who holds it.
    pub(crate) async fn run(&mut self, id: Id, call: &Call) -> Result<Option<String>, Failure> {
        self.run_in_wait(id, call, &mut Announcements::new()).await
    }

    /// The same as one attempt of a longer wait.
    pub(crate) async fn run_in_wait(
        &mut self,
        id: Id,
        call: &Call,
        wait: &mut Announcements,
    ) -> Result<Option<String>, Failure> {
        self.session(id).await?;
        if self.rehearses() {
            return self.rehearse(id, call).await;
        }
        self.send(id, call, wait).await
    }

    /// While planning: asks what only asks, and foresees what would be changed.
    async fn rehearse(&mut self, id: Id, call: &Call) -> Result<Option<String>, Failure> {
        let Some(rehearsal) = &mut self.rehearsal else {
            return Ok(None);
        };
        if call.asks() {
            return if rehearsal.is_installed(id) {
                self.send(id, call, &mut Announcements::new()).await
            } else {
                Ok(None)
            };
        }
        let event = rehearsal.call(id, call);
        let found = crate::plan::examine(self, id, call).await;
        if let Some(rehearsal) = &mut self.rehearsal {
            for obstacle in found {
                rehearsal.obstacle(obstacle);
            }
        }
        Ok(event.map(|event| event.to_string()))
    }

    async fn send(&mut self, id: Id, call: &Call, wait: &mut Announcements) -> Result<Option<String>, Failure> {
        let Some(node) = self.nodes.get_mut(&id) else {
            return Err(Failure::NoConninfo(id));
        };
        let Some(session) = &node.session else {
            return Err(Failure::NoConninfo(id));
        };
        let pid = session.backend_pid();
        let waiting = watch_locks(id, pid, &node.conninfo, &mut node.observer, &self.report, wait);
        let _running = self.interrupt.running(session);
        tokio::select! {
            biased;
            answer = call.run(session) => Ok(answer?),
            never = waiting => match never {},
        }
    }

    /// Like [`run`](Self::run), for several statements.
    pub(crate) async fn run_all(&mut self, id: Id, calls: &[Call]) -> Result<(), Failure> {
        for call in calls {
            self.run(id, call).await?;
        }
        Ok(())
    }

    /// Takes locks.
    pub(crate) async fn lock(&mut self, id: Id, locks: Locks) -> Result<(), Failure> {
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.lock(id, locks);
            return Ok(());
        }
        if let Some(call) = locks.call(&self.cluster) {
            self.run(id, &call).await?;
        }
        Ok(())
    }

    /// Puts every setting of a node's session back to what it was after connecting.
    pub(crate) async fn reset_settings(&mut self, id: Id) -> Result<(), Failure> {
        if self.rehearses() {
            return Ok(());
        }
        let defaults = ["reset session authorization", "reset role", "reset all"];
        for sql in defaults.into_iter().chain(SETTINGS).chain([LOCAL_ROLE]) {
            self.run(id, &Call::statement(sql)).await?;
        }
        Ok(())
    }

    /// Runs a longer piece of work on a node's client under the same watch.
    pub(crate) async fn work<T, E>(
        &mut self,
        id: Id,
        work: impl AsyncFnOnce(&Client) -> Result<T, E>,
        wrap: impl FnOnce(E) -> Failure,
    ) -> Result<T, Failure> {
        self.session(id).await?;
        let Some(node) = self.nodes.get_mut(&id) else {
            return Err(Failure::NoConninfo(id));
        };
        let Some(session) = &node.session else {
            return Err(Failure::NoConninfo(id));
        };
        let mut announcements = Announcements::new();
        let waiting = watch_locks(
            id,
            session.backend_pid(),
            &node.conninfo,
            &mut node.observer,
            &self.report,
            &mut announcements,
        );
        let _running = self.interrupt.running(session);
        tokio::select! {
            biased;
            answer = work(session) => answer.map_err(wrap),
            never = waiting => match never {},
        }
    }
}
