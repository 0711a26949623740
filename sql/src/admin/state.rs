//! What a node knows of the cluster, as far as configuration functions look at it before they change anything.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::Cluster;
use crate::configuration::EVENT_PENDING;

/// A node as another one knows it (`sl_node`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownNode {
    /// `no_active`.
    pub active: bool,
    /// `no_failed`.
    pub failed: bool,
}

/// A set (`sl_set`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownSet {
    /// Its origin.
    pub origin: i32,
    /// Whether `lock set` keeps writers out.
    pub locked: bool,
}

/// A subscription (`sl_subscribe`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownSubscription {
    /// Where the receiver gets its data.
    pub provider: i32,
    /// Whether it keeps them for others.
    pub forward: bool,
    /// `sub_active`.
    pub active: bool,
    /// Whether the receiver has confirmed its copy, as far as the node knows.
    pub copied: bool,
}

/// A table or sequence of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMember {
    /// Its set.
    pub set: i32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
}

/// The configuration one node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeState {
    /// The node itself.
    pub local: i32,
    /// Nodes by number.
    pub nodes: BTreeMap<i32, KnownNode>,
    /// Paths by (server, client): whether there is a conninfo.
    pub paths: BTreeMap<(i32, i32), bool>,
    /// Sets by number.
    pub sets: BTreeMap<i32, KnownSet>,
    /// Subscriptions by (set, receiver).
    pub subscriptions: BTreeMap<(i32, i32), KnownSubscription>,
    /// Tables by number; a node knows those of sets it has a part in.
    pub tables: BTreeMap<i32, KnownMember>,
    /// Sequences by number.
    pub sequences: BTreeMap<i32, KnownMember>,
    /// Whether a log switch is under way.
    pub log_switching: bool,
}

/// Reads what the node behind `client` knows, all of it in one snapshot.
pub async fn node_state(client: &Client, cluster: &Cluster) -> Result<NodeState, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select 'l', last_value::int4, null::int4, null::int4, null::bool, null::bool, null::bool, null::text, null::text
           from @NAMESPACE@.sl_local_node_id
         union all
         select 'w', last_value::int4, null, null, null, null, null, null, null from @NAMESPACE@.sl_log_status
         union all
         select 'n', no_id, null, null, no_active, no_failed, null, null, null from @NAMESPACE@.sl_node
         union all
         select 'p', pa_server, pa_client, null, pa_conninfo <> $1, null, null, null, null from @NAMESPACE@.sl_path
         union all
         select 's', set_id, set_origin, null, set_locked is not null, null, null, null, null from @NAMESPACE@.sl_set
         union all
         select 'u', b.sub_set, b.sub_provider, b.sub_receiver, b.sub_forward, b.sub_active,
                not exists (
                    select from @NAMESPACE@.sl_event e
                     where e.ev_type = 'ENABLE_SUBSCRIPTION' and e.ev_data1 = b.sub_set::text
                       and e.ev_data3 = b.sub_receiver::text
                       and e.ev_seqno > coalesce((select max(c.con_seqno) from @NAMESPACE@.sl_confirm c
                                                   where c.con_origin = e.ev_origin and c.con_received = b.sub_receiver), 0)
                ), null, null
           from @NAMESPACE@.sl_subscribe b
         union all
         select 't', tab_id, tab_set, null, null, null, null, tab_nspname::text, tab_relname::text from @NAMESPACE@.sl_table
         union all
         select 'q', seq_id, seq_set, null, null, null, null, seq_nspname::text, seq_relname::text
           from @NAMESPACE@.sl_sequence",
    );
    let mut state = NodeState {
        local: -1,
        ..NodeState::default()
    };
    for row in client.query(&sql, &[&EVENT_PENDING]).await? {
        let number = |column| Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<i32>>(column)?.unwrap_or(-1));
        let flag = |column| Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<bool>>(column)?.unwrap_or(false));
        let text =
            |column| Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<String>>(column)?.unwrap_or_default());
        let (first, second, third) = (number(1)?, number(2)?, number(3)?);
        match row.try_get::<_, &str>(0)? {
            "l" => state.local = first,
            "w" => state.log_switching = matches!(first, 2 | 3),
            "n" => {
                let node = KnownNode {
                    active: flag(4)?,
                    failed: flag(5)?,
                };
                state.nodes.insert(first, node);
            }
            "p" => {
                state.paths.insert((first, second), flag(4)?);
            }
            "s" => {
                let set = KnownSet {
                    origin: second,
                    locked: flag(4)?,
                };
                state.sets.insert(first, set);
            }
            "u" => {
                let subscription = KnownSubscription {
                    provider: second,
                    forward: flag(4)?,
                    active: flag(5)?,
                    copied: flag(6)?,
                };
                state.subscriptions.insert((first, third), subscription);
            }
            kind => {
                let member = KnownMember {
                    set: second,
                    schema: text(7)?,
                    name: text(8)?,
                };
                let members = if kind == "t" {
                    &mut state.tables
                } else {
                    &mut state.sequences
                };
                members.insert(first, member);
            }
        }
    }
    Ok(state)
}
