//! slon: the worker of one node.

pub mod apply;
pub mod backoff;
pub mod cleanup;
pub mod cli;
pub mod config_file;
pub mod configuration_log;
pub mod fold;
pub mod instance;
pub mod listen;
pub mod local_listener;
pub mod log_row;
pub mod logging;
pub mod monitor;
pub mod node;
pub mod node_lock;
pub mod parameters;
pub mod pid_file;
pub mod program;
pub mod provider;
pub mod queue;
pub mod replicate;
pub mod sessions;
pub mod signals;
pub mod supervisor;
pub mod sync_thread;
pub mod worker;
