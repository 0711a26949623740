//! The first copy of a set: what the provider has, what is missing here, and from where the stream goes on.

use std::collections::HashMap;

use tokio_postgres::{Client, Row};

use crate::snapshot::Snapshot;
use crate::{Cluster, quote_ident};

/// A table of the set as its provider knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SetTable {
    /// `tab_id`.
    pub id: i32,
    /// Unquoted schema.
    pub schema: String,
    /// Unquoted name.
    pub name: String,
    /// `tab_idxname`.
    pub index: String,
    /// `tab_comment`.
    pub comment: String,
    /// Columns with stored values, in table order; those the server computes are left out.
    pub columns: Vec<String>,
    /// Planner's guess of the number of rows; negative if unknown.
    pub rows: f32,
    /// What it takes on the provider's disk, without indexes, in bytes.
    pub bytes: i64,
}

impl SetTable {
    /// Quoted `schema.name`.
    #[must_use]
    pub fn qualified(&self) -> String {
        format!("{}.{}", quote_ident(&self.schema), quote_ident(&self.name))
    }
}

/// A sequence of the set as its provider knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSequence {
    /// `seq_id`.
    pub id: i32,
    /// Unquoted schema.
    pub schema: String,
    /// Unquoted name.
    pub name: String,
    /// `seq_comment`.
    pub comment: String,
}

impl SetSequence {
    /// Quoted `schema.name`.
    #[must_use]
    pub fn qualified(&self) -> String {
        format!("{}.{}", quote_ident(&self.schema), quote_ident(&self.name))
    }
}

/// Tables of the set on the provider, in the order of their ids.
///
/// # Errors
/// Any database error.
pub async fn tables(
    provider: &Client,
    cluster: &Cluster,
    server_version: i32,
    set: i32,
) -> Result<Vec<SetTable>, tokio_postgres::Error> {
    let stored = if server_version >= 120_000 {
        "and a.attgenerated = ''"
    } else {
        ""
    };
    let sql = cluster.sql(&format!(
        "select t.tab_id, n.nspname::text, c.relname::text, t.tab_idxname::text, coalesce(t.tab_comment, ''),
                coalesce((select pg_catalog.array_agg(a.attname::text order by a.attnum)
                            from pg_catalog.pg_attribute a
                           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped {stored}), '{{}}'),
                c.reltuples, coalesce(pg_catalog.pg_table_size(c.oid), 0)
           from @NAMESPACE@.sl_table t
           join pg_catalog.pg_class c on c.oid = t.tab_reloid
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where t.tab_set = $1
          order by t.tab_id"
    ));
    provider
        .query(&sql, &[&set])
        .await?
        .iter()
        .map(|row| {
            Ok(SetTable {
                id: row.try_get(0)?,
                schema: row.try_get(1)?,
                name: row.try_get(2)?,
                index: row.try_get(3)?,
                comment: row.try_get(4)?,
                columns: row.try_get(5)?,
                rows: row.try_get(6)?,
                bytes: row.try_get(7)?,
            })
        })
        .collect()
}

/// Sequences of the set on the provider, in the order of their ids.
///
/// # Errors
/// Any database error.
pub async fn sequences(
    provider: &Client,
    cluster: &Cluster,
    set: i32,
) -> Result<Vec<SetSequence>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select s.seq_id, n.nspname::text, c.relname::text, coalesce(s.seq_comment, '')
           from @NAMESPACE@.sl_sequence s
           join pg_catalog.pg_class c on c.oid = s.seq_reloid
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where s.seq_set = $1
          order by s.seq_id",
    );
    provider
        .query(&sql, &[&set])
        .await?
        .iter()
        .map(|row| {
            Ok(SetSequence {
                id: row.try_get(0)?,
                schema: row.try_get(1)?,
                name: row.try_get(2)?,
                comment: row.try_get(3)?,
            })
        })
        .collect()
}

/// Current values of sequences, in the given order.
///
/// # Errors
/// Any database error.
pub async fn sequence_values(provider: &Client, sequences: &[SetSequence]) -> Result<Vec<i64>, tokio_postgres::Error> {
    let mut values = Vec::with_capacity(sequences.len());
    for part in sequences.chunks(200) {
        let selects: Vec<String> = part
            .iter()
            .enumerate()
            .map(|(index, sequence)| format!("select {index}, last_value::int8 from {}", sequence.qualified()))
            .collect();
        let sql = format!("{} order by 1", selects.join(" union all "));
        for row in provider.query(&sql, &[]).await? {
            values.push(row.try_get(1)?);
        }
    }
    Ok(values)
}

/// What this node lacks to take the set; one line each, empty if nothing.
///
/// Also returns, per table, the columns that this node computes itself and that must not be copied.
///
/// # Errors
/// Any database error.
pub async fn obstacles(
    local: &Client,
    server_version: i32,
    node: i32,
    tables: &[SetTable],
    sequences: &[SetSequence],
) -> Result<(Vec<String>, Vec<Vec<String>>), tokio_postgres::Error> {
    let generated = if server_version >= 120_000 {
        "a.attgenerated <> ''"
    } else {
        "false"
    };
    let sql = format!(
        "select w.place, c.relkind::text,
                coalesce((select pg_catalog.array_agg(a.attname::text) from pg_catalog.pg_attribute a
                           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '{{}}'),
                coalesce((select pg_catalog.array_agg(a.attname::text) from pg_catalog.pg_attribute a
                           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and {generated}), '{{}}'),
                exists (select 1 from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
                         where i.indrelid = c.oid and x.relname = w.index and i.indisunique)
           from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]))
                with ordinality w (schema, name, index, place)
           join pg_catalog.pg_namespace n on n.nspname = w.schema
           join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name"
    );
    let wanted = tables
        .iter()
        .map(|table| (table.schema.as_str(), table.name.as_str(), table.index.as_str()))
        .chain(sequences.iter().map(|one| (one.schema.as_str(), one.name.as_str(), "")));
    let (mut schemas, mut names, mut indexes) = (Vec::new(), Vec::new(), Vec::new());
    for (schema, name, index) in wanted {
        schemas.push(schema);
        names.push(name);
        indexes.push(index);
    }
    let mut found: HashMap<i64, Row> = HashMap::new();
    for row in local.query(&sql, &[&schemas, &names, &indexes]).await? {
        found.insert(row.try_get(0)?, row);
    }
    let mut missing = Vec::new();
    let mut computed = Vec::with_capacity(tables.len());
    let mut place = 0;
    for table in tables {
        place += 1;
        let name = table.qualified();
        let Some(row) = found.get(&place) else {
            missing.push(format!("table {name} does not exist on node {node}"));
            computed.push(Vec::new());
            continue;
        };
        let kind: String = row.try_get(1)?;
        let columns: Vec<String> = row.try_get(2)?;
        let generated: Vec<String> = row.try_get(3)?;
        if kind != "r" {
            missing.push(format!("{name} is not an ordinary table on node {node}"));
        } else if !row.try_get::<_, bool>(4)? {
            missing.push(format!(
                "table {name} has no unique index \"{}\" on node {node}",
                table.index
            ));
        }
        for column in table.columns.iter().filter(|column| !columns.contains(column)) {
            missing.push(format!(
                "column \"{column}\" of table {name} does not exist on node {node}"
            ));
        }
        computed.push(generated);
    }
    for sequence in sequences {
        place += 1;
        let kind = found.get(&place).map(|row| row.try_get::<_, String>(1)).transpose()?;
        match kind.as_deref() {
            Some("S") => {}
            Some(_) => missing.push(format!("{} is not a sequence on node {node}", sequence.qualified())),
            None => missing.push(format!(
                "sequence {} does not exist on node {node}",
                sequence.qualified()
            )),
        }
    }
    Ok((missing, computed))
}

/// What the tables take here without indexes, in bytes, in the given order; 0: nothing is in them.
///
/// # Errors
/// Any database error.
pub async fn local_bytes(local: &Client, tables: &[SetTable]) -> Result<Vec<i64>, tokio_postgres::Error> {
    let names: Vec<String> = tables.iter().map(SetTable::qualified).collect();
    let sql = "select coalesce(pg_catalog.pg_relation_size(pg_catalog.to_regclass(w.name)), 0)
                 from pg_catalog.unnest($1::text[]) with ordinality w (name, place) order by w.place";
    local
        .query(sql, &[&names])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}

/// From where the stream goes on after the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartPoint {
    /// `ssy_seqno`.
    pub seqno: i64,
    /// `ssy_snapshot`.
    pub snapshot: String,
    /// `ssy_action_list`: changes after the snapshot that the copy already holds.
    pub action_list: String,
}

/// Finds the start point in the provider's transaction, whose snapshot is that of the copy.
///
/// A forwarding subscriber hands on its own position. On the origin it is the newest SYNC and the log rows after it.
/// `event` is the ENABLE_SUBSCRIPTION event's number and snapshot, used where there is no SYNC yet.
///
/// # Errors
/// Any database error.
pub async fn start_point(
    provider: &Client,
    cluster: &Cluster,
    origin: i32,
    set: i32,
    event: (i64, &Snapshot),
) -> Result<StartPoint, tokio_postgres::Error> {
    let position = cluster.sql(
        "select ssy_seqno, ssy_snapshot::text, coalesce(ssy_action_list, '') from @NAMESPACE@.sl_setsync
          where ssy_setid = $1 and ssy_origin = $2",
    );
    if let Some(row) = provider.query_opt(&position, &[&set, &origin]).await? {
        return Ok(StartPoint {
            seqno: row.try_get(0)?,
            snapshot: row.try_get(1)?,
            action_list: row.try_get(2)?,
        });
    }
    let newest = cluster.sql(
        "select ev_seqno, ev_snapshot::text, pg_catalog.txid_snapshot_xmax(ev_snapshot),
                array(select pg_catalog.txid_snapshot_xip(ev_snapshot))
           from @NAMESPACE@.sl_event where ev_origin = $1 and ev_type = 'SYNC' order by ev_seqno desc limit 1",
    );
    let (seqno, snapshot, xmax, in_progress): (i64, String, i64, Vec<i64>) =
        match provider.query_opt(&newest, &[&origin]).await? {
            Some(row) => (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?),
            None => (event.0, event.1.to_string(), 0, Vec::new()),
        };
    let mut actions = Vec::new();
    for log_table in ["sl_log_1", "sl_log_2"] {
        let sql = cluster.sql(&format!(
            "select log_actionseq from @NAMESPACE@.{log_table}
              where log_origin = $1 and (log_txid >= $2 or log_txid = any ($3))
                and log_tableid in (select tab_id from @NAMESPACE@.sl_table where tab_set = $4)"
        ));
        for row in provider.query(&sql, &[&origin, &xmax, &in_progress, &set]).await? {
            actions.push(row.try_get::<_, i64>(0)?);
        }
    }
    actions.sort_unstable();
    let quoted: Vec<String> = actions.iter().map(|action| format!("'{action}'")).collect();
    Ok(StartPoint {
        seqno,
        snapshot,
        action_list: quoted.join(","),
    })
}

/// Writes the start point of the set here, in the running transaction.
///
/// # Errors
/// Any database error.
pub async fn store_start_point(
    local: &Client,
    cluster: &Cluster,
    origin: i32,
    set: i32,
    start: &StartPoint,
) -> Result<(), tokio_postgres::Error> {
    let delete = cluster.sql("delete from @NAMESPACE@.sl_setsync where ssy_setid = $1");
    local.execute(&delete, &[&set]).await?;
    let insert = cluster.sql(
        "insert into @NAMESPACE@.sl_setsync (ssy_setid, ssy_origin, ssy_seqno, ssy_snapshot, ssy_action_list)
         values ($1, $2, $3, $4::text::pg_catalog.txid_snapshot, $5)",
    );
    local
        .execute(
            &insert,
            &[&set, &origin, &start.seqno, &start.snapshot, &start.action_list],
        )
        .await?;
    Ok(())
}

/// Whether the copy of the set is to keep the rows that are equal already (`tl_keep_rows`); None on a node whose schema
/// is Slony's.
///
/// # Errors
/// Any database error.
pub async fn keeps_rows(local: &Client, cluster: &Cluster, set: i32) -> Result<Option<bool>, tokio_postgres::Error> {
    let known = "select pg_catalog.to_regclass($1::pg_catalog.text) is not null";
    let table = format!("{}.tl_keep_rows", cluster.namespace());
    if !local.query_one(known, &[&table]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let sql = cluster.sql("select exists (select from @NAMESPACE@.tl_keep_rows where kr_set = $1)");
    local.query_one(&sql, &[&set]).await?.try_get(0).map(Some)
}

/// The copy is done, in the running transaction: what a node that was taken back still knows of the set goes, triggers
/// included; [`register`] makes it known anew.
///
/// # Errors
/// Any database error.
pub async fn forget_kept_rows(local: &Client, cluster: &Cluster, set: i32) -> Result<(), tokio_postgres::Error> {
    let forget = cluster.sql("select @NAMESPACE@.tl_forgetSetObjects($1)");
    local.execute(&forget, &[&set]).await?;
    let delete = cluster.sql("delete from @NAMESPACE@.tl_keep_rows where kr_set = $1");
    local.execute(&delete, &[&set]).await?;
    Ok(())
}

/// Makes the set's tables and sequences known here (triggers in the subscriber's disposition). `ours`: the schema takes all tables
/// at once.
///
/// # Errors
/// Any database error.
pub async fn register(
    local: &Client,
    cluster: &Cluster,
    ours: bool,
    set: i32,
    tables: &[SetTable],
    sequences: &[SetSequence],
) -> Result<(), tokio_postgres::Error> {
    if ours {
        let ids: Vec<i32> = tables.iter().map(|table| table.id).collect();
        let names: Vec<String> = tables.iter().map(SetTable::qualified).collect();
        let indexes: Vec<&str> = tables.iter().map(|table| table.index.as_str()).collect();
        let comments: Vec<&str> = tables.iter().map(|table| table.comment.as_str()).collect();
        let add = cluster.sql("select @NAMESPACE@.tl_addtables_int($1, $2, $3, $4, $5)");
        local.execute(&add, &[&set, &ids, &names, &indexes, &comments]).await?;
    } else {
        let add_table = cluster.sql("select @NAMESPACE@.setaddtable_int($1, $2, $3, $4::text::name, $5)");
        for table in tables {
            local
                .execute(
                    &add_table,
                    &[&set, &table.id, &table.qualified(), &table.index, &table.comment],
                )
                .await?;
        }
    }
    let add_sequence = cluster.sql("select @NAMESPACE@.setaddsequence_int($1, $2, $3, $4)");
    for sequence in sequences {
        local
            .execute(
                &add_sequence,
                &[&set, &sequence.id, &sequence.qualified(), &sequence.comment],
            )
            .await?;
    }
    Ok(())
}

/// Whether the receiver still is to be subscribed, as the node behind `client` knows it.
///
/// # Errors
/// Any database error.
pub async fn is_still_wanted(
    client: &Client,
    cluster: &Cluster,
    set: i32,
    origin: i32,
    receiver: i32,
) -> Result<bool, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select exists (select 1 from @NAMESPACE@.sl_set where set_id = $1 and set_origin = $2)
            and exists (select 1 from @NAMESPACE@.sl_subscribe where sub_set = $1 and sub_receiver = $3)",
    );
    client.query_one(&sql, &[&set, &origin, &receiver]).await?.try_get(0)
}

/// Sessions that hold locks on one of the tables, for messages:
/// `pid 4711 (user app, idle in transaction for 00:12:31, query …) holds public.t`.
///
/// # Errors
/// Any database error.
pub async fn lock_holders(local: &Client, tables: &[String]) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "select pg_catalog.format('pid %s (user %s, %s for %s, query: %s) holds %s', a.pid, a.usename,
                      coalesce(a.state, 'unknown'), date_trunc('second', pg_catalog.now() - a.state_change),
                      pg_catalog.left(coalesce(a.query, ''), 80),
                      pg_catalog.string_agg(distinct l.relation::pg_catalog.regclass::text, ', '))
                 from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
                where l.relation = any (array(select w.name::regclass from pg_catalog.unnest($1::text[]) w (name)))
                  and l.granted and l.pid <> pg_catalog.pg_backend_pid()
                  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
                group by a.pid, a.usename, a.state, a.state_change, a.query
                order by a.pid";
    local
        .query(sql, &[&tables])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}
