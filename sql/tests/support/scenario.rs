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

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Rows as text; `None` is NULL.
type Rows = Vec<Vec<Option<String>>>;

/// Offset of event numbers, taken off in the transcript.
const FIRST_EVENT: i64 = 5_000_000_000;

/// The newest confirmation of every pair of nodes.
const CONFIRMATIONS: &str =
    "select con_origin || ' ' || con_received, max(con_seqno) from @NAMESPACE@.sl_confirm group by 1";

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

/// One event as fetched from a provider.
struct Event {
    origin: i32,
    seqno: i64,
    kind: String,
    timestamp: String,
    snapshot: String,
    data: Vec<Option<String>>,
}

/// Outcome of offering an event to a node.
enum Outcome {
    Done,
    /// Not yet: something must happen first.
    Wait,
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

    /// Plays the daemons until nothing moves any more.
    async fn deliver(&mut self, receivers: &[i32]) {
        for round in 0.. {
            assert!(round < 200, "the daemons never come to rest");
            let mut moved = false;
            for receiver in receivers {
                if self.nodes[receiver].up && self.nodes[receiver].installed {
                    moved |= self.work(*receiver).await;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// One round of one node's daemon: what can be fetched and processed.
    async fn work(&mut self, local: i32) -> bool {
        let mut moved = false;
        let listens = self
            .query(
                local,
                &format!(
                    "select li_origin, li_provider from @NAMESPACE@.sl_listen join @NAMESPACE@.sl_path on pa_server = li_provider and pa_client = li_receiver \
                     join @NAMESPACE@.sl_node on no_id = li_origin where li_receiver = {local} and pa_conninfo <> '<event pending>' and no_active order by 1, 2"
                ),
            )
            .await;
        let mut heads: BTreeMap<i32, BTreeMap<String, i64>> = BTreeMap::new();
        let mut seen = self.confirmed_by(local).await;
        for row in listens {
            let (origin, provider): (i32, i32) = (text(&row[0]).parse().unwrap(), text(&row[1]).parse().unwrap());
            if !self.nodes.get(&provider).is_some_and(|node| node.up && node.installed) {
                continue;
            }
            if let Entry::Vacant(unknown) = heads.entry(provider) {
                let newest = "select ev_origin, max(ev_seqno) from @NAMESPACE@.sl_event group by 1";
                unknown.insert(pairs(&self.query(provider, newest).await));
            }
            let key = origin.to_string();
            let head = heads[&provider].get(&key).copied().unwrap_or(0);
            while seen.get(&key).copied().unwrap_or(0) < head {
                let Some(event) = self.fetch(provider, origin, seen.get(&key).copied().unwrap_or(0)).await else {
                    break;
                };
                match self.process(local, &event).await {
                    Outcome::Done => moved = true,
                    Outcome::Wait => break,
                }
                if event.kind == "DROP_NODE" {
                    // the list of whom to listen to is no longer true
                    return true;
                }
                seen = self.confirmed_by(local).await;
            }
        }
        let known = pairs(&self.query(local, CONFIRMATIONS).await);
        let mut news = known.clone();
        for provider in heads.keys() {
            for (pair, seqno) in pairs(&self.query(*provider, CONFIRMATIONS).await) {
                let newest = news.entry(pair).or_insert(-1);
                *newest = seqno.max(*newest);
            }
        }
        for (pair, seqno) in news {
            let (of, by) = pair.split_once(' ').unwrap();
            if by != local.to_string() && known.get(&pair).is_none_or(|known| *known < seqno) {
                let call = format!("select @NAMESPACE@.forwardConfirm({of}, {by}, {seqno}, 'now'::timestamp)");
                self.query(local, &call).await;
                moved = true;
            }
        }
        moved
    }

    /// What the node itself has confirmed, by origin.
    async fn confirmed_by(&self, local: i32) -> BTreeMap<String, i64> {
        let confirmed = format!(
            "select con_origin, max(con_seqno) from @NAMESPACE@.sl_confirm where con_received = {local} group by 1"
        );
        pairs(&self.query(local, &confirmed).await)
    }

    async fn fetch(&self, provider: i32, origin: i32, after: i64) -> Option<Event> {
        let rows = self
            .query(
                provider,
                &format!(
                    "select ev_seqno, ev_type, ev_timestamp, ev_snapshot, ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, ev_data7, ev_data8 \
                     from @NAMESPACE@.sl_event where ev_origin = {origin} and ev_seqno > {after} order by ev_seqno limit 1"
                ),
            )
            .await;
        let row = rows.into_iter().next()?;
        Some(Event {
            origin,
            seqno: text(&row[0]).parse().unwrap(),
            kind: text(&row[1]).to_owned(),
            timestamp: text(&row[2]).to_owned(),
            snapshot: text(&row[3]).to_owned(),
            data: row[4..].to_vec(),
        })
    }

    /// What a daemon does with an event: effect, event row and confirmation in one transaction.
    async fn process(&mut self, local: i32, event: &Event) -> Outcome {
        let datum = |position: usize| event.data[position - 1].clone();
        let plain = |position: usize| datum(position).unwrap_or_else(|| "null".into());
        let number = |position: usize| plain(position).parse::<i32>().unwrap();
        let quoted = |position: usize| literal(datum(position).as_deref());
        let mut effects: Vec<String> = Vec::new();
        let mut uninstall = false;
        match event.kind.as_str() {
            "SYNC" => effects.push(format!(
                "update @NAMESPACE@.sl_setsync set ssy_seqno = {seqno}, ssy_snapshot = '{snapshot}', ssy_action_list = '' \
                 where ssy_origin = {origin} and ssy_seqno < {seqno} and ssy_snapshot::text <> '1:1:'",
                seqno = event.seqno,
                snapshot = event.snapshot,
                origin = event.origin
            )),
            "STORE_NODE" => effects.push(format!("select @NAMESPACE@.storeNode_int({}, {})", plain(1), quoted(2))),
            "ENABLE_NODE" => effects.push(format!("select @NAMESPACE@.enableNode_int({})", plain(1))),
            "DROP_NODE" => {
                for id in plain(1).split(',') {
                    effects.push(format!("select @NAMESPACE@.dropNode_int({id})"));
                    uninstall |= id == local.to_string();
                }
            }
            "CLONE_NODE" => effects.push(format!("select @NAMESPACE@.cloneNodePrepare_int({}, {}, {})", plain(1), plain(2), quoted(3))),
            "STORE_PATH" => effects.push(format!("select @NAMESPACE@.storePath_int({}, {}, {}, {})", plain(1), plain(2), quoted(3), plain(4))),
            "DROP_PATH" => effects.push(format!("select @NAMESPACE@.dropPath_int({}, {})", plain(1), plain(2))),
            "STORE_LISTEN" => effects.push(format!("select @NAMESPACE@.storeListen_int({}, {}, {})", plain(1), plain(2), plain(3))),
            "DROP_LISTEN" => effects.push(format!("select @NAMESPACE@.dropListen_int({}, {}, {})", plain(1), plain(2), plain(3))),
            "STORE_SET" => effects.push(format!("select @NAMESPACE@.storeSet_int({}, {}, {})", plain(1), plain(2), quoted(3))),
            "DROP_SET" => effects.push(format!("select @NAMESPACE@.dropSet_int({})", plain(1))),
            "MERGE_SET" => effects.push(format!("select @NAMESPACE@.mergeSet_int({}, {})", plain(1), plain(2))),
            "SET_DROP_TABLE" => effects.push(format!("select @NAMESPACE@.setDropTable_int({})", plain(1))),
            "SET_DROP_SEQUENCE" => effects.push(format!("select @NAMESPACE@.setDropSequence_int({})", plain(1))),
            "SET_MOVE_TABLE" => effects.push(format!("select @NAMESPACE@.setMoveTable_int({}, {})", plain(1), plain(2))),
            "SET_MOVE_SEQUENCE" => effects.push(format!("select @NAMESPACE@.setMoveSequence_int({}, {})", plain(1), plain(2))),
            "SET_ADD_TABLE" | "SET_ADD_SEQUENCE" => {}
            "SUBSCRIBE_SET" => {
                effects.push(format!("select @NAMESPACE@.subscribeSet_int({}, {}, {}, '{}', '{}')", plain(1), plain(2), plain(3), plain(4), plain(5)));
            }
            "ENABLE_SUBSCRIPTION" => {
                if number(3) == local && !self.copy_set(event, &mut effects).await {
                    return Outcome::Wait;
                }
                effects.push(format!("select @NAMESPACE@.enableSubscription({}, {}, {})", plain(1), plain(2), plain(3)));
            }
            "UNSUBSCRIBE_SET" => effects.push(format!("select @NAMESPACE@.unsubscribeSet_int({}, {})", plain(1), plain(2))),
            "MOVE_SET" => effects.push(format!("select @NAMESPACE@.moveSet_int({}, {}, {}, {})", plain(1), plain(2), plain(3), event.seqno)),
            "ACCEPT_SET" => {
                if number(2) != local {
                    let arrived = format!(
                        "select 1 from @NAMESPACE@.sl_event where ev_origin = {} and ev_seqno = {} and ev_type = 'MOVE_SET' and ev_data1 = '{}'",
                        plain(2),
                        plain(4),
                        plain(1)
                    );
                    if self.value(local, &arrived).await.is_none() {
                        return Outcome::Wait;
                    }
                    effects.push(format!(
                        "update @NAMESPACE@.sl_setsync set ssy_origin = {}, ssy_seqno = {}, ssy_snapshot = '{}', ssy_action_list = '' where ssy_setid = {}",
                        plain(3),
                        event.seqno,
                        event.snapshot,
                        plain(1)
                    ));
                }
            }
            "FAILOVER_NODE" => {
                let call = format!("select @NAMESPACE@.failedNode({}, {}, '{{{}}}')", plain(1), event.origin, plain(3));
                self.query(local, &call).await;
                let arrived = self.value(local, &format!("select max(ev_seqno) >= {} from @NAMESPACE@.sl_event where ev_origin = {}", plain(2), plain(1))).await;
                if arrived.as_deref() != Some("t") {
                    return Outcome::Wait;
                }
                effects.push(format!("select @NAMESPACE@.failoverSet_int({}, {}, {})", plain(1), event.origin, plain(2)));
            }
            other => panic!("event type {other}"),
        }
        self.query(
            local,
            "begin; lock table @NAMESPACE@.sl_config_lock; lock table @NAMESPACE@.sl_event_lock",
        )
        .await;
        for effect in &effects {
            if let Err(error) = self.try_query(local, effect).await {
                let line = format!(
                    "  node {local} cannot process {} #{} of node {}: {}",
                    event.kind,
                    event.seqno - FIRST_EVENT,
                    event.origin,
                    message(&error)
                );
                if !self
                    .transcript
                    .lines()
                    .rev()
                    .take_while(|line| !line.starts_with('>'))
                    .any(|known| known == line)
                {
                    self.note(&line);
                }
                self.query(local, "rollback").await;
                self.rewind(local).await;
                return Outcome::Wait;
            }
        }
        let data: Vec<String> = event.data.iter().map(|value| literal(value.as_deref())).collect();
        self.query(
            local,
            &format!(
                "insert into @NAMESPACE@.sl_event values ({origin}, {seqno}, '{}', '{}', '{}', {}); \
                 insert into @NAMESPACE@.sl_confirm values ({origin}, {local}, {seqno}, now()); commit",
                event.timestamp,
                event.snapshot,
                event.kind,
                data.join(", "),
                origin = event.origin,
                seqno = event.seqno
            ),
        )
        .await;
        if uninstall {
            self.query(
                local,
                "select @NAMESPACE@.uninstallNode(); drop schema @NAMESPACE@ cascade",
            )
            .await;
            self.nodes.get_mut(&local).unwrap().installed = false;
        }
        Outcome::Done
    }

    /// The configuration part of an initial copy; `false` while the provider lacks the set.
    async fn copy_set(&self, event: &Event, effects: &mut Vec<String>) -> bool {
        let datum = |position: usize| event.data[position - 1].clone().unwrap_or_default();
        let provider: i32 = datum(2).parse().unwrap();
        let set = datum(1);
        if !self.nodes.get(&provider).is_some_and(|node| node.up && node.installed) {
            return false;
        }
        if provider != event.origin {
            let confirmed = self
                .value(provider, &format!("select max(con_seqno) >= {} from @NAMESPACE@.sl_confirm where con_origin = {} and con_received = {provider}", event.seqno, event.origin))
                .await;
            if confirmed.as_deref() != Some("t") {
                return false;
            }
        }
        for row in self.query(provider, &format!("select seq_id, seq_nspname, seq_relname, seq_comment from @NAMESPACE@.sl_sequence where seq_set = {set} order by 1")).await {
            effects.push(format!(
                "select @NAMESPACE@.setAddSequence_int({set}, {}, '\"{}\".\"{}\"', {})",
                text(&row[0]),
                text(&row[1]),
                text(&row[2]),
                literal(row[3].as_deref())
            ));
        }
        for row in self
            .query(provider, &format!("select tab_id, tab_nspname, tab_relname, tab_idxname, tab_comment from @NAMESPACE@.sl_table where tab_set = {set} order by 1"))
            .await
        {
            effects.push(format!(
                "select @NAMESPACE@.setAddTable_int({set}, {}, '\"{}\".\"{}\"', {}, {})",
                text(&row[0]),
                text(&row[1]),
                text(&row[2]),
                literal(row[3].as_deref()),
                literal(row[4].as_deref())
            ));
        }
        let newest = self
            .query(
                provider,
                &format!("select ev_seqno, ev_snapshot from @NAMESPACE@.sl_event where ev_origin = {} and ev_type = 'SYNC' order by ev_seqno desc limit 1", event.origin),
            )
            .await;
        let (seqno, snapshot) = newest.first().map_or_else(
            || (event.seqno.to_string(), event.snapshot.clone()),
            |row| (text(&row[0]).to_owned(), text(&row[1]).to_owned()),
        );
        effects.push(format!("delete from @NAMESPACE@.sl_setsync where ssy_setid = {set}"));
        effects.push(format!(
            "insert into @NAMESPACE@.sl_setsync values ({set}, {}, {seqno}, '{snapshot}', '')",
            event.origin
        ));
        true
    }

    /// Writes the rows of a table, nodes with equal rows together.
    async fn show(&mut self, what: &str) {
        let (table, on) = what.split_once('/').unwrap_or((what, ""));
        let ids: Vec<i32> = if on.is_empty() {
            self.nodes
                .iter()
                .filter(|(_, node)| node.installed && node.up)
                .map(|(id, _)| *id)
                .collect()
        } else {
            numbers(&on.replace(',', " "))
        };
        let mut groups: Vec<(Vec<i32>, Vec<String>)> = Vec::new();
        for id in ids {
            let lines: Vec<String> = self
                .query(id, table_query(table))
                .await
                .into_iter()
                .map(|row| {
                    row.into_iter()
                        .map(|value| value.map_or_else(|| "null".into(), |value| relative(&value)))
                        .collect::<Vec<_>>()
                        .join(" | ")
                })
                .collect();
            match groups.iter_mut().find(|(_, known)| *known == lines) {
                Some((members, _)) => members.push(id),
                None => groups.push((vec![id], lines)),
            }
        }
        for (members, lines) in groups {
            let members = members.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            self.note(&format!("  {table} on {members}:"));
            for line in lines {
                self.note(&format!("    {line}"));
            }
        }
    }
}

#[expect(clippy::ref_option, reason = "a cell of a row")]
fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("null")
}

/// Two columns as a map.
fn pairs(rows: &Rows) -> BTreeMap<String, i64> {
    rows.iter()
        .map(|row| (text(&row[0]).to_owned(), text(&row[1]).parse().unwrap()))
        .collect()
}

fn path_call(server: i32, client: i32) -> String {
    format!("storePath({server}, {client}, 'dbname=node{server}', 10)")
}

fn numbers(text: &str) -> Vec<i32> {
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// How a table is shown: only what does not depend on time, transaction numbers and object ids.
fn table_query(table: &str) -> &'static str {
    match table {
        "sl_node" => "select no_id, no_active, no_failed, no_comment from @NAMESPACE@.sl_node order by 1",
        "sl_path" => {
            "select pa_server || '->' || pa_client, pa_conninfo, pa_connretry from @NAMESPACE@.sl_path order by pa_server, pa_client"
        }
        "sl_listen" => {
            "select 'receiver ' || li_receiver, string_agg(li_origin || ' from ' || li_provider, ', ' order by li_origin, li_provider) \
             from @NAMESPACE@.sl_listen group by li_receiver order by li_receiver"
        }
        "sl_set" => {
            "select set_id, set_origin, case when set_locked is null then 'unlocked' else 'locked' end, set_comment from @NAMESPACE@.sl_set order by 1"
        }
        "sl_table" => {
            "select tab_id, tab_nspname, tab_relname, tab_set, tab_idxname, tab_altered, tab_comment, tab_reloid = (select c.oid from pg_class c \
             join pg_namespace n on n.oid = c.relnamespace where c.relname = tab_relname and n.nspname = tab_nspname) from @NAMESPACE@.sl_table order by 1"
        }
        "sl_sequence" => {
            "select seq_id, seq_nspname, seq_relname, seq_set, seq_comment, seq_reloid = (select c.oid from pg_class c \
             join pg_namespace n on n.oid = c.relnamespace where c.relname = seq_relname and n.nspname = seq_nspname) from @NAMESPACE@.sl_sequence order by 1"
        }
        "sl_subscribe" => {
            "select 'set ' || sub_set, sub_provider || '->' || sub_receiver, sub_forward, sub_active from @NAMESPACE@.sl_subscribe order by sub_set, sub_provider, sub_receiver"
        }
        "sl_setsync" => {
            "select ssy_setid, ssy_origin, ssy_seqno, case when ssy_snapshot::text = '1:1:' then '1:1:' else coalesce((select 'snapshot of ' || ev_type || ' ' || ev_seqno - 5000000000 \
             from @NAMESPACE@.sl_event where ev_origin = ssy_origin and ev_seqno = ssy_seqno and ev_snapshot::text = ssy_snapshot::text), 'some snapshot') end, coalesce(ssy_action_list, '') \
             from @NAMESPACE@.sl_setsync where ssy_setid in (select sub_set from @NAMESPACE@.sl_subscribe \
             where sub_receiver = (select last_value from @NAMESPACE@.sl_local_node_id)) order by 1"
        }
        "sl_event" => {
            "select ev_origin, ev_seqno, ev_type, concat_ws(', ', ev_data1, ev_data2, coalesce(ev_data3, case when ev_type in ('STORE_SET') then 'null' end), ev_data4, ev_data5, ev_data6, ev_data7, ev_data8) \
             from @NAMESPACE@.sl_event order by 1, 2"
        }
        "events" => {
            "select ev_origin, ev_seqno, ev_type, concat_ws(', ', ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, ev_data7, ev_data8) \
             from @NAMESPACE@.sl_event where ev_origin = (select last_value from @NAMESPACE@.sl_local_node_id) order by 1, 2"
        }
        "sl_confirm" => {
            "select con_origin || ' by ' || con_received, max(con_seqno) from @NAMESPACE@.sl_confirm group by con_origin, con_received order by con_origin, con_received"
        }
        // without the rows at 0, of which a clone gets more here than from Slony-I
        "confirmed" => {
            "select con_origin || ' by ' || con_received, max(con_seqno) from @NAMESPACE@.sl_confirm where con_seqno > 0 group by con_origin, con_received order by con_origin, con_received"
        }
        "sl_seqlog" => {
            "select distinct seql_seqid, seql_origin, seql_ev_seqno, seql_last_value from @NAMESPACE@.sl_seqlog order by 1, 2, 3, 4"
        }
        "triggers" => {
            "select tgrelid::regclass, string_agg(tgname || ' ' || tgenabled::text, ', ' order by tgname) from pg_trigger \
             where not tgisinternal and tgrelid::regclass::text not similar to '%(sl_log|tl_capture)%' group by tgrelid order by tgrelid::regclass::text"
        }
        "identity" => "select last_value from @NAMESPACE@.sl_local_node_id",
        other => panic!("no table {other}"),
    }
}
