//! `execute script` on its event node.

use std::time::Duration;

use tokio_postgres::Client;

use super::call::Argument::{MaybeText, Text};
use super::call::Call;
use crate::Cluster;

/// `ddlCapture`: runs one statement of a script and notes it for the others. `nodes`: a comma list, None for all.
#[must_use]
pub fn ddl_capture(cluster: &Cluster, statement: &str, nodes: Option<&str>) -> Call {
    Call::function(cluster, "ddlCapture", &[Text(statement), MaybeText(nodes)])
}

/// `ddlScript_complete`: the end of a script.
#[must_use]
pub fn ddl_script_complete(cluster: &Cluster, nodes: Option<&str>) -> Call {
    Call::function(cluster, "ddlScript_complete", &[MaybeText(nodes)])
}

/// Lets the statements that follow in this transaction wait so long for a lock, in milliseconds, instead of `before`. Where
/// it is neither any more the script has set it itself, and its author decides.
#[must_use]
pub fn lock_patience(before: u128, now: u128) -> Call {
    Call::statement(format!(
        "select pg_catalog.set_config('lock_timeout', '{now}', true)
           from pg_catalog.pg_settings where name = 'lock_timeout' and setting = '{before}'"
    ))
}

/// Limits for waiting on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockLimits {
    /// `lock_timeout` of the session; None: no limit.
    pub lock_timeout: Option<Duration>,
    /// `deadlock_timeout`: when the server looks whether a wait is part of a deadlock.
    pub deadlock_timeout: Duration,
}

/// Reads them.
pub async fn lock_limits(client: &Client) -> Result<LockLimits, tokio_postgres::Error> {
    let sql = "select setting::pg_catalog.int8 from pg_catalog.pg_settings
                where name in ('deadlock_timeout', 'lock_timeout') order by name";
    let mut limits = client.query(sql, &[]).await?.into_iter().map(|row| {
        row.try_get::<_, i64>(0)
            .map(|setting| Duration::from_millis(setting.unsigned_abs()))
    });
    let mut next = || limits.next().transpose().map(Option::unwrap_or_default);
    let (deadlock_timeout, lock_timeout) = (next()?, next()?);
    Ok(LockLimits {
        lock_timeout: Some(lock_timeout).filter(|limit| !limit.is_zero()),
        deadlock_timeout,
    })
}
