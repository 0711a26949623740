//! A TCP proxy with faults: between a slon and a server it cuts, stalls or refuses connections.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does to bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Pass,
    Stall,
    Refuse,
}

/// A listening proxy in front of one server; it ends when dropped.
pub struct Proxy {
    port: u16,
    mood: watch::Sender<Mood>,
    /// Bumped to cut all connections.
    cut: watch::Sender<u64>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of 127.0.0.1 and passes everything on to `port`.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let own_port = listener.local_addr().expect("bound").port();
        let (mood, moods) = watch::channel(Mood::Pass);
        let (cut, cuts) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *moods.borrow() == Mood::Refuse {
                    continue; // dropped: the client sees a closed connection
                }
                tokio::spawn(pass_on(client, port, moods.clone(), cuts.clone()));
            }
        });
        Self {
            port: own_port,
            mood,
            cut,
            accepting,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `conninfo` with the proxy's port instead of the server's.
    #[must_use]
    pub fn conninfo(&self, conninfo: &str) -> String {
        let words = conninfo.split(' ').map(|word| {
            if word.starts_with("port=") {
                format!("port={}", self.port)
            } else {
                word.to_owned()
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Closes all connections; new ones are let through.
    pub fn cut(&self) {
        self.cut.send_modify(|times| *times += 1);
    }

    /// Holds all bytes back, connections stay open: a network that swallows packets.
    pub fn stall(&self) {
        self.mood.send_replace(Mood::Stall);
    }

    /// Closes all connections and lets no new one through.
    pub fn refuse(&self) {
        self.mood.send_replace(Mood::Refuse);
        self.cut();
    }

    /// Back to normal.
    pub fn mend(&self) {
        self.mood.send_replace(Mood::Pass);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn pass_on(client: TcpStream, port: u16, moods: watch::Receiver<Mood>, mut cuts: watch::Receiver<u64>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let moods = Arc::new(moods);
    tokio::select! {
        () = pump(from_client, to_server, moods.clone()) => {}
        () = pump(from_server, to_client, moods.clone()) => {}
        _ = cuts.changed() => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    moods: Arc<watch::Receiver<Mood>>,
) {
    let mut moods = (*moods).clone();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if moods.wait_for(|mood| *mood != Mood::Stall).await.is_err() || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}
