//! Paths, listens, sets, subscriptions, log: one constructor per stored function.

use tokio_postgres::Client;

use super::call::Argument::{Bool, Int, Text};
use super::call::{Argument, Call};
use crate::{Cluster, quote_literal};

/// Declares constructors of calls whose arguments are all numbers.
macro_rules! calls_with_numbers {
    ($($(#[$comment:meta])* $rust:ident = $sql:literal ($($argument:ident),*);)*) => {$(
        $(#[$comment])*
        #[must_use]
        pub fn $rust(cluster: &Cluster, $($argument: i32),*) -> Call {
            Call::function(cluster, $sql, &[$(Int($argument.into())),*])
        }
    )*};
}

calls_with_numbers! {
    /// `dropPath`: emits `DROP_PATH`.
    drop_path = "dropPath" (server, client);
    /// `storeListen`: emits `STORE_LISTEN`.
    store_listen = "storeListen" (origin, provider, receiver);
    /// `dropListen`: emits `DROP_LISTEN`.
    drop_listen = "dropListen" (origin, provider, receiver);
    /// `dropSet`: emits `DROP_SET`.
    drop_set = "dropSet" (set);
    /// `mergeSet`: emits `SYNC` and `MERGE_SET`.
    merge_set = "mergeSet" (set, added);
    /// `lockSet`: no event.
    lock_set = "lockSet" (set);
    /// `unlockSet`: no event.
    unlock_set = "unlockSet" (set);
    /// `moveSet`: emits `SYNC` and `MOVE_SET`.
    move_set = "moveSet" (set, new_origin);
    /// `setDropTable`: emits `SET_DROP_TABLE`.
    set_drop_table = "setDropTable" (table);
    /// `setDropSequence`: emits `SET_DROP_SEQUENCE`.
    set_drop_sequence = "setDropSequence" (sequence);
    /// `setMoveTable`: emits `SYNC` and `SET_MOVE_TABLE`.
    set_move_table = "setMoveTable" (table, set);
    /// `setMoveSequence`: emits `SET_MOVE_SEQUENCE`.
    set_move_sequence = "setMoveSequence" (sequence, set);
    /// `resubscribeNode`: emits a `SUBSCRIBE_SET` per set.
    resubscribe_node = "resubscribeNode" (origin, provider, receiver);
    /// `reshapeSubscription`, on the receiver: no event.
    reshape_subscription = "reshapeSubscription" (origin, provider, receiver);
    /// `logswitch_start`: no event.
    logswitch_start = "logswitch_start" ();
    /// `uninstallNode`: no event.
    uninstall_node = "uninstallNode" ();
}

/// `tl_lockSets`: several sets at once, no event.
#[must_use]
pub fn lock_sets(cluster: &Cluster, sets: &[i32]) -> Call {
    Call::function(cluster, "tl_lockSets", &[Argument::Ids(sets)])
}

/// Whether the node has `tl_lockSets`; one that the original made has not.
pub async fn locks_sets_together(client: &Client, cluster: &Cluster) -> Result<bool, tokio_postgres::Error> {
    let signature = format!("{}.tl_lockSets(pg_catalog.int4[])", cluster.namespace());
    client
        .query_one(
            "select pg_catalog.to_regprocedure($1::pg_catalog.text) is not null",
            &[&signature],
        )
        .await?
        .try_get(0)
}

/// `createEvent('_C', 'SYNC')`.
#[must_use]
pub fn create_event_sync(cluster: &Cluster) -> Call {
    Call::function(cluster, "createEvent", &[Text(&cluster.schema()), Text("SYNC")])
}

/// `storePath`: emits `STORE_PATH`.
#[must_use]
pub fn store_path(cluster: &Cluster, server: i32, client: i32, conninfo: &str, retry: i32) -> Call {
    Call::function(
        cluster,
        "storePath",
        &[
            Int(server.into()),
            Int(client.into()),
            Argument::Conninfo(conninfo),
            Int(retry.into()),
        ],
    )
}

/// `storeSet`: emits `STORE_SET`.
#[must_use]
pub fn store_set(cluster: &Cluster, set: i32, comment: &str) -> Call {
    Call::function(cluster, "storeSet", &[Int(set.into()), Text(comment)])
}

/// `subscribeSet`: emits `SUBSCRIBE_SET` and, where the subscription is new, `ENABLE_SUBSCRIPTION`.
#[must_use]
pub fn subscribe_set(
    cluster: &Cluster,
    set: i32,
    provider: i32,
    receiver: i32,
    forward: bool,
    omit_copy: bool,
) -> Call {
    Call::function(
        cluster,
        "subscribeSet",
        &[
            Int(set.into()),
            Int(provider.into()),
            Int(receiver.into()),
            Bool(forward),
            Bool(omit_copy),
        ],
    )
}

/// `unsubscribeSet`: emits `UNSUBSCRIBE_SET`.
#[must_use]
pub fn unsubscribe_set(cluster: &Cluster, set: i32, receiver: i32) -> Call {
    Call::function(
        cluster,
        "unsubscribeSet",
        &[Int(set.into()), Int(receiver.into()), Bool(false)],
    )
}

/// `setAddTable`: emits `SET_ADD_TABLE`.
#[must_use]
pub fn set_add_table(cluster: &Cluster, set: i32, table: i32, name: &str, index: &str, comment: &str) -> Call {
    Call::function(
        cluster,
        "setAddTable",
        &[
            Int(set.into()),
            Int(table.into()),
            Text(name),
            Text(index),
            Text(comment),
        ],
    )
}

/// `setAddSequence`: emits `SET_ADD_SEQUENCE`.
#[must_use]
pub fn set_add_sequence(cluster: &Cluster, set: i32, sequence: i32, name: &str, comment: &str) -> Call {
    Call::function(
        cluster,
        "setAddSequence",
        &[Int(set.into()), Int(sequence.into()), Text(name), Text(comment)],
    )
}

/// `isSubscriptionInProgress`.
#[must_use]
pub fn subscription_in_progress(cluster: &Cluster, set: i32) -> Call {
    Call::function(cluster, "isSubscriptionInProgress", &[Int(set.into())]).asking()
}

/// The origin of a set as this node knows it.
pub async fn set_origin(client: &Client, cluster: &Cluster, set: i32) -> Result<Option<i32>, tokio_postgres::Error> {
    let sql = cluster.sql("select set_origin from @NAMESPACE@.sl_set where set_id = $1");
    client
        .query_opt(&sql, &[&set])
        .await?
        .map(|row| row.try_get(0))
        .transpose()
}

/// How a set and a would-be subscriber stand, as the provider knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Origin of the set.
    pub origin: Option<i32>,
    /// Provider of the receiver's active subscription, if it has one.
    pub provider: Option<i32>,
}

/// Asks for both in one snapshot.
pub async fn standing(
    client: &Client,
    cluster: &Cluster,
    set: i32,
    receiver: i32,
) -> Result<Standing, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select (select set_origin from @NAMESPACE@.sl_set where set_id = $1),
                (select sub_provider from @NAMESPACE@.sl_subscribe
                  where sub_set = $1 and sub_receiver = $2 and sub_active)",
    );
    let row = client.query_one(&sql, &[&set, &receiver]).await?;
    Ok(Standing {
        origin: row.try_get(0)?,
        provider: row.try_get(1)?,
    })
}

/// The other sets of `origin` that `receiver` gets from another node than `provider`, as this node knows it.
pub async fn also_provided(
    client: &Client,
    cluster: &Cluster,
    set: i32,
    origin: i32,
    provider: i32,
    receiver: i32,
) -> Result<Vec<i32>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select b.sub_set
           from @NAMESPACE@.sl_subscribe b
           join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
          where b.sub_receiver = $4 and s.set_origin = $2 and b.sub_set <> $1 and b.sub_provider <> $3
          order by b.sub_set",
    );
    let rows = client.query(&sql, &[&set, &origin, &provider, &receiver]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The text of a literal for a pattern as slonik scripts write it.
///
/// The original put patterns into an `E'…'` literal, so scripts double a backslash that the pattern needs. A doubled one
/// is taken as one; a single one, which the original lost, is kept, so that `public\.t` means what its author meant.
pub(super) fn pattern_literal(pattern: &str) -> String {
    quote_literal(&pattern.replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn functions_are_called_with_their_documented_signature() {
        let cluster = Cluster::new("c").unwrap();
        assert_eq!(
            subscribe_set(&cluster, 1, 2, 3, true, false).to_string(),
            "select \"_c\".subscribeSet(1, 2, 3, 't', 'f')"
        );
        assert_eq!(logswitch_start(&cluster).to_string(), "select \"_c\".logswitch_start()");
        assert_eq!(
            create_event_sync(&cluster).to_string(),
            "select \"_c\".createEvent('_c', 'SYNC')"
        );
    }

    #[test]
    fn doubled_and_single_backslashes_mean_the_same_pattern() {
        assert_eq!(pattern_literal("public\\\\.t"), "E'public\\\\.t'");
        assert_eq!(pattern_literal("public\\.t"), "E'public\\\\.t'");
        assert_eq!(pattern_literal("public.t[23]"), "'public.t[23]'");
    }
}
