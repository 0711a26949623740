//! What a node does with a configuration event of another node: the `_int` functions of the cluster schema.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::Cluster;
use crate::events::Event;

/// Locks to take before the function of an event is called, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// `sl_config_lock`.
    Config,
    /// `sl_event_lock`, then `sl_config_lock`: the function may create events of this node.
    EventAndConfig,
}

/// What an event asks for beyond being stored and confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: its content concerns other nodes, or its type is not known here.
    None,
    /// One function with the event's data columns as arguments.
    Call {
        /// Template with one parameter per data column, all of them text.
        sql: &'static str,
        /// How many data columns it takes.
        arguments: usize,
        /// Locks to take before.
        locks: Locks,
    },
    /// Changes groups of rows: SYNC.
    Sync,
    /// DROP_NODE: more than one function.
    DropNode,
    /// ENABLE_SUBSCRIPTION: the receiver copies the set.
    EnableSubscription,
    /// ACCEPT_SET: waits for the MOVE_SET of the old origin.
    AcceptSet,
    /// FAILOVER_NODE: in steps.
    FailoverNode,
}

const fn call(sql: &'static str, arguments: usize) -> Effect {
    Effect::Call {
        sql,
        arguments,
        locks: Locks::Config,
    }
}

const fn call_with_event_lock(sql: &'static str, arguments: usize) -> Effect {
    Effect::Call {
        sql,
        arguments,
        locks: Locks::EventAndConfig,
    }
}

/// The effect of an event type.
#[must_use]
pub fn effect(kind: &str) -> Effect {
    match kind {
        "SYNC" => Effect::Sync,
        "STORE_NODE" => call("select @NAMESPACE@.storenode_int($1::text::int4, $2::text)", 2),
        "ENABLE_NODE" => call("select @NAMESPACE@.enablenode_int($1::text::int4)", 1),
        "DROP_NODE" => Effect::DropNode,
        "CLONE_NODE" => call(
            "select @NAMESPACE@.clonenodeprepare_int($1::text::int4, $2::text::int4, $3::text)",
            3,
        ),
        "STORE_PATH" => call(
            "select @NAMESPACE@.storepath_int($1::text::int4, $2::text::int4, $3::text, $4::text::int4)",
            4,
        ),
        "DROP_PATH" => call("select @NAMESPACE@.droppath_int($1::text::int4, $2::text::int4)", 2),
        "STORE_LISTEN" => call(
            "select @NAMESPACE@.storelisten_int($1::text::int4, $2::text::int4, $3::text::int4)",
            3,
        ),
        "DROP_LISTEN" => call(
            "select @NAMESPACE@.droplisten_int($1::text::int4, $2::text::int4, $3::text::int4)",
            3,
        ),
        "STORE_SET" => call(
            "select @NAMESPACE@.storeset_int($1::text::int4, $2::text::int4, $3::text)",
            3,
        ),
        "DROP_SET" => call("select @NAMESPACE@.dropset_int($1::text::int4)", 1),
        "MERGE_SET" => call("select @NAMESPACE@.mergeset_int($1::text::int4, $2::text::int4)", 2),
        "SET_DROP_TABLE" => call("select @NAMESPACE@.setdroptable_int($1::text::int4)", 1),
        "SET_DROP_SEQUENCE" => call("select @NAMESPACE@.setdropsequence_int($1::text::int4)", 1),
        "SET_MOVE_TABLE" => call("select @NAMESPACE@.setmovetable_int($1::text::int4, $2::text::int4)", 2),
        "SET_MOVE_SEQUENCE" => call(
            "select @NAMESPACE@.setmovesequence_int($1::text::int4, $2::text::int4)",
            2,
        ),
        "SUBSCRIBE_SET" => call_with_event_lock(
            "select @NAMESPACE@.subscribeset_int($1::text::int4, $2::text::int4, $3::text::int4, $4::text::bool, $5::text::bool)",
            5,
        ),
        "ENABLE_SUBSCRIPTION" => Effect::EnableSubscription,
        "UNSUBSCRIBE_SET" => call_with_event_lock(
            "select @NAMESPACE@.unsubscribeset_int($1::text::int4, $2::text::int4)",
            2,
        ),
        "MOVE_SET" => call_with_event_lock(
            "select @NAMESPACE@.moveset_int($1::text::int4, $2::text::int4, $3::text::int4, $4::text::int8)",
            3,
        ),
        "ACCEPT_SET" => Effect::AcceptSet,
        "FAILOVER_NODE" => Effect::FailoverNode,
        // SET_ADD_TABLE, SET_ADD_SEQUENCE act when the set is subscribed; unknown types are stored and passed on.
        _ => Effect::None,
    }
}

/// Takes the locks in the running transaction.
///
/// # Errors
/// Any database error.
pub async fn lock(client: &Client, cluster: &Cluster, locks: Locks) -> Result<(), tokio_postgres::Error> {
    let sql = match locks {
        Locks::Config => "lock table @NAMESPACE@.sl_config_lock",
        Locks::EventAndConfig => "lock table @NAMESPACE@.sl_event_lock; lock table @NAMESPACE@.sl_config_lock",
    };
    client.batch_execute(&cluster.sql(sql)).await
}

/// Runs the function of an [`Effect::Call`] in the running transaction.
///
/// # Errors
/// Any database error.
pub async fn run(
    client: &Client,
    cluster: &Cluster,
    sql: &str,
    arguments: usize,
    event: &Event,
) -> Result<(), tokio_postgres::Error> {
    let seqno = event.seqno.to_string();
    let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(arguments + 1);
    for value in event.data.iter().take(arguments) {
        parameters.push(value);
    }
    if event.kind == "MOVE_SET" {
        parameters.push(&seqno);
    }
    client.execute(&cluster.sql(sql), &parameters).await?;
    Ok(())
}

/// Behind an UNSUBSCRIBE_SET, in the running transaction: notes what it ends and is not here yet.
///
/// # Errors
/// Any database error.
pub async fn note_unsubscription(
    client: &Client,
    cluster: &Cluster,
    set: i32,
    receiver: i32,
    ended: &str,
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.tl_noteunsubscription($1, $2, $3)");
    client.execute(&sql, &[&set, &receiver, &ended]).await?;
    Ok(())
}

/// Behind a SUBSCRIBE_SET, in the running transaction: takes the subscription back if its receiver has ended it already.
/// Answers whether it did.
///
/// # Errors
/// Any database error.
pub async fn honour_unsubscription(
    client: &Client,
    cluster: &Cluster,
    set: i32,
    receiver: i32,
    event: &Event,
) -> Result<bool, tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.tl_honourunsubscription($1, $2, $3, $4)");
    client
        .query_one(&sql, &[&set, &receiver, &event.origin, &event.seqno])
        .await?
        .try_get(0)
}

/// Forgets a dropped node, in the running transaction; asks all daemons of this node to look again.
///
/// # Errors
/// Any database error.
pub async fn drop_node(client: &Client, cluster: &Cluster, node: i32) -> Result<(), tokio_postgres::Error> {
    client
        .execute(&cluster.sql("select @NAMESPACE@.dropnode_int($1)"), &[&node])
        .await?;
    Ok(())
}

/// Removes the cluster schema of this node, which was dropped from the cluster.
///
/// # Errors
/// Any database error.
pub async fn uninstall(client: &Client, cluster: &Cluster) -> Result<(), tokio_postgres::Error> {
    client
        .execute(&cluster.sql("select @NAMESPACE@.uninstallnode()"), &[])
        .await?;
    client
        .batch_execute(&cluster.sql("drop schema @NAMESPACE@ cascade"))
        .await
}

/// Marks a subscription as active, in the running transaction.
///
/// # Errors
/// Any database error.
pub async fn enable_subscription(
    client: &Client,
    cluster: &Cluster,
    set: i32,
    provider: i32,
    receiver: i32,
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.enablesubscription($1, $2, $3)");
    client.execute(&sql, &[&set, &provider, &receiver]).await?;
    Ok(())
}

/// Whether the MOVE_SET that an ACCEPT_SET answers has been processed here.
///
/// # Errors
/// Any database error.
pub async fn move_set_is_here(
    client: &Client,
    cluster: &Cluster,
    set: i32,
    old_origin: i32,
    new_origin: i32,
    seqno: i64,
) -> Result<bool, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select exists (select 1 from @NAMESPACE@.sl_event
                         where ev_origin = $2 and ev_seqno = $4 and ev_type = 'MOVE_SET'
                           and ev_data1 = $1::int4::text and ev_data2 = $2::int4::text and ev_data3 = $3::int4::text)
             or exists (select 1 from @NAMESPACE@.sl_confirm, @NAMESPACE@.sl_local_node_id
                         where con_origin = $2 and con_received = last_value and con_seqno >= $4)
             or not exists (select 1 from @NAMESPACE@.sl_node where no_id = $2)",
    );
    client
        .query_one(&sql, &[&set, &old_origin, &new_origin, &seqno])
        .await?
        .try_get(0)
}

/// Starts the set at its ACCEPT_SET: what the new origin logged before is not data of the set.
///
/// # Errors
/// Any database error.
pub async fn accept_set(
    client: &Client,
    cluster: &Cluster,
    set: i32,
    event: &Event,
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "update @NAMESPACE@.sl_setsync
            set ssy_origin = $2, ssy_seqno = $3, ssy_snapshot = $4::text::pg_catalog.txid_snapshot, ssy_action_list = ''
          where ssy_setid = $1",
    );
    client
        .execute(&sql, &[&set, &event.origin, &event.seqno, &event.snapshot])
        .await?;
    Ok(())
}

/// First step of a FAILOVER_NODE: subscriptions turn to the temporary origin. In the running transaction. `ours`: the schema
/// can do it without asking the daemon to start over.
///
/// # Errors
/// Any database error.
pub async fn failed_node(
    client: &Client,
    cluster: &Cluster,
    ours: bool,
    failed: i32,
    backup: i32,
    all_failed: &[i32],
) -> Result<(), tokio_postgres::Error> {
    let sql = if ours {
        "select @NAMESPACE@.tl_routearound($1, $2, $3)"
    } else {
        "select @NAMESPACE@.failednode($1, $2, $3)"
    };
    client
        .execute(&cluster.sql(sql), &[&failed, &backup, &all_failed])
        .await?;
    Ok(())
}

/// Last step of a FAILOVER_NODE: the sets change their origin. In the running transaction.
///
/// # Errors
/// Any database error.
pub async fn failover_set(
    client: &Client,
    cluster: &Cluster,
    failed: i32,
    backup: i32,
    last_seqno: i64,
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.failoverset_int($1, $2, $3)");
    client.execute(&sql, &[&failed, &backup, &last_seqno]).await?;
    Ok(())
}

/// Asks the daemon of this node to start over, when the running transaction commits.
///
/// # Errors
/// Any database error.
pub async fn request_restart(client: &Client, cluster: &Cluster) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(&format!("notify {}", cluster.restart_channel()))
        .await
}
