//! Where a subscriber stands: positions of its sets, its tables, its progress.

use tokio_postgres::Client;

use crate::{Cluster, Session};

/// Position of one subscribed set (`sl_setsync` with its `sl_subscribe` row).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPosition {
    /// Set number.
    pub set: i32,
    /// Node the data come from.
    pub provider: i32,
    /// Whether this node keeps the log rows for others.
    pub forward: bool,
    /// Last applied SYNC.
    pub seqno: i64,
    /// Its snapshot in text form.
    pub snapshot: String,
    /// Log rows that the initial copy already held, as `'n','n'`.
    pub action_list: String,
}

impl SetPosition {
    /// Whether the set waits for its ACCEPT_SET: SYNCs of the new origin before it hold nothing of the set.
    #[must_use]
    pub fn awaits_accept_set(&self) -> bool {
        self.seqno == 0 && self.snapshot.starts_with("1:1:")
    }

    /// The numbers of the action list.
    pub fn already_copied(&self) -> impl Iterator<Item = i64> + '_ {
        self.action_list
            .split(',')
            .filter_map(|item| item.trim_matches(['\'', ' ']).parse().ok())
    }
}

/// Ends this node's subscription to a set and those of nodes that get it from here, in the running transaction.
///
/// # Errors
/// Any database error.
pub async fn end(client: &Client, cluster: &Cluster, set: i32, receiver: i32) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.unsubscribeset($1, $2, true)");
    client.execute(&sql, &[&set, &receiver]).await?;
    Ok(())
}

/// Positions of the sets that this node gets from an origin.
///
/// # Errors
/// Any database error.
pub async fn positions(
    session: &Session,
    cluster: &Cluster,
    origin: i32,
) -> Result<Vec<SetPosition>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select ssy_setid, sub_provider, sub_forward, ssy_seqno, ssy_snapshot::text, coalesce(ssy_action_list, '')
           from @NAMESPACE@.sl_setsync
           join @NAMESPACE@.sl_set on set_id = ssy_setid and set_origin = ssy_origin
           join @NAMESPACE@.sl_subscribe on sub_set = ssy_setid and sub_active
           join @NAMESPACE@.sl_local_node_id on sub_receiver = last_value
          where ssy_origin = $1
          order by ssy_setid",
    );
    let statement = session.statement(&sql).await?;
    session
        .query(&statement, &[&origin])
        .await?
        .iter()
        .map(|row| {
            Ok(SetPosition {
                set: row.try_get(0)?,
                provider: row.try_get(1)?,
                forward: row.try_get(2)?,
                seqno: row.try_get(3)?,
                snapshot: row.try_get(4)?,
                action_list: row.try_get(5)?,
            })
        })
        .collect()
}

/// Table ids with their sets.
///
/// # Errors
/// Any database error.
pub async fn table_sets(client: &Client, cluster: &Cluster) -> Result<Vec<(i32, i32)>, tokio_postgres::Error> {
    let sql = cluster.sql("select tab_id, tab_set from @NAMESPACE@.sl_table order by tab_id");
    client
        .query(&sql, &[])
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// The statement that moves the positions of sets forward to a SYNC: `$1` origin, `$2` sets, `$3` event number,
/// `$4` snapshot.
pub(crate) const ADVANCE: &str = "update @NAMESPACE@.sl_setsync
            set ssy_seqno = $3, ssy_snapshot = $4::text::pg_catalog.txid_snapshot, ssy_action_list = ''
          where ssy_origin = $1 and ssy_setid = any ($2) and ssy_seqno < $3";

/// Sets sequences and keeps the values for forwarding, in the running transaction.
///
/// # Errors
/// Any database error, for example a sequence that is missing here.
pub async fn set_sequences(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    seqno: i64,
    values: &[(i32, i64)],
) -> Result<(), tokio_postgres::Error> {
    if values.is_empty() {
        return Ok(());
    }
    let (ids, last): (Vec<i32>, Vec<i64>) = values.iter().copied().unzip();
    let sql = cluster.sql(
        "select @NAMESPACE@.sequencesetvalue(w.id, $1::int4, $2::int8, w.last, false)
           from unnest($3::int4[], $4::int8[]) as w (id, last)",
    );
    client.execute(&sql, &[&origin, &seqno, &ids, &last]).await?;
    Ok(())
}
