//! What a failover asks each survivor, and what it calls there.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::call::Argument::{Bool, Int};
use super::call::{Argument, Call};
use crate::Cluster;
use crate::configuration::{self, Configuration, EVENT_PENDING};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// A FAILOVER_NODE event: how a failover was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Node that made the event: it takes the failed node's sets over.
    pub leader: i32,
    /// The event's number.
    pub seqno: i64,
    /// The failed node.
    pub failed: i32,
    /// Newest event of the failed node that the leader had.
    pub last_seqno: i64,
}

/// A failover that has had its effect on a node (`tl_failover`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// The failed node.
    pub failed: i32,
    /// Newest event of it that the survivors had.
    pub last_seqno: i64,
    /// Node that took the sets over.
    pub successor: i32,
    /// Its sets.
    pub sets: Vec<i32>,
}

/// What one survivor knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Nodes, sets, subscriptions as it knows them.
    pub configuration: Configuration,
    /// Usable paths of all nodes: (server, client).
    pub paths: Vec<(i32, i32)>,
    /// The newest event it has of each node.
    pub newest: BTreeMap<i32, i64>,
    /// Failovers announced, as far as the event is still there; the newest last.
    pub announcements: Vec<Announcement>,
    /// Failovers that have happened here; the newest last. Empty on a node with Slony's own schema.
    pub taken_over: Vec<TakenOver>,
}

/// Asks the node behind `client`.
pub async fn survey(client: &Client, cluster: &Cluster) -> Result<Survey> {
    let configuration = configuration::load(client, cluster).await?;
    let paths_sql = cluster.sql("select pa_server, pa_client from @NAMESPACE@.sl_path where pa_conninfo <> $1");
    let newest_sql = cluster.sql(
        "select n.no_id, e.seqno
           from @NAMESPACE@.sl_node n
          cross join lateral (select max(o.ev_seqno) as seqno from @NAMESPACE@.sl_event o where o.ev_origin = n.no_id) e
          where e.seqno is not null",
    );
    let announced_sql = cluster.sql(
        "select ev_origin, ev_seqno, ev_data1::pg_catalog.int4, ev_data2::pg_catalog.int8
           from @NAMESPACE@.sl_event where ev_type = 'FAILOVER_NODE' order by ev_timestamp, ev_seqno",
    );
    let remembers_sql = "select pg_catalog.to_regclass($1) is not null";
    let (none, pending): (&[&(dyn tokio_postgres::types::ToSql + Sync)], _) = (&[], &EVENT_PENDING);
    let table = format!("{}.tl_failover", cluster.namespace());
    let pending: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [pending];
    let named: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&table];
    // All four are on their way before the first is answered.
    let (paths, newest, announced, remembers) = futures_util::future::try_join4(
        client.query(&paths_sql, &pending),
        client.query(&newest_sql, none),
        client.query(&announced_sql, none),
        client.query_one(remembers_sql, &named),
    )
    .await?;
    let taken_over = if remembers.try_get(0)? {
        let sql = cluster
            .sql("select fo_failed, fo_seqno, fo_successor, fo_sets from @NAMESPACE@.tl_failover order by fo_at");
        client
            .query(&sql, &[])
            .await?
            .iter()
            .map(|row| {
                Ok(TakenOver {
                    failed: row.try_get(0)?,
                    last_seqno: row.try_get(1)?,
                    successor: row.try_get(2)?,
                    sets: row.try_get(3)?,
                })
            })
            .collect::<Result<_>>()?
    } else {
        Vec::new()
    };
    Ok(Survey {
        configuration,
        paths: paths
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_>>()?,
        newest: newest
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_>>()?,
        announcements: announced
            .iter()
            .map(|row| {
                Ok(Announcement {
                    leader: row.try_get(0)?,
                    seqno: row.try_get(1)?,
                    failed: row.try_get(2)?,
                    last_seqno: row.try_get(3)?,
                })
            })
            .collect::<Result<_>>()?,
        taken_over,
    })
}

/// Sessions of the daemon that serves this node: (process id, start) as text, so that a later process with the same id
/// is told apart.
pub async fn daemon_sessions(client: &Client, cluster: &Cluster) -> Result<Vec<String>> {
    // Daemons of other nodes are here as well; they register themselves. The holder of the node lock is known even where
    // a role may not see the names of other roles' sessions.
    let sql = cluster.sql(
        "select a.pid || ' ' || coalesce(a.backend_start::pg_catalog.text, '')
           from pg_catalog.pg_stat_activity a, @NAMESPACE@.sl_local_node_id l
          where a.datname = pg_catalog.current_database()
            and (exists (select from @NAMESPACE@.sl_nodelock k
                          where k.nl_backendpid = a.pid and k.nl_nodeid = l.last_value)
                 or a.application_name like 'slon.%'
                    and not exists (select from @NAMESPACE@.sl_nodelock k where k.nl_backendpid = a.pid))",
    );
    client
        .query(&sql, &[])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}

/// Which of `sessions`, as [`daemon_sessions`] named them, are still there. One that has turned out to be another node's
/// is not counted.
pub async fn remaining_sessions(client: &Client, cluster: &Cluster, sessions: &[String]) -> Result<Vec<String>> {
    let sql = cluster.sql(
        "select a.pid || ' ' || coalesce(a.backend_start::pg_catalog.text, '')
           from pg_catalog.pg_stat_activity a, @NAMESPACE@.sl_local_node_id l
          where a.pid || ' ' || coalesce(a.backend_start::pg_catalog.text, '') = any ($1)
            and not exists (select from @NAMESPACE@.sl_nodelock k
                             where k.nl_backendpid = a.pid and k.nl_nodeid <> l.last_value)",
    );
    client
        .query(&sql, &[&sessions])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}

/// Ends sessions as [`daemon_sessions`] named them; their daemon makes new ones.
pub async fn end_sessions(client: &Client, sessions: &[String]) -> Result<()> {
    let sql = "select pg_catalog.pg_terminate_backend(a.pid)
                 from pg_catalog.pg_stat_activity a
                where a.pid || ' ' || coalesce(a.backend_start::pg_catalog.text, '') = any ($1)";
    client.query(sql, &[&sessions]).await?;
    Ok(())
}

/// Newest event of `origin` that the node behind `client` has; 0: none.
pub async fn newest_event_of(client: &Client, cluster: &Cluster, origin: i32) -> Result<i64> {
    let sql = cluster
        .sql("select coalesce(max(ev_seqno), 0)::pg_catalog.int8 from @NAMESPACE@.sl_event where ev_origin = $1");
    client.query_one(&sql, &[&origin]).await?.try_get(0)
}

/// Origin of a set and whether it is locked, as the node behind `client` knows it; `None`: no such set.
pub async fn set_state(client: &Client, cluster: &Cluster, set: i32) -> Result<Option<(i32, bool)>> {
    let sql = cluster.sql("select set_origin, set_locked is not null from @NAMESPACE@.sl_set where set_id = $1");
    match client.query_opt(&sql, &[&set]).await? {
        Some(row) => Ok(Some((row.try_get(0)?, row.try_get(1)?))),
        None => Ok(None),
    }
}

/// `preFailover`: this node's daemon lets go of the failed node. No event.
#[must_use]
pub fn pre_failover(cluster: &Cluster, failed: i32, candidate: bool) -> Call {
    Call::function(cluster, "preFailover", &[Int(failed.into()), Bool(candidate)])
}

/// Ends a subscription whose first copy is not done, on survivor `node`. Answers `f` on a receiver that has the copy meanwhile.
#[must_use]
pub fn end_unfinished_copy(cluster: &Cluster, ours: bool, node: i32, set: i32, receiver: i32) -> Call {
    if ours {
        return Call::function(
            cluster,
            "tl_endUnfinishedCopy",
            &[Int(set.into()), Int(receiver.into())],
        );
    }
    // Slony's own schema.
    let subscription = format!("from @NAMESPACE@.sl_subscribe where sub_set = {set} and sub_receiver = {receiver}");
    Call::statement(cluster.sql(&if node == receiver {
        format!(
            "select case when exists (select 1 {subscription} and sub_active) then false
                         when exists (select 1 {subscription})
                             then @NAMESPACE@.unsubscribeSet({set}, {receiver}, true) is not null
                         else true end"
        )
    } else {
        format!("delete {subscription}")
    }))
}

/// Receivers of failed nodes turn to the origins of their sets where these live, on a node with our schema. No event.
#[must_use]
pub fn leave_providers(cluster: &Cluster, all_failed: &[i32]) -> Call {
    Call::function(cluster, "tl_leaveProviders", &[Argument::Ids(all_failed)])
}

/// `failedNode2`, on the node that leads: emits `FAILOVER_NODE`.
#[must_use]
pub fn failed_node_2(cluster: &Cluster, failed: i32, leader: i32, last_seqno: i64, all_failed: &[i32]) -> Call {
    Call::function(
        cluster,
        "failedNode2",
        &[
            Int(failed.into()),
            Int(leader.into()),
            Int(last_seqno),
            Argument::Ids(all_failed),
        ],
    )
}

/// `failedNode3`, on the node that leads: takes the sets over. No event.
#[must_use]
pub fn failed_node_3(cluster: &Cluster, failed: i32, leader: i32, last_seqno: i64) -> Call {
    Call::function(
        cluster,
        "failedNode3",
        &[Int(failed.into()), Int(leader.into()), Int(last_seqno)],
    )
}

/// Gives a receiver another provider for all sets of an origin that cannot be asked, on any node. No event. A node with
/// Slony's own schema knows it under another name and without the path.
#[must_use]
pub fn reroute_subscription(cluster: &Cluster, ours: bool, origin: i32, provider: i32, receiver: i32) -> Call {
    let function = if ours {
        "tl_rerouteSubscription"
    } else {
        "reshapeSubscription"
    };
    Call::function(
        cluster,
        function,
        &[Int(origin.into()), Int(provider.into()), Int(receiver.into())],
    )
}

/// `lockSet` in the transaction that takes the set over: nobody has written to it here, so nothing older has to be waited
/// for before it moves on.
#[must_use]
pub fn lock_untouched_set(cluster: &Cluster, set: i32) -> [Call; 2] {
    [
        Call::function(cluster, "lockSet", &[Int(set.into())]),
        // The boundary of older writers lies before the first transaction.
        Call::statement(cluster.sql(&format!(
            "update @NAMESPACE@.sl_set set set_locked = 1 where set_id = {set}"
        ))),
    ]
}

/// Whether the schema behind `client` is ours.
pub async fn is_ours(client: &Client, cluster: &Cluster) -> Result<bool> {
    client
        .query_one(
            "select pg_catalog.to_regprocedure($1) is not null",
            &[&cluster.sql("@NAMESPACE@.tl_version()")],
        )
        .await?
        .try_get(0)
}
