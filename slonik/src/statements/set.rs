//! Sets: making, dropping, merging, locking, moving.

use trunkline_grammar::{Command, Id, ObjectSelection};
use trunkline_sql::admin::{self, Locks};

use crate::failure::Failure;
use crate::interpreter::Interpreter;
use crate::waits::CaughtUpWith;

impl Interpreter<'_> {
    pub(super) async fn create_set(&mut self, id: Id, origin: Id, comment: &str) -> Result<(), Failure> {
        self.wait_until_caught_up(origin, CaughtUpWith::DroppedSets).await?;
        let call = admin::store_set(&self.cluster, id, comment);
        self.submit_config_change(origin, call).await
    }

    /// The tables that `create set` names, once the set is made.
    pub(super) async fn fill_set(
        &mut self,
        id: Id,
        origin: Id,
        pattern: &str,
        add_sequences: bool,
    ) -> Result<(), Failure> {
        let command = Command::SetAddTable {
            set_id: id,
            origin: Some(origin),
            id: None,
            tables: ObjectSelection::Pattern(pattern.to_owned()),
            key: None,
            comment: None,
            add_sequences,
        };
        // Adding commits by itself what was done before, and that is at least the new set.
        self.block.has_begun();
        self.set_add_table(&command).await
    }

    pub(super) async fn drop_set(&mut self, id: Id, origin: Id) -> Result<(), Failure> {
        let call = admin::drop_set(&self.cluster, id);
        self.submit_config_change(origin, call).await?;
        self.aftermath.opens(id);
        Ok(())
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
        self.wait_for_writers(id, old_origin).await?;
        let call = admin::move_set(&self.cluster, id, new_origin);
        self.submit_config_change(old_origin, call).await?;
        self.aftermath.opens(id);
        Ok(())
    }

    pub(super) async fn unlock_set(&mut self, id: Id, origin: Id) -> Result<(), Failure> {
        self.must_be_itself(origin).await?;
        self.begin(origin).await?;
        self.connections.lock(origin, Locks::EventAndConfig).await?;
        self.connections
            .run(origin, &admin::unlock_set(&self.cluster, id))
            .await?;
        self.aftermath.opens(id);
        Ok(())
    }
}
