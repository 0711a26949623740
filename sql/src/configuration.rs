//! The cluster as one node knows it: nodes, paths, listens, sets, subscriptions.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::Cluster;

/// A conninfo that stands for "no usable path yet".
pub const EVENT_PENDING: &str = "<event pending>";

/// A row of `sl_node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Node number (`no_id`).
    pub id: i32,
    /// `no_active`.
    pub active: bool,
    /// `no_failed`.
    pub failed: bool,
    /// `no_comment`.
    pub comment: String,
}

/// A row of `sl_path`: how `client` reaches `server`.
#[derive(Clone, PartialEq, Eq)]
pub struct PathRow {
    /// Node that is reached.
    pub server: i32,
    /// Node that connects.
    pub client: i32,
    /// libpq connection string; may hold a password, so it is left out of `Debug`.
    pub conninfo: String,
    /// Seconds between attempts.
    pub connretry: i32,
}

impl std::fmt::Debug for PathRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PathRow")
            .field("server", &self.server)
            .field("client", &self.client)
            .field("usable", &self.is_usable())
            .finish_non_exhaustive()
    }
}

impl PathRow {
    /// Whether there is a conninfo to connect with.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.conninfo != EVENT_PENDING
    }
}

/// A row of `sl_listen`: `receiver` fetches events of `origin` from `provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenRow {
    /// Node whose events these are.
    pub origin: i32,
    /// Node they are fetched from.
    pub provider: i32,
    /// Node that fetches.
    pub receiver: i32,
}

/// A row of `sl_set`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRow {
    /// Set number.
    pub id: i32,
    /// Its origin.
    pub origin: i32,
    /// Its comment.
    pub comment: String,
}

/// A row of `sl_subscribe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriptionRow {
    /// Set number.
    pub set: i32,
    /// Where the receiver gets its data.
    pub provider: i32,
    /// The subscriber.
    pub receiver: i32,
    /// Whether the receiver keeps log rows for others.
    pub forward: bool,
    /// Whether the initial copy is done.
    pub active: bool,
}

/// What one node knows of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The local node.
    pub local: i32,
    /// All nodes by number.
    pub nodes: BTreeMap<i32, NodeRow>,
    /// Paths whose client is the local node, by server.
    pub paths: BTreeMap<i32, PathRow>,
    /// Listen entries whose receiver is the local node.
    pub listens: Vec<ListenRow>,
    /// All sets by number.
    pub sets: BTreeMap<i32, SetRow>,
    /// All subscriptions.
    pub subscriptions: Vec<SubscriptionRow>,
}

impl Configuration {
    /// Origins whose events the local node fetches, with their providers.
    #[must_use]
    pub fn providers_by_origin(&self) -> BTreeMap<i32, Vec<i32>> {
        let mut map: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for listen in &self.listens {
            map.entry(listen.origin).or_default().push(listen.provider);
        }
        map
    }

    /// Other nodes that are active, whose events need a worker.
    pub fn active_remote_nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values().filter(|node| node.active && node.id != self.local)
    }

    /// The local node's subscription to a set.
    #[must_use]
    pub fn local_subscription(&self, set: i32) -> Option<&SubscriptionRow> {
        self.subscriptions
            .iter()
            .find(|subscription| subscription.set == set && subscription.receiver == self.local)
    }
}

/// Reads the configuration of the node behind `client`, all of it in one snapshot.
///
/// # Errors
/// Any database error; `sl_local_node_id` of an uninitialised node reads as -1.
pub async fn load(client: &Client, cluster: &Cluster) -> Result<Configuration, tokio_postgres::Error> {
    // One statement, so that all parts stem from one snapshot whatever the isolation level is.
    let sql = cluster.sql(
        "select 'l', last_value::int4, null::int4, null::int4, null::bool, null::bool, null::text
           from @NAMESPACE@.sl_local_node_id
         union all
         select 'n', no_id, null, null, no_active, no_failed, no_comment from @NAMESPACE@.sl_node
         union all
         select 'p', pa_server, pa_client, pa_connretry, null, null, pa_conninfo
           from @NAMESPACE@.sl_path, @NAMESPACE@.sl_local_node_id where pa_client = last_value
         union all
         select 'i', li_origin, li_provider, li_receiver, null, null, null
           from @NAMESPACE@.sl_listen, @NAMESPACE@.sl_local_node_id where li_receiver = last_value
         union all
         select 's', set_id, set_origin, null, null, null, set_comment from @NAMESPACE@.sl_set
         union all
         select 'u', sub_set, sub_provider, sub_receiver, sub_forward, sub_active, null from @NAMESPACE@.sl_subscribe",
    );
    let mut configuration = Configuration {
        local: -1,
        nodes: BTreeMap::new(),
        paths: BTreeMap::new(),
        listens: Vec::new(),
        sets: BTreeMap::new(),
        subscriptions: Vec::new(),
    };
    for row in client.query(&sql, &[]).await? {
        let (first, second, third): (Option<i32>, Option<i32>, Option<i32>) =
            (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let (yes, also): (Option<bool>, Option<bool>) = (row.try_get(4)?, row.try_get(5)?);
        let text: Option<String> = row.try_get(6)?;
        let (first, second, third) = (first.unwrap_or(-1), second.unwrap_or(-1), third.unwrap_or(-1));
        let (yes, also, text) = (yes.unwrap_or(false), also.unwrap_or(false), text.unwrap_or_default());
        match row.try_get::<_, &str>(0)? {
            "l" => configuration.local = first,
            "n" => {
                configuration.nodes.insert(
                    first,
                    NodeRow {
                        id: first,
                        active: yes,
                        failed: also,
                        comment: text,
                    },
                );
            }
            "p" => {
                let path = PathRow {
                    server: first,
                    client: second,
                    conninfo: text,
                    connretry: third,
                };
                configuration.paths.insert(first, path);
            }
            "i" => configuration.listens.push(ListenRow {
                origin: first,
                provider: second,
                receiver: third,
            }),
            "s" => {
                configuration.sets.insert(
                    first,
                    SetRow {
                        id: first,
                        origin: second,
                        comment: text,
                    },
                );
            }
            _ => configuration.subscriptions.push(SubscriptionRow {
                set: first,
                provider: second,
                receiver: third,
                forward: yes,
                active: also,
            }),
        }
    }
    configuration.listens.sort_unstable();
    configuration.subscriptions.sort_unstable();
    Ok(configuration)
}
