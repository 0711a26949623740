//! One statement as slonik sends it, with the text that messages show.

use std::fmt;
use std::fmt::Write as _;

use tokio_postgres::error::ErrorPosition;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::{Cluster, error_text, quote_literal};

/// The locks a configuration change takes before its transaction's snapshot matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// None; the stored function takes what it needs.
    None,
    /// The event lock: nobody else creates an event until the end of the transaction.
    Event,
    /// The config lock: nobody else changes the configuration until the end of the transaction.
    Config,
    /// Both, the event lock first.
    EventAndConfig,
}

impl Locks {
    /// The tables that are locked, in that order.
    #[must_use]
    pub fn tables(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Event => &["sl_event_lock"],
            Self::Config => &["sl_config_lock"],
            Self::EventAndConfig => &["sl_event_lock", "sl_config_lock"],
        }
    }

    /// The statement that takes them.
    #[must_use]
    pub fn call(self, cluster: &Cluster) -> Option<Call> {
        if self == Self::None {
            return None;
        }
        let tables: Vec<String> = self
            .tables()
            .iter()
            .map(|table| format!("{}.{table}", cluster.namespace()))
            .collect();
        Some(Call::statement(format!("lock table {}", tables.join(", "))))
    }
}

/// A statement, ready to send, and how it looks in messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    sql: String,
    shown: String,
    secrets: Vec<(String, String)>,
    function: Option<&'static str>,
    arguments: Vec<Value>,
    asks: bool,
}

/// An argument of a stored function, for whoever foresees what a call will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(String),
    /// NULL.
    Null,
    /// A connection string. Its text is not told; only why it could not be read, if so.
    Conninfo(Option<String>),
    /// Node numbers.
    Ids(Vec<i32>),
    /// Texts or NULLs.
    Texts(Vec<Option<String>>),
}

impl From<&Argument<'_>> for Value {
    fn from(argument: &Argument<'_>) -> Self {
        match *argument {
            Argument::Int(number) => Self::Int(number),
            Argument::Bool(yes) => Self::Bool(yes),
            Argument::Text(text) | Argument::MaybeText(Some(text)) => Self::Text(text.to_owned()),
            Argument::MaybeText(None) => Self::Null,
            Argument::Conninfo(text) => {
                Self::Conninfo(crate::conninfo::parse(text).err().map(|error| error.to_string()))
            }
            Argument::Ids(ids) => Self::Ids(ids.to_vec()),
            Argument::Texts(texts) => Self::Texts(texts.iter().map(|text| text.map(ToOwned::to_owned)).collect()),
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.shown).finish()
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// An argument of a stored function.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument<'a> {
    /// A number.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(&'a str),
    /// Text or NULL.
    MaybeText(Option<&'a str>),
    /// A connection string, shown without its password.
    Conninfo(&'a str),
    /// An array of numbers.
    Ids(&'a [i32]),
    /// An array of texts or NULLs.
    Texts(&'a [Option<&'a str>]),
}

impl Call {
    /// A statement without secrets.
    #[must_use]
    pub fn statement(sql: impl Into<String>) -> Self {
        let sql = sql.into();
        Self {
            shown: sql.clone(),
            sql,
            secrets: Vec::new(),
            function: None,
            arguments: Vec::new(),
            asks: false,
        }
    }

    /// `storePath` or its local part with a path's columns.
    pub(crate) fn store_path(cluster: &Cluster, name: &'static str, path: &crate::configuration::PathRow) -> Self {
        Self::function(
            cluster,
            name,
            &[
                Argument::Int(path.server.into()),
                Argument::Int(path.client.into()),
                Argument::Conninfo(&path.conninfo),
                Argument::Int(path.connretry.into()),
            ],
        )
    }

    /// `select "_C".name(arguments)`.
    pub(crate) fn function(cluster: &Cluster, name: &'static str, arguments: &[Argument<'_>]) -> Self {
        let (mut sql, mut shown) = (String::new(), String::new());
        let mut secrets = Vec::new();
        for argument in arguments {
            if !sql.is_empty() {
                sql.push_str(", ");
                shown.push_str(", ");
            }
            let text = match argument {
                Argument::Int(number) => number.to_string(),
                Argument::Bool(yes) => if *yes { "'t'" } else { "'f'" }.to_owned(),
                Argument::Text(text) | Argument::MaybeText(Some(text)) => quote_literal(text),
                Argument::MaybeText(None) => "NULL".to_owned(),
                Argument::Conninfo(text) => {
                    let redacted = crate::session::redact(text);
                    sql.push_str(&quote_literal(text));
                    shown.push_str(&quote_literal(&redacted));
                    secrets.push(((*text).to_owned(), redacted));
                    continue;
                }
                Argument::Ids(ids) => {
                    let list: Vec<String> = ids.iter().map(ToString::to_string).collect();
                    format!("ARRAY[{}]::pg_catalog.int4[]", list.join(","))
                }
                Argument::Texts(texts) => {
                    let list: Vec<String> = texts
                        .iter()
                        .map(|text| text.map_or_else(|| "NULL".to_owned(), quote_literal))
                        .collect();
                    format!("ARRAY[{}]::pg_catalog.text[]", list.join(","))
                }
            };
            sql.push_str(&text);
            shown.push_str(&text);
        }
        let head = format!("select {}.{name}(", cluster.namespace());
        Self {
            sql: format!("{head}{sql})"),
            shown: format!("{head}{shown})"),
            secrets,
            function: Some(name),
            arguments: arguments.iter().map(Value::from).collect(),
            asks: false,
        }
    }

    /// Notes that the call only asks and changes nothing.
    pub(crate) fn asking(mut self) -> Self {
        self.asks = true;
        self
    }

    /// The stored function that is called; None: another statement.
    #[must_use]
    pub fn stored_function(&self) -> Option<&'static str> {
        self.function
    }

    /// What the stored function gets.
    #[must_use]
    pub fn arguments(&self) -> &[Value] {
        &self.arguments
    }

    /// Whether it only asks and changes nothing.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// Runs the statement; the answer is the first column of the last row, if there is one.
    pub async fn run(&self, client: &Client) -> Result<Option<String>, CallError> {
        let rows = self.rows(client).await?;
        Ok(rows.last().and_then(|row| row.get(0)).map(ToOwned::to_owned))
    }

    /// Runs the statement; the answer is all rows.
    pub(crate) async fn rows(&self, client: &Client) -> Result<Vec<SimpleQueryRow>, CallError> {
        let messages = client
            .simple_query(&self.sql)
            .await
            .map_err(|source| self.failed(source))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect())
    }

    /// What the error of this statement is called.
    fn failed(&self, source: tokio_postgres::Error) -> CallError {
        CallError {
            shown: self.shown.clone(),
            secrets: self.secrets.clone(),
            source,
        }
    }
}

/// A statement that the server refused, or whose connection broke.
pub struct CallError {
    shown: String,
    secrets: Vec<(String, String)>,
    source: tokio_postgres::Error,
}

impl CallError {
    /// The error of a query that is no [`Call`]; `question` says what was asked.
    #[must_use]
    pub fn of_query(question: &str, source: tokio_postgres::Error) -> Self {
        Self {
            shown: question.to_owned(),
            secrets: Vec::new(),
            source,
        }
    }

    /// The SQLSTATE, if the server answered.
    #[must_use]
    pub fn code(&self) -> Option<&tokio_postgres::error::SqlState> {
        self.source.code()
    }

    /// Where in `statement`, in bytes, the server saw the error, if that is what a stored function was executing.
    #[must_use]
    pub fn place_in(&self, statement: &str) -> Option<usize> {
        match self.source.as_db_error()?.position()? {
            ErrorPosition::Internal { position, query } if query == statement => {
                let characters = usize::try_from(*position).ok()?.checked_sub(1)?;
                statement.char_indices().nth(characters).map(|(at, _)| at)
            }
            _ => None,
        }
    }

    /// The server's answer alone: `ERROR:  message`, then DETAIL and HINT on lines of their own.
    ///
    /// The call stack inside the stored functions is left out: it shows only our internals.
    #[must_use]
    pub fn answer(&self) -> String {
        let mut text = match self.source.as_db_error() {
            Some(error) => {
                let mut text = format!("{}:  {}", error.severity(), error.message());
                // DETAIL may quote a part of the row, too little of it for the whole secret to be found there.
                let detail = error.detail().filter(|_| self.secrets.is_empty());
                for (word, part) in [("DETAIL", detail), ("HINT", error.hint())] {
                    if let Some(part) = part {
                        let _ = write!(text, "\n{word}:  {part}");
                    }
                }
                text
            }
            None => error_text(&self.source),
        };
        for (secret, redacted) in &self.secrets {
            if secret != redacted && !secret.is_empty() {
                text = text.replace(secret.as_str(), redacted);
            }
        }
        text
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PGRES_FATAL_ERROR {};  - {}", self.shown, self.answer())
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallError({self})")
    }
}

// No source: the text already tells the whole chain, without the secrets that the driver's error may quote.
impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn arguments_become_literals() {
        let cluster = Cluster::new("c").unwrap();
        let call = Call::function(
            &cluster,
            "f",
            &[
                Argument::Int(-1),
                Argument::Bool(true),
                Argument::Text("it's \\"),
                Argument::MaybeText(None),
                Argument::Ids(&[2, 3]),
                Argument::Texts(&[Some("it's"), None]),
            ],
        );
        assert_eq!(
            call.sql,
            "select \"_c\".f(-1, 't', E'it''s \\\\', NULL, ARRAY[2,3]::pg_catalog.int4[], ARRAY['it''s',NULL]::pg_catalog.text[])"
        );
        assert_eq!(call.to_string(), call.sql);
    }

    #[test]
    fn a_password_is_sent_but_never_shown() {
        let cluster = Cluster::new("c").unwrap();
        let call = Call::function(&cluster, "storePath", &[Argument::Conninfo("host=h password=geheim")]);
        assert!(call.sql.contains("geheim"));
        assert!(!call.to_string().contains("geheim"));
        assert!(!format!("{call:?}").contains("geheim"));
    }

    #[test]
    fn the_event_lock_comes_before_the_config_lock() {
        let cluster = Cluster::new("c").unwrap();
        let call = Locks::EventAndConfig.call(&cluster).unwrap();
        assert_eq!(
            call.to_string(),
            "lock table \"_c\".sl_event_lock, \"_c\".sl_config_lock"
        );
        assert_eq!(Locks::None.call(&cluster), None);
    }
}
