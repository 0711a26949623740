//! Runs a scenario of configuration changes on a few nodes and writes down what happened.
//!
//! A scenario is a text of one step a line; the transcript repeats each step and adds results, error texts and the
//! rows asked for with `show`. Daemons are played here: `deliver` carries every event over `sl_listen` to every node
//! and calls the stored functions a daemon would call. The same text runs on nodes installed by Slony-I, so the
//! expected transcripts can be recorded from the original.
//!
//! | step | meaning |
//! |---|---|
//! | `nodes 1 2 3` | creates the databases, schema installed, not initialised |
//! | `sql 1 2: statement` | runs a statement on these nodes |
//! | `init 1 comment` | first node of the cluster |
//! | `join 2 from 1 comment` | what `store node` does |
//! | `mesh 1 2 3`, `path 1->2` | paths, stored on the client node; `path server->client` |
//! | `1: f(x); g(y)` | stored functions on node 1 in one transaction under the locks `slonik` takes |
//! | `deliver`, `deliver 2 3` | daemons (of these nodes) work until nothing is left |
//! | `down 2`, `up 2` | the node and its daemon are away |
//! | `copy 2 to 5` | node 5's database becomes a copy of node 2's |
//! | `show sl_set sl_event/1` | rows of tables, nodes with equal rows together; `/1` on node 1 only |

mod daemons;
mod tables;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Rows as text; `None` is NULL.
type Rows = Vec<Vec<Option<String>>>;

/// Offset of event numbers, taken off in the transcript.
const FIRST_EVENT: i64 = 5_000_000_000;

/// Where the nodes live.
pub(crate) struct Place {
    /// Connection string without a database.
    pub(crate) server: String,
    /// Database with the schema installed but not initialised.
    pub(crate) template: String,
    /// Cluster schema without quotes.
    pub(crate) schema: String,
    /// Start of the names of the nodes' databases.
    pub(crate) prefix: String,
}

struct Node {
    client: Client,
    up: bool,
    installed: bool,
}

/// The nodes of a running scenario.
pub(crate) struct World {
    place: Place,
    admin: Client,
    nodes: BTreeMap<i32, Node>,
    transcript: String,
}

/// Connects without encryption; the tests' servers listen on sockets.
pub(crate) async fn connect(conninfo: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(conninfo, NoTls).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client
}

fn literal(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), |text| format!("'{}'", text.replace('\'', "''")))
}

fn message(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// Event numbers in error texts are as relative as everywhere else.
fn relative(text: &str) -> String {
    text.parse::<i64>()
        .ok()
        .filter(|number| *number > FIRST_EVENT)
        .map_or_else(|| text.to_owned(), |number| format!("#{}", number - FIRST_EVENT))
}

impl World {
    pub(crate) async fn new(place: Place) -> Self {
        let admin = connect(&format!("{} dbname=postgres", place.server)).await;
        Self {
            place,
            admin,
            nodes: BTreeMap::new(),
            transcript: String::new(),
        }
    }

    /// Runs every step and returns the transcript.
    pub(crate) async fn run(mut self, scenario: &str) -> String {
        for line in scenario.lines() {
            let step = line.trim();
            if step.is_empty() || step.starts_with('#') {
                writeln!(self.transcript, "{step}").unwrap();
                continue;
            }
            writeln!(self.transcript, "> {step}").unwrap();
            self.step(step).await;
        }
        let names: Vec<i32> = self.nodes.keys().copied().collect();
        self.nodes.clear();
        for id in names {
            let database = self.database(id);
            self.drop_database(&database).await;
        }
        self.transcript
    }

    fn note(&mut self, text: &str) {
        writeln!(self.transcript, "{text}").unwrap();
    }

    fn database(&self, id: i32) -> String {
        format!("{}_{id}", self.place.prefix)
    }

    async fn drop_database(&self, database: &str) {
        for _ in 0..50 {
            if self
                .admin
                .batch_execute(&format!("drop database if exists {database}"))
                .await
                .is_ok()
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("database {database} stays in use");
    }

    async fn create_database(&mut self, id: i32, template: &str) {
        let database = self.database(id);
        self.drop_database(&database).await;
        let mut last = String::new();
        for _ in 0..100 {
            match self
                .admin
                .batch_execute(&format!("create database {database} template {template}"))
                .await
            {
                Ok(()) => {
                    last.clear();
                    break;
                }
                Err(error) => last = message(&error),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(last.is_empty(), "cannot create {database}: {last}");
        let client = connect(&format!("{} dbname={database}", self.place.server)).await;
        client
            .batch_execute("set client_min_messages = error; set session_replication_role = local")
            .await
            .unwrap();
        self.nodes.insert(
            id,
            Node {
                client,
                up: true,
                installed: true,
            },
        );
    }

    fn spell(&self, sql: &str) -> String {
        let schema = &self.place.schema;
        sql.replace("@NAMESPACE@", &format!("\"{schema}\""))
            .replace("@CLUSTER@", &format!("'{schema}'"))
    }

    async fn try_query(&self, id: i32, sql: &str) -> Result<Rows, tokio_postgres::Error> {
        let sql = self.spell(sql);
        let messages = self.nodes[&id].client.simple_query(&sql).await?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|column| row.get(column).map(str::to_owned))
                        .collect(),
                ),
                _ => None,
            })
            .collect())
    }

    async fn query(&self, id: i32, sql: &str) -> Rows {
        match self.try_query(id, sql).await {
            Ok(rows) => rows,
            Err(error) => panic!("node {id}: {sql}: {}", message(&error)),
        }
    }

    async fn value(&self, id: i32, sql: &str) -> Option<String> {
        self.query(id, sql)
            .await
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten())
    }

    async fn step(&mut self, step: &str) {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        match word {
            "nodes" => {
                for id in numbers(rest) {
                    let template = self.place.template.clone();
                    self.create_database(id, &template).await;
                }
            }
            "sql" => {
                let (ids, statement) = rest.split_once(": ").unwrap();
                for id in numbers(ids) {
                    match self.try_query(id, statement).await {
                        Ok(rows) => {
                            for row in rows {
                                let line = row
                                    .iter()
                                    .map(|value| value.as_deref().unwrap_or("null").to_owned())
                                    .collect::<Vec<_>>()
                                    .join(" | ");
                                self.note(&format!("  {line}"));
                            }
                        }
                        Err(error) => {
                            self.note(&format!("  error: {}", message(&error)));
                            self.rewind(id).await;
                        }
                    }
                }
            }
            "init" => {
                let (id, comment) = rest.split_once(' ').unwrap();
                self.calls(
                    id.parse().unwrap(),
                    &format!("initializeLocalNode({id}, '{comment}'); enableNode({id})"),
                )
                .await;
            }
            "join" => {
                let words: Vec<&str> = rest.splitn(4, ' ').collect();
                self.join(
                    words[0].parse().unwrap(),
                    words[2].parse().unwrap(),
                    words.get(3).copied().unwrap_or(""),
                )
                .await;
            }
            "mesh" => {
                let ids = numbers(rest);
                for client in &ids {
                    for server in &ids {
                        if client != server {
                            self.calls(*client, &path_call(*server, *client)).await;
                        }
                    }
                }
            }
            "path" => {
                for pair in rest.split_whitespace() {
                    let (server, client) = pair.split_once("->").unwrap();
                    let (server, client) = (server.parse().unwrap(), client.parse().unwrap());
                    self.calls(client, &path_call(server, client)).await;
                }
            }
            "deliver" => {
                let receivers = if rest.is_empty() {
                    self.nodes.keys().copied().collect()
                } else {
                    numbers(rest)
                };
                self.deliver(&receivers).await;
            }
            "down" | "up" => {
                for id in numbers(rest) {
                    self.nodes.get_mut(&id).unwrap().up = word == "up";
                }
            }
            "copy" => {
                let ids = numbers(&rest.replace("to", ""));
                self.nodes.remove(&ids[0]);
                let source = self.database(ids[0]);
                self.create_database(ids[1], &source).await;
                let client = connect(&format!("{} dbname={source}", self.place.server)).await;
                client
                    .batch_execute("set client_min_messages = error; set session_replication_role = local")
                    .await
                    .unwrap();
                self.nodes.insert(
                    ids[0],
                    Node {
                        client,
                        up: true,
                        installed: true,
                    },
                );
            }
            "show" => {
                for what in rest.split_whitespace() {
                    self.show(what).await;
                }
            }
            _ => {
                let (id, calls) = step.split_once(": ").unwrap_or_else(|| panic!("no step: {step}"));
                self.calls(id.parse().unwrap(), calls).await;
            }
        }
    }

    /// Calls stored functions in one transaction, as `slonik` does.
    async fn calls(&mut self, id: i32, calls: &str) {
        self.query(
            id,
            "begin; lock table @NAMESPACE@.sl_config_lock; lock table @NAMESPACE@.sl_event_lock",
        )
        .await;
        for call in calls.split("; ") {
            match self.try_query(id, &format!("select @NAMESPACE@.{call}")).await {
                Ok(rows) => {
                    let result = rows
                        .first()
                        .and_then(|row| row[0].clone())
                        .unwrap_or_else(|| "null".into());
                    self.note(&format!(
                        "  {} = {}",
                        call.split('(').next().unwrap(),
                        relative(&result)
                    ));
                }
                Err(error) => {
                    self.note(&format!("  error: {}", message(&error)));
                    self.query(id, "rollback").await;
                    self.rewind(id).await;
                    return;
                }
            }
        }
        self.query(id, "commit").await;
    }

    /// Gives back the event numbers of a rolled back transaction, so that both sides count alike.
    async fn rewind(&self, id: i32) {
        self.query(
            id,
            &format!(
                "select setval('@NAMESPACE@.sl_event_seq', coalesce((select max(ev_seqno) from @NAMESPACE@.sl_event \
                 where ev_origin = (select last_value from @NAMESPACE@.sl_local_node_id)), {FIRST_EVENT}))"
            ),
        )
        .await;
    }

    /// The steps of `store node`.
    async fn join(&mut self, id: i32, event_node: i32, comment: &str) {
        let mut calls = vec![
            format!("initializeLocalNode({id}, '{comment}')"),
            format!("enableNode_int({id})"),
        ];
        for row in self
            .query(
                event_node,
                &format!("select no_id, no_comment, no_active from @NAMESPACE@.sl_node where no_id <> {id} order by 1"),
            )
            .await
        {
            let node = row[0].clone().unwrap();
            calls.push(format!("storeNode_int({node}, {})", literal(row[1].as_deref())));
            if row[2].as_deref() == Some("t") {
                calls.push(format!("enableNode_int({node})"));
            }
        }
        for row in self
            .query(
                event_node,
                "select pa_server, pa_client, pa_conninfo, pa_connretry from @NAMESPACE@.sl_path order by 1, 2",
            )
            .await
        {
            calls.push(format!(
                "storePath_int({}, {}, {}, {})",
                text(&row[0]),
                text(&row[1]),
                literal(row[2].as_deref()),
                text(&row[3])
            ));
        }
        for row in self
            .query(
                event_node,
                "select li_origin, li_provider, li_receiver from @NAMESPACE@.sl_listen order by 1, 2, 3",
            )
            .await
        {
            calls.push(format!(
                "storeListen_int({}, {}, {})",
                text(&row[0]),
                text(&row[1]),
                text(&row[2])
            ));
        }
        for row in self
            .query(
                event_node,
                "select set_id, set_origin, set_comment from @NAMESPACE@.sl_set order by 1",
            )
            .await
        {
            calls.push(format!(
                "storeSet_int({}, {}, {})",
                text(&row[0]),
                text(&row[1]),
                literal(row[2].as_deref())
            ));
        }
        for row in self
            .query(event_node, "select sub_set, sub_provider, sub_receiver, sub_forward, sub_active from @NAMESPACE@.sl_subscribe order by 1, 2, 3")
            .await
        {
            let key = format!("{}, {}, {}", text(&row[0]), text(&row[1]), text(&row[2]));
            calls.push(format!("subscribeSet_int({key}, '{}', 'f')", text(&row[3])));
            if row[4].as_deref() == Some("t") {
                calls.push(format!("enableSubscription_int({key})"));
            }
        }
        self.query(
            id,
            "begin; lock table @NAMESPACE@.sl_config_lock; lock table @NAMESPACE@.sl_event_lock",
        )
        .await;
        for call in calls {
            self.query(id, &format!("select @NAMESPACE@.{call}")).await;
        }
        for row in self
            .query(
                event_node,
                "select ev_origin, max(ev_seqno) from @NAMESPACE@.sl_event group by 1 order by 1",
            )
            .await
        {
            let (origin, seqno) = (text(&row[0]), text(&row[1]));
            if origin == id.to_string() {
                self.query(id, &format!("select setval('@NAMESPACE@.sl_event_seq', {seqno} + 1)"))
                    .await;
            } else {
                self.query(
                    id,
                    &format!("insert into @NAMESPACE@.sl_confirm values ({origin}, {id}, {seqno}, now())"),
                )
                .await;
            }
        }
        self.query(id, "commit").await;
        self.calls(event_node, &format!("storeNode({id}, '{comment}'); enableNode({id})"))
            .await;
    }
}

#[expect(clippy::ref_option, reason = "a cell of a row")]
fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("null")
}

fn path_call(server: i32, client: i32) -> String {
    format!("storePath({server}, {client}, 'dbname=node{server}', 10)")
}

fn numbers(text: &str) -> Vec<i32> {
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}
