//! What is asked of, and done to, a node that comes back after it was given up.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::Cluster;
use crate::admin::{Call, Locks};
use crate::configuration::PathRow;
use crate::lost::Takeover;
use crate::named_rows::MOST_LOGGED;

/// A failover as a survivor remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// Newest event of the failed node that the survivors had.
    pub seqno: i64,
    /// What the survivors have of its changes; None: it never made a SYNC.
    pub snapshot: Option<String>,
    /// Node that took its sets over.
    pub successor: i32,
    /// Those sets.
    pub sets: Vec<i32>,
    /// When, in ISO form.
    pub at: String,
    /// Where this survivor's own changes begin.
    pub takeover: Option<Takeover>,
}

/// The newest failover of a node that this node remembers.
///
/// # Errors
/// Any database error.
pub async fn failover_of(
    survivor: &Client,
    cluster: &Cluster,
    failed: i32,
) -> Result<Option<Failover>, tokio_postgres::Error> {
    if !has_table(survivor, cluster, "tl_failover").await? {
        return Ok(None);
    }
    let sql = cluster.sql(
        "select fo_seqno, fo_snapshot, fo_successor, fo_sets,
                pg_catalog.to_char(fo_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
                fo_next_xid, fo_open_xids
           from @NAMESPACE@.tl_failover where fo_failed = $1 order by fo_at desc limit 1",
    );
    let Some(row) = survivor.query_opt(&sql, &[&failed]).await? else {
        return Ok(None);
    };
    let next: Option<i64> = row.try_get(5)?;
    let open: Option<Vec<i64>> = row.try_get(6)?;
    Ok(Some(Failover {
        seqno: row.try_get(0)?,
        snapshot: row.try_get(1)?,
        successor: row.try_get(2)?,
        sets: row.try_get(3)?,
        at: row.try_get(4)?,
        takeover: next.map(|next_xid| Takeover {
            next_xid,
            open_xids: open.unwrap_or_default(),
        }),
    }))
}

/// Whether the node's schema has this table of ours.
async fn has_table(client: &Client, cluster: &Cluster, table: &str) -> Result<bool, tokio_postgres::Error> {
    let name = format!("{}.{table}", cluster.namespace());
    client
        .query_one(
            "select pg_catalog.to_regclass($1::pg_catalog.text) is not null",
            &[&name],
        )
        .await?
        .try_get(0)
}

/// Whether a node can be taken back: it has what [`crate::admin::return_to_cluster`] calls.
///
/// # Errors
/// Any database error.
pub async fn can_return(client: &Client, cluster: &Cluster) -> Result<bool, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                         where n.nspname = @CLUSTER@ and p.proname = 'tl_takeoversets')",
    );
    client.query_one(&sql, &[]).await?.try_get(0)
}

/// Fences a set on a node that takes itself for its origin; true if it is fenced now.
///
/// # Errors
/// Any database error, among them a writer that does not let go of a table in time.
pub async fn fence(node: &Client, cluster: &Cluster, set: i32, new_origin: i32) -> Result<bool, tokio_postgres::Error> {
    let sql = cluster.sql("select @NAMESPACE@.tl_fence_set($1, $2, 'failed over')");
    node.query_one(&sql, &[&set, &new_origin]).await?.try_get(0)
}

/// Ends the sessions that may still write to the set; a line about each.
///
/// # Errors
/// Any database error.
pub async fn end_writers(node: &Client, cluster: &Cluster, set: i32) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = cluster.sql("select w from @NAMESPACE@.tl_endWritersOf($1) as w");
    node.query(&sql, &[&set])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}

/// Opens the transaction in which a node returns: both locks, not waited for longer than ten seconds.
///
/// # Errors
/// Any database error.
pub async fn begin_with_locks(client: &Client, cluster: &Cluster) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute("begin; set local lock_timeout to '10s'; set local idle_in_transaction_session_timeout to '60s'")
        .await?;
    let tables: Vec<String> = Locks::EventAndConfig
        .tables()
        .iter()
        .map(|table| format!("{}.{table}", cluster.namespace()))
        .collect();
    client.batch_execute(&format!("lock table {}", tables.join(", "))).await
}

/// The newest number this node has given to an event, whether the event is still there or not.
///
/// # Errors
/// Any database error.
pub async fn last_event_number(client: &Client, cluster: &Cluster) -> Result<i64, tokio_postgres::Error> {
    let sql = cluster.sql("select last_value::int8 from @NAMESPACE@.sl_event_seq");
    client.query_one(&sql, &[]).await?.try_get(0)
}

/// The call that makes a path known here without an event, for when it is needed again.
#[must_use]
pub fn remember_path(cluster: &Cluster, path: &PathRow) -> Call {
    Call::store_path(cluster, "storePath_int", path)
}

/// The call that stores a path on its client, with the event for the others.
#[must_use]
pub fn store_path(cluster: &Cluster, path: &PathRow) -> Call {
    Call::store_path(cluster, "storePath", path)
}

/// Has a returning node note which rows of its sets it changed alone, before it forgets its former life. Does nothing where its functions
/// are older than that.
///
/// # Errors
/// Any database error.
pub async fn note_own_changes(
    node: &Client,
    cluster: &Cluster,
    failover: &Failover,
) -> Result<(), tokio_postgres::Error> {
    let function = cluster.sql("@NAMESPACE@.tl_noteOwnChanges(integer[], bigint, text, integer)");
    let known = "select pg_catalog.to_regprocedure($1::pg_catalog.text) is not null";
    let known: bool = node.query_one(known, &[&function]).await?.try_get(0)?;
    let Some(snapshot) = failover.snapshot.as_ref().filter(|_| known) else {
        return forget_own_changes(node, cluster).await;
    };
    let sql = cluster.sql("select @NAMESPACE@.tl_noteOwnChanges($1, $2, $3, $4)");
    let parameters: [&(dyn ToSql + Sync); 4] = [&failover.sets, &failover.seqno, snapshot, &MOST_LOGGED];
    node.execute(&sql, &parameters).await?;
    Ok(())
}

/// Has the next copies compare every row, whatever was noted.
///
/// # Errors
/// Any database error.
pub async fn forget_own_changes(node: &Client, cluster: &Cluster) -> Result<(), tokio_postgres::Error> {
    if has_table(node, cluster, "tl_own_changes").await? {
        let sql = cluster.sql("delete from @NAMESPACE@.tl_own_changes; delete from @NAMESPACE@.tl_own_change");
        node.batch_execute(&sql).await?;
    }
    Ok(())
}

/// Has the next copies of the sets keep the rows that are equal.
///
/// # Errors
/// Any database error.
pub async fn keep_rows(node: &Client, cluster: &Cluster, sets: &[i32]) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "insert into @NAMESPACE@.tl_keep_rows (kr_set) select pg_catalog.unnest($1::pg_catalog.int4[])
             on conflict (kr_set) do nothing",
    );
    node.execute(&sql, &[&sets]).await?;
    Ok(())
}

/// Has the next copies of the sets begin from nothing.
///
/// # Errors
/// Any database error.
pub async fn keep_nothing(node: &Client, cluster: &Cluster, sets: &[i32]) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql("delete from @NAMESPACE@.tl_keep_rows where kr_set = any ($1)");
    node.execute(&sql, &[&sets]).await?;
    Ok(())
}

/// Whether this node knows `other` as an active node.
///
/// # Errors
/// Any database error.
pub async fn knows_node(node: &Client, cluster: &Cluster, other: i32) -> Result<bool, tokio_postgres::Error> {
    let sql = cluster.sql("select exists (select from @NAMESPACE@.sl_node where no_id = $1 and no_active)");
    node.query_one(&sql, &[&other]).await?.try_get(0)
}

/// The newest event of this node that `receiver` has confirmed, as far as this node knows; 0: none.
///
/// # Errors
/// Any database error.
pub async fn confirmed_by(node: &Client, cluster: &Cluster, receiver: i32) -> Result<i64, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select coalesce(max(c.con_seqno), 0) from @NAMESPACE@.sl_confirm c, @NAMESPACE@.sl_local_node_id l
          where c.con_origin = l.last_value and c.con_received = $1",
    );
    node.query_one(&sql, &[&receiver]).await?.try_get(0)
}

/// How far this node's subscription to a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The node has not heard of it.
    None,
    /// The copy is to come, or going on.
    Copying,
    /// The copy is done and the stream has been joined.
    Joined,
}

/// How far this node's subscription to a set is.
///
/// # Errors
/// Any database error.
pub async fn progress(node: &Client, cluster: &Cluster, set: i32) -> Result<Progress, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select b.sub_active and exists (select from @NAMESPACE@.sl_setsync y where y.ssy_setid = b.sub_set)
           from @NAMESPACE@.sl_subscribe b, @NAMESPACE@.sl_local_node_id l
          where b.sub_set = $1 and b.sub_receiver = l.last_value",
    );
    Ok(match node.query_opt(&sql, &[&set]).await? {
        None => Progress::None,
        Some(row) if row.try_get(0)? => Progress::Joined,
        Some(_) => Progress::Copying,
    })
}

/// A table or sequence of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its set.
    pub set: i32,
    /// `tab_id` or `seq_id`.
    pub id: i32,
    /// A sequence; else a table.
    pub sequence: bool,
    /// Quoted full name.
    pub name: String,
}

impl Member {
    /// Whether both are the same table or sequence, in whatever set.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        (self.id, self.sequence, &self.name) == (other.id, other.sequence, &other.name)
    }
}

/// Tables and sequences of all sets, as this node knows them.
///
/// # Errors
/// Any database error.
pub async fn members(node: &Client, cluster: &Cluster) -> Result<Vec<Member>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select t.tab_set, t.tab_id, false, pg_catalog.format('%I.%I', t.tab_nspname, t.tab_relname)
           from @NAMESPACE@.sl_table t
          union all
         select q.seq_set, q.seq_id, true, pg_catalog.format('%I.%I', q.seq_nspname, q.seq_relname)
           from @NAMESPACE@.sl_sequence q
          order by 1, 3, 2",
    );
    node.query(&sql, &[])
        .await?
        .iter()
        .map(|row| {
            Ok(Member {
                set: row.try_get(0)?,
                id: row.try_get(1)?,
                sequence: row.try_get(2)?,
                name: row.try_get(3)?,
            })
        })
        .collect()
}

/// Members of sets that are gone, with the sets that have them now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grouping {
    /// `tab_id` or `seq_id`, whether it is a sequence, its set and that set's origin.
    members: Vec<(i32, bool, i32, i32)>,
}

impl Grouping {
    /// Notes that `member`, as it is grouped now, belongs to a set with this origin.
    pub fn add(&mut self, member: &Member, origin: i32) {
        self.members.push((member.id, member.sequence, member.set, origin));
    }

    /// Sets that have taken something over.
    #[must_use]
    pub fn sets(&self) -> Vec<i32> {
        let sets: std::collections::BTreeSet<i32> = self.members.iter().map(|(_, _, set, _)| *set).collect();
        sets.into_iter().collect()
    }

    /// The calls that make a returning node group them so, before it takes over the sets.
    pub(crate) fn calls(&self, cluster: &Cluster) -> Vec<Call> {
        self.members
            .iter()
            .map(|(id, sequence, set, origin)| {
                let sql = format!("select @NAMESPACE@.tl_followMember({id}, {sequence}, {set}, {origin})");
                Call::statement(cluster.sql(&sql))
            })
            .collect()
    }
}

/// Sets of which this node has tables, as they were before it returned.
///
/// # Errors
/// Any database error.
pub async fn held_sets(node: &Client, cluster: &Cluster) -> Result<Vec<i32>, tokio_postgres::Error> {
    let sql = cluster
        .sql("select tab_set from @NAMESPACE@.sl_table union select seq_set from @NAMESPACE@.sl_sequence order by 1");
    node.query(&sql, &[]).await?.iter().map(|row| row.try_get(0)).collect()
}
