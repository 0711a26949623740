//! Does a node take writes to a set? Tried out, and rolled back.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use crate::{Cluster, error_text, quote_ident};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Tables of a set that are tried until one has a row that is free.
const MOST_TABLES: i64 = 50;

/// What a write met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A row of this table was changed (and changed back).
    Accepted {
        /// Schema and name, quoted.
        table: String,
    },
    /// The cluster refuses writes.
    Refused {
        /// Schema and name, quoted.
        table: String,
        /// In the words an application would get.
        message: String,
    },
    /// No table has a row to try; the triggers say what would happen.
    ByTriggers {
        /// Whether the log triggers, not the refusing ones, are enabled on all tables.
        accepts: bool,
    },
    /// The set has no tables: nobody can write to it, and nobody is refused.
    NoTables,
    /// Something else came in between, such as an application's own trigger.
    Undecided {
        /// What.
        message: String,
    },
}

impl Probe {
    /// Whether the node takes writes; None: that could not be found out.
    #[must_use]
    pub fn accepts(&self) -> Option<bool> {
        match self {
            Self::Accepted { .. } => Some(true),
            Self::Refused { .. } => Some(false),
            Self::ByTriggers { accepts } => Some(*accepts),
            Self::NoTables | Self::Undecided { .. } => None,
        }
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accepted { table } => write!(f, "a write to {table} was accepted (and rolled back)"),
            Self::Refused { table, message } => write!(f, "a write to {table} was refused: {message}"),
            Self::ByTriggers { accepts: true } => {
                f.write_str("writes are accepted, by the state of the triggers (no table has a row to try)")
            }
            Self::ByTriggers { accepts: false } => {
                f.write_str("writes are refused, by the state of the triggers (no table has a row to try)")
            }
            Self::NoTables => f.write_str("it has no tables to write to"),
            Self::Undecided { message } => write!(f, "it could not be tried out: {message}"),
        }
    }
}

/// Changes a row of the set to itself as an application would, and rolls back.
///
/// Locks one row that nobody else has locked, for a moment; the row triggers of the table fire. Tables without rows tell
/// nothing, because the triggers are row triggers.
///
/// # Errors
/// Any database error that is no answer to the question.
pub async fn probe_write(client: &Client, cluster: &Cluster, set: i32) -> Result<Probe> {
    client
        .batch_execute(
            "begin isolation level read committed read write;
             set local statement_timeout to '5s'; set local lock_timeout to '2s'",
        )
        .await?;
    let outcome = try_tables(client, cluster, set).await;
    let ended = client.batch_execute("rollback").await;
    let probe = outcome?;
    ended?;
    Ok(probe)
}

async fn try_tables(client: &Client, cluster: &Cluster, set: i32) -> Result<Probe> {
    // A subscriber's daemon may write as a replica; an application never does.
    client
        .batch_execute(
            "do $$ begin perform pg_catalog.set_config('session_replication_role', 'origin', true);
                exception when insufficient_privilege then null; end $$",
        )
        .await?;
    let tables = client
        .query(
            &cluster.sql(
                "select t.tab_nspname::pg_catalog.text, t.tab_relname::pg_catalog.text,
                        (select a.attname::pg_catalog.text
                           from pg_catalog.pg_attribute a
                          where a.attrelid = t.tab_reloid and a.attnum > 0 and not a.attisdropped
                            and a.attidentity <> 'a'
                            and coalesce(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') = ''
                          order by a.attnum limit 1)
                   from @NAMESPACE@.sl_table t
                  where t.tab_set = $1 order by t.tab_id limit $2",
            ),
            &[&set, &MOST_TABLES],
        )
        .await?;
    if tables.is_empty() {
        return Ok(Probe::NoTables);
    }
    let mut undecided = None;
    for table in &tables {
        match try_table(client, table).await? {
            None => {}
            Some(Probe::Undecided { message }) => undecided = Some(message),
            Some(probe) => return Ok(probe),
        }
    }
    match undecided {
        Some(message) => Ok(Probe::Undecided { message }),
        None => by_triggers(client, cluster, set).await,
    }
}

/// None: no row is there, or none is free.
async fn try_table(client: &Client, table: &Row) -> Result<Option<Probe>> {
    let (schema, name, column): (String, String, Option<String>) =
        (table.try_get(0)?, table.try_get(1)?, table.try_get(2)?);
    let Some(column) = column.map(|column| quote_ident(&column)) else {
        return Ok(None);
    };
    let full = format!("{}.{}", quote_ident(&schema), quote_ident(&name));
    client.batch_execute("savepoint probe").await?;
    let statement = format!(
        "with free as (select ctid from only {full} limit 1 for update skip locked)
         update only {full} t set {column} = t.{column} from free f where t.ctid = f.ctid"
    );
    let outcome = client.execute(&statement, &[]).await;
    client
        .batch_execute("rollback to savepoint probe; release savepoint probe")
        .await?;
    Ok(match outcome {
        Ok(0) => None,
        Ok(_) => Some(Probe::Accepted { table: full }),
        Err(error) => {
            let Some(server) = error.as_db_error() else {
                return Err(error);
            };
            // Slony's own triggers, ours and the original's, say who they are.
            if *server.code() == SqlState::READ_ONLY_SQL_TRANSACTION || server.message().starts_with("Slony-I: ") {
                Some(Probe::Refused {
                    table: full,
                    message: server.message().to_owned(),
                })
            } else {
                Some(Probe::Undecided {
                    message: format!("{full}: {}", error_text(&error)),
                })
            }
        }
    })
}

async fn by_triggers(client: &Client, cluster: &Cluster, set: i32) -> Result<Probe> {
    let sql = cluster.sql(
        "select coalesce(pg_catalog.bool_and(
                    exists (select from pg_catalog.pg_trigger g
                             where g.tgrelid = t.tab_reloid and g.tgname = any ($2) and g.tgenabled <> 'D')
                    and not exists (select from pg_catalog.pg_trigger g
                                     where g.tgrelid = t.tab_reloid and g.tgname = any ($3) and g.tgenabled <> 'D')),
                 false)
           from @NAMESPACE@.sl_table t where t.tab_set = $1",
    );
    let name = |suffix: &str| format!("{}_{suffix}", cluster.schema());
    let row = client
        .query_one(
            &sql,
            &[
                &set,
                &vec![name("logtrigger"), name("logtrigger_i"), name("logtrigger_r")],
                &vec![name("denyaccess"), name("lockedset")],
            ],
        )
        .await?;
    Ok(Probe::ByTriggers {
        accepts: row.try_get(0)?,
    })
}
