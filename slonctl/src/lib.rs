//! slonctl: what an operator of a cluster does with one command each.
//!
//! [`cli`] is the command line; each command has a module of its own and works on a `ClusterView`, the cluster as it can
//! be seen from here.

mod check;
pub mod cli;
mod configuration;
mod confirmation;
mod console;
mod demo;
mod duration;
mod exit;
mod failover;
mod finding;
mod hooks;
mod lost;
mod proof;
mod rejoin;
mod saved_file;
mod script;
mod status;
mod stop;
mod switch;
pub mod throwaway;
mod verify;
mod view;

pub use exit::Exit;
