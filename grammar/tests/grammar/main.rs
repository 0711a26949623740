//! The grammar seen from outside: scripts in, scripts and messages out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod corpus;
mod endure;
mod fixture;
mod lexical;
mod manual;
mod messages;
mod mutation;
mod oracle;
mod properties;
mod semantics;
mod statements;
mod tools;
