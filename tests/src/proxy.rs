//! A TCP proxy with faults: between a slon and a server it cuts, resets, stalls, slows down or refuses connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does to bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Pass,
    Stall,
    Refuse,
    /// Each piece of up to 64 kB waits so long.
    Slow(Duration),
}

/// A listening proxy in front of one server; it ends when dropped.
pub struct Proxy {
    port: u16,
    mood: watch::Sender<Mood>,
    /// Bumped to cut all connections.
    cut: watch::Sender<u64>,
    /// Bumped to reset all connections.
    reset: watch::Sender<u64>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of 127.0.0.1 and passes everything on to `port`.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let own_port = listener.local_addr().expect("bound").port();
        let (mood, moods) = watch::channel(Mood::Pass);
        let (cut, cuts) = watch::channel(0);
        let (reset, resets) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *moods.borrow() == Mood::Refuse {
                    continue; // dropped: the client sees a closed connection
                }
                // Only what comes from now on is about this connection.
                let (mut cuts, mut resets): (watch::Receiver<u64>, watch::Receiver<u64>) =
                    (cuts.clone(), resets.clone());
                cuts.mark_unchanged();
                resets.mark_unchanged();
                tokio::spawn(pass_on(client, port, moods.clone(), cuts, resets));
            }
        });
        Self {
            port: own_port,
            mood,
            cut,
            reset,
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

    /// Ends all connections with a reset, as a host does that has forgotten them; new ones are let through.
    pub fn reset(&self) {
        self.reset.send_modify(|times| *times += 1);
    }

    /// Delays everything.
    pub fn slow(&self, delay: Duration) {
        self.mood.send_replace(Mood::Slow(delay));
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

async fn pass_on(
    client: TcpStream,
    port: u16,
    moods: watch::Receiver<Mood>,
    mut cuts: watch::Receiver<u64>,
    mut resets: watch::Receiver<u64>,
) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let moods = Arc::new(moods);
    let reset = tokio::select! {
        () = pump(&mut from_client, &mut to_server, moods.clone()) => false,
        () = pump(&mut from_server, &mut to_client, moods.clone()) => false,
        _ = cuts.changed() => false,
        _ = resets.changed() => true,
    };
    if reset {
        // Closed without lingering, a connection is reset.
        let _ = from_client.as_ref().set_zero_linger();
        let _ = from_server.as_ref().set_zero_linger();
    }
}

async fn pump(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    moods: Arc<watch::Receiver<Mood>>,
) {
    let mut moods = (*moods).clone();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let Ok(mood) = moods.wait_for(|mood| *mood != Mood::Stall).await.map(|mood| *mood) else {
            return;
        };
        if let Mood::Slow(delay) = mood {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
