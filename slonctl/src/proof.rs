//! After a change of roles: seen, not assumed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use trunkline_sql::operator::{self, Probe, SequencePosition};
use trunkline_sql::{Session, admin, error_text};

use crate::cli::with_causes;
use crate::console::Console;
use crate::script::Script;
use crate::verify::{self, Extent};
use crate::view::{ClusterView, SetStanding};

/// Between two looks at who has confirmed.
const PAUSE: Duration = Duration::from_millis(50);

/// What has to be proved.
pub(crate) struct Proof<'a> {
    pub(crate) view: &'a ClusterView,
    /// The sets as they stood before.
    pub(crate) sets: &'a [SetStanding],
    /// The former origin, if it still answers.
    pub(crate) old: Option<i32>,
    pub(crate) new: i32,
    /// How long to wait for the subscribers.
    pub(crate) settle: Duration,
    /// How much of the subscribers' tables is compared.
    pub(crate) extent: Extent,
    /// Nodes that nothing is expected of.
    pub(crate) failed: &'a [i32],
    pub(crate) console: &'a Console,
}

impl Proof<'_> {
    /// Gathers it; true if everything holds.
    pub(crate) async fn gather(&self) -> bool {
        let mut holds = accepts_writes(self.view, self.sets, self.new, self.console).await;
        if let Some(old) = self.old {
            holds &= self.refuses_writes(old).await;
            holds &= self.sequences_went_along(old).await;
        }
        match self.subscribers_are_level().await {
            Some(level) => holds & self.subscribers_are_equal(&level).await,
            None => false,
        }
    }

    fn tell(&self, node: i32, holds: bool, text: &str) -> bool {
        tell(self.console, node, holds, text)
    }

    async fn refuses_writes(&self, old: i32) -> bool {
        let mut holds = true;
        for set in self.sets {
            holds &= match try_write(self.view, old, set.id).await {
                Ok(probe) => {
                    let refuses = probe.accepts() == Some(false) || probe == Probe::NoTables;
                    self.tell(old, refuses, &format!("set {}: {probe}", set.id))
                }
                Err(reason) => self.tell(old, false, &format!("set {}: {reason}", set.id)),
            };
        }
        holds
    }

    /// No sequence of the new origin may give a number again that the old one has given.
    async fn sequences_went_along(&self, old: i32) -> bool {
        let ids: Vec<i32> = self.sets.iter().map(|set| set.id).collect();
        let cluster = &self.view.cluster;
        let read = async || -> Result<(Vec<SequencePosition>, Vec<SequencePosition>), String> {
            let failed = |error: tokio_postgres::Error| error_text(&error);
            let before = session(self.view, old).await?;
            let before = operator::sequence_positions_handed_over(&before, cluster, old, &ids).await;
            let now = session(self.view, self.new).await?;
            let now = operator::sequence_positions(&now, cluster, &ids).await;
            Ok((before.map_err(failed)?, now.map_err(failed)?))
        };
        let (here, there) = match read().await {
            Ok(positions) => positions,
            Err(reason) => return self.tell(self.new, false, &format!("sequences cannot be compared: {reason}")),
        };
        let behind: Vec<String> = here
            .iter()
            .filter(|before| !there.iter().any(|now| now.id == before.id && !now.is_behind(before)))
            .map(|before| before.name.clone())
            .collect();
        if here.is_empty() {
            return true;
        }
        if behind.is_empty() {
            return self.tell(self.new, true, &format!("all sequences ({}) went along", here.len()));
        }
        self.tell(
            self.new,
            false,
            &format!("sequences behind those of node {old}: {}", behind.join(", ")),
        )
    }

    /// Every subscriber that can be reached has applied everything up to one SYNC of the new origin, made just now: those
    /// nodes. None: not proved.
    async fn subscribers_are_level(&self) -> Option<BTreeSet<i32>> {
        let (mut open, silent): (BTreeSet<i32>, BTreeSet<i32>) = self
            .sets
            .iter()
            .flat_map(|set| set.subscriptions.iter().map(|subscription| subscription.receiver))
            .chain(self.old)
            .filter(|node| *node != self.new && !self.failed.contains(node))
            .partition(|node| self.view.facts(*node).is_some());
        // Nothing is claimed of a node that was not there to be asked.
        let except = if silent.is_empty() {
            String::new()
        } else {
            let silent: Vec<i32> = silent.iter().copied().collect();
            format!("; not looked at, because out of reach: {}", list(&silent))
        };
        if open.is_empty() {
            return Some(open);
        }
        let level = open.clone();
        let not_proved = |text: &str| {
            self.tell(self.new, false, text);
            None
        };
        let mut script: Script<()> = Script::new(self.view, [self.new]);
        script.line(Some(self.new), format!("sync (id = {});", self.new));
        if !script.run(self.console).execute().await {
            return not_proved("no SYNC could be made, see above");
        }
        let session = match session(self.view, self.new).await {
            Ok(session) => session,
            Err(reason) => return not_proved(&reason),
        };
        let cluster = &self.view.cluster;
        let sync = match admin::highest_event_of(&session, cluster, self.new).await {
            Ok(sync) => sync.unwrap_or(0),
            Err(error) => return not_proved(&error_text(&error)),
        };
        let deadline = Instant::now() + self.settle;
        let mut last = String::new();
        loop {
            match admin::confirmations_of(&session, cluster, &[self.new]).await {
                Ok(known) => {
                    let before = open.len();
                    open.retain(|node| !known.iter().any(|known| known.node == *node && known.has(sync)));
                    if open.len() < before && open.is_empty() {
                        let who = if silent.is_empty() {
                            "all subscribers"
                        } else {
                            "all other subscribers"
                        };
                        self.tell(
                            self.new,
                            true,
                            &format!("{who} have applied everything up to its event {sync}{except}"),
                        );
                        return Some(level);
                    }
                }
                Err(error) => last = error_text(&error),
            }
            if Instant::now() >= deadline {
                let nodes: Vec<i32> = open.iter().copied().collect();
                return not_proved(&format!(
                    "node {} has not confirmed event {sync} within {} s {last}",
                    list(&nodes),
                    self.settle.as_secs()
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    /// The subscribers have the new origin's rows, compared at one and the same SYNC; as far as the time allows.
    async fn subscribers_are_equal(&self, level: &BTreeSet<i32>) -> bool {
        let budget = match self.extent {
            Extent::None => return true,
            Extent::All => None,
            Extent::Within(time) => Some(Instant::now() + time),
        };
        let mut holds = true;
        for (done, node) in level.iter().enumerate() {
            let sets: Vec<i32> = self
                .sets
                .iter()
                .filter(|set| {
                    let copied = set.subscription(*node).is_some_and(|own| own.active);
                    copied || Some(*node) == self.old
                })
                .map(|set| set.id)
                .collect();
            if sets.is_empty() {
                continue;
            }
            // What one subscriber does not need of its share is for the others.
            let share = budget.map(|end| {
                let left = end.saturating_duration_since(Instant::now());
                left / u32::try_from(level.len() - done).unwrap_or(1)
            });
            let glance = match verify::glance(self.view, self.new, *node, sets, share).await {
                Ok(glance) => glance,
                Err(error) => {
                    holds = self.tell(
                        *node,
                        false,
                        &format!("its rows cannot be compared: {}", with_causes(&error)),
                    );
                    continue;
                }
            };
            if let Some(text) = glance.compared(self.new, *node) {
                holds &= self.tell(*node, glance.is_equal(), &text);
            }
            if let Some(text) = glance.left(*node) {
                self.console.event(Some(*node), "not_compared", &text);
            }
        }
        holds
    }
}

/// Shows by a write that is rolled back that `node` takes writes to all the sets.
pub(crate) async fn accepts_writes(view: &ClusterView, sets: &[SetStanding], node: i32, console: &Console) -> bool {
    let mut holds = true;
    for set in sets {
        holds &= match try_write(view, node, set.id).await {
            // What an application's own trigger said is no refusal of the cluster.
            Ok(probe) => tell(
                console,
                node,
                probe.accepts() != Some(false),
                &format!("set {}: {probe}", set.id),
            ),
            Err(reason) => tell(console, node, false, &format!("set {}: {reason}", set.id)),
        };
    }
    holds
}

/// Says whether something holds, as `proved` or `NOT PROVED`; passes it on.
pub(crate) fn tell(console: &Console, node: i32, holds: bool, text: &str) -> bool {
    let (kind, word) = if holds {
        ("proof", "proved")
    } else {
        ("disproof", "NOT PROVED")
    };
    console.event(Some(node), kind, &format!("{word}: {text}"));
    holds
}

async fn try_write(view: &ClusterView, node: i32, set: i32) -> Result<Probe, String> {
    let session = session(view, node).await?;
    operator::probe_write(&session, &view.cluster, set)
        .await
        .map_err(|error| error_text(&error))
}

/// A fresh session: the one of the first look may have broken meanwhile, and plans cached in it may be out of date.
async fn session(view: &ClusterView, node: i32) -> Result<Session, String> {
    match view.connect(node).await {
        Some(Ok(session)) => Ok(session),
        Some(Err(error)) => Err(error.to_string()),
        None => Err(format!("no way to node {node} is known")),
    }
}

/// `1, 2`.
pub(crate) fn list(numbers: &[i32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
