//! Why a node has not confirmed an event yet, asked on that node itself.

use tokio_postgres::Client;

use super::Blocker;
use crate::Cluster;
use crate::configuration::EVENT_PENDING;
use crate::trouble::{self, Trouble};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Whether a daemon serves a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Serving {
    /// A live backend holds the node lock.
    Yes {
        /// Process id of that backend.
        backend: i32,
        /// Host and process id of the daemon, where it tells them.
        daemon: Option<(String, i32)>,
    },
    /// Nobody does.
    No,
}

/// What the daemon's worker for one origin says it is doing (`sl_components`).
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerActivity {
    /// Its words.
    pub activity: String,
    /// The event it works on.
    pub event: Option<i64>,
    /// That event's type.
    pub event_type: Option<String>,
    /// Seconds since it began.
    pub seconds: f64,
}

/// What a node says about itself and the events of one origin.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReport {
    /// The cluster schema is there.
    pub installed: bool,
    /// Its node number, -1 before initialisation.
    pub node: i32,
    /// Whether a daemon serves it.
    pub serving: Serving,
    /// What its daemon is stuck on.
    pub troubles: Vec<Trouble>,
    /// What the worker for the origin is doing.
    pub activity: Option<WorkerActivity>,
    /// Whether it knows the origin at all.
    pub knows_origin: bool,
    /// The newest event of the origin it has stored.
    pub confirmed: i64,
    /// The nodes it may fetch the origin's events from, and whether it has a conninfo for each.
    pub providers: Vec<(i32, bool)>,
    /// Sessions of its daemon that wait for a lock, and who keeps it from them.
    pub locked_out: Vec<(String, Blocker)>,
    /// Seconds since the last trace of a daemon: its own events, its threads' rows. None: there is none.
    pub last_seen: Option<f64>,
}

impl NodeReport {
    fn missing() -> Self {
        Self {
            installed: false,
            node: -1,
            serving: Serving::No,
            troubles: Vec::new(),
            activity: None,
            knows_origin: false,
            confirmed: 0,
            providers: Vec::new(),
            locked_out: Vec::new(),
            last_seen: None,
        }
    }
}

/// Asks the node behind `client` how far it is with the events of `origin`.
pub async fn inspect(client: &Client, cluster: &Cluster, origin: i32) -> Result<NodeReport> {
    if !super::schema_exists(client, cluster).await? {
        return Ok(NodeReport::missing());
    }
    let facts = client
        .query_one(
            &cluster.sql(
                "select l.last_value::pg_catalog.int4,
                        (select k.nl_backendpid from @NAMESPACE@.sl_nodelock k
                           join pg_catalog.pg_stat_activity a
                             on a.pid = k.nl_backendpid and a.datname = pg_catalog.current_database()
                          where k.nl_nodeid = l.last_value and k.nl_conncnt = 0),
                        coalesce((select max(c.con_seqno) from @NAMESPACE@.sl_confirm c
                                   where c.con_origin = $1 and c.con_received = l.last_value), 0)::pg_catalog.int8,
                        pg_catalog.to_regclass($2) is not null,
                        pg_catalog.to_regclass($3) is not null,
                        exists (select from @NAMESPACE@.sl_node n where n.no_id = $1),
                        extract(epoch from pg_catalog.now() - greatest(
                            (select max(e.ev_timestamp) from @NAMESPACE@.sl_event e
                              where e.ev_origin = l.last_value and e.ev_type = 'SYNC'),
                            (select max(c.co_starttime) from @NAMESPACE@.sl_components c)))::pg_catalog.float8
                   from @NAMESPACE@.sl_local_node_id l",
            ),
            &[
                &origin,
                &format!("{}.tl_daemon", cluster.namespace()),
                &format!("{}.tl_trouble", cluster.namespace()),
            ],
        )
        .await?;
    let node: i32 = facts.try_get(0)?;
    let backend: Option<i32> = facts.try_get(1)?;
    let (has_daemons, has_troubles): (bool, bool) = (facts.try_get(3)?, facts.try_get(4)?);
    let serving = match backend {
        Some(backend) if has_daemons => Serving::Yes {
            backend,
            daemon: daemon_of(client, cluster, backend).await?,
        },
        Some(backend) => Serving::Yes { backend, daemon: None },
        None => Serving::No,
    };
    let troubles = if has_troubles && backend.is_some() {
        trouble::list(client, cluster).await?
    } else {
        Vec::new()
    };
    Ok(NodeReport {
        installed: true,
        node,
        serving,
        troubles,
        activity: activity_of(client, cluster, origin, node).await?,
        knows_origin: facts.try_get(5)?,
        confirmed: facts.try_get(2)?,
        providers: providers_of(client, cluster, origin, node).await?,
        locked_out: if backend.is_some() {
            super::waiting_daemons(client).await?
        } else {
            Vec::new()
        },
        last_seen: facts.try_get(6)?,
    })
}

async fn daemon_of(client: &Client, cluster: &Cluster, backend: i32) -> Result<Option<(String, i32)>> {
    let sql = cluster.sql("select da_host, da_pid from @NAMESPACE@.tl_daemon where da_backend_pid = $1");
    let Some(row) = client.query_opt(&sql, &[&backend]).await? else {
        return Ok(None);
    };
    let (host, pid): (Option<String>, Option<i32>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(host.zip(pid))
}

async fn activity_of(client: &Client, cluster: &Cluster, origin: i32, node: i32) -> Result<Option<WorkerActivity>> {
    if origin == node {
        return Ok(None);
    }
    // A row outlives its daemon; it counts only while the backend it names is there.
    let sql = cluster.sql(
        "select c.co_activity, c.co_event, c.co_eventtype,
                extract(epoch from pg_catalog.now() - c.co_starttime)::pg_catalog.float8
           from @NAMESPACE@.sl_components c
           join pg_catalog.pg_stat_activity a
             on a.pid = c.co_connection_pid and a.datname = pg_catalog.current_database()
          where c.co_actor = $1 and c.co_activity is not null",
    );
    let Some(row) = client
        .query_opt(&sql, &[&format!("remoteWorkerThread_{origin}")])
        .await?
    else {
        return Ok(None);
    };
    Ok(Some(WorkerActivity {
        activity: row.try_get(0)?,
        event: row.try_get(1)?,
        event_type: row.try_get(2)?,
        seconds: row.try_get(3)?,
    }))
}

async fn providers_of(client: &Client, cluster: &Cluster, origin: i32, node: i32) -> Result<Vec<(i32, bool)>> {
    let sql = cluster.sql(
        "select l.li_provider, coalesce(bool_or(p.pa_conninfo <> $3), false)
           from @NAMESPACE@.sl_listen l
           left join @NAMESPACE@.sl_path p on p.pa_server = l.li_provider and p.pa_client = l.li_receiver
          where l.li_origin = $1 and l.li_receiver = $2
          group by l.li_provider order by l.li_provider",
    );
    client
        .query(&sql, &[&origin, &node, &EVENT_PENDING])
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}
