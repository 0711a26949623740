//! What slonctl asks a node.
//!
//! Everything here only reads (or rolls back what it tried out), in short transactions, and works on a node whose schema is Slony's own:
//! what is ours alone (`tl_` tables) is looked for first.

mod administration;
mod backlog;
mod components;
mod facts;
mod locks;
mod probe;
mod silence;
mod transactions;

pub use administration::{AdministrativeCall, administrative_calls, interpreters};
pub use backlog::{Backlog, MOST_ROWS, backlog};
pub use components::{BusyComponent, busy_components};
pub use facts::{
    ConfirmationFacts, DaemonFacts, EventFacts, FailoverFacts, FenceFacts, HeardFacts, LogFacts, MissingIndex,
    NodeFacts, SetFacts, find_clusters, look,
};
pub use locks::{
    SequencePosition, TableUser, sequence_positions, sequence_positions_handed_over, settled_set_states,
    users_of_tables,
};
pub use probe::{Probe, probe_write};
pub use silence::overdue_sync;
pub use transactions::long_transactions;
