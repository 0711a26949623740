//! Nodes: making, joining, dropping, cloning.

use tokio_postgres::Client;

use super::call::Argument::{Int, MaybeText, Text};
use super::call::{Argument, Call, CallError};
use crate::rejoin::Grouping;
use crate::{Cluster, quote_literal};

/// `initializeLocalNode`: this database becomes node `id`.
fn initialize(cluster: &Cluster, id: i32, comment: &str) -> Call {
    Call::function(cluster, "initializeLocalNode", &[Int(id.into()), Text(comment)])
}

/// The first node of a cluster: it initialises itself and emits `ENABLE_NODE`.
///
/// The transaction that made `sl_event_seq` has now drawn from it. With `wal_level = minimal` PostgreSQL writes nothing of
/// that to the WAL, yet believes the next 32 numbers to be covered: after a crash they would be given again. Setting the
/// sequence makes it log the next number.
#[must_use]
pub fn initialize_first_node(cluster: &Cluster, id: i32, comment: &str) -> [Call; 3] {
    let sequence = quote_literal(&format!("{}.sl_event_seq", cluster.namespace()));
    [
        initialize(cluster, id, comment),
        enable_node(cluster, id),
        Call::statement(cluster.sql(&format!(
            "select pg_catalog.setval({sequence}, s.last_value) from @NAMESPACE@.sl_event_seq s"
        ))),
    ]
}

/// A further node: it initialises itself and is active in its own eyes; the event comes from the event node.
#[must_use]
pub fn initialize_further_node(cluster: &Cluster, id: i32, comment: &str) -> [Call; 2] {
    [
        initialize(cluster, id, comment),
        Call::function(cluster, "enableNode_int", &[Int(id.into())]),
    ]
}

/// `storeNode`: emits `STORE_NODE`.
#[must_use]
pub fn store_node(cluster: &Cluster, id: i32, comment: &str) -> Call {
    Call::function(cluster, "storeNode", &[Int(id.into()), Text(comment)])
}

/// `enableNode`: emits `ENABLE_NODE`.
#[must_use]
pub fn enable_node(cluster: &Cluster, id: i32) -> Call {
    Call::function(cluster, "enableNode", &[Int(id.into())])
}

/// `dropNode`: emits `DROP_NODE`.
#[must_use]
pub fn drop_node(cluster: &Cluster, ids: &[i32]) -> Call {
    Call::function(cluster, "dropNode", &[Argument::Ids(ids)])
}

/// `cloneNodePrepare`: emits `CLONE_NODE`.
#[must_use]
pub fn clone_node_prepare(cluster: &Cluster, id: i32, provider: i32, comment: &str) -> Call {
    Call::function(
        cluster,
        "cloneNodePrepare",
        &[Int(id.into()), Int(provider.into()), Text(comment)],
    )
}

/// `cloneNodeFinish`, on the copied database.
#[must_use]
pub fn clone_node_finish(cluster: &Cluster, id: i32, provider: i32) -> Call {
    Call::function(cluster, "cloneNodeFinish", &[Int(id.into()), Int(provider.into())])
}

/// `updateReloid`: reads the OIDs of a set's tables and sequences again. -1: every node may.
#[must_use]
pub fn update_reloid(cluster: &Cluster, set: i32, only_on: Option<i32>) -> Call {
    Call::function(
        cluster,
        "updateReloid",
        &[Int(set.into()), Int(only_on.unwrap_or(-1).into())],
    )
}

/// `upgradeSchema(slonyVersion())` in two steps: the version in force before the functions were renewed.
#[must_use]
pub fn upgrade_schema(cluster: &Cluster, from: Option<&str>) -> Call {
    match from {
        None => Call::function(cluster, "slonyVersion", &[]).asking(),
        Some(version) => Call::function(cluster, "upgradeSchema", &[MaybeText(Some(version))]),
    }
}

/// `NOTIFY "_C_Restart"`: the node's daemon starts afresh.
#[must_use]
pub fn notify_restart(cluster: &Cluster) -> Call {
    Call::statement(format!("notify {}", cluster.restart_channel()))
}

/// The configuration a new node takes over from the event node.
#[derive(Debug, Clone, Default)]
pub struct NodeCopy {
    nodes: Vec<(i32, bool, Option<String>)>,
    paths: Vec<(i32, i32, String, Option<i32>)>,
    listens: Vec<(i32, i32, i32)>,
    sets: Vec<(i32, i32, Option<String>)>,
    subscriptions: Vec<(i32, i32, i32, bool, bool)>,
    events: Vec<(i32, i64)>,
}

impl NodeCopy {
    /// Takes into account that some node knows event `seqno` of `origin`.
    pub fn knows_event(&mut self, origin: i32, seqno: i64) {
        match self.events.iter_mut().find(|(known, _)| *known == origin) {
            Some((_, newest)) => *newest = seqno.max(*newest),
            None => self.events.push((origin, seqno)),
        }
    }
}

/// Reads it, inside a transaction that holds the config lock, so that all parts belong together.
pub async fn read_configuration(client: &Client, cluster: &Cluster) -> Result<NodeCopy, CallError> {
    let mut copy = NodeCopy::default();
    let read = async {
        for row in client
            .query(
                &cluster.sql("select no_id, no_active, no_comment from @NAMESPACE@.sl_node order by 1"),
                &[],
            )
            .await?
        {
            copy.nodes.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        }
        let sql = "select pa_server, pa_client, pa_conninfo, pa_connretry from @NAMESPACE@.sl_path order by 1, 2";
        for row in client.query(&cluster.sql(sql), &[]).await? {
            copy.paths
                .push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
        }
        let sql = "select li_origin, li_provider, li_receiver from @NAMESPACE@.sl_listen order by 1, 2, 3";
        for row in client.query(&cluster.sql(sql), &[]).await? {
            copy.listens.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        }
        let sql = "select set_id, set_origin, set_comment from @NAMESPACE@.sl_set order by 1";
        for row in client.query(&cluster.sql(sql), &[]).await? {
            copy.sets.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        }
        let sql = "select sub_set, sub_provider, sub_receiver, sub_forward, sub_active
                     from @NAMESPACE@.sl_subscribe order by 1, 3";
        for row in client.query(&cluster.sql(sql), &[]).await? {
            copy.subscriptions.push((
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get::<_, Option<bool>>(3)?.unwrap_or(false),
                row.try_get::<_, Option<bool>>(4)?.unwrap_or(false),
            ));
        }
        let sql = "select ev_origin, max(ev_seqno) from @NAMESPACE@.sl_event group by 1 order by 1";
        for row in client.query(&cluster.sql(sql), &[]).await? {
            copy.events.push((row.try_get(0)?, row.try_get(1)?));
        }
        Ok::<(), tokio_postgres::Error>(())
    };
    read.await
        .map_err(|source| CallError::of_query("(read the configuration of the event node)", source))?;
    Ok(copy)
}

/// The calls that give node `id` the configuration `copy` through the functions a daemon would call.
#[must_use]
pub fn copy_configuration(cluster: &Cluster, copy: &NodeCopy, id: i32) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut call =
        |name: &'static str, arguments: &[Argument<'_>]| calls.push(Call::function(cluster, name, arguments));
    // A path stored early leaves a placeholder of the new node on the event node; it knows itself better.
    for (node, active, comment) in copy.nodes.iter().filter(|(node, ..)| *node != id) {
        call("storeNode_int", &[Int((*node).into()), MaybeText(comment.as_deref())]);
        if *active {
            call("enableNode_int", &[Int((*node).into())]);
        }
    }
    for (server, client, conninfo, retry) in &copy.paths {
        call(
            "storePath_int",
            &[
                Int((*server).into()),
                Int((*client).into()),
                Argument::Conninfo(conninfo),
                Int(retry.unwrap_or(10).into()),
            ],
        );
    }
    for (origin, provider, receiver) in &copy.listens {
        call(
            "storeListen_int",
            &[Int((*origin).into()), Int((*provider).into()), Int((*receiver).into())],
        );
    }
    for (id, origin, comment) in &copy.sets {
        call(
            "storeSet_int",
            &[Int((*id).into()), Int((*origin).into()), MaybeText(comment.as_deref())],
        );
    }
    for (set, provider, receiver, forward, active) in &copy.subscriptions {
        let (set, provider, receiver) = (i64::from(*set), i64::from(*provider), i64::from(*receiver));
        call(
            "subscribeSet_int",
            &[
                Int(set),
                Int(provider),
                Int(receiver),
                Argument::Bool(*forward),
                Argument::Bool(false),
            ],
        );
        if *active {
            call("enableSubscription_int", &[Int(set), Int(provider), Int(receiver)]);
        }
    }
    calls
}

/// The calls that make a node which was given up the node `id` of the cluster as it is now; [`adopt`] comes behind them.
///
/// All in one transaction of that node, which stays fenced throughout: whoever looks finds either its former life, with its
/// sets fenced, or a node whose tables look like a subscriber's. `follow`: members of its sets that other sets have by now.
#[must_use]
pub fn return_to_cluster(cluster: &Cluster, copy: &NodeCopy, id: i32, follow: &Grouping) -> Vec<Call> {
    let array = |numbers: Vec<i32>| {
        let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        format!("'{{{}}}'::pg_catalog.int4[]", texts.join(","))
    };
    let mut calls = vec![
        Call::function(cluster, "tl_forgetFormerLife", &[]),
        Call::function(cluster, "enableNode_int", &[Int(id.into())]),
    ];
    // The nodes come first: sets refer to them.
    let nodes = NodeCopy {
        nodes: copy.nodes.clone(),
        ..NodeCopy::default()
    };
    calls.extend(copy_configuration(cluster, &nodes, id));
    let mut known: Vec<i32> = copy.nodes.iter().map(|(node, ..)| *node).collect();
    known.push(id);
    calls.extend(follow.calls(cluster));
    calls.push(Call::statement(cluster.sql(&format!(
        "select @NAMESPACE@.tl_takeOverSets({}, {}, {})",
        array(copy.sets.iter().map(|(set, ..)| *set).collect()),
        array(copy.sets.iter().map(|(_, origin, _)| *origin).collect()),
        array(known),
    ))));
    calls.extend(copy_configuration(cluster, copy, id));
    calls
}

/// The calls that place node `id` behind the events its configuration already reflects: it confirms them, and goes on
/// with its own numbers where a node of that number once was.
#[must_use]
pub fn adopt(cluster: &Cluster, copy: &NodeCopy, id: i32) -> Vec<Call> {
    copy.events
        .iter()
        .map(|(origin, seqno)| {
            Call::statement(if *origin == id {
                let sequence = quote_literal(&format!("{}.sl_event_seq", cluster.namespace()));
                format!("select pg_catalog.setval({sequence}, {}, false)", seqno + 1)
            } else {
                cluster.sql(&format!(
                    "insert into @NAMESPACE@.sl_confirm (con_origin, con_received, con_seqno, con_timestamp)
                     values ({origin}, {id}, {seqno}, pg_catalog.now())"
                ))
            })
        })
        .collect()
}

/// The newest event of node `origin` stored here; None: none.
pub async fn highest_event_of(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
) -> Result<Option<i64>, tokio_postgres::Error> {
    client
        .query_one(
            &cluster.sql("select max(ev_seqno) from @NAMESPACE@.sl_event where ev_origin = $1"),
            &[&origin],
        )
        .await?
        .try_get(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(calls: &[Call]) -> Vec<String> {
        calls.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_node_takes_over_what_the_event_node_knows_but_not_of_itself() {
        let cluster = Cluster::new("c").unwrap();
        let copy = NodeCopy {
            nodes: vec![
                (1, true, Some("one".into())),
                (2, false, Some("<event pending>".into())),
            ],
            paths: vec![(1, 2, "password=geheim".into(), None)],
            subscriptions: vec![(1, 1, 3, true, true), (1, 1, 4, false, false)],
            ..NodeCopy::default()
        };
        assert_eq!(
            shown(&copy_configuration(&cluster, &copy, 2)),
            [
                "select \"_c\".storeNode_int(1, 'one')",
                "select \"_c\".enableNode_int(1)",
                "select \"_c\".storePath_int(1, 2, 'password=***', 10)",
                "select \"_c\".subscribeSet_int(1, 1, 3, 't', 'f')",
                "select \"_c\".enableSubscription_int(1, 1, 3)",
                "select \"_c\".subscribeSet_int(1, 1, 4, 'f', 'f')",
            ]
        );
    }

    #[test]
    fn a_number_used_before_goes_on_counting() {
        let cluster = Cluster::new("c'").unwrap();
        let mut copy = NodeCopy {
            events: vec![(1, 500), (2, 40)],
            ..NodeCopy::default()
        };
        copy.knows_event(2, 60);
        copy.knows_event(2, 50);
        let calls = shown(&adopt(&cluster, &copy, 2));
        assert!(calls[0].contains("values (1, 2, 500, "), "{calls:?}");
        assert_eq!(calls[1], "select pg_catalog.setval('\"_c''\".sl_event_seq', 61, false)");
    }
}
