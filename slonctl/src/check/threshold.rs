//! The limits, in the units of what they are compared with.

use super::CheckArguments;

/// All limits, times in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    pub(super) lag_warning: f64,
    pub(super) lag_critical: f64,
    pub(super) log_rows: f64,
    pub(super) silence: f64,
    pub(super) transaction: f64,
    pub(super) stuck: f64,
    pub(super) sync_age: f64,
}

impl Thresholds {
    pub(super) fn of(arguments: &CheckArguments) -> Self {
        Self {
            lag_warning: arguments.warn.as_secs_f64(),
            lag_critical: arguments.crit.as_secs_f64(),
            log_rows: f64::from(arguments.log_rows),
            silence: arguments.silence.as_secs_f64(),
            transaction: arguments.transaction.as_secs_f64(),
            stuck: arguments.stuck.as_secs_f64(),
            sync_age: arguments.sync_age.as_secs_f64(),
        }
    }
}
