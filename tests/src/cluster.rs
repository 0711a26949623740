//! A cluster under test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trunkline_slonctl::throwaway::{Server, ServerOptions};
use trunkline_sql::{Cluster as ClusterName, quote_ident};

use crate::{
    Connection, PATIENCE, Slon, SlonikRun, fresh_database, program, run_slonik, run_slonik_until, shared_server,
    shared_throwaway, slonik_string, wait_until,
};

/// One node: a database, and how to reach it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its number, from 1.
    pub id: i32,
    /// How tests, slonik and its slon connect.
    pub conninfo: String,
    /// The name of the database.
    pub database: String,
}

/// Nodes 1 to n of a cluster, the slons that serve them and the servers of its own, if any.
pub struct Cluster {
    name: ClusterName,
    nodes: Vec<Node>,
    /// Nodes that are given up: still in the preamble, but nobody waits for them or compares them.
    lost: Vec<Node>,
    /// Conninfos for `store path` where they differ from the node's own: (server, client) -> conninfo.
    paths: BTreeMap<(i32, i32), String>,
    /// Conninfos for the preamble where they differ from the node's own.
    admins: BTreeMap<i32, String>,
    slons: Mutex<BTreeMap<i32, Slon>>,
    servers: Vec<Mutex<Server>>,
}

impl Cluster {
    /// A cluster of fresh databases on the shared server. Nothing is installed in them yet.
    pub async fn new(test: &str, nodes: i32) -> Self {
        Self::named(test, "e2e", nodes).await
    }

    /// As [`Self::new`] with a name for the cluster.
    pub async fn named(test: &str, cluster: &str, nodes: i32) -> Self {
        let mut made = Self::empty(cluster);
        for id in 1..=nodes {
            made.add_node(id, shared_server(), test).await;
        }
        made
    }

    /// A cluster in which each node is a server of its own.
    pub async fn on_own_servers(test: &str, nodes: i32) -> Self {
        let options = ServerOptions {
            tcp: true,
            ..ServerOptions::default()
        };
        Self::on_servers_with(test, nodes, &options).await
    }

    /// The same with servers that wait for the disk and write the log of changes that PostgreSQL writes by default: for figures.
    pub async fn on_durable_servers(test: &str, nodes: i32) -> Self {
        let settings = [("wal_level", "replica"), ("shared_buffers", "128MB")];
        let options = ServerOptions {
            tcp: true,
            fsync: true,
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        Self::on_servers_with(test, nodes, &options).await
    }

    async fn on_servers_with(test: &str, nodes: i32, options: &ServerOptions) -> Self {
        let mut made = Self::empty("e2e");
        for id in 1..=nodes {
            let name = format!("{test}-{id}");
            let server = shared_throwaway()
                .server(&name, options)
                .unwrap_or_else(|error| panic!("{error}"));
            made.add_node(id, &server, test).await;
            made.servers.push(Mutex::new(server));
        }
        made
    }

    fn empty(cluster: &str) -> Self {
        Self {
            name: ClusterName::new(cluster).unwrap_or_else(|error| panic!("{error}")),
            nodes: Vec::new(),
            lost: Vec::new(),
            paths: BTreeMap::new(),
            admins: BTreeMap::new(),
            slons: Mutex::default(),
            servers: Vec::new(),
        }
    }

    async fn add_node(&mut self, id: i32, server: &Server, test: &str) {
        let database = fresh_database(server, &format!("{test}_n{id}")).await;
        let conninfo = server.conninfo(&database);
        let connection = Connection::open(&conninfo).await;
        connection.run("create extension hstore").await;
        self.nodes.push(Node { id, conninfo, database });
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// All nodes that are not given up.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Cuts node `id` off from everybody: its database takes no connections and loses those it has. Where nodes are databases of
    /// one server, that is what the loss of a server looks like to others.
    pub async fn close(&self, id: i32) {
        let database = quote_ident(&self.node(id).database);
        let admin = Connection::open(&self.admin_conninfo(id)).await;
        admin
            .run(&format!("alter database {database} with allow_connections false"))
            .await;
        // A connection that was just being made may come in behind the first round.
        let left = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1";
        wait_until("the database has no connections any more", PATIENCE, async || {
            let row = admin.query_one(left, &[&self.node(id).database]).await;
            match row.map_err(|error| error.to_string())?.get::<_, i64>(0) {
                0 => Ok(()),
                count => Err(format!("{count} are left")),
            }
        })
        .await;
    }

    /// The opposite of [`Self::close`].
    pub async fn reopen(&self, id: i32) {
        let database = quote_ident(&self.node(id).database);
        let admin = Connection::open(&self.admin_conninfo(id)).await;
        admin
            .run(&format!("alter database {database} with allow_connections true"))
            .await;
    }

    /// Ends every connection to the database of node `id`; new ones are let in.
    pub async fn disconnect_all(&self, id: i32) {
        let admin = Connection::open(&self.admin_conninfo(id)).await;
        let statement = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
        admin
            .query(statement, &[&self.node(id).database])
            .await
            .expect("a superuser may end connections");
    }

    fn admin_conninfo(&self, id: i32) -> String {
        let node = self.node(id);
        node.conninfo
            .replace(&format!("dbname={}", node.database), "dbname=postgres")
    }

    /// Gives a node up: it stays in the preamble, but is not waited for and not compared any more.
    pub fn lose(&mut self, id: i32) {
        let lost = self.nodes.extract_if(.., |node| node.id == id);
        self.lost.extend(lost);
    }

    /// Counts on a node again.
    pub fn regain(&mut self, id: i32) {
        let back = self.lost.extract_if(.., |node| node.id == id);
        self.nodes.extend(back);
        self.nodes.sort_by_key(|node| node.id);
    }

    /// Node `id`, given up or not.
    #[must_use]
    pub fn node(&self, id: i32) -> &Node {
        self.nodes
            .iter()
            .chain(&self.lost)
            .find(|node| node.id == id)
            .unwrap_or_else(|| panic!("there is no node {id}"))
    }

    /// The server of node `id` in a cluster made with [`Self::on_own_servers`].
    pub fn server(&self, id: i32) -> MutexGuard<'_, Server> {
        let index = usize::try_from(id - 1).expect("nodes count from 1");
        self.servers[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `client` reach `server` by another conninfo (a proxy, say) than the node's own. Before [`Self::establish`].
    pub fn path_through(&mut self, server: i32, client: i32, conninfo: &str) {
        self.paths.insert((server, client), conninfo.to_owned());
    }

    /// Makes slonik and slonctl reach node `id` by another conninfo than the node's own.
    pub fn admin_through(&mut self, id: i32, conninfo: &str) {
        self.admins.insert(id, conninfo.to_owned());
    }

    /// How slonik and slonctl reach a node.
    pub(crate) fn admin<'a>(&'a self, node: &'a Node) -> &'a str {
        self.admins.get(&node.id).unwrap_or(&node.conninfo)
    }

    /// A new connection to node `id`.
    pub async fn connect(&self, id: i32) -> Connection {
        Connection::open(&self.node(id).conninfo).await
    }

    /// Runs statements on node `id`.
    pub async fn run(&self, id: i32, sql: &str) {
        self.connect(id).await.run(sql).await;
    }

    /// Runs statements on all nodes.
    pub async fn run_on_all(&self, sql: &str) {
        for node in &self.nodes {
            self.run(node.id, sql).await;
        }
    }

    /// Fills in `@NAMESPACE@` and `@CLUSTER@`.
    #[must_use]
    pub fn sql(&self, template: &str) -> String {
        self.name.sql(template)
    }

    /// Cluster name and conninfos as slonik wants them first.
    #[must_use]
    pub fn preamble(&self) -> String {
        let mut text = format!("cluster name = {};\n", self.name.name());
        for node in self.nodes.iter().chain(&self.lost) {
            let conninfo = self.admins.get(&node.id).unwrap_or(&node.conninfo);
            let _ = writeln!(text, "node {} admin conninfo = {};", node.id, slonik_string(conninfo));
        }
        text
    }

    /// Runs our slonik on the preamble and `script`.
    pub async fn slonik(&self, script: &str) -> SlonikRun {
        run_slonik(&program("slonik"), &[], &format!("{}{script}", self.preamble())).await
    }

    /// As [`Self::slonik`], ended with `kill -9` after a time unless it has ended before.
    pub async fn slonik_killed_after(&self, time: Duration, script: &str) -> SlonikRun {
        let script = format!("{}{script}", self.preamble());
        run_slonik_until(&program("slonik"), &[], &script, Some(time)).await
    }

    /// The statements that make nodes 1..n a cluster with paths between all of them.
    #[must_use]
    pub fn establishing_script(&self) -> String {
        let mut script = "init cluster (id = 1, comment = 'node 1');\n".to_owned();
        for node in &self.nodes[1..] {
            let _ = writeln!(
                script,
                "store node (id = {0}, comment = 'node {0}', event node = 1);",
                node.id
            );
        }
        for server in &self.nodes {
            for client in self.nodes.iter().filter(|client| client.id != server.id) {
                let conninfo = self.paths.get(&(server.id, client.id)).unwrap_or(&server.conninfo);
                let _ = writeln!(
                    script,
                    "store path (server = {}, client = {}, conninfo = {}, connretry = 1);",
                    server.id,
                    client.id,
                    slonik_string(conninfo)
                );
            }
        }
        script
    }

    /// Makes the nodes a cluster with paths between all of them, and starts a slon for each.
    pub async fn establish(&self) {
        self.slonik(&self.establishing_script()).await.succeeds();
        for node in &self.nodes {
            self.start_slon(node.id);
        }
    }

    /// Creates set `set` with tables and sequences given as full names (`"schema"."name"`); ids count from `set` * 1000.
    pub async fn create_set(&self, set: i32, origin: i32, tables: &[&str], sequences: &[&str]) {
        let mut script = format!("create set (id = {set}, origin = {origin}, comment = 'set {set}');\n");
        for (id, table) in (set * 1000..).zip(tables) {
            let _ = writeln!(
                script,
                "set add table (set id = {set}, origin = {origin}, id = {id}, fully qualified name = {});",
                slonik_string(table)
            );
        }
        for (id, sequence) in (set * 1000..).zip(sequences) {
            let _ = writeln!(
                script,
                "set add sequence (set id = {set}, origin = {origin}, id = {id}, fully qualified name = {});",
                slonik_string(sequence)
            );
        }
        self.slonik(&script).await.succeeds();
    }

    /// Subscribes `receiver` to the set and returns when the copy is in and confirmed by all.
    pub async fn subscribe(&self, set: i32, origin: i32, provider: i32, receiver: i32) {
        self.slonik(&format!(
            "subscribe set (id = {set}, provider = {provider}, receiver = {receiver}, forward = yes);\n\
             wait for event (origin = {origin}, confirmed = all, wait on = {origin}, timeout = 120);\n"
        ))
        .await
        .succeeds();
    }

    /// Unsubscribes `receiver` and waits until all nodes know.
    pub async fn unsubscribe(&self, set: i32, receiver: i32) {
        self.slonik(&format!(
            "unsubscribe set (id = {set}, receiver = {receiver});\n\
             wait for event (origin = {receiver}, confirmed = all, wait on = {receiver}, timeout = 120);\n"
        ))
        .await
        .succeeds();
    }

    /// Moves the set and returns when all nodes know.
    pub async fn move_set(&self, set: i32, from: i32, to: i32) {
        self.slonik(&format!(
            "lock set (id = {set}, origin = {from});\n\
             move set (id = {set}, old origin = {from}, new origin = {to});\n\
             wait for event (origin = {from}, confirmed = all, wait on = {from}, timeout = 120);\n"
        ))
        .await
        .succeeds();
    }

    /// Starts our slon for node `id` with default options.
    pub fn start_slon(&self, id: i32) {
        self.start_slon_with(id, &[]);
    }

    /// Starts our slon for node `id` with more options, before cluster name and conninfo.
    pub fn start_slon_with(&self, id: i32, options: &[&str]) {
        self.start_slon_program(&program("slon"), id, options);
    }

    /// Starts a slon of any make for node `id`.
    pub fn start_slon_program(&self, program: &std::path::Path, id: i32, options: &[&str]) {
        let node = self.node(id);
        let mut arguments: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        arguments.extend([self.name.name().to_owned(), node.conninfo.clone()]);
        let slon = Slon::start(program, &format!("slon-{}", node.database), &arguments);
        let before = self.lock_slons().insert(id, slon);
        assert!(before.is_none(), "node {id} is served by a slon of this test already");
    }

    /// Gives `work` the slon of node `id`.
    pub fn with_slon<T>(&self, id: i32, work: impl FnOnce(&mut Slon) -> T) -> T {
        work(
            self.lock_slons()
                .get_mut(&id)
                .unwrap_or_else(|| panic!("node {id} has no slon")),
        )
    }

    /// Stops the slon of node `id` with SIGTERM.
    pub fn stop_slon(&self, id: i32) {
        let slon = self.lock_slons().remove(&id);
        slon.unwrap_or_else(|| panic!("node {id} has no slon")).stop();
    }

    /// `kill -9` of the slon of node `id`.
    pub fn kill_slon(&self, id: i32) {
        let slon = self.lock_slons().remove(&id);
        slon.unwrap_or_else(|| panic!("node {id} has no slon")).kill();
    }

    fn lock_slons(&self) -> MutexGuard<'_, BTreeMap<i32, Slon>> {
        self.slons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a SYNC on every node and waits until all active nodes have confirmed all of them: then everything that was
    /// committed before the call is applied everywhere.
    pub async fn caught_up(&self) {
        self.caught_up_within(PATIENCE).await;
    }

    /// As [`Self::caught_up`], with a time.
    pub async fn caught_up_within(&self, time: Duration) {
        let mut awaited = Vec::new();
        for node in &self.nodes {
            let connection = self.connect(node.id).await;
            connection
                .run(&format!("begin; lock table {}.sl_event_lock", self.name.namespace()))
                .await;
            let sync: i64 = connection
                .value(&self.sql("select @NAMESPACE@.createEvent(@CLUSTER@::name, 'SYNC')"))
                .await;
            connection.run("commit").await;
            awaited.push((node.id, sync, connection));
        }
        let statement = self.sql(
            "select format('%s at %s', n.no_id, max(c.con_seqno)) from @NAMESPACE@.sl_node n \
             left join @NAMESPACE@.sl_confirm c on c.con_received = n.no_id and c.con_origin = $1 \
             where n.no_active and n.no_id <> $1 group by n.no_id having coalesce(max(c.con_seqno), 0) < $2",
        );
        for (origin, sync, connection) in &awaited {
            let what = format!("SYNC {sync} of node {origin} confirmed by all active nodes");
            wait_until(&what, time, async || {
                let behind = connection
                    .query(&statement, &[origin, sync])
                    .await
                    .map_err(|error| error.to_string())?;
                let behind: Vec<String> = behind.iter().map(|row| row.get(0)).collect();
                if behind.is_empty() {
                    Ok(())
                } else {
                    Err(format!("nodes {}{}", behind.join(", "), self.troubles().await))
                }
            })
            .await;
        }
    }

    /// What the slons say they are stuck on.
    async fn troubles(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let Ok(connection) = Connection::try_open(&node.conninfo).await else {
                let _ = write!(text, "\nnode {} cannot be reached", node.id);
                continue;
            };
            let statement = self.sql("select tr_actor || ': ' || tr_message from @NAMESPACE@.tl_trouble");
            if let Ok(rows) = connection.query(&statement, &[]).await {
                for row in rows {
                    let _ = write!(text, "\nnode {}: {}", node.id, row.get::<_, String>(0));
                }
            }
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for slon in self.lock_slons().values() {
                eprintln!("{}", slon.last_words());
            }
        }
    }
}
