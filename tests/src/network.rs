//! A network with faults: a proxy on each way between two nodes, and on each way from slonik and slonctl to a node.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Cluster, Proxy};

/// The ways between the nodes of a cluster, and the administrator's to each. Clients of a node have their own ways, which do not break.
pub struct Network {
    /// Those between nodes by (server, client); the administrator is client 0.
    ways: BTreeMap<(i32, i32), Proxy>,
}

impl Network {
    /// Lays the ways. Before [`Cluster::establish`].
    pub async fn around(cluster: &mut Cluster) -> Self {
        let mut ways = BTreeMap::new();
        let nodes = cluster.nodes().to_vec();
        for server in &nodes {
            let port = server
                .conninfo
                .split(' ')
                .find_map(|word| word.strip_prefix("port="))
                .and_then(|port| port.parse().ok())
                .expect("a node is reached by its port");
            for client in std::iter::once(0).chain(nodes.iter().map(|node| node.id)) {
                if client == server.id {
                    continue;
                }
                let way = Proxy::to(port).await;
                let conninfo = way.conninfo(&server.conninfo);
                if client == 0 {
                    cluster.admin_through(server.id, &conninfo);
                } else {
                    cluster.path_through(server.id, client, &conninfo);
                }
                ways.insert((server.id, client), way);
            }
        }
        Self { ways }
    }

    /// The ways to and from a node.
    fn of(&self, node: i32) -> impl Iterator<Item = &Proxy> {
        let ways = self.ways.iter();
        ways.filter(move |((server, client), _)| *server == node || *client == node)
            .map(|(_, way)| way)
    }

    /// Connections of the node to others and from others end, and none comes about.
    pub fn cut_off(&self, node: i32) {
        self.of(node).for_each(Proxy::refuse);
    }

    /// Packets to and from the node are swallowed; connections stay open.
    pub fn swallow(&self, node: i32) {
        self.of(node).for_each(Proxy::stall);
    }

    /// Connections to and from the node end with a reset; new ones are let through.
    pub fn reset(&self, node: i32) {
        self.of(node).for_each(Proxy::reset);
    }

    /// Everything to and from the node takes so much longer.
    pub fn slow_down(&self, node: i32, delay: Duration) {
        self.of(node).for_each(|way| way.slow(delay));
    }

    /// Back to normal; what was held back arrives. A way that leads to another node in trouble is mended as well: networks heal
    /// in parts.
    pub fn mend(&self, node: i32) {
        self.of(node).for_each(Proxy::mend);
    }
}
