//! slonctl: what an operator of a cluster does with one command each.
//!
//! [`cli`] is the command line; each command has a module of its own and works on a [`ClusterView`], the cluster as it can
//! be seen from here.

pub mod cli;
mod configuration;
#[allow(dead_code)] // Commands that are being built need all of it.
mod console;
pub mod demo;
mod exit;
mod status;
pub mod throwaway;
#[allow(dead_code)] // As above.
mod view;

pub use exit::Exit;
