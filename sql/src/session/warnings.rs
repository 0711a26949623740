//! Warnings that come with every connection attempt but need saying once.

use std::collections::BTreeSet;
use std::sync::Mutex;

/// Different warnings remembered; beyond that they are repeated rather than forgotten.
const REMEMBERED: usize = 100;

static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Logs a warning the first time this process meets it.
pub(super) fn warn_once(text: &str) {
    let mut said = SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if said.contains(text) {
        return;
    }
    if said.len() < REMEMBERED {
        said.insert(text.to_owned());
    }
    tracing::warn!("{text}");
}
