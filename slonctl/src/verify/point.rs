//! One moment of an origin and a subscriber: two transactions that show the same data while both nodes go on.
//!
//! Why it is the same data is told in `trunkline_sql::verification`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use trunkline_sql::copy::{self, SetSequence};
use trunkline_sql::verification::{self, MadeSync, Standing};
use trunkline_sql::{Cluster, Session};

use super::VerifyError;
use super::stuck::Watch;
use crate::console::Console;
use crate::view::ClusterView;

/// How often it is tried to stop the origin's events at one SYNC.
const ATTEMPTS: u32 = 20;
/// How long events are held up in the first attempt, in which the subscriber must come to the SYNC.
const FIRST_PATIENCE: Duration = Duration::from_millis(500);
/// The longest they are held up: a daemon of Slony looks only every ten seconds when it is idle.
const LAST_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long the operator is left alone with a subscriber that is behind.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// And how long from then on.
const LATER_WORDS: Duration = Duration::from_secs(10);

/// An origin and a subscriber, with the sessions to work on them.
pub(super) struct Pair {
    pub(super) cluster: Cluster,
    pub(super) origin: i32,
    pub(super) receiver: i32,
    pub(super) sets: Vec<i32>,
    /// Reads the origin.
    pub(super) source: Session,
    /// Reads, and repairs, the subscriber.
    pub(super) target: Session,
    maker: Session,
    gate: Session,
    /// Looks at the subscriber from outside of `target`'s transaction.
    lookout: Session,
    /// Nodes that hand the origin's events on to the subscriber, as far as they can be asked.
    between: Vec<(i32, Session)>,
    wait: Duration,
}

/// The moment: both sessions of the pair are in a transaction that sees it.
#[derive(Debug)]
pub(super) struct Point {
    /// The SYNC.
    pub(super) sync: i64,
    pub(super) opened: Instant,
    /// Sequences with their values on origin and subscriber, which are read while nothing moves.
    pub(super) sequences: Vec<SequencePair>,
}

/// A sequence at a point.
#[derive(Debug, Clone)]
pub(super) struct SequencePair {
    pub(super) set: i32,
    pub(super) sequence: SetSequence,
    pub(super) at_origin: i64,
    pub(super) at_receiver: i64,
}

/// What the subscriber's transaction is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// Reading.
    Compare,
    /// Writing to these tables, which slon must not touch meanwhile.
    Repair(&'a [String]),
    /// Setting the sequences that differ: at once, while no event can bring slon to set them.
    RepairSequences,
}

impl Pair {
    pub(super) async fn connect(
        view: &ClusterView,
        origin: i32,
        receiver: i32,
        sets: Vec<i32>,
        wait: Duration,
    ) -> Result<Self, VerifyError> {
        let open = async |node: i32| match view.connect(node).await {
            Some(session) if view.facts(node).is_some() => {
                session.map_err(|source| VerifyError::Connect { node, source })
            }
            _ => Err(VerifyError::Unreachable {
                node,
                reasons: view.node(node).map_or_else(Vec::new, |node| node.silence().to_vec()),
            }),
        };
        let mut between = Vec::new();
        for node in between_nodes(view, &sets, receiver) {
            if let Some(Ok(session)) = view.connect(node).await {
                between.push((node, session));
            }
        }
        Ok(Self {
            between,
            cluster: view.cluster.clone(),
            origin,
            receiver,
            sets,
            source: open(origin).await?,
            maker: open(origin).await?,
            gate: open(origin).await?,
            target: open(receiver).await?,
            lookout: open(receiver).await?,
            wait,
        })
    }

    /// Ends the transactions of a point.
    pub(super) async fn leave(&self) -> Result<(), VerifyError> {
        let done = |node| VerifyError::database(node, "ending a comparison");
        self.source.batch_execute("rollback").await.map_err(done(self.origin))?;
        self.target.batch_execute("rollback").await.map_err(done(self.receiver))
    }

    /// Brings both sessions to one SYNC. Waits for the subscriber as long as the operator allows.
    pub(super) async fn point(&self, purpose: Purpose<'_>) -> Result<Point, VerifyError> {
        let mut patience = FIRST_PATIENCE;
        for _ in 0..ATTEMPTS {
            // Nobody's events are held up for a subscriber that is far behind.
            self.await_sync(self.announce().await?).await?;
            match self.try_point(purpose, patience).await {
                Ok(Some(point)) => return Ok(point),
                Ok(None) => patience = (patience * 2).min(LAST_PATIENCE),
                Err(error) => {
                    self.abandon().await;
                    return Err(error);
                }
            }
            self.abandon().await;
        }
        Err(VerifyError::Restless {
            origin: self.origin,
            attempts: ATTEMPTS,
        })
    }

    /// Leaves all transactions, whatever state they are in.
    async fn abandon(&self) {
        for session in [&self.maker, &self.gate, &self.source, &self.target] {
            // A session that cannot do even that will say so when it is used next.
            let _ = session.batch_execute("rollback").await;
        }
    }

    /// Makes an ordinary SYNC and returns its number.
    async fn announce(&self) -> Result<i64, VerifyError> {
        let failed = VerifyError::database(self.origin, "making a SYNC");
        let sync = verification::make_sync(&self.maker, &self.cluster)
            .await
            .map_err(failed)?;
        self.maker.batch_execute("commit").await.map_err(failed)?;
        Ok(sync.seqno)
    }

    async fn await_sync(&self, sync: i64) -> Result<(), VerifyError> {
        let started = Instant::now();
        let mut pause = LOOK;
        let asked = self.between.iter().map(|(node, session)| (*node, session));
        let nodes = std::iter::once((self.receiver, &self.lookout)).chain(asked).collect();
        let mut watch = Watch::new(&self.cluster, self.origin, nodes);
        let mut told = FIRST_WORD;
        loop {
            let stands = self.stands(&self.standings().await?)?;
            if stands >= sync {
                return Ok(());
            }
            if started.elapsed() >= told {
                told = started.elapsed() + LATER_WORDS;
                Console::complain(&format!(
                    "waiting for node {} to apply SYNC {sync} of node {}; it stands at {stands}",
                    self.receiver, self.origin
                ));
            }
            if let Some(stuck) = watch.is_hopeless(stands).await {
                return Err(VerifyError::Stuck {
                    receiver: self.receiver,
                    sync,
                    stands,
                    stuck,
                    obstacles: watch.into_obstacles(),
                });
            }
            if started.elapsed() >= self.wait {
                watch.look().await;
                return Err(VerifyError::Behind {
                    origin: self.origin,
                    receiver: self.receiver,
                    sync,
                    stands,
                    waited: started.elapsed(),
                    obstacles: watch.into_obstacles(),
                });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    async fn standings(&self) -> Result<Vec<Standing>, VerifyError> {
        verification::standings(&self.lookout, &self.cluster, &self.sets)
            .await
            .map_err(VerifyError::database(self.receiver, "reading `sl_setsync`"))
    }

    /// The least position of the sets.
    fn stands(&self, standings: &[Standing]) -> Result<i64, VerifyError> {
        for set in &self.sets {
            let there = standings.iter().find(|standing| standing.set == *set);
            // During a move or failover the position is 0 until the new origin's first SYNC.
            if there.is_none_or(|standing| standing.origin != self.origin) {
                return Err(VerifyError::Moved {
                    set: *set,
                    origin: self.origin,
                    receiver: self.receiver,
                });
            }
        }
        Ok(standings.iter().map(|standing| standing.seqno).min().unwrap_or(0))
    }

    /// One attempt; None if the subscriber was not there in time, or another SYNC slipped in.
    async fn try_point(&self, purpose: Purpose<'_>, patience: Duration) -> Result<Option<Point>, VerifyError> {
        let at_origin = |what| VerifyError::database(self.origin, what);
        let at_receiver = |what| VerifyError::database(self.receiver, what);
        let Some(sync) = self.make_last_sync().await? else {
            return Ok(None);
        };
        let started = Instant::now();
        while self.stands(&self.standings().await?)? < sync.seqno {
            if started.elapsed() >= patience {
                return Ok(None);
            }
            sleep(LOOK).await;
        }
        match purpose {
            Purpose::Compare | Purpose::RepairSequences => self
                .target
                .batch_execute("begin isolation level repeatable read read only")
                .await
                .map_err(at_receiver("beginning a comparison"))?,
            Purpose::Repair(tables) => verification::begin_repair(&self.target, tables)
                .await
                .map_err(at_receiver("locking tables to repair"))?,
        }
        let standings = verification::standings(&self.target, &self.cluster, &self.sets)
            .await
            .map_err(at_receiver("reading `sl_setsync`"))?;
        self.stands(&standings)?;
        let exactly = standings
            .iter()
            .all(|standing| standing.seqno == sync.seqno && !standing.beyond);
        if !exactly {
            return Ok(None);
        }
        let sequences = self.sequences(&sync).await?;
        if matches!(purpose, Purpose::RepairSequences) {
            for pair in sequences.iter().filter(|pair| pair.at_origin != pair.at_receiver) {
                verification::set_sequence(&self.lookout, &self.cluster, pair.sequence.id, pair.at_origin)
                    .await
                    .map_err(at_receiver("setting a sequence"))?;
            }
        }
        self.gate
            .batch_execute("commit")
            .await
            .map_err(at_origin("letting events go on"))?;
        Ok(Some(Point {
            sync: sync.seqno,
            opened: Instant::now(),
            sequences,
        }))
    }

    /// Makes a SYNC that `source` sees, and after which the gate lets no other through; None if one slipped in.
    async fn make_last_sync(&self) -> Result<Option<MadeSync>, VerifyError> {
        let failed = VerifyError::database(self.origin, "making a SYNC");
        let sync = verification::make_sync(&self.maker, &self.cluster)
            .await
            .map_err(failed)?;
        verification::adopt_snapshot(&self.source, &sync)
            .await
            .map_err(failed)?;
        let closing = verification::close_gate(&self.gate, &self.cluster);
        let commit = async {
            // Only a gate that has queued before the SYNC commits comes right behind it.
            while !verification::waits_at_gate(&self.source, &self.cluster, self.gate.backend_pid()).await? {
                sleep(Duration::from_millis(1)).await;
            }
            self.maker.batch_execute("commit").await
        };
        let (closed, committed) = tokio::join!(closing, commit);
        committed.and(closed).map_err(failed)?;
        let newest = verification::newest_own_sync(&self.gate, &self.cluster)
            .await
            .map_err(failed)?;
        Ok((newest == sync.seqno).then_some(sync))
    }

    async fn sequences(&self, sync: &MadeSync) -> Result<Vec<SequencePair>, VerifyError> {
        let at_origin = VerifyError::database(self.origin, "reading sequences");
        let at_receiver = VerifyError::database(self.receiver, "reading sequences");
        // Not by `source`: what the SYNC's own transaction wrote is not in the SYNC's snapshot.
        let announced = verification::announced_sequences(&self.gate, &self.cluster, &self.sets, sync.seqno)
            .await
            .map_err(at_origin)?;
        let mut pairs = Vec::new();
        for set in &self.sets {
            let sequences = copy::sequences(&self.source, &self.cluster, *set)
                .await
                .map_err(at_origin)?;
            let values = copy::sequence_values(&self.target, &sequences)
                .await
                .map_err(at_receiver)?;
            for (sequence, at_receiver) in sequences.into_iter().zip(values) {
                // What was never announced cannot have arrived.
                if let Some((_, at_origin)) = announced.iter().find(|(id, _)| *id == sequence.id) {
                    pairs.push(SequencePair {
                        set: *set,
                        at_origin: *at_origin,
                        at_receiver,
                        sequence,
                    });
                }
            }
        }
        Ok(pairs)
    }
}

/// Who hands the sets on to `receiver`, without their origin.
fn between_nodes(view: &ClusterView, sets: &[i32], receiver: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for set in view.sets().iter().filter(|set| sets.contains(&set.id)) {
        let mut node = receiver;
        while let Some(own) = set.subscription(node).filter(|own| own.provider != set.origin) {
            node = own.provider;
            if !found.insert(node) {
                break;
            }
        }
    }
    found
}
