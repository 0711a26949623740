//! Connections to the databases of other nodes.

use std::time::Duration;

use futures_util::TryStreamExt;
use trunkline_sql::log_selection::{LogSelection, LogTables, READ_SETTINGS, SEQUENCE_VALUES};
use trunkline_sql::script::{self, ScriptPlace, ScriptRow};
use trunkline_sql::snapshot::Window;
use trunkline_sql::{ConnectError, Session, error_text};

use crate::log_row::{DecodeError, Decoder, LogRow};
use crate::node::Node;

/// Why another node's database is of no use now.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// There is no path with a conninfo.
    #[error(
        "no path from node {local} to node {node}: sl_path has no usable conninfo; run `store path (server={node}, \
         client={local}, conninfo='…')`"
    )]
    NoPath {
        /// The node to reach.
        node: i32,
        /// The local node.
        local: i32,
    },
    /// The connection failed.
    #[error("cannot connect to node {node}: {source}")]
    Connect {
        /// The node to reach.
        node: i32,
        /// Why.
        source: ConnectError,
    },
    /// Another database answers.
    #[error(
        "the path to node {node} leads to {target}, whose node id is {found}; correct it with `store path (server={node}, \
         client={local}, …)`"
    )]
    WrongNode {
        /// The node to reach.
        node: i32,
        /// The node that answered; -1: not initialised.
        found: i64,
        /// The local node.
        local: i32,
        /// Host, port and database.
        target: String,
    },
    /// A version that cannot be trusted to speak the same protocol.
    #[error(
        "node {node} runs Slony-I version {version} of the schema, this slon expects {EXPECTED_VERSION}; run `update \
         functions (id={node})`, or set enable_version_check=false"
    )]
    Version {
        /// The node.
        node: i32,
        /// What it says.
        version: String,
    },
    /// A statement failed there.
    #[error("node {node}: {}", error_text(source))]
    Database {
        /// The node.
        node: i32,
        /// What it said.
        source: tokio_postgres::Error,
    },
    /// Log rows that cannot be read.
    #[error("node {node}: {source}")]
    Decode {
        /// The node.
        node: i32,
        /// What is wrong.
        source: DecodeError,
    },
    /// A row of a script that was there a moment ago.
    #[error("node {node}: row {action} of a script of node {origin} is gone from sl_log_script; looking again")]
    ScriptGone {
        /// The node.
        node: i32,
        /// Origin of the script.
        origin: i32,
        /// `log_actionseq`.
        action: i64,
    },
    /// The COPY stream ended early.
    #[error("node {node}: the stream of log rows ended early")]
    CutOff {
        /// The node.
        node: i32,
    },
}

/// Version of Slony's schema and protocol that nodes must announce.
pub const EXPECTED_VERSION: &str = "2.2.11";

/// A connection to another node's database, registered there.
#[derive(Debug)]
pub struct Provider {
    /// The node.
    pub id: i32,
    /// Its database.
    pub session: Session,
}

impl Provider {
    /// Connects to the database of a node along the path of the current configuration.
    ///
    /// # Errors
    /// [`ProviderError`]: no path, no connection, wrong database or version.
    pub async fn connect(node: &Node, id: i32, role: &str) -> Result<Self, ProviderError> {
        let configuration = node.current();
        let path = configuration
            .paths
            .get(&id)
            .filter(|path| path.is_usable())
            .ok_or(ProviderError::NoPath {
                node: id,
                local: node.id,
            })?;
        let mut options = node.session_options(role);
        options.connect_timeout = Some(Duration::from_secs(10));
        options.on_connect.push(READ_SETTINGS.to_owned());
        let session = Session::connect(&path.conninfo, &options)
            .await
            .map_err(|source| ProviderError::Connect { node: id, source })?;
        let database = |source| ProviderError::Database { node: id, source };
        // An absent schema must read as "not this node", not as a missing function.
        let known = node.cluster.sql(
            "select exists (select 1 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                             where n.nspname = @CLUSTER@ and c.relname = 'sl_local_node_id')",
        );
        let wrong = |found| ProviderError::WrongNode {
            node: id,
            found,
            local: node.id,
            target: session.target().to_owned(),
        };
        if !session
            .query_one(&known, &[])
            .await
            .map_err(database)?
            .try_get::<_, bool>(0)
            .map_err(database)?
        {
            return Err(wrong(-1));
        }
        let sql = node.cluster.sql(
            "select last_value, @NAMESPACE@.slonyversion(), @NAMESPACE@.getmoduleversion(), @NAMESPACE@.registernodeconnection($1)
               from @NAMESPACE@.sl_local_node_id",
        );
        let row = session.query_one(&sql, &[&node.id]).await.map_err(database)?;
        let found: i64 = row.try_get(0).map_err(database)?;
        let versions: (String, String) = (row.try_get(1).map_err(database)?, row.try_get(2).map_err(database)?);
        if found != i64::from(id) {
            return Err(wrong(found));
        }
        if node.parameters.enable_version_check {
            for version in [versions.0, versions.1] {
                if version != EXPECTED_VERSION {
                    return Err(ProviderError::Version { node: id, version });
                }
            }
        }
        Ok(Self { id, session })
    }

    fn database(&self, source: tokio_postgres::Error) -> ProviderError {
        ProviderError::Database { node: self.id, source }
    }

    /// Newest sequence values of the sets between two event numbers.
    ///
    /// # Errors
    /// [`ProviderError::Database`].
    pub async fn sequence_values(
        &self,
        node: &Node,
        origin: i32,
        sets: &[i32],
        first: i64,
        last: i64,
    ) -> Result<Vec<(i32, i64)>, ProviderError> {
        let statement = self.session.statement(&node.cluster.sql(SEQUENCE_VALUES)).await;
        let statement = statement.map_err(|source| self.database(source))?;
        let rows = self.session.query(&statement, &[&origin, &sets, &first, &last]).await;
        rows.and_then(|rows| rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect())
            .map_err(|source| self.database(source))
    }

    /// Opens the stream of log rows of a selection; None if there is nothing to select.
    ///
    /// # Errors
    /// [`ProviderError::Database`].
    pub async fn log_stream(
        &self,
        node: &Node,
        mut selection: LogSelection<'_>,
    ) -> Result<Option<LogStream>, ProviderError> {
        selection.log_tables = self.log_tables(node).await?;
        let Some(statement) = selection.copy_statement(&node.cluster) else {
            return Ok(None);
        };
        let stream = self
            .session
            .copy_out(&statement)
            .await
            .map_err(|source| self.database(source))?;
        Ok(Some(LogStream {
            node: self.id,
            stream: Box::pin(stream),
            decoder: Decoder::default(),
        }))
    }

    /// Number of the first log row of a selection; None if it is empty.
    ///
    /// # Errors
    /// [`ProviderError::Database`].
    pub async fn first_action(
        &self,
        node: &Node,
        mut selection: LogSelection<'_>,
    ) -> Result<Option<i64>, ProviderError> {
        selection.log_tables = self.log_tables(node).await?;
        let Some(statement) = selection.first_action_statement(&node.cluster) else {
            return Ok(None);
        };
        let row = self.session.query_one(&statement, &[]).await;
        row.and_then(|row| row.try_get(0))
            .map_err(|source| self.database(source))
    }

    /// Which log tables hold rows on this provider now.
    async fn log_tables(&self, node: &Node) -> Result<LogTables, ProviderError> {
        let status = node.cluster.sql("select last_value from @NAMESPACE@.sl_log_status");
        let statement = self.session.statement(&status).await;
        let statement = statement.map_err(|source| self.database(source))?;
        let row = self.session.query_one(&statement, &[]).await;
        let status = row
            .and_then(|row| row.try_get(0))
            .map_err(|source| self.database(source))?;
        Ok(LogTables::from_status(status))
    }

    /// Places of the origin's scripts in a window, as this node has them.
    ///
    /// # Errors
    /// [`ProviderError::Database`].
    pub async fn script_places(
        &self,
        node: &Node,
        origin: i32,
        window: &Window,
    ) -> Result<Vec<ScriptPlace>, ProviderError> {
        script::places(&self.session, &node.cluster, origin, window)
            .await
            .map_err(|source| self.database(source))
    }

    /// One row of a script.
    ///
    /// # Errors
    /// [`ProviderError::Database`]; [`ProviderError::ScriptGone`] if it is not there any more.
    pub async fn script_row(&self, node: &Node, origin: i32, place: ScriptPlace) -> Result<ScriptRow, ProviderError> {
        script::read(&self.session, &node.cluster, origin, place)
            .await
            .map_err(|source| self.database(source))?
            .ok_or(ProviderError::ScriptGone {
                node: self.id,
                origin,
                action: place.action,
            })
    }
}

/// Log rows on their way.
pub struct LogStream {
    node: i32,
    stream: std::pin::Pin<Box<tokio_postgres::CopyOutStream>>,
    decoder: Decoder,
}

impl LogStream {
    /// Whether all rows have been handed out.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.decoder.is_complete()
    }

    /// Reads rows until about `bytes` bytes or `rows` rows are there; an empty result is the end.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn chunk(&mut self, bytes: usize, rows: usize) -> Result<Vec<LogRow>, ProviderError> {
        let mut chunk = Vec::new();
        let (mut size, mut counted) = (0, 0);
        // The end marker ends it for good: asked again, the stream would meet the messages that follow the COPY.
        while size < bytes && chunk.len() < rows && !self.decoder.is_complete() {
            let message = self.stream.try_next().await;
            match message.map_err(|source| ProviderError::Database {
                node: self.node,
                source,
            })? {
                Some(message) => {
                    self.decoder
                        .push(message, &mut chunk)
                        .map_err(|source| ProviderError::Decode {
                            node: self.node,
                            source,
                        })?;
                    size += chunk[counted..].iter().map(LogRow::size).sum::<usize>();
                    counted = chunk.len();
                }
                None => return Err(ProviderError::CutOff { node: self.node }),
            }
        }
        Ok(chunk)
    }
}
