//! What breaks while something runs, and how it is mended.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::{Cluster, Network};

/// How much longer everything takes in a slow network, per piece that is sent.
const SLOW: Duration = Duration::from_millis(60);

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// Nothing at all.
    Nothing,
    /// `kill -9` of its slon, which is started again.
    SlonKilled,
    /// Its slon is stopped with SIGSTOP for a while.
    SlonFrozen,
    /// Every connection to its database is ended.
    Disconnected,
    /// It is cut off: connections end and none comes about.
    Dropped,
    /// Connections to and from it end with a reset.
    Reset,
    /// Packets are held back for a while and arrive then.
    Stalled,
    /// Packets are swallowed; afterwards the other side has forgotten the connections.
    HalfOpen,
    /// Everything to and from it is slow.
    Slow,
    /// `kill -9` of all of its server, which is started again.
    ServerKilled,
    /// SIGQUIT to its server, which is started again.
    ServerQuit,
    /// All of its server is stopped with SIGSTOP for a while.
    ServerFrozen,
}

impl Blow {
    /// Those that any cluster can take.
    pub const PROCESSES: [Self; 4] = [Self::Nothing, Self::SlonKilled, Self::SlonFrozen, Self::Disconnected];
    /// Those that need a [`Network`].
    pub const NETWORK: [Self; 5] = [Self::Dropped, Self::Reset, Self::Stalled, Self::HalfOpen, Self::Slow];
    /// Those that need a cluster with servers of its own.
    pub const SERVERS: [Self; 3] = [Self::ServerKilled, Self::ServerQuit, Self::ServerFrozen];
}

/// A blow to a node, when, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// What.
    pub blow: Blow,
    /// To which node.
    pub node: i32,
    /// How long after the beginning.
    pub after: Duration,
    /// How long until it is mended.
    pub lasts: Duration,
}

impl Fault {
    /// One of `blows` to one of `nodes`, within so many milliseconds.
    pub fn random(random: &mut StdRng, blows: &[Blow], nodes: &[i32], within: u64) -> Self {
        Self {
            blow: *blows.choose(random).expect("there are blows"),
            node: *nodes.choose(random).expect("there are nodes"),
            after: Duration::from_millis(random.random_range(0..within)),
            lasts: Duration::from_millis(random.random_range(50..800)),
        }
    }

    /// Waits for its time, breaks it, and mends it after a while.
    pub async fn happen(self, cluster: &Cluster, network: Option<&Network>) {
        tokio::time::sleep(self.after).await;
        self.strike(cluster, network).await;
        tokio::time::sleep(self.lasts).await;
        self.mend(cluster, network);
    }

    /// Breaks it now.
    pub async fn strike(self, cluster: &Cluster, network: Option<&Network>) {
        let network = || network.expect("the ways between the nodes can break");
        let node = self.node;
        match self.blow {
            Blow::Nothing => {}
            Blow::SlonKilled => cluster.kill_slon(node),
            Blow::SlonFrozen => cluster.with_slon(node, |slon| slon.signal(Signal::SIGSTOP)),
            Blow::Disconnected => cluster.disconnect_all(node).await,
            Blow::Dropped => network().cut_off(node),
            Blow::Reset => network().reset(node),
            Blow::Stalled | Blow::HalfOpen => network().swallow(node),
            Blow::Slow => network().slow_down(node, SLOW),
            Blow::ServerKilled => cluster.server(node).kill(),
            Blow::ServerQuit => cluster.server(node).quit(),
            Blow::ServerFrozen => cluster.server(node).freeze(),
        }
    }

    /// Mends it.
    pub fn mend(self, cluster: &Cluster, network: Option<&Network>) {
        let node = self.node;
        match self.blow {
            Blow::Nothing | Blow::Disconnected | Blow::Reset => {}
            Blow::SlonKilled => cluster.start_slon(node),
            Blow::SlonFrozen => cluster.with_slon(node, |slon| slon.signal(Signal::SIGCONT)),
            Blow::Dropped | Blow::Stalled | Blow::HalfOpen | Blow::Slow => {
                let network = network.expect("the ways between the nodes have been broken");
                if self.blow == Blow::HalfOpen {
                    network.reset(node);
                }
                network.mend(node);
            }
            Blow::ServerKilled | Blow::ServerQuit => cluster
                .server(node)
                .start()
                .unwrap_or_else(|error| panic!("node {node}: {error}")),
            Blow::ServerFrozen => cluster.server(node).thaw(),
        }
    }
}
