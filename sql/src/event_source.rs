//! From whom the events of an origin may be taken.
//!
//! A node other than the origin has the origin's events from the one on at which it joined. Who took them from there
//! while standing further back would skip what is between, and never know. So such a node is asked for evidence first.

use tokio_postgres::Client;

use crate::Cluster;

/// Remembers on this node from where on it has the events of an origin. What is known already stays.
///
/// # Errors
/// Any database error.
pub async fn note_start(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    seqno: i64,
) -> Result<(), tokio_postgres::Error> {
    if !has_table(client, cluster).await? {
        return Ok(());
    }
    let sql = cluster.sql(
        "insert into @NAMESPACE@.tl_origin_start (os_origin, os_seqno) values ($1, $2) on conflict (os_origin) do nothing",
    );
    client.execute(&sql, &[&origin, &seqno]).await?;
    Ok(())
}

/// A node of the original, or one that was not updated yet, lacks the table.
async fn has_table(client: &Client, cluster: &Cluster) -> Result<bool, tokio_postgres::Error> {
    let name = cluster.sql("@NAMESPACE@.tl_origin_start");
    client
        .query_one("select pg_catalog.to_regclass($1) is not null", &[&name])
        .await?
        .try_get(0)
}

/// What this node wants of an origin, from a node that is not the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Whose events.
    pub origin: i32,
    /// Those behind this number.
    pub after: i64,
}

/// Which of the wishes a provider can meet without a gap: origins.
///
/// A provider that has any event up to the number, or has confirmed one, or began there, has all that follow: it deletes
/// only what all nodes have confirmed, this one among them. (A confirmation of 0 says nothing: every node that joins has it.) And it must know the origin as this node does: an origin that
/// was dropped and stored again has begun a new life, of whose events a provider that has not heard of it knows nothing.
///
/// # Errors
/// Any database error; the flag says whether it was the provider's database.
pub async fn without_gap(
    local: &Client,
    provider: &Client,
    cluster: &Cluster,
    wishes: &[Wish],
) -> Result<Vec<i32>, (bool, tokio_postgres::Error)> {
    let origins: Vec<i32> = wishes.iter().map(|wish| wish.origin).collect();
    let after: Vec<i64> = wishes.iter().map(|wish| wish.after).collect();
    let enabled = cluster.sql(
        "select w.origin, coalesce(e.ev_origin, -1), coalesce(e.ev_seqno, 0)
           from unnest($1::int4[]) as w (origin)
           left join lateral (select v.ev_origin, v.ev_seqno from @NAMESPACE@.sl_event v
                               where v.ev_type = 'ENABLE_NODE' and v.ev_data1 = w.origin::text
                               order by v.ev_timestamp desc limit 1) as e on true",
    );
    let (mut enablers, mut enabled_at) = (vec![-1_i32; wishes.len()], vec![0_i64; wishes.len()]);
    let here = |error| (false, error);
    for row in local.query(&enabled, &[&origins]).await.map_err(here)? {
        let origin: i32 = row.try_get(0).map_err(here)?;
        if let Some(place) = origins.iter().position(|wanted| *wanted == origin) {
            enablers[place] = row.try_get(1).map_err(here)?;
            enabled_at[place] = row.try_get(2).map_err(here)?;
        }
    }
    let there = |error| (true, error);
    let started = if has_table(provider, cluster).await.map_err(there)? {
        "or exists (select 1 from @NAMESPACE@.tl_origin_start where os_origin = w.origin and os_seqno <= w.seqno)"
    } else {
        ""
    };
    let evidence = cluster.sql(&format!(
        "select w.origin
           from unnest($1::int4[], $2::int8[], $3::int4[], $4::int8[]) as w (origin, seqno, enabler, enabled)
          cross join @NAMESPACE@.sl_local_node_id as l
          where (exists (select 1 from @NAMESPACE@.sl_event where ev_origin = w.origin and ev_seqno <= w.seqno)
                 or exists (select 1 from @NAMESPACE@.sl_confirm
                             where con_origin = w.origin and con_received = l.last_value and con_seqno between 1 and w.seqno)
                 {started})
            and (w.enabler in (-1, l.last_value)
                 or exists (select 1 from @NAMESPACE@.sl_event where ev_origin = w.enabler and ev_seqno >= w.enabled)
                 or exists (select 1 from @NAMESPACE@.sl_confirm
                             where con_origin = w.enabler and con_received = l.last_value and con_seqno >= w.enabled))"
    ));
    let rows = provider
        .query(&evidence, &[&origins, &after, &enablers, &enabled_at])
        .await
        .map_err(there)?;
    rows.iter().map(|row| row.try_get(0).map_err(there)).collect()
}
