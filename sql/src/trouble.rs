//! What a daemon is stuck on now, readable by slonik and slonctl (`tl_trouble`).

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::Cluster;

/// One part of a daemon that cannot go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// The part, named like its connection: `remoteWorkerThread_1`, `node_2_listen` …
    pub actor: String,
    /// Node whose daemon this is.
    pub node: i32,
    /// What is wrong and what would end it.
    pub message: String,
    /// Seconds since it began.
    pub seconds: f64,
    /// Attempts since then.
    pub attempts: i64,
}

/// Records that an actor is stuck; the beginning is kept while the message stays the same.
///
/// # Errors
/// Any database error.
pub async fn report(
    client: &Client,
    cluster: &Cluster,
    actor: &str,
    node: i32,
    message: &str,
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "insert into @NAMESPACE@.tl_trouble as t (tr_actor, tr_node, tr_message, tr_since, tr_last, tr_attempts)
         values ($1, $2, $3, pg_catalog.now(), pg_catalog.now(), 1)
             on conflict (tr_actor) do update
            set tr_node = excluded.tr_node, tr_message = excluded.tr_message, tr_last = excluded.tr_last,
                tr_since = case when t.tr_message = excluded.tr_message then t.tr_since else excluded.tr_since end,
                tr_attempts = case when t.tr_message = excluded.tr_message then t.tr_attempts + 1 else 1 end",
    );
    // Our own punctuation never stands in the way in a database of another encoding; names that came from another node may.
    let message = message.replace('…', "...");
    match client.execute(&sql, &[&actor, &node, &message]).await {
        Err(error) if error.code() == Some(&SqlState::UNTRANSLATABLE_CHARACTER) => {
            client.execute(&sql, &[&actor, &node, &ascii(&message)]).await?;
        }
        other => {
            other?;
        }
    }
    Ok(())
}

/// The message in letters that every encoding has; the others as `\u{…}`.
fn ascii(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for letter in message.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            text.extend(letter.escape_unicode());
        }
    }
    text
}

/// Records that an actor goes on.
///
/// # Errors
/// Any database error.
pub async fn clear(client: &Client, cluster: &Cluster, actor: &str) -> Result<(), tokio_postgres::Error> {
    client
        .execute(
            &cluster.sql("delete from @NAMESPACE@.tl_trouble where tr_actor = $1"),
            &[&actor],
        )
        .await?;
    Ok(())
}

/// Forgets all trouble of a node, when its daemon starts.
///
/// # Errors
/// Any database error.
pub async fn clear_all(client: &Client, cluster: &Cluster, node: i32) -> Result<(), tokio_postgres::Error> {
    client
        .execute(
            &cluster.sql("delete from @NAMESPACE@.tl_trouble where tr_node = $1"),
            &[&node],
        )
        .await?;
    Ok(())
}

/// What the daemon of the node behind `client` is stuck on.
///
/// # Errors
/// Any database error.
pub async fn list(client: &Client, cluster: &Cluster) -> Result<Vec<Trouble>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select tr_actor, tr_node, tr_message, extract(epoch from pg_catalog.now() - tr_since)::float8, tr_attempts
           from @NAMESPACE@.tl_trouble order by tr_since, tr_actor",
    );
    client
        .query(&sql, &[])
        .await?
        .iter()
        .map(|row| {
            Ok(Trouble {
                actor: row.try_get(0)?,
                node: row.try_get(1)?,
                message: row.try_get(2)?,
                seconds: row.try_get(3)?,
                attempts: row.try_get(4)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::ascii;

    #[test]
    fn a_message_in_ascii_keeps_what_is_ascii() {
        assert_eq!(ascii("table \"größe\" (1)"), "table \"gr\\u{f6}\\u{df}e\" (1)");
    }
}
