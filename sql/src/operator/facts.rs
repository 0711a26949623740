//! All a node can say about itself and the cluster, in one snapshot.

use std::collections::BTreeSet;

use futures_util::try_join;
use tokio_postgres::{Client, Row};

use crate::Cluster;
use crate::configuration::{ListenRow, NodeRow, PathRow, SubscriptionRow};
use crate::trouble::{self, Trouble};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// A set as a node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetFacts {
    /// Its number.
    pub id: i32,
    /// Where it may be written.
    pub origin: i32,
    /// Whether `lock set` keeps writers out; only its origin knows.
    pub locked: bool,
    /// Its comment.
    pub comment: String,
    /// Tables of it that this node knows; 0 on nodes that neither originate nor receive it.
    pub tables: i64,
    /// Sequences of it that this node knows.
    pub sequences: i64,
}

/// Events of one origin that a node holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventFacts {
    /// Whose events.
    pub origin: i32,
    /// Oldest one that is kept.
    pub oldest: i64,
    /// Seconds since it was made.
    pub oldest_age: f64,
    /// Newest one that has arrived.
    pub newest: i64,
    /// Seconds since it was made.
    pub newest_age: f64,
}

/// How far one node is with the events of another, as a node knows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfirmationFacts {
    /// Whose events.
    pub origin: i32,
    /// The node that has processed them.
    pub receiver: i32,
    /// The newest one it has confirmed.
    pub seqno: i64,
    /// Seconds since it did.
    pub age: f64,
    /// Seconds since the oldest event it has not confirmed was made; None: it has confirmed all this node knows.
    pub waiting: Option<f64>,
}

/// The daemon of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct DaemonFacts {
    /// Whether a living backend holds the node lock.
    pub alive: bool,
    /// Seconds since the daemon (or, of a real Slony slon, its backend) started, while it is alive.
    pub up: Option<f64>,
    /// Seconds since the last trace of it: an activity it noted, an event of the node.
    pub last_sign: Option<f64>,
    /// Backend that holds the node lock.
    pub backend: Option<i32>,
    /// Its host, where it tells it.
    pub host: Option<String>,
    /// Its process id there.
    pub pid: Option<i32>,
    /// Its version, where it tells it.
    pub version: Option<String>,
}

/// The log tables of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogFacts {
    /// The table that is written: 1 or 2.
    pub active: i32,
    /// A switch waits for the other one to be emptied.
    pub switching: bool,
    /// Seconds since the switch began, where the node notes that.
    pub switching_for: Option<f64>,
    /// Estimated rows of `sl_log_1`, `sl_log_2` and `sl_seqlog`, as of the last analyze.
    pub rows: [f64; 3],
    /// Bytes of both log tables with their indexes.
    pub bytes: i64,
}

/// A failover that this node has processed (`tl_failover`).
#[derive(Debug, Clone, PartialEq)]
pub struct FailoverFacts {
    /// The node that was given up.
    pub failed: i32,
    /// Newest event of it that the survivors had.
    pub seqno: i64,
    /// The origin of its sets since then.
    pub successor: i32,
    /// Those sets.
    pub sets: Vec<i32>,
    /// Seconds since then.
    pub age: f64,
}

/// A set this node must not write to any more (`tl_fence`).
#[derive(Debug, Clone, PartialEq)]
pub struct FenceFacts {
    /// The set.
    pub set: i32,
    /// Its origin now, as far as it is known.
    pub new_origin: Option<i32>,
    /// Why.
    pub reason: String,
    /// Seconds since it was fenced.
    pub age: f64,
}

/// An index that a first copy could not build after the data (`tl_missing_index`), and that is not there yet.
#[derive(Debug, Clone, PartialEq)]
pub struct MissingIndex {
    /// Quoted `schema.name`.
    pub index: String,
    /// Its table, quoted.
    pub table: String,
    /// The statement that makes it.
    pub definition: String,
    /// Why it could not be built.
    pub reason: String,
    /// Seconds since then.
    pub age: f64,
}

/// Events of an origin that wait to be processed on the node (`tl_heard`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeardFacts {
    /// The origin.
    pub origin: i32,
    /// The newest of them.
    pub seqno: i64,
    /// Seconds since the oldest of them was made.
    pub waiting: f64,
    /// Seconds since this was noted.
    pub age: f64,
}

/// What one node says.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    /// Its number.
    pub local: i32,
    /// Whether its schema is Trunkline's, not the original's.
    pub ours: bool,
    /// `sl_node`.
    pub nodes: Vec<NodeRow>,
    /// `sl_path`, of all nodes.
    pub paths: Vec<PathRow>,
    /// `sl_listen`, of all nodes.
    pub listens: Vec<ListenRow>,
    /// `sl_set`.
    pub sets: Vec<SetFacts>,
    /// `sl_subscribe`.
    pub subscriptions: Vec<SubscriptionRow>,
    /// Events it holds, by origin.
    pub events: Vec<EventFacts>,
    /// Events that wait to be processed there, by origin; without those that have been processed since.
    pub heard: Vec<HeardFacts>,
    /// Confirmations it knows, by origin and receiver.
    pub confirmations: Vec<ConfirmationFacts>,
    /// Its daemon.
    pub daemon: DaemonFacts,
    /// What its daemon is stuck on.
    pub troubles: Vec<Trouble>,
    /// Indexes that its first copies could not build.
    pub missing_indexes: Vec<MissingIndex>,
    /// Its log tables.
    pub log: LogFacts,
    /// Failovers it has processed, oldest first.
    pub failovers: Vec<FailoverFacts>,
    /// Sets it is fenced from.
    pub fences: Vec<FenceFacts>,
}

impl NodeFacts {
    /// What it knows of another node's progress with an origin's events.
    #[must_use]
    pub fn confirmation(&self, origin: i32, receiver: i32) -> Option<&ConfirmationFacts> {
        self.confirmations
            .iter()
            .find(|known| known.origin == origin && known.receiver == receiver)
    }

    /// The events of an origin that it holds.
    #[must_use]
    pub fn events_of(&self, origin: i32) -> Option<&EventFacts> {
        self.events.iter().find(|known| known.origin == origin)
    }

    /// A usable path by which `client` reaches `server`.
    #[must_use]
    pub fn path(&self, server: i32, client: i32) -> Option<&PathRow> {
        self.paths
            .iter()
            .find(|path| path.server == server && path.client == client && path.is_usable())
    }
}

/// Names of the clusters installed in the database, by name.
///
/// # Errors
/// Any database error.
pub async fn find_clusters(client: &Client) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select pg_catalog.substr(n.nspname::pg_catalog.text, 2)
               from pg_catalog.pg_namespace n
              where n.nspname::pg_catalog.text like '\\_%'
                and exists (select from pg_catalog.pg_class c
                             where c.relnamespace = n.oid and c.relname = 'sl_local_node_id' and c.relkind = 'S')
              order by 1",
            &[],
        )
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Asks the node behind `client` for everything. None: the database holds no node of this cluster.
///
/// # Errors
/// Any database error; the transaction is then ended.
pub async fn look(client: &Client, cluster: &Cluster) -> Result<Option<NodeFacts>> {
    client
        .batch_execute("begin isolation level repeatable read read only; set local statement_timeout to '10s'")
        .await?;
    let outcome = read(client, cluster).await;
    let ended = client.batch_execute("rollback").await;
    let facts = outcome?;
    ended?;
    Ok(facts)
}

async fn read(client: &Client, cluster: &Cluster) -> Result<Option<NodeFacts>> {
    if !crate::admin::schema_exists(client, cluster).await? {
        return Ok(None);
    }
    let local = crate::admin::local_node_id(client, cluster).await?;
    if local < 0 {
        return Ok(None);
    }
    let ours = Ours::find(client, cluster).await?;
    let (nodes, paths, listens, sets, subscriptions) = try_join!(
        nodes(client, cluster),
        paths(client, cluster),
        listens(client, cluster),
        sets(client, cluster),
        subscriptions(client, cluster),
    )?;
    let (events, confirmations, daemon, log) = try_join!(
        events(client, cluster),
        confirmations(client, cluster),
        daemon(client, cluster, local, &ours),
        log(client, cluster),
    )?;
    let (failovers, fences, heard, missing_indexes) = try_join!(
        failovers(client, cluster, &ours),
        fences(client, cluster, &ours),
        heard(client, cluster, &ours),
        missing_indexes(client, cluster, &ours),
    )?;
    let troubles = if ours.has("tl_trouble") && daemon.alive {
        trouble::list(client, cluster).await?
    } else {
        Vec::new()
    };
    Ok(Some(NodeFacts {
        local,
        ours: ours.has("tl_daemon"),
        nodes,
        paths,
        listens,
        sets,
        subscriptions,
        events,
        heard,
        confirmations,
        daemon,
        troubles,
        missing_indexes,
        log,
        failovers,
        fences,
    }))
}

/// Our own tables that the node has.
struct Ours(BTreeSet<String>);

impl Ours {
    async fn find(client: &Client, cluster: &Cluster) -> Result<Self> {
        let found = client
            .query(
                "select c.relname::pg_catalog.text
                   from pg_catalog.pg_class c
                   join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                  where n.nspname::pg_catalog.text = $1 and c.relkind = 'r' and c.relname::pg_catalog.text like 'tl\\_%'",
                &[&cluster.schema()],
            )
            .await?;
        found.iter().map(|row| row.try_get(0)).collect::<Result<_>>().map(Self)
    }

    fn has(&self, table: &str) -> bool {
        self.0.contains(table)
    }
}

async fn rows<T>(client: &Client, cluster: &Cluster, sql: &str, read: impl Fn(&Row) -> Result<T>) -> Result<Vec<T>> {
    client.query(&cluster.sql(sql), &[]).await?.iter().map(read).collect()
}

async fn nodes(client: &Client, cluster: &Cluster) -> Result<Vec<NodeRow>> {
    let sql = "select no_id, no_active, coalesce(no_failed, false), coalesce(no_comment, '')
                 from @NAMESPACE@.sl_node order by 1";
    rows(client, cluster, sql, |row| {
        Ok(NodeRow {
            id: row.try_get(0)?,
            active: row.try_get(1)?,
            failed: row.try_get(2)?,
            comment: row.try_get(3)?,
        })
    })
    .await
}

async fn paths(client: &Client, cluster: &Cluster) -> Result<Vec<PathRow>> {
    let sql = "select pa_server, pa_client, pa_conninfo, coalesce(pa_connretry, 10)
                 from @NAMESPACE@.sl_path order by 1, 2";
    rows(client, cluster, sql, |row| {
        Ok(PathRow {
            server: row.try_get(0)?,
            client: row.try_get(1)?,
            conninfo: row.try_get(2)?,
            connretry: row.try_get(3)?,
        })
    })
    .await
}

async fn listens(client: &Client, cluster: &Cluster) -> Result<Vec<ListenRow>> {
    let sql = "select li_origin, li_provider, li_receiver from @NAMESPACE@.sl_listen order by 1, 2, 3";
    rows(client, cluster, sql, |row| {
        Ok(ListenRow {
            origin: row.try_get(0)?,
            provider: row.try_get(1)?,
            receiver: row.try_get(2)?,
        })
    })
    .await
}

async fn sets(client: &Client, cluster: &Cluster) -> Result<Vec<SetFacts>> {
    let sql = "select s.set_id, s.set_origin, s.set_locked is not null, coalesce(s.set_comment, ''),
                      (select count(*) from @NAMESPACE@.sl_table t where t.tab_set = s.set_id),
                      (select count(*) from @NAMESPACE@.sl_sequence q where q.seq_set = s.set_id)
                 from @NAMESPACE@.sl_set s order by 1";
    rows(client, cluster, sql, |row| {
        Ok(SetFacts {
            id: row.try_get(0)?,
            origin: row.try_get(1)?,
            locked: row.try_get(2)?,
            comment: row.try_get(3)?,
            tables: row.try_get(4)?,
            sequences: row.try_get(5)?,
        })
    })
    .await
}

async fn subscriptions(client: &Client, cluster: &Cluster) -> Result<Vec<SubscriptionRow>> {
    let sql = "select sub_set, sub_provider, sub_receiver, coalesce(sub_forward, false), coalesce(sub_active, false)
                 from @NAMESPACE@.sl_subscribe order by 1, 3";
    rows(client, cluster, sql, |row| {
        Ok(SubscriptionRow {
            set: row.try_get(0)?,
            provider: row.try_get(1)?,
            receiver: row.try_get(2)?,
            forward: row.try_get(3)?,
            active: row.try_get(4)?,
        })
    })
    .await
}

async fn events(client: &Client, cluster: &Cluster) -> Result<Vec<EventFacts>> {
    let sql = "select b.origin, o.ev_seqno,
                      extract(epoch from pg_catalog.clock_timestamp() - o.ev_timestamp)::pg_catalog.float8,
                      n.ev_seqno,
                      extract(epoch from pg_catalog.clock_timestamp() - n.ev_timestamp)::pg_catalog.float8
                 from (select e.ev_origin, min(e.ev_seqno), max(e.ev_seqno)
                         from @NAMESPACE@.sl_event e group by 1) b (origin, oldest, newest)
                 join @NAMESPACE@.sl_event o on o.ev_origin = b.origin and o.ev_seqno = b.oldest
                 join @NAMESPACE@.sl_event n on n.ev_origin = b.origin and n.ev_seqno = b.newest
                order by 1";
    rows(client, cluster, sql, |row| {
        Ok(EventFacts {
            origin: row.try_get(0)?,
            oldest: row.try_get(1)?,
            oldest_age: row.try_get(2)?,
            newest: row.try_get(3)?,
            newest_age: row.try_get(4)?,
        })
    })
    .await
}

async fn heard(client: &Client, cluster: &Cluster, ours: &Ours) -> Result<Vec<HeardFacts>> {
    if !ours.has("tl_heard") {
        return Ok(Vec::new());
    }
    let sql = "select h.he_origin, h.he_seqno,
                      extract(epoch from pg_catalog.clock_timestamp() - h.he_waiting_since)::pg_catalog.float8,
                      extract(epoch from pg_catalog.clock_timestamp() - h.he_at)::pg_catalog.float8
                 from @NAMESPACE@.tl_heard h
                where not exists (select from @NAMESPACE@.sl_event e
                                   where e.ev_origin = h.he_origin and e.ev_seqno >= h.he_seqno)
                order by 1";
    rows(client, cluster, sql, |row| {
        Ok(HeardFacts {
            origin: row.try_get(0)?,
            seqno: row.try_get(1)?,
            waiting: row.try_get(2)?,
            age: row.try_get(3)?,
        })
    })
    .await
}

async fn missing_indexes(client: &Client, cluster: &Cluster, ours: &Ours) -> Result<Vec<MissingIndex>> {
    if !ours.has("tl_missing_index") {
        return Ok(Vec::new());
    }
    // The names may be none any more: of a table that was dropped nothing is missing.
    let sql = "select m.mi_index, m.mi_table, m.mi_definition, m.mi_reason,
                      extract(epoch from pg_catalog.clock_timestamp() - m.mi_at)::pg_catalog.float8
                 from @NAMESPACE@.tl_missing_index m
                where pg_catalog.to_regclass(m.mi_index) is null and pg_catalog.to_regclass(m.mi_table) is not null
                order by 1";
    rows(client, cluster, sql, |row| {
        Ok(MissingIndex {
            index: row.try_get(0)?,
            table: row.try_get(1)?,
            definition: row.try_get(2)?,
            reason: row.try_get(3)?,
            age: row.try_get(4)?,
        })
    })
    .await
}

async fn confirmations(client: &Client, cluster: &Cluster) -> Result<Vec<ConfirmationFacts>> {
    let sql = "select c.origin, c.receiver, c.seqno,
                      extract(epoch from pg_catalog.clock_timestamp() - c.at)::pg_catalog.float8,
                      (select extract(epoch from pg_catalog.clock_timestamp() - e.ev_timestamp)::pg_catalog.float8
                         from @NAMESPACE@.sl_event e
                        where e.ev_origin = c.origin and e.ev_seqno > c.seqno
                        order by e.ev_seqno limit 1)
                 from (select f.con_origin, f.con_received, max(f.con_seqno), max(f.con_timestamp)
                         from @NAMESPACE@.sl_confirm f group by 1, 2) c (origin, receiver, seqno, at)
                order by 1, 2";
    rows(client, cluster, sql, |row| {
        Ok(ConfirmationFacts {
            origin: row.try_get(0)?,
            receiver: row.try_get(1)?,
            seqno: row.try_get(2)?,
            age: row.try_get::<_, Option<f64>>(3)?.unwrap_or(0.0),
            waiting: row.try_get(4)?,
        })
    })
    .await
}

async fn daemon(client: &Client, cluster: &Cluster, local: i32, ours: &Ours) -> Result<DaemonFacts> {
    let (columns, join) = if ours.has("tl_daemon") {
        (
            "d.da_host, d.da_pid, d.da_version, d.da_started",
            "left join @NAMESPACE@.tl_daemon d on d.da_backend_pid = k.nl_backendpid",
        )
    } else {
        (
            "null::pg_catalog.text, null::pg_catalog.int4, null::pg_catalog.text, null::pg_catalog.timestamptz",
            "",
        )
    };
    let sql = cluster.sql(&format!(
        "select h.backend, h.host, h.pid, h.version,
                extract(epoch from pg_catalog.clock_timestamp() - coalesce(h.started, h.backend_start))::pg_catalog.float8,
                extract(epoch from pg_catalog.clock_timestamp() - greatest(
                    (select max(c.co_starttime) from @NAMESPACE@.sl_components c),
                    (select max(e.ev_timestamp) from @NAMESPACE@.sl_event e where e.ev_origin = $1)))::pg_catalog.float8
           from (select 1) one
           left join (select k.nl_backendpid, a.backend_start, {columns}
                        from @NAMESPACE@.sl_nodelock k
                        join pg_catalog.pg_stat_activity a
                          on a.pid = k.nl_backendpid and a.datname = pg_catalog.current_database()
                        {join}
                       where k.nl_nodeid = $1 and k.nl_conncnt = 0) h (backend, backend_start, host, pid, version, started)
             on true"
    ));
    let row = client.query_one(&sql, &[&local]).await?;
    let backend: Option<i32> = row.try_get(0)?;
    Ok(DaemonFacts {
        alive: backend.is_some(),
        backend,
        host: row.try_get(1)?,
        pid: row.try_get(2)?,
        version: row.try_get(3)?,
        up: row.try_get(4)?,
        last_sign: row.try_get(5)?,
    })
}

async fn log(client: &Client, cluster: &Cluster) -> Result<LogFacts> {
    let sql = cluster.sql(
        "select (s.last_value & 1)::pg_catalog.int4 + 1, (s.last_value & 2) <> 0,
                (select extract(epoch from pg_catalog.clock_timestamp() - r.reg_timestamp)::pg_catalog.float8
                   from @NAMESPACE@.sl_registry r where r.reg_key = 'logswitch.laststart'),
                (select pg_catalog.array_agg(greatest(c.reltuples, 0)::pg_catalog.float8 order by c.relname)
                   from pg_catalog.pg_class c
                  where c.oid in ($1::pg_catalog.text::pg_catalog.regclass, $2::pg_catalog.text::pg_catalog.regclass,
                                  $3::pg_catalog.text::pg_catalog.regclass)),
                pg_catalog.pg_total_relation_size($1::pg_catalog.text::pg_catalog.regclass)
                    + pg_catalog.pg_total_relation_size($2::pg_catalog.text::pg_catalog.regclass)
           from @NAMESPACE@.sl_log_status s",
    );
    let table = |name: &str| format!("{}.{name}", cluster.namespace());
    let row = client
        .query_one(&sql, &[&table("sl_log_1"), &table("sl_log_2"), &table("sl_seqlog")])
        .await?;
    let switching: bool = row.try_get(1)?;
    let counted: Vec<f64> = row.try_get(3)?;
    let mut rows = [0.0; 3];
    for (place, count) in rows.iter_mut().zip(counted) {
        *place = count;
    }
    Ok(LogFacts {
        active: row.try_get(0)?,
        switching,
        switching_for: row.try_get::<_, Option<f64>>(2)?.filter(|_| switching),
        rows,
        bytes: row.try_get(4)?,
    })
}

async fn failovers(client: &Client, cluster: &Cluster, ours: &Ours) -> Result<Vec<FailoverFacts>> {
    if !ours.has("tl_failover") {
        return Ok(Vec::new());
    }
    let sql = "select fo_failed, fo_seqno, fo_successor, fo_sets,
                      extract(epoch from pg_catalog.clock_timestamp() - fo_at)::pg_catalog.float8
                 from @NAMESPACE@.tl_failover order by fo_at, fo_failed";
    rows(client, cluster, sql, |row| {
        Ok(FailoverFacts {
            failed: row.try_get(0)?,
            seqno: row.try_get::<_, Option<i64>>(1)?.unwrap_or(0),
            successor: row.try_get::<_, Option<i32>>(2)?.unwrap_or(-1),
            sets: row.try_get::<_, Option<Vec<i32>>>(3)?.unwrap_or_default(),
            age: row.try_get(4)?,
        })
    })
    .await
}

async fn fences(client: &Client, cluster: &Cluster, ours: &Ours) -> Result<Vec<FenceFacts>> {
    if !ours.has("tl_fence") {
        return Ok(Vec::new());
    }
    let sql = "select fe_set, fe_new_origin, coalesce(fe_reason, ''),
                      extract(epoch from pg_catalog.clock_timestamp() - fe_at)::pg_catalog.float8
                 from @NAMESPACE@.tl_fence order by 1";
    rows(client, cluster, sql, |row| {
        Ok(FenceFacts {
            set: row.try_get(0)?,
            new_origin: row.try_get(1)?,
            reason: row.try_get(2)?,
            age: row.try_get(3)?,
        })
    })
    .await
}
