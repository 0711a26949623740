//! slon: the worker of one node.

pub mod logging;
