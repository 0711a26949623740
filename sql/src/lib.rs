//! One node's database: connection, cluster schema, installation and typed calls.
//!
//! All SQL text of Trunkline lives in this crate: the cluster schema in `schema/*.sql`, the statements of the
//! programs as functions grouped by concern. Nothing here knows about scripts or threads of work.

pub mod admin;
pub mod apply_statement;
pub mod cluster;
pub mod compare;
pub mod configuration;
pub mod conninfo;
pub mod copy;
pub mod copy_format;
pub mod copy_indexes;
pub mod copy_state;
pub mod daemon;
pub mod equality;
pub mod event_source;
pub mod events;
pub mod fence;
pub mod forward;
pub mod install;
pub mod log_selection;
pub mod lost;
pub mod named_rows;
pub mod operator;
pub mod partition;
mod preflight;
pub mod rejoin;
pub mod relation;
pub mod remote_event;
pub mod script;
pub mod session;
pub mod snapshot;
pub mod statistics;
pub mod subscription;
pub mod tls;
pub mod trouble;
pub mod verification;
pub mod wire;

pub use cluster::{Cluster, ClusterNameError, quote_ident, quote_literal};
pub use install::{InstallError, InstallReport};
pub use preflight::Refusal;
pub use session::{ConnectError, Session, SessionOptions, error_text};
