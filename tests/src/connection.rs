//! A connection of a test to a database; failures panic with the statement.

use std::ops::Deref;

use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A plain connection, independent of the code under test.
pub struct Connection {
    client: Client,
}

impl Connection {
    /// Connects, or panics.
    pub async fn open(conninfo: &str) -> Self {
        Self::try_open(conninfo)
            .await
            .unwrap_or_else(|error| panic!("cannot connect to `{conninfo}`: {error:?}"))
    }

    /// Connects if the server lets us.
    pub async fn try_open(conninfo: &str) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(conninfo, NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { client })
    }

    /// Runs statements, separated by semicolons.
    pub async fn run(&self, sql: &str) {
        self.try_run(sql)
            .await
            .unwrap_or_else(|error| panic!("{error}\nin: {sql}"));
    }

    /// Runs statements that may fail; the error is the server's message.
    pub async fn try_run(&self, sql: &str) -> Result<(), String> {
        self.client.batch_execute(sql).await.map_err(|error| message(&error))
    }

    /// The single value of a query.
    pub async fn value<T: FromSqlOwned>(&self, sql: &str) -> T {
        let row = self.client.query_one(sql, &[]).await;
        row.unwrap_or_else(|error| panic!("{}\nin: {sql}", message(&error)))
            .get(0)
    }

    /// The single value of a query that may fail.
    pub async fn try_value<T: FromSqlOwned>(&self, sql: &str) -> Result<T, String> {
        self.client
            .query_one(sql, &[])
            .await
            .map(|row| row.get(0))
            .map_err(|error| message(&error))
    }

    /// The first column of all rows.
    pub async fn column<T: FromSqlOwned>(&self, sql: &str) -> Vec<T> {
        let rows = self.client.query(sql, &[]).await;
        rows.unwrap_or_else(|error| panic!("{}\nin: {sql}", message(&error)))
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    /// All rows as text, columns separated by `|`, null as `NULL`.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let messages = self.client.simple_query(sql).await;
        let messages = messages.unwrap_or_else(|error| panic!("{}\nin: {sql}", message(&error)));
        let line = |row: &tokio_postgres::SimpleQueryRow| {
            (0..row.len())
                .map(|column| row.get(column).unwrap_or("NULL"))
                .collect::<Vec<_>>()
                .join("|")
        };
        messages
            .iter()
            .filter_map(|m| {
                if let SimpleQueryMessage::Row(row) = m {
                    Some(line(row))
                } else {
                    None
                }
            })
            .collect()
    }

    /// The server's major version.
    pub async fn server_major(&self) -> i32 {
        self.value::<i32>("select current_setting('server_version_num')::int4 / 10000")
            .await
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// The server's own words, or the chain of causes.
fn message(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        let extra = |label: &str, text: Option<&str>| text.map(|t| format!("\n{label}: {t}")).unwrap_or_default();
        return format!(
            "{}: {} ({}){}{}{}",
            server.severity(),
            server.message(),
            server.code().code(),
            extra("DETAIL", server.detail()),
            extra("HINT", server.hint()),
            extra("CONTEXT", server.where_()),
        );
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
