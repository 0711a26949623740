//! What slonctl asks a node.
//!
//! Everything here only reads, in short transactions with a time limit, and works on a node whose schema is Slony's own:
//! what is ours alone (`tl_` tables) is looked for first.

mod backlog;
mod facts;
mod transactions;

pub use backlog::{Backlog, MOST_ROWS, backlog};
pub use facts::{
    ConfirmationFacts, DaemonFacts, EventFacts, FailoverFacts, FenceFacts, LogFacts, NodeFacts, SetFacts,
    find_clusters, look,
};
pub use transactions::long_transactions;
