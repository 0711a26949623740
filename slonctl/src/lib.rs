//! slonctl: what an operator of a cluster does with one command each.

pub mod demo;
pub mod throwaway;
