//! The harness of the end-to-end tests: throwaway servers, clusters on them, and the real programs.
//!
//! A test makes a [`Cluster`] of a few nodes (fresh databases of one shared server, or servers of their own where the test
//! kills servers), feeds scripts to the real `slonik`, starts real `slon`s and ends with [`Cluster::assert_all_equal`].
//! Nothing sleeps for readiness: [`wait_until`] polls a condition and says what it waited for when it gives up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use
)]

mod cluster;
mod connection;
mod difference;
mod fault;
mod genuine;
mod network;
mod operator;
mod outcome;
mod programs;
mod proxy;
mod pulse;
mod saved;
mod scripts;
mod seed;
mod server;
mod wait;
mod writers;

pub use cluster::{Cluster, Node};
pub use connection::Connection;
pub use fault::{Blow, Fault};
pub use genuine::{GenuineSlony, ORIGINALS_TRIGGERS, genuine_slony};
pub use network::Network;
pub use operator::{Slonctl, SlonctlRun, run_slonctl};
pub use outcome::print_outcome;
pub use programs::{Slon, SlonikRun, program, run_slonik, run_slonik_until};
pub use proxy::Proxy;
pub use pulse::{Beat, Pulse};
pub use saved::saved_inserts;
pub use scripts::{full_name, slonik_string};
pub use seed::{Seed, test_seed};
pub use server::{fresh_database, server_binaries, shared_server, shared_throwaway};
pub use wait::{PATIENCE, wait_until};
pub use writers::{Writer, WriterOutcome, Writers};
