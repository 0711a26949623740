//! End-to-end tests: the real `slonik` and `slon` on real PostgreSQL servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backlogs;
mod basic;
mod columns;
mod concurrent_writers;
mod copies;
mod copy_differences;
mod crashes;
mod daemon_lock;
mod daemon_periodic;
mod daemon_process;
mod daemon_survival;
mod data_types;
mod event_sources;
mod execute_script;
mod failover;
mod figures;
mod interoperation;
mod joining;
mod keys;
mod many_tables;
mod old_dialects;
mod operator_check;
mod operator_hooks;
mod operator_status;
mod operator_switch;
mod partitions;
mod quoted_names;
mod rejoin;
mod replica_triggers;
mod sets;
mod slonik_clone;
mod slonik_genuine;
mod slonik_nodes;
mod slonik_plan;
mod slonik_scripts;
mod slonik_statements;
mod slonik_twins;
mod slonik_waits;
mod statement_pages;
mod throwaway;
mod truncate;
mod verify;
mod wide_rows;
mod writer_settings;
