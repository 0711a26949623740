//! Events and confirmations: reading them from a provider, storing them here.

use std::task::Poll;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::{Cluster, Session};

/// A row of `sl_event`, unchanged from origin to every node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `ev_origin`.
    pub origin: i32,
    /// `ev_seqno`.
    pub seqno: i64,
    /// `ev_timestamp` in text form.
    pub timestamp: String,
    /// `ev_snapshot` in text form; None only for rows made by hand.
    pub snapshot: Option<String>,
    /// `ev_type`.
    pub kind: String,
    /// `ev_data1` to `ev_data8`.
    pub data: [Option<String>; 8],
}

impl Event {
    /// Whether this is a SYNC.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        self.kind == "SYNC"
    }

    /// Data column `number` (1 to 8) as text; empty if NULL.
    #[must_use]
    pub fn text(&self, number: usize) -> &str {
        number
            .checked_sub(1)
            .and_then(|index| self.data.get(index))
            .and_then(Option::as_deref)
            .unwrap_or("")
    }

    /// Data column `number` (1 to 8) as an integer.
    ///
    /// # Errors
    /// [`MalformedEvent`] if it is not one.
    pub fn number<T: std::str::FromStr>(&self, number: usize) -> Result<T, MalformedEvent> {
        self.text(number).parse().map_err(|_| MalformedEvent {
            kind: self.kind.clone(),
            origin: self.origin,
            seqno: self.seqno,
            column: number,
            value: self.text(number).to_owned(),
        })
    }

    /// Data column `number` (1 to 8) as a boolean (`t`, `true`, …).
    #[must_use]
    pub fn flag(&self, number: usize) -> bool {
        matches!(self.text(number), "t" | "true" | "T" | "1" | "y" | "yes" | "on")
    }
}

/// An event whose data cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "event {origin},{seqno} {kind}: `{value}` in ev_data{column} is not a number; look at the row in sl_event of node {origin}"
)]
pub struct MalformedEvent {
    kind: String,
    origin: i32,
    seqno: i64,
    column: usize,
    value: String,
}

/// `con_received` has processed all events of `con_origin` up to `con_seqno`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// `con_origin`.
    pub origin: i32,
    /// `con_received`.
    pub received: i32,
    /// `con_seqno`.
    pub seqno: i64,
    /// `con_timestamp` in text form.
    pub timestamp: String,
}

fn event_from(row: &Row) -> Result<Event, tokio_postgres::Error> {
    let mut data: [Option<String>; 8] = Default::default();
    for (index, value) in data.iter_mut().enumerate() {
        *value = row.try_get(5 + index)?;
    }
    Ok(Event {
        origin: row.try_get(0)?,
        seqno: row.try_get(1)?,
        timestamp: row.try_get(2)?,
        snapshot: row.try_get(3)?,
        kind: row.try_get(4)?,
        data,
    })
}

const EVENT_COLUMNS: &str = "e.ev_origin, e.ev_seqno, e.ev_timestamp::text, e.ev_snapshot::text, e.ev_type, \
     e.ev_data1, e.ev_data2, e.ev_data3, e.ev_data4, e.ev_data5, e.ev_data6, e.ev_data7, e.ev_data8";

/// Reads new events: `$1` origins, `$2` last event number known of each, `$3` most rows per origin,
/// `$4` an interval: only events older than that.
#[must_use]
pub fn fetch_statement(cluster: &Cluster, delayed: bool) -> String {
    let delay = if delayed {
        "and s.ev_timestamp < pg_catalog.now() - $4::text::interval"
    } else {
        ""
    };
    cluster.sql(&format!(
        "select {EVENT_COLUMNS}
           from unnest($1::int4[], $2::int8[]) as w (origin, seqno)
          cross join lateral (select s.* from @NAMESPACE@.sl_event s
                               where s.ev_origin = w.origin and s.ev_seqno > w.seqno {delay}
                               order by s.ev_seqno limit $3) as e
          order by e.ev_origin, e.ev_seqno"
    ))
}

/// Turns the rows of [`fetch_statement`] into events.
///
/// # Errors
/// A column of an unexpected type.
pub fn events_from(rows: &[Row]) -> Result<Vec<Event>, tokio_postgres::Error> {
    rows.iter().map(event_from).collect()
}

/// Statement that reads the newest confirmation of each pair (`$1` origins, `$2` receivers).
#[must_use]
pub fn confirmations_statement(cluster: &Cluster) -> String {
    cluster.sql(
        "select w.origin, w.received, c.con_seqno, c.con_timestamp::text
           from unnest($1::int4[], $2::int4[]) as w (origin, received)
          cross join lateral (select s.con_seqno, s.con_timestamp from @NAMESPACE@.sl_confirm s
                               where s.con_origin = w.origin and s.con_received = w.received
                               order by s.con_seqno desc limit 1) as c",
    )
}

/// Turns the rows of [`confirmations_statement`] into confirmations.
///
/// # Errors
/// A column of an unexpected type.
pub fn confirmations_from(rows: &[Row]) -> Result<Vec<Confirmation>, tokio_postgres::Error> {
    rows.iter()
        .map(|row| {
            Ok(Confirmation {
                origin: row.try_get(0)?,
                received: row.try_get(1)?,
                seqno: row.try_get(2)?,
                timestamp: row.try_get(3)?,
            })
        })
        .collect()
}

/// Stores confirmations that other nodes gave, where newer than what is known, and rings the news channel.
///
/// The commit is not waited for on disk: a confirmation lost in a crash is fetched again.
///
/// # Errors
/// Any database error; nothing is stored then.
pub async fn forward_confirmations(
    client: &Client,
    cluster: &Cluster,
    confirmations: &[Confirmation],
) -> Result<(), tokio_postgres::Error> {
    let origins: Vec<i32> = confirmations.iter().map(|confirmation| confirmation.origin).collect();
    let received: Vec<i32> = confirmations.iter().map(|confirmation| confirmation.received).collect();
    let seqnos: Vec<i64> = confirmations.iter().map(|confirmation| confirmation.seqno).collect();
    let times: Vec<&str> = confirmations
        .iter()
        .map(|confirmation| confirmation.timestamp.as_str())
        .collect();
    // Only of nodes still known here: a dropped node's confirmations must not come back.
    let forward = cluster.sql(
        "select @NAMESPACE@.forwardconfirm(w.origin, w.received, w.seqno, w.stamp::timestamptz::timestamp)
           from unnest($1::int4[], $2::int4[], $3::int8[], $4::text[]) as w (origin, received, seqno, stamp)
          where exists (select 1 from @NAMESPACE@.sl_node where no_id = w.origin)
            and exists (select 1 from @NAMESPACE@.sl_node where no_id = w.received)",
    );
    client
        .batch_execute("begin; set local synchronous_commit to off")
        .await?;
    let result = async {
        client
            .execute(&forward, &[&origins, &received, &seqnos, &times])
            .await?;
        client
            .batch_execute(&format!("notify {}; commit", cluster.event_channel()))
            .await
    }
    .await;
    if result.is_err() {
        // The connection may be gone; the error that matters is the first one.
        let _ = client.batch_execute("rollback").await;
    }
    result
}

/// Stores events in the running transaction, confirms the last of them for the local node, rings the news channel.
///
/// `events` are consecutive events of one origin. Only the last one is confirmed: a confirmation covers all before it.
///
/// # Errors
/// Any database error, among them a duplicate key when another worker has stored the event.
pub async fn store(
    session: &Session,
    cluster: &Cluster,
    local: i32,
    events: &[Event],
) -> Result<(), tokio_postgres::Error> {
    let Some(closing) = Closing::prepare(session, cluster, local, events).await? else {
        return Ok(());
    };
    closing.send(session, None, false).await
}

/// Notes that events of an origin from `first` to number `newest` wait to be processed here (`tl_heard`).
///
/// # Errors
/// Any database error.
pub async fn note_backlog(
    client: &Client,
    cluster: &Cluster,
    first: &Event,
    newest: i64,
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "insert into @NAMESPACE@.tl_heard (he_origin, he_seqno, he_waiting_since, he_at)
         values ($1, $2, $3::text::pg_catalog.timestamptz, pg_catalog.now())
             on conflict (he_origin) do update
            set he_seqno = excluded.he_seqno, he_waiting_since = excluded.he_waiting_since, he_at = excluded.he_at",
    );
    client
        .execute(&sql, &[&first.origin, &newest, &first.timestamp])
        .await?;
    Ok(())
}

/// Ends the transaction of a group of SYNCs: the positions of `sets` move to the last one, the events are stored, the last
/// is confirmed, the news channel rings, all is committed. One round trip.
///
/// # Errors
/// Any database error; the transaction is rolled back then, or its fate is unknown if the connection broke.
pub async fn finish_group(
    session: &Session,
    cluster: &Cluster,
    local: i32,
    events: &[Event],
    sets: &[i32],
    snapshot: &str,
) -> Result<(), tokio_postgres::Error> {
    let Some(closing) = Closing::prepare(session, cluster, local, events).await? else {
        return session.batch_execute("commit").await;
    };
    let advance = session.statement(&cluster.sql(crate::subscription::ADVANCE)).await?;
    closing.send(session, Some((advance, sets, snapshot)), true).await
}

/// What stands at the end of a transaction that has processed events.
struct Closing<'a> {
    events: &'a [Event],
    last: &'a Event,
    local: i32,
    insert: Statement,
    confirm: Statement,
    notify: String,
}

impl<'a> Closing<'a> {
    async fn prepare(
        session: &Session,
        cluster: &Cluster,
        local: i32,
        events: &'a [Event],
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        let Some(last) = events.last() else { return Ok(None) };
        let insert = cluster.sql(
            "insert into @NAMESPACE@.sl_event
                    (ev_origin, ev_seqno, ev_timestamp, ev_snapshot, ev_type,
                     ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, ev_data7, ev_data8)
             select $1, w.seqno, w.stamp::timestamptz, w.snapshot::pg_catalog.txid_snapshot, w.kind,
                    w.d1, w.d2, w.d3, w.d4, w.d5, w.d6, w.d7, w.d8
               from unnest($2::int8[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                                      $9::text[], $10::text[], $11::text[], $12::text[], $13::text[])
                 as w (seqno, stamp, snapshot, kind, d1, d2, d3, d4, d5, d6, d7, d8)",
        );
        let confirm = cluster.sql(
            "insert into @NAMESPACE@.sl_confirm (con_origin, con_received, con_seqno, con_timestamp)
             values ($1, $2, $3, pg_catalog.now())",
        );
        Ok(Some(Self {
            events,
            last,
            local,
            insert: session.statement(&insert).await?,
            confirm: session.statement(&confirm).await?,
            notify: format!("notify {}", cluster.event_channel()),
        }))
    }

    /// Sends everything without waiting in between: all statements are prepared, so each leaves when its future is polled
    /// first, in this order. If one fails, so do those behind it, and the commit is a rollback.
    async fn send(
        self,
        session: &Session,
        advance: Option<(Statement, &[i32], &str)>,
        commit: bool,
    ) -> Result<(), tokio_postgres::Error> {
        let Self {
            events, last, local, ..
        } = self;
        let seqnos: Vec<i64> = events.iter().map(|event| event.seqno).collect();
        let stamps: Vec<&str> = events.iter().map(|event| event.timestamp.as_str()).collect();
        let snapshots: Vec<Option<&str>> = events.iter().map(|event| event.snapshot.as_deref()).collect();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        let data: Vec<Vec<Option<&str>>> = (0..8)
            .map(|column| {
                events
                    .iter()
                    .map(|event| event.data.get(column).and_then(Option::as_deref))
                    .collect()
            })
            .collect();
        let advancing: [&(dyn ToSql + Sync); 4];
        let (sets, snapshot);
        let inserting: [&(dyn ToSql + Sync); 13] = [
            &last.origin,
            &seqnos,
            &stamps,
            &snapshots,
            &kinds,
            &data[0],
            &data[1],
            &data[2],
            &data[3],
            &data[4],
            &data[5],
            &data[6],
            &data[7],
        ];
        let confirming: [&(dyn ToSql + Sync); 3] = [&last.origin, &local, &last.seqno];
        let mut requests: Vec<(&Statement, &[&(dyn ToSql + Sync)])> = Vec::with_capacity(3);
        if let Some((statement, of, at)) = &advance {
            (sets, snapshot) = (*of, *at);
            advancing = [&last.origin, &sets, &last.seqno, &snapshot];
            requests.push((statement, &advancing));
        }
        requests.push((&self.insert, &inserting));
        requests.push((&self.confirm, &confirming));
        let mut answers = Vec::with_capacity(requests.len());
        for (statement, parameters) in requests {
            let mut answer = Box::pin(session.execute(statement, parameters));
            match futures_util::poll!(&mut answer) {
                Poll::Pending => answers.push(answer),
                // What could not even be sent must keep the commit from being sent.
                Poll::Ready(outcome) => drop(outcome?),
            }
        }
        let end = if commit {
            format!("{}; commit", self.notify)
        } else {
            self.notify
        };
        let end = session.batch_execute(&end);
        let (answers, end) = futures_util::future::join(futures_util::future::join_all(answers), end).await;
        // The first failure is the reason of the others.
        for answer in answers {
            answer?;
        }
        end
    }
}

/// Whether the cluster has a node of this number.
///
/// # Errors
/// Any database error.
pub async fn knows_node(client: &Client, cluster: &Cluster, node: i32) -> Result<bool, tokio_postgres::Error> {
    let sql = cluster.sql("select exists (select from @NAMESPACE@.sl_node where no_id = $1)");
    client.query_one(&sql, &[&node]).await?.try_get(0)
}

/// Highest event number of each other node that this node has confirmed.
///
/// # Errors
/// Any database error.
pub async fn last_confirmed(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    local: i32,
) -> Result<i64, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select coalesce(max(con_seqno), 0)::int8 from @NAMESPACE@.sl_confirm where con_origin = $1 and con_received = $2",
    );
    client.query_one(&sql, &[&origin, &local]).await?.try_get(0)
}

/// Snapshot of the newest SYNC of an origin up to an event number, as the node behind `client` has it.
///
/// # Errors
/// Any database error.
pub async fn sync_snapshot_at(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    seqno: i64,
) -> Result<Option<String>, tokio_postgres::Error> {
    snapshot_at(client, cluster, origin, seqno, "ev_type = 'SYNC'").await
}

/// The same for a node that joins: where there is no SYNC, snapshot of the newest event of any type.
///
/// # Errors
/// Any database error.
pub async fn joining_snapshot_at(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    seqno: i64,
) -> Result<Option<String>, tokio_postgres::Error> {
    snapshot_at(client, cluster, origin, seqno, "ev_snapshot is not null").await
}

async fn snapshot_at(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    seqno: i64,
    condition: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    let sql = cluster.sql(&format!(
        "select ev_snapshot::text from @NAMESPACE@.sl_event
          where ev_origin = $1 and ev_seqno <= $2 and {condition}
          order by (ev_type = 'SYNC') desc, ev_seqno desc limit 1"
    ));
    client
        .query_opt(&sql, &[&origin, &seqno])
        .await?
        .map(|row| row.try_get(0))
        .transpose()
}

/// Whether the node behind `client` has the event, and so everything before it.
///
/// # Errors
/// Any database error.
pub async fn has_event(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    seqno: i64,
) -> Result<bool, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select exists (select 1 from @NAMESPACE@.sl_event where ev_origin = $1 and ev_seqno >= $2)
             or exists (select 1 from @NAMESPACE@.sl_confirm, @NAMESPACE@.sl_local_node_id
                         where con_origin = $1 and con_received = last_value and con_seqno >= $2)",
    );
    client.query_one(&sql, &[&origin, &seqno]).await?.try_get(0)
}
