//! `lock set`: several of one `try` block are executed together.
//!
//! Each of them commits by itself, so that it is in force before anybody waits. Taken one after the other they would keep
//! applications from some tables while waiting for them at others, and the sets would have to be waited for one by one.

use std::collections::BTreeMap;

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Blocker, Locks};

use crate::failure::Failure;
use crate::interpreter::Interpreter;
use crate::progress::{Announcements, Pace, duration_text};

/// Most sessions named at a time.
const BLOCKERS: usize = 10;

/// Sets that were locked together on one node.
struct Locked {
    origin: Id,
    sets: Vec<Id>,
    /// First transaction id that was not assigned when they were locked.
    next: i64,
    /// Whether the node lets a set move while transactions of other databases are open. One of the original does not.
    only_own_database: bool,
}

impl Locked {
    /// `set 1` or `sets 1, 2`.
    fn names(&self) -> String {
        let sets: Vec<String> = self.sets.iter().map(ToString::to_string).collect();
        format!("set{} {}", if sets.len() == 1 { "" } else { "s" }, sets.join(", "))
    }
}

impl Interpreter<'_> {
    /// Locks the set against writes, in a transaction of its own, and waits until every older transaction has ended:
    /// only then nothing can be written any more that the lock did not see.
    ///
    /// In a `try` block this takes all `lock set` statements that are still to come, which then have nothing left to do.
    pub(super) async fn lock_set(&mut self, id: Id, origin: Id) -> Result<(), Failure> {
        let mut wanted = std::mem::take(&mut self.locks_ahead);
        if wanted.is_empty() && self.block.in_try() {
            // It was locked together with an earlier one.
            return Ok(());
        }
        if wanted.is_empty() {
            wanted.push((id, origin));
        }
        let mut by_origin: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for (set, origin) in wanted {
            let sets = by_origin.entry(origin).or_default();
            if !sets.contains(&set) {
                sets.push(set);
            }
        }
        for origin in by_origin.keys() {
            if self.connections.in_transaction(*origin) {
                return Err(Failure::Plain(
                    "cannot lock set - admin connection already in transaction".to_owned(),
                ));
            }
            self.must_be_itself(*origin).await?;
        }
        let mut locked = Vec::new();
        for (origin, sets) in by_origin {
            locked.push(self.lock_sets(origin, sets).await?);
        }
        self.wait_for_older_transactions(locked).await
    }

    async fn lock_sets(&mut self, origin: Id, sets: Vec<Id>) -> Result<Locked, Failure> {
        // Without the event lock that a `try` block begins with: slon goes on making events while this waits.
        self.connections.begin(origin, false).await?;
        self.connections.lock(origin, Locks::Config).await?;
        for call in self.calls_that_lock(origin, &sets).await? {
            self.connections.run(origin, &call).await?;
        }
        self.connections.commit(origin).await?;
        for set in &sets {
            self.aftermath.locked(*set, origin);
        }
        let mut locked = Locked {
            origin,
            sets,
            next: 0,
            only_own_database: false,
        };
        // Asked after the commit: the horizon then lies behind the lock, and so does every transaction that began
        // before it. Asked earlier, it may lie before transactions that are running.
        let session = self.connections.session(origin).await?;
        locked.next = admin::transaction_horizon(session)
            .await
            .map_err(|error| still_locked(&locked, &error))?
            .next;
        locked.only_own_database = admin::locks_sets_together(session, &self.cluster)
            .await
            .map_err(|error| still_locked(&locked, &error))?;
        Ok(locked)
    }

    /// One call for all sets, where the node has it: a node of the original locks one set after the other.
    async fn calls_that_lock(&mut self, origin: Id, sets: &[Id]) -> Result<Vec<admin::Call>, Failure> {
        if let [set] = sets {
            return Ok(vec![admin::lock_set(&self.cluster, *set)]);
        }
        let asks = self
            .connections
            .rehearsal()
            .is_none_or(|rehearsal| rehearsal.is_installed(origin));
        let session = self.connections.session(origin).await?;
        let together = !asks
            || admin::locks_sets_together(session, &self.cluster)
                .await
                .map_err(Failure::of_query("can sets be locked together"))?;
        Ok(if together {
            vec![admin::lock_sets(&self.cluster, sets)]
        } else {
            sets.iter().map(|set| admin::lock_set(&self.cluster, *set)).collect()
        })
    }

    /// Before a set moves: whoever wrote before it was locked must have ended. `lock set` has waited for that, unless it was
    /// stopped while it did, or another program locked the set.
    pub(super) async fn wait_for_writers(&mut self, set: Id, origin: Id) -> Result<(), Failure> {
        if !self.options.automatic_waits || self.connections.rehearses() {
            return Ok(());
        }
        self.must_be_itself(origin).await?;
        let cluster = self.cluster.clone();
        let (mut pace, mut announcements) = (Pace::new(), Announcements::new());
        loop {
            let session = self.connections.session(origin).await?;
            let open = admin::writers_before_lock(session, &cluster, set)
                .await
                .map_err(Failure::of_query(&format!(
                    "transactions older than the lock of set {set}"
                )))?;
            if open.is_empty() {
                return Ok(());
            }
            if let Some(elapsed) = announcements.due() {
                let waited = duration_text(elapsed);
                self.report.say(&format!(
                    "`move set` waits for {waited} for transactions on node {origin} that began before the lock of set {set}"
                ));
                self.name(&open);
            }
            pace.pause(None).await;
        }
    }

    /// One wait for all of them.
    async fn wait_for_older_transactions(&mut self, mut locked: Vec<Locked>) -> Result<(), Failure> {
        if self.connections.rehearses() {
            return self.rehearse_older_transactions(&locked).await;
        }
        let (mut pace, mut announcements) = (Pace::new(), Announcements::new());
        loop {
            let mut open = Vec::new();
            for one in locked {
                let session = self.connections.session(one.origin).await?;
                let wait = if one.only_own_database {
                    let writers = admin::older_writers(session, one.next).await;
                    writers.map(|writers| !writers.is_empty())
                } else {
                    let horizon = admin::transaction_horizon(session).await;
                    horizon.map(|horizon| horizon.oldest < one.next)
                };
                if wait.map_err(|error| still_locked(&one, &error))? {
                    open.push(one);
                }
            }
            if open.is_empty() {
                return Ok(());
            }
            if let Some(elapsed) = announcements.due() {
                let waited = duration_text(elapsed);
                for one in &open {
                    self.report.say(&format!(
                        "waiting for {waited} for transactions on node {} that began before the lock of {}",
                        one.origin,
                        one.names()
                    ));
                    self.name_older_transactions(one).await?;
                }
            }
            locked = open;
            pace.pause(None).await;
        }
    }

    /// Who they are.
    async fn name_older_transactions(&mut self, locked: &Locked) -> Result<(), Failure> {
        let session = self.connections.session(locked.origin).await?;
        let blockers = if locked.only_own_database {
            admin::older_writers(session, locked.next).await
        } else {
            admin::older_transactions(session, locked.next).await
        };
        let blockers = blockers.unwrap_or_default();
        self.name(&blockers);
        Ok(())
    }

    fn name(&self, blockers: &[Blocker]) {
        for blocker in blockers.iter().take(BLOCKERS) {
            self.report.say(&format!("  {blocker}"));
        }
        if blockers.len() > BLOCKERS {
            self.report.say(&format!("  and {} more", blockers.len() - BLOCKERS));
        }
    }

    /// In a plan: the wait, and who would be waited for now.
    async fn rehearse_older_transactions(&mut self, locked: &[Locked]) -> Result<(), Failure> {
        for one in locked {
            self.note_wait(
                one.origin,
                format!(
                    "every transaction has ended that began before the lock of {}",
                    one.names()
                ),
            );
            self.name_older_transactions(one).await?;
        }
        Ok(())
    }
}

fn still_locked(locked: &Locked, error: &tokio_postgres::Error) -> Failure {
    Failure::Refused(format!(
        "the lock of {} of node {} is in force, but it is not known whether older transactions have ended ({}); `unlock set` opens it \
         again",
        locked.names(),
        locked.origin,
        trunkline_sql::error_text(error)
    ))
}
