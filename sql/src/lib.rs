//! One node's database: connection, cluster schema, installation and typed calls.
//!
//! All SQL text of Trunkline lives in this crate: the cluster schema in `schema/*.sql`, the statements of the
//! programs as functions grouped by concern. Nothing here knows about scripts or threads of work.

pub mod cluster;
pub mod configuration;
pub mod install;
mod preflight;
pub mod session;
pub mod conninfo;
pub mod tls;

pub use cluster::{Cluster, ClusterNameError, quote_ident, quote_literal};
pub use install::{InstallError, InstallReport};
pub use preflight::Refusal;
pub use session::{ConnectError, Session, SessionOptions, error_text};
