//! What each statement does: one module per area.

mod adding;
mod control;
mod ddl;
mod ddl_refusal;
mod ddl_text;
mod failover;
mod joining;
mod lock_set;
mod maintenance;
mod member;
mod node;
mod path;
mod set;
mod subscription;
mod trigger;

pub(crate) use adding::statements_together;
pub(crate) use ddl_refusal::SqlText;
use trunkline_grammar::Command;
use trunkline_sql::admin::Firing;

use crate::failure::Failure;
use crate::interpreter::Interpreter;

impl Interpreter<'_> {
    /// Executes one statement; what it changed stays in open transactions.
    pub(crate) async fn execute(&mut self, command: &Command) -> Result<(), Failure> {
        match command {
            Command::Echo { text } => self.echo(text),
            Command::Date { format } => self.date(format)?,
            // Leaves the script: the interpreter's loop sees to it before it comes here.
            Command::Exit { .. } => {}
            Command::Sleep { seconds } => Self::sleep(*seconds).await,
            Command::Sync { id } => self.sync(*id).await?,
            Command::WaitForEvent {
                origin,
                confirmed,
                wait_on,
                timeout,
            } => {
                self.wait_for_event(*origin, *confirmed, *wait_on, *timeout).await?;
            }
            Command::InitCluster { id, comment } => self.init_cluster(*id, comment).await?,
            Command::StoreNode {
                id,
                comment,
                event_node,
            } => self.store_node(*id, comment, *event_node).await?,
            Command::DropNode { ids, event_node } => self.drop_node(ids, *event_node).await?,
            Command::UninstallNode { id } => self.uninstall_node(*id).await?,
            Command::ClonePrepare { id, provider, comment } => self.clone_prepare(*id, *provider, comment).await?,
            Command::CloneFinish { id, provider } => self.clone_finish(*id, *provider).await?,
            Command::RestartNode { id } => self.restart_node(*id).await?,
            Command::UpdateFunctions { id } => self.update_functions(*id).await?,
            Command::RepairConfig {
                set_id,
                event_node,
                execute_only_on,
            } => {
                self.repair_config(*set_id, *event_node, *execute_only_on).await?;
            }
            Command::StoreTrigger {
                table_id,
                trigger,
                event_node,
            } => {
                self.set_trigger(*table_id, trigger, Firing::Everywhere, *event_node)
                    .await?;
            }
            Command::DropTrigger {
                table_id,
                trigger,
                event_node,
            } => {
                self.set_trigger(*table_id, trigger, Firing::OriginOnly, *event_node)
                    .await?;
            }
            Command::SwitchLog { id } => self.switch_log(*id).await?,
            Command::StorePath {
                server,
                client,
                conninfo,
                connretry,
            } => {
                self.store_path(*server, *client, conninfo, *connretry).await?;
            }
            Command::DropPath {
                server,
                client,
                event_node,
            } => self.drop_path(*server, *client, *event_node).await?,
            Command::StoreListen {
                origin,
                provider,
                receiver,
            } => {
                self.store_listen(*origin, *provider, *receiver).await?;
            }
            Command::DropListen {
                origin,
                provider,
                receiver,
            } => {
                self.drop_listen(*origin, *provider, *receiver).await?;
            }
            Command::CreateSet {
                id,
                origin,
                comment,
                tables,
                add_sequences,
            } => {
                self.create_set(*id, *origin, comment).await?;
                if let Some(pattern) = tables {
                    self.fill_set(*id, *origin, pattern, *add_sequences).await?;
                }
            }
            Command::DropSet { id, origin } => self.drop_set(*id, *origin).await?,
            Command::MergeSet { id, add_id, origin } => self.merge_set(*id, *add_id, *origin).await?,
            Command::LockSet { id, origin } => self.lock_set(*id, *origin).await?,
            Command::UnlockSet { id, origin } => self.unlock_set(*id, *origin).await?,
            Command::MoveSet {
                id,
                old_origin,
                new_origin,
            } => self.move_set(*id, *old_origin, *new_origin).await?,
            Command::SetAddTable { .. } => self.set_add_table(command).await?,
            Command::SetAddSequence { .. } => self.set_add_sequence(command).await?,
            Command::SetDropTable { id, origin } => self.set_drop_table(*id, *origin).await?,
            Command::SetDropSequence { id, origin } => self.set_drop_sequence(*id, *origin).await?,
            Command::SetMoveTable { id, origin, new_set } => self.set_move_table(*id, *origin, *new_set).await?,
            Command::SetMoveSequence { id, origin, new_set } => {
                self.set_move_sequence(*id, *origin, *new_set).await?;
            }
            Command::SubscribeSet {
                id,
                provider,
                receiver,
                forward,
                omit_copy,
            } => {
                self.subscribe_set(*id, *provider, *receiver, *forward, *omit_copy)
                    .await?;
            }
            Command::UnsubscribeSet { id, receiver } => self.unsubscribe_set(*id, *receiver).await?,
            Command::ResubscribeNode {
                origin,
                provider,
                receiver,
            } => {
                self.resubscribe_node(*origin, *provider, *receiver).await?;
            }
            Command::ExecuteScript {
                source,
                event_node,
                execute_only_on,
            } => {
                self.execute_script(source, *event_node, execute_only_on).await?;
            }
            Command::Failover { nodes } => self.failover(nodes).await?,
        }
        Ok(())
    }
}
