//! Transactions that have been open for long.

use tokio_postgres::Client;

use crate::admin::{Blocker, read_blocker};

/// Sessions of this database whose transaction is older than `seconds`, and prepared transactions as old, oldest first.
///
/// Other users' statements are hidden from roles without `pg_monitor`; that there is a transaction is not.
///
/// # Errors
/// Any database error.
pub async fn long_transactions(client: &Client, seconds: f64) -> Result<Vec<Blocker>, tokio_postgres::Error> {
    let rows = client
        .query(
            "select x.pid, x.usename, x.datname, x.application_name, x.state,
                    extract(epoch from pg_catalog.clock_timestamp() - x.since)::pg_catalog.float8, x.query
               from (select a.pid, a.usename::pg_catalog.text, a.datname::pg_catalog.text, a.application_name,
                            a.state, a.xact_start, a.query
                       from pg_catalog.pg_stat_activity a
                      where a.datname = pg_catalog.current_database() and a.pid <> pg_catalog.pg_backend_pid()
                      union all
                     select null, p.owner::pg_catalog.text, p.database::pg_catalog.text, null, p.gid, p.prepared, null
                       from pg_catalog.pg_prepared_xacts p
                      where p.database = pg_catalog.current_database()
                    ) x (pid, usename, datname, application_name, state, since, query)
              where x.since < pg_catalog.clock_timestamp() - $1 * interval '1 second'
              order by x.since",
            &[&seconds],
        )
        .await?;
    rows.iter().map(read_blocker).collect()
}
