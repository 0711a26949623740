//! What the daemon tells of itself.

use std::time::Duration;

use tokio_postgres::Client;

use crate::Cluster;

/// What one part of a daemon is doing: a row of `sl_components`.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// Its name, as in `application_name`.
    pub actor: String,
    /// Node it works for; 0 if none in particular.
    pub node: i32,
    /// Its database connection.
    pub backend_pid: i32,
    /// What it does.
    pub activity: String,
    /// Since when, in seconds since 1970.
    pub since: f64,
    /// Event it works on.
    pub event: Option<i64>,
    /// Type of that event.
    pub event_type: String,
}

/// Stores what the parts of the daemon with process id `pid` are doing, in one statement.
pub async fn store_components(
    client: &Client,
    cluster: &Cluster,
    pid: i32,
    components: &[Component],
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "select @NAMESPACE@.component_state(actor, $8, node, backend, activity, pg_catalog.to_timestamp(since), event, kind)
           from rows from (
                    pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.int4[]),
                    pg_catalog.unnest($3::pg_catalog.int4[]), pg_catalog.unnest($4::pg_catalog.text[]),
                    pg_catalog.unnest($5::pg_catalog.float8[]), pg_catalog.unnest($6::pg_catalog.int8[]),
                    pg_catalog.unnest($7::pg_catalog.text[])
                ) as c (actor, node, backend, activity, since, event, kind)",
    );
    let column = |text: fn(&Component) -> &str| components.iter().map(text).collect::<Vec<&str>>();
    client
        .query(
            &sql,
            &[
                &column(|component| &component.actor),
                &components.iter().map(|component| component.node).collect::<Vec<i32>>(),
                &components
                    .iter()
                    .map(|component| component.backend_pid)
                    .collect::<Vec<i32>>(),
                &column(|component| &component.activity),
                &components.iter().map(|component| component.since).collect::<Vec<f64>>(),
                &components
                    .iter()
                    .map(|component| component.event)
                    .collect::<Vec<Option<i64>>>(),
                &column(|component| &component.event_type),
                &pid,
            ],
        )
        .await?;
    Ok(())
}

/// Forgets what former daemons of this node were doing.
pub async fn forget_components(client: &Client, cluster: &Cluster) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(&cluster.sql("delete from @NAMESPACE@.sl_components"))
        .await
}

/// What was applied for one origin: added to its row of `sl_apply_stats`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplyStats {
    /// Rows inserted.
    pub inserts: i64,
    /// Rows updated.
    pub updates: i64,
    /// Rows deleted.
    pub deletes: i64,
    /// Tables truncated.
    pub truncates: i64,
    /// Statements of scripts.
    pub scripts: i64,
    /// Time it took.
    pub duration: Duration,
    /// Statements prepared.
    pub prepared: i64,
    /// Statements that were prepared already.
    pub cache_hits: i64,
    /// Prepared statements given up.
    pub evicted: i64,
    /// Most statements prepared at once.
    pub prepared_most: i64,
}

impl ApplyStats {
    /// All changes.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.inserts + self.updates + self.deletes + self.truncates + self.scripts
    }
}

/// Adds to the running totals of an origin, inside the transaction that applied the changes.
pub async fn add_apply_stats(
    client: &impl tokio_postgres::GenericClient,
    cluster: &Cluster,
    origin: i32,
    stats: &ApplyStats,
) -> Result<(), tokio_postgres::Error> {
    // sl_apply_stats has no key to conflict with: update, else insert. One worker per origin writes the row.
    let sql = cluster.sql(
        "with added as (
             update @NAMESPACE@.sl_apply_stats
                set as_num_insert = as_num_insert + $2, as_num_update = as_num_update + $3,
                    as_num_delete = as_num_delete + $4, as_num_truncate = as_num_truncate + $5,
                    as_num_script = as_num_script + $6, as_num_total = as_num_total + $7,
                    as_duration = as_duration + pg_catalog.make_interval(secs => $8),
                    as_apply_last = pg_catalog.now(),
                    as_cache_prepare = as_cache_prepare + $9, as_cache_hit = as_cache_hit + $10,
                    as_cache_evict = as_cache_evict + $11,
                    as_cache_prepare_max = greatest(as_cache_prepare_max, $12)
              where as_origin = $1
          returning 1
         )
         insert into @NAMESPACE@.sl_apply_stats (
                as_origin, as_num_insert, as_num_update, as_num_delete, as_num_truncate, as_num_script, as_num_total,
                as_duration, as_apply_first, as_apply_last, as_cache_prepare, as_cache_hit, as_cache_evict,
                as_cache_prepare_max)
         select $1, $2, $3, $4, $5, $6, $7, pg_catalog.make_interval(secs => $8), pg_catalog.now(), pg_catalog.now(),
                $9, $10, $11, $12
          where not exists (select 1 from added)",
    );
    client
        .execute(
            &sql,
            &[
                &origin,
                &stats.inserts,
                &stats.updates,
                &stats.deletes,
                &stats.truncates,
                &stats.scripts,
                &stats.total(),
                &stats.duration.as_secs_f64(),
                &stats.prepared,
                &stats.cache_hits,
                &stats.evicted,
                &stats.prepared_most,
            ],
        )
        .await?;
    Ok(())
}
