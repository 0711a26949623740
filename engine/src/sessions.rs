//! How this slon connects: name, settings, keepalives, and what becomes of the server's notices.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::DbError;
use trunkline_sql::SessionOptions;
use trunkline_sql::daemon::SESSION_SETTINGS;
use trunkline_sql::session::{Keepalives, NoticeSink};

use crate::logging as log;
use crate::parameters::Parameters;

/// Options for a session; `role` follows `slon.` in `application_name`, as in Slony.
#[must_use]
pub fn options(parameters: &Parameters, role: &str) -> SessionOptions {
    let mut on_connect = Vec::new();
    if let Some(sql) = &parameters.sql_on_connection {
        on_connect.push(sql.clone());
    }
    on_connect.push(SESSION_SETTINGS.to_owned());
    SessionOptions {
        application_name: format!("slon.{role}"),
        on_connect,
        notice: Some(notices(role)),
        keepalives: Some(keepalives(parameters)),
        ..SessionOptions::default()
    }
}

/// Logs the server's warnings, and its notices for those who want details.
fn notices(role: &str) -> NoticeSink {
    let role = role.to_owned();
    Arc::new(move |notice: &DbError| {
        // A rollback where nothing was begun is our way to be sure.
        if notice.code() == &tokio_postgres::error::SqlState::NO_ACTIVE_SQL_TRANSACTION {
            return;
        }
        if notice.severity() == "WARNING" {
            log::warn!("{role}: {}", notice.message());
        } else {
            log::debug1!("{role}: {}: {}", notice.severity(), notice.message());
        }
    })
}

fn keepalives(parameters: &Parameters) -> Keepalives {
    let default = Keepalives::default();
    if !parameters.tcp_keepalive {
        // As rarely as the operating system does it by itself.
        return Keepalives {
            idle: Duration::from_secs(7200),
            interval: Duration::from_secs(75),
            count: 9,
            tcp_user_timeout: Duration::ZERO,
        };
    }
    let seconds = |value: u32, default: Duration| {
        if value == 0 {
            default
        } else {
            Duration::from_secs(u64::from(value))
        }
    };
    let count = parameters.tcp_keepalive_count;
    let mut keepalives = Keepalives {
        idle: seconds(parameters.tcp_keepalive_idle, default.idle),
        interval: seconds(parameters.tcp_keepalive_interval, default.interval),
        count: if count == 0 { default.count } else { count },
        ..default
    };
    if keepalives != default {
        // The limit for unacknowledged data follows what was asked for.
        keepalives.tcp_user_timeout = keepalives.idle + keepalives.interval.saturating_mul(keepalives.count);
    }
    keepalives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepalives_follow_the_parameters() {
        let mut parameters = Parameters::default();
        assert_eq!(keepalives(&parameters), Keepalives::default());
        parameters.tcp_keepalive_idle = 5;
        parameters.tcp_keepalive_count = 2;
        let set = keepalives(&parameters);
        assert_eq!(
            (set.idle.as_secs(), set.count, set.tcp_user_timeout.as_secs()),
            (5, 2, 25)
        );
    }

    #[test]
    fn names_and_settings() {
        let parameters = Parameters {
            sql_on_connection: Some("set work_mem to '1MB'".to_owned()),
            ..Parameters::default()
        };
        let options = options(&parameters, "local_sync");
        assert_eq!(options.application_name, "slon.local_sync");
        assert_eq!(options.on_connect[0], "set work_mem to '1MB'");
        assert!(options.on_connect[1].contains("datestyle"));
    }
}
