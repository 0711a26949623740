//! Sets: making, dropping, merging, locking, moving.

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Locks};

use crate::failure::Failure;
use crate::interpreter::Interpreter;
use crate::progress::{Announcements, Pace, duration_text};
use crate::waits::CaughtUpWith;

/// Most sessions named at a time.
const BLOCKERS: usize = 10;

impl Interpreter<'_> {
    pub(super) async fn create_set(&mut self, id: Id, origin: Id, comment: &str) -> Result<(), Failure> {
        self.wait_until_caught_up(origin, CaughtUpWith::DroppedSets).await?;
        let call = admin::store_set(&self.cluster, id, comment);
        self.submit_config_change(origin, call).await
    }

    pub(super) async fn drop_set(&mut self, id: Id, origin: Id) -> Result<(), Failure> {
        let call = admin::drop_set(&self.cluster, id);
        self.submit_config_change(origin, call).await
    }

    pub(super) async fn merge_set(&mut self, id: Id, added: Id, origin: Id) -> Result<(), Failure> {
        self.must_be_itself(origin).await?;
        self.wait_for_subscriptions(origin, [added, id]).await?;
        let call = admin::merge_set(&self.cluster, id, added);
        self.submit_config_change(origin, call).await
    }

    pub(super) async fn set_drop_table(&mut self, id: Id, origin: Id) -> Result<(), Failure> {
        let call = admin::set_drop_table(&self.cluster, id);
        self.submit_config_change(origin, call).await
    }

    pub(super) async fn set_drop_sequence(&mut self, id: Id, origin: Id) -> Result<(), Failure> {
        let call = admin::set_drop_sequence(&self.cluster, id);
        self.submit_config_change(origin, call).await
    }

    pub(super) async fn set_move_table(&mut self, id: Id, origin: Id, new_set: Id) -> Result<(), Failure> {
        let call = admin::set_move_table(&self.cluster, id, new_set);
        self.submit_config_change(origin, call).await
    }

    pub(super) async fn set_move_sequence(&mut self, id: Id, origin: Id, new_set: Id) -> Result<(), Failure> {
        let call = admin::set_move_sequence(&self.cluster, id, new_set);
        self.submit_config_change(origin, call).await
    }

    pub(super) async fn move_set(&mut self, id: Id, old_origin: Id, new_origin: Id) -> Result<(), Failure> {
        let call = admin::move_set(&self.cluster, id, new_origin);
        self.submit_config_change(old_origin, call).await
    }

    /// Locks the set against writes, in a transaction of its own, and waits until every older transaction has ended:
    /// only then nothing can be written any more that the lock did not see.
    pub(super) async fn lock_set(&mut self, id: Id, origin: Id) -> Result<(), Failure> {
        if self.connections.in_transaction(origin) {
            return Err(Failure::Plain(
                "cannot lock set - admin connection already in transaction".to_owned(),
            ));
        }
        self.must_be_itself(origin).await?;
        self.begin(origin).await?;
        self.connections.lock(origin, Locks::Config).await?;
        self.connections
            .run(origin, &admin::lock_set(&self.cluster, id))
            .await?;
        self.connections.commit(origin).await?;
        // Asked after the commit: the horizon then lies behind the lock, and so does every transaction that began
        // before it. Asked earlier, it may lie before transactions that are running.
        let session = self.connections.session(origin).await?;
        let horizon = admin::transaction_horizon(session)
            .await
            .map_err(|error| still_locked(id, &error))?;
        self.wait_for_older_transactions(id, origin, horizon.next).await
    }

    async fn wait_for_older_transactions(&mut self, set: Id, origin: Id, next: i64) -> Result<(), Failure> {
        let (mut pace, mut announcements) = (Pace::new(), Announcements::new());
        loop {
            let session = self.connections.session(origin).await?;
            let horizon = admin::transaction_horizon(session)
                .await
                .map_err(|error| still_locked(set, &error))?;
            if horizon.oldest >= next {
                return Ok(());
            }
            if let Some(elapsed) = announcements.due() {
                let blockers = admin::older_transactions(session, next).await.unwrap_or_default();
                let waited = duration_text(elapsed);
                self.report.say(&format!(
                    "waiting for {waited} for transactions on node {origin} that began before set {set} was locked"
                ));
                for blocker in blockers.iter().take(BLOCKERS) {
                    self.report.say(&format!("  {blocker}"));
                }
                if blockers.len() > BLOCKERS {
                    self.report.say(&format!("  and {} more", blockers.len() - BLOCKERS));
                }
            }
            pace.pause(None).await;
        }
    }

    pub(super) async fn unlock_set(&mut self, id: Id, origin: Id) -> Result<(), Failure> {
        self.must_be_itself(origin).await?;
        self.begin(origin).await?;
        self.connections.lock(origin, Locks::EventAndConfig).await?;
        self.connections
            .run(origin, &admin::unlock_set(&self.cluster, id))
            .await?;
        Ok(())
    }
}

fn still_locked(set: Id, error: &tokio_postgres::Error) -> Failure {
    Failure::Refused(format!(
        "set {set} is locked, but it is not known whether older transactions have ended ({}); `unlock set` opens it \
         again",
        trunkline_sql::error_text(error)
    ))
}
