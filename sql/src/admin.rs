//! What slonik asks a node and calls on it.
//!
//! Configuration changes are [`Call`]s: one statement with its literals filled in, a text for messages that shows no
//! password, and the stored functions of the cluster schema behind it. Only the documented signatures are used, so a
//! node made by the original is administered like one of ours; what is ours alone (`tl_` tables) is looked for first.

mod activity;
mod adding;
mod call;
mod confirmation;
mod failover;
mod joining;
mod lag;
mod memory;
mod node;
mod object;
mod script;
mod set;
mod settings;
mod state;
mod trigger;

pub(crate) use activity::read as read_blocker;
pub use activity::{
    Blocker, Horizon, lock_holders, lock_waits, older_transactions, older_writers, transaction_horizon,
    waiting_daemons, writers_before_lock,
};
pub use adding::{NewMember, add_sequences, add_tables, adds_together, partitioned_tables, sequences_of_tables};
pub use call::{Call, CallError, Locks, Value};
pub use confirmation::{Confirmation, confirmation_of, confirmations_of, open_subscriptions};
pub use failover::{
    Announcement, Survey, TakenOver, daemon_sessions, end_sessions, end_unfinished_copy, failed_node_2, failed_node_3,
    is_ours, leave_providers, lock_untouched_set, newest_event_of, pre_failover, remaining_sessions,
    reroute_subscription, set_state, survey,
};
pub use joining::{
    FIRST_JOINING_SET, FIRST_PARTITION, Leftover, Partition, Subscriber, free_joining_set, joining_comment, leftover,
    next_partition_id,
};
pub use joining::{partitions, subscribers};
pub use lag::{NodeReport, Serving, WorkerActivity, inspect};
pub use memory::{drop_set_events, last_event, last_subscription_event, local_node_id, schema_exists};
pub use node::{NodeCopy, clone_node_finish, clone_node_prepare, drop_node, highest_event_of, initialize_first_node};
pub use node::{
    adopt, copy_configuration, enable_node, initialize_further_node, notify_restart, read_configuration,
    return_to_cluster, store_node, update_reloid, upgrade_schema,
};
pub use object::{
    KeyFacts, Relation, RelationFacts, RelationKind, highest_sequence_id, highest_table_id, matching_sequences,
    matching_tables, missing_relations, read_name, relation_facts, row_identity, sequences_of_table, serial_sequences,
    written_name,
};
pub use script::{LockLimits, ddl_capture, ddl_script_complete, lock_limits, lock_patience};
pub use set::{
    Standing, also_provided, create_event_sync, drop_listen, drop_path, drop_set, lock_set, lock_sets,
    locks_sets_together, logswitch_start, merge_set, move_set, reshape_subscription, resubscribe_node,
    set_add_sequence, set_add_table, set_drop_sequence, set_drop_table, set_move_sequence, set_move_table, set_origin,
    standing, store_listen, store_path, store_set, subscribe_set, subscription_in_progress, uninstall_node, unlock_set,
    unsubscribe_set,
};
pub use settings::SETTINGS;
pub use state::{KnownMember, KnownNode, KnownSet, KnownSubscription, NodeState, node_state};
pub use trigger::{Firing, TriggerScript, trigger_script};
