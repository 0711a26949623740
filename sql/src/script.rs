//! Scripts (`execute script`) on their way: rows of `sl_log_script` found, read, kept and run.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::Cluster;
use crate::daemon::SESSION_SETTINGS;
use crate::snapshot::Window;

/// Where a row of a script stands in its origin's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptPlace {
    /// `log_actionseq`: its place among the changes of rows.
    pub action: i64,
    /// `log_txid`: the transaction of the script.
    pub txid: i64,
}

/// A row of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptRow {
    /// `log_cmdtype`: `S` a statement, `s` the end mark.
    pub command: String,
    /// `log_cmdargs`. Of a statement: its text, the nodes it is for, values of sequences; of an end mark: the nodes.
    pub arguments: Vec<Option<String>>,
}

impl ScriptRow {
    /// Whether this is a statement, not an end mark.
    #[must_use]
    pub fn is_statement(&self) -> bool {
        self.command == "S"
    }

    /// The statement.
    #[must_use]
    pub fn statement(&self) -> &str {
        self.argument(0)
    }

    /// Whether the row is meant for a node; an empty list of nodes means all.
    #[must_use]
    pub fn is_for(&self, node: i32) -> bool {
        if self.is_statement() {
            is_listed(self.argument(1).split(','), node)
        } else {
            is_listed(self.arguments.iter().filter_map(Option::as_deref), node)
        }
    }

    /// Sequence numbers and values that the origin had before the statement.
    #[must_use]
    pub fn sequences(&self) -> Vec<(i64, i64, i64)> {
        let numbers: Vec<i64> = self
            .argument(2)
            .split(',')
            .filter_map(|number| number.trim().parse().ok())
            .collect();
        numbers
            .chunks_exact(3)
            .map(|three| (three[0], three[1], three[2]))
            .collect()
    }

    fn argument(&self, index: usize) -> &str {
        self.arguments.get(index).and_then(Option::as_deref).unwrap_or("")
    }
}

/// Whether a node is in a list; an empty list means all.
fn is_listed<'a>(nodes: impl Iterator<Item = &'a str>, node: i32) -> bool {
    let mut listed = nodes.map(str::trim).filter(|item| !item.is_empty()).peekable();
    listed.peek().is_none() || listed.any(|item| item.parse() == Ok(node))
}

/// Places of all rows of scripts of an origin in a window, in the order of the log. One round trip.
///
/// # Errors
/// Any database error.
pub async fn places(
    provider: &Client,
    cluster: &Cluster,
    origin: i32,
    window: &Window,
) -> Result<Vec<ScriptPlace>, tokio_postgres::Error> {
    let sql = cluster.sql(&format!(
        "select log_actionseq, log_txid from @NAMESPACE@.sl_log_script where log_origin = {origin} and {} order by 1",
        window.condition("log_txid")
    ));
    let answers = provider.simple_query(&sql).await?;
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(ScriptPlace {
                action: row.get(0)?.parse().ok()?,
                txid: row.get(1)?.parse().ok()?,
            }),
            _ => None,
        })
        .collect())
}

/// Reads one row of a script; None if it is not there.
///
/// # Errors
/// Any database error.
pub async fn read(
    provider: &Client,
    cluster: &Cluster,
    origin: i32,
    place: ScriptPlace,
) -> Result<Option<ScriptRow>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select log_cmdtype::text, log_cmdargs from @NAMESPACE@.sl_log_script
          where log_origin = $1 and log_txid = $2 and log_actionseq = $3",
    );
    provider
        .query_opt(&sql, &[&origin, &place.txid, &place.action])
        .await?
        .map(|row| {
            Ok(ScriptRow {
                command: row.try_get(0)?,
                arguments: row.try_get(1)?,
            })
        })
        .transpose()
}

/// Keeps a row of a script for other nodes, whether this node forwards data or not.
///
/// # Errors
/// Any database error.
pub async fn store(
    client: &Client,
    cluster: &Cluster,
    origin: i32,
    place: ScriptPlace,
    row: &ScriptRow,
) -> Result<(), tokio_postgres::Error> {
    let sql = cluster.sql(
        "insert into @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq, log_cmdtype, log_cmdargs)
         values ($1, $2, $3, $4::text::\"char\", $5)",
    );
    client
        .execute(
            &sql,
            &[&origin, &place.txid, &place.action, &row.command, &row.arguments],
        )
        .await?;
    Ok(())
}

/// Sets sequences to what the origin's were before a statement; those that this node does not replicate are left out.
///
/// # Errors
/// Any database error.
pub async fn set_sequences(client: &Client, cluster: &Cluster, row: &ScriptRow) -> Result<(), tokio_postgres::Error> {
    let set = cluster.sql("select @NAMESPACE@.sequencesetvalue($1::int8::int4, $2::int8::int4, null, $3, true)");
    for (sequence, origin, value) in row.sequences() {
        client.execute(&set, &[&sequence, &origin, &value]).await?;
    }
    Ok(())
}

/// The end of a script: names and triggers are brought up to date.
///
/// # Errors
/// Any database error.
pub async fn finish(client: &Client, cluster: &Cluster) -> Result<(), tokio_postgres::Error> {
    client
        .execute(&cluster.sql("select @NAMESPACE@.ddlscript_complete_int()"), &[])
        .await?;
    Ok(())
}

/// What a script has set in its session so far: a `set` holds until the script ends, and no longer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptSettings {
    values: Vec<(String, String)>,
}

/// Runs a statement with the script's settings, and gives the session back to applying: what the statement has set is
/// taken off again and returned for the script's next statement. In the running transaction, whose role is `replica`.
///
/// `own` are the daemon's own settings (`sql_on_connection`).
///
/// # Errors
/// Any database error; the transaction must be rolled back then, and the session given up.
pub async fn run_statement(
    client: &Client,
    statement: &str,
    settings: &ScriptSettings,
    own: &str,
) -> Result<ScriptSettings, tokio_postgres::Error> {
    // Checks that are due would forbid an ALTER TABLE.
    client
        .batch_execute("set constraints all immediate; set session_replication_role to local")
        .await?;
    if !settings.values.is_empty() {
        let (names, values): (Vec<&str>, Vec<&str>) = settings
            .values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .unzip();
        let restore = "select pg_catalog.set_config(w.name, w.value, false)
                         from unnest($1::text[], $2::text[]) with ordinality as w (name, value, place) order by place";
        client.query(restore, &[&names, &values]).await?;
    }
    client.batch_execute(statement).await?;
    // `role` and `session_authorization` come last: with them other settings may be out of reach.
    let look = "select name, setting from pg_catalog.pg_settings where source = 'session'
                 union all
                select w.name, pg_catalog.current_setting(w.name)
                  from (values ('session_authorization'), ('role')) as w (name)
                 where pg_catalog.current_setting(w.name) not in ('default', 'none', session_user::text)";
    let mut left = ScriptSettings::default();
    for row in client.query(look, &[]).await? {
        left.values.push((row.try_get(0)?, row.try_get(1)?));
    }
    client
        .batch_execute(&format!(
            "reset session authorization; reset role; reset all; {own}; {SESSION_SETTINGS}; \
             set session_replication_role to replica; set constraints all deferred"
        ))
        .await?;
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(command: &str, arguments: &[&str]) -> ScriptRow {
        ScriptRow {
            command: command.to_owned(),
            arguments: arguments.iter().map(|text| Some((*text).to_owned())).collect(),
        }
    }

    #[test]
    fn an_empty_list_means_every_node() {
        assert!(row("S", &["select 1", "", ""]).is_for(3));
        assert!(row("S", &["select 1", "1,3", ""]).is_for(3));
        assert!(!row("S", &["select 1", "1,2", ""]).is_for(3));
        assert!(row("s", &[]).is_for(3));
        assert!(!row("s", &["13"]).is_for(3));
    }

    #[test]
    fn sequences_come_in_threes() {
        assert_eq!(
            row("S", &["", "", "1,2,30, 4,5,60"]).sequences(),
            [(1, 2, 30), (4, 5, 60)]
        );
        assert_eq!(row("S", &["", "", ""]).sequences(), []);
    }
}
