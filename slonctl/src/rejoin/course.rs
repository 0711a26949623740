//! The steps of a return.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use trunkline_sql::admin::{self, Call, Serving};
use trunkline_sql::configuration::PathRow;
use trunkline_sql::rejoin::{self, Failover, Progress};
use trunkline_sql::{Session, trouble};

use super::gone::Gone;
use super::{RejoinArguments, RejoinError, list, saved};
use crate::console::Console;
use crate::lost::{Losses, LostError};
use crate::view::ClusterView;

/// Between two looks at what slons do.
const LOOK: Duration = Duration::from_millis(50);
/// Between two lines about a copy that goes on.
const PROGRESS: Duration = Duration::from_secs(5);

/// A return under way.
pub(super) struct Course<'a> {
    pub(super) arguments: &'a RejoinArguments,
    pub(super) console: &'a Console,
    pub(super) view: ClusterView,
    pub(super) node: i32,
    /// The node whose configuration counts, and that makes the events.
    event_node: i32,
    /// Transactions only the node had.
    pub(super) lost: usize,
    /// Files they were saved to.
    pub(super) saved: Vec<PathBuf>,
    /// The node's share of sets that are gone.
    gone: Gone,
    /// The failover that gave it up, where somebody remembers it.
    failover: Option<Failover>,
}

impl<'a> Course<'a> {
    /// Finds who is needed.
    pub(super) fn begin(
        arguments: &'a RejoinArguments,
        console: &'a Console,
        view: ClusterView,
    ) -> Result<Self, RejoinError> {
        let node = arguments.node;
        if view.facts(node).is_none() {
            return Err(RejoinError::Unreachable {
                node,
                comes_back: true,
                reasons: view.node(node).map_or_else(Vec::new, |view| view.silence().to_vec()),
            });
        }
        let others: Vec<i32> = view
            .witnesses()
            .map(|facts| facts.local)
            .filter(|id| *id != node)
            .collect();
        let origins: Vec<i32> = view.sets().iter().map(|set| set.origin).collect();
        // The origin of a set first: a new subscription is its business.
        let event_node = others
            .iter()
            .find(|id| origins.contains(id))
            .or(others.first())
            .copied()
            .ok_or(RejoinError::Alone)?;
        let course = Self {
            arguments,
            console,
            view,
            node,
            event_node,
            lost: 0,
            saved: Vec::new(),
            gone: Gone::default(),
            failover: None,
        };
        if !course.is_outside()
            && let Some(set) = course.view.sets().into_iter().find(|set| set.origin == node)
        {
            return Err(RejoinError::IsOrigin { node, set: set.id });
        }
        Ok(course)
    }

    /// Whether the others have failed the node over, dropped it or forgotten it.
    pub(super) fn is_outside(&self) -> bool {
        self.view.outcast(self.node).is_some()
    }

    async fn connect(&self, node: i32) -> Result<Session, RejoinError> {
        match self.view.connect(node).await {
            Some(session) => session.map_err(|source| RejoinError::Connect { node, source }),
            None => Err(RejoinError::Unreachable {
                node,
                comes_back: node == self.node,
                reasons: Vec::new(),
            }),
        }
    }

    /// Nodes of the cluster but the one that comes back, by the event node's word.
    fn others(&self) -> Vec<i32> {
        self.view.facts(self.event_node).map_or_else(Vec::new, |facts| {
            facts
                .nodes
                .iter()
                .filter(|node| node.id != self.node && node.active && !node.failed)
                .map(|node| node.id)
                .collect()
        })
    }

    /// Keeps writers out of the sets that the node takes for its own.
    pub(super) async fn fence(&self) -> Result<(), RejoinError> {
        let node = self.node;
        let session = self.connect(node).await?;
        let failed = RejoinError::database(node, "fencing");
        if !rejoin::can_return(&session, &self.view.cluster).await.map_err(failed)? {
            return Err(RejoinError::OldFunctions(node));
        }
        let current = self.view.sets();
        let own: Vec<i32> = self.view.facts(node).map_or_else(Vec::new, |facts| {
            facts
                .sets
                .iter()
                .filter(|set| set.origin == node)
                .map(|set| set.id)
                .collect()
        });
        for set in own {
            let origin = current
                .iter()
                .find(|now| now.id == set)
                .map_or(self.event_node, |now| now.origin);
            let mut fenced = rejoin::fence(&session, &self.view.cluster, set, origin).await;
            if is_lock_timeout(fenced.as_ref().err()) {
                if !self.arguments.end_writers {
                    return Err(RejoinError::Writers { node, set });
                }
                for line in rejoin::end_writers(&session, &self.view.cluster, set)
                    .await
                    .map_err(failed)?
                {
                    self.console.step(Some(node), &format!("ended a writer: {line}"));
                }
                fenced = rejoin::fence(&session, &self.view.cluster, set, origin).await;
            }
            fenced.map_err(failed)?;
            self.console.step(
                Some(node),
                &format!("set {set} takes no writes here any more; node {origin} is its origin"),
            );
        }
        Ok(())
    }

    /// Saves what only this node has; afterwards its log may go.
    pub(super) async fn save_losses(&mut self) -> Result<(), RejoinError> {
        let losses = match Losses::find(&self.view, self.node).await {
            Ok(losses) => losses,
            Err(LostError::NoFailover { .. }) => {
                self.console.step(
                    Some(self.node),
                    "no node remembers a failover of it: it was dropped, and nothing says that it had changes of its own",
                );
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let (summary, files) = saved::save(&losses, &self.arguments.save, self.view.cluster.name(), self.node).await?;
        let failover = losses.failover.clone();
        self.failover = Some(failover);
        self.lost = summary.transactions;
        let text = if files.is_empty() {
            "its log holds no transaction that the survivors did not have".to_owned()
        } else {
            let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
            format!(
                "{} transactions with {} changes that no survivor had are saved in {}",
                summary.transactions,
                summary.changes,
                names.join(" and ")
            )
        };
        self.console.step(Some(self.node), &text);
        self.saved = files;
        Ok(())
    }

    /// Has the node note which rows it has changed alone, while it still has its log; nothing waits for that.
    pub(super) async fn note_own_changes(&self) -> Result<(), RejoinError> {
        let there = self.connect(self.node).await?;
        let cluster = &self.view.cluster;
        let noting = RejoinError::database(self.node, "noting its own changes");
        match &self.failover {
            Some(failover) if !self.arguments.every_row => rejoin::note_own_changes(&there, cluster, failover).await,
            _ => rejoin::forget_own_changes(&there, cluster).await,
        }
        .map_err(noting)
    }

    /// Finds out what becomes of the node's tables whose sets are gone, and refuses if nothing would keep writers out of
    /// some of them and nobody has said that this is meant.
    pub(super) async fn look_for_gone_sets(&mut self) -> Result<(), RejoinError> {
        let there = self.connect(self.node).await?;
        self.gone = Gone::find(&self.view, self.node, &there).await?;
        if !self.gone.sets.is_empty() && !self.arguments.release {
            return Err(RejoinError::SetGone {
                node: self.node,
                names: self.gone.names(),
            });
        }
        Ok(())
    }

    /// Takes what is left of the node out of the cluster: it is stored anew.
    pub(super) async fn drop_remains(&self) -> Result<(), RejoinError> {
        let id = self.event_node;
        let known = self
            .view
            .facts(id)
            .is_some_and(|facts| facts.nodes.iter().any(|node| node.id == self.node));
        if !known {
            return Ok(());
        }
        let session = self.connect(id).await?;
        let event = self
            .make_event(&session, id, &admin::drop_node(&self.view.cluster, &[self.node]))
            .await?;
        self.console
            .step(Some(id), &format!("DROP_NODE {} (event {event})", self.node));
        for other in self.others().into_iter().filter(|other| *other != id) {
            self.wait(&format!("node {other} to confirm the DROP_NODE"), async || {
                let confirmed = rejoin::confirmed_by(&session, &self.view.cluster, other)
                    .await
                    .map_err(RejoinError::database(id, "reading confirmations"))?;
                Ok((confirmed >= event)
                    .then_some(())
                    .ok_or_else(|| format!("it has confirmed up to {confirmed}")))
            })
            .await?;
        }
        Ok(())
    }

    /// Runs a call that makes an event, under both locks; the event's number.
    async fn make_event(&self, session: &Session, node: i32, call: &Call) -> Result<i64, RejoinError> {
        let failed = RejoinError::database(node, "changing the configuration");
        rejoin::begin_with_locks(session, &self.view.cluster)
            .await
            .map_err(failed)?;
        if let Err(source) = call.run(session).await {
            let _ = session.batch_execute("rollback").await;
            return Err(RejoinError::Call { node, source });
        }
        let event = rejoin::last_event_number(session, &self.view.cluster)
            .await
            .map_err(failed)?;
        session.batch_execute("commit").await.map_err(failed)?;
        Ok(event)
    }

    /// Makes the node a node of the cluster as it is now: one transaction there, then one on the event node.
    pub(super) async fn return_to_cluster(&self) -> Result<(), RejoinError> {
        let (node, id) = (self.node, self.event_node);
        let cluster = &self.view.cluster;
        let there = self.connect(node).await?;
        let here = self.connect(id).await?;
        let on_node = RejoinError::database(node, "taking the cluster's configuration");
        let on_event_node = RejoinError::database(id, "storing the node");
        let paths = self.paths()?;

        // From here on the event node's configuration and events stand still.
        rejoin::begin_with_locks(&here, cluster).await.map_err(on_event_node)?;
        let mut copy = admin::read_configuration(&here, cluster)
            .await
            .map_err(|source| RejoinError::Call { node: id, source })?;
        // Event numbers go on: others drop what they take for old.
        copy.knows_event(node, rejoin::last_event_number(&there, cluster).await.map_err(on_node)?);
        for facts in self.view.answers() {
            if let Some(events) = facts.events_of(node) {
                copy.knows_event(node, events.newest);
            }
        }
        rejoin::begin_with_locks(&there, cluster).await.map_err(on_node)?;
        let mut calls = admin::return_to_cluster(cluster, &copy, node, &self.gone.follow);
        calls.extend(admin::adopt(cluster, &copy, node));
        for path in &paths {
            calls.push(if path.client == node {
                rejoin::store_path(cluster, path)
            } else {
                rejoin::remember_path(cluster, path)
            });
        }
        for call in &calls {
            call.run(&there)
                .await
                .map_err(|source| RejoinError::Call { node, source })?;
        }
        there.batch_execute("commit").await.map_err(on_node)?;
        let comment = self
            .view
            .facts(node)
            .and_then(|facts| facts.nodes.iter().find(|row| row.id == node))
            .map_or_else(String::new, |row| row.comment.clone());
        for call in [
            admin::store_node(cluster, node, &comment),
            admin::enable_node(cluster, node),
        ] {
            call.run(&here)
                .await
                .map_err(|source| RejoinError::Call { node: id, source })?;
        }
        here.batch_execute("commit").await.map_err(on_event_node)?;
        admin::notify_restart(cluster)
            .run(&there)
            .await
            .map_err(|source| RejoinError::Call { node, source })?;
        self.console.step(
            Some(node),
            &format!("has the configuration of node {id}; its tables are a subscriber's"),
        );
        for set in self.gone.follow.sets() {
            self.console.step(
                Some(node),
                &format!("set {set} has taken over tables of sets that are gone"),
            );
        }
        if !self.gone.sets.is_empty() {
            self.console.step(
                Some(node),
                &format!(
                    "ordinary tables from now on, which anybody may write to, because their set is gone - {}",
                    self.gone.names()
                ),
            );
        }
        self.console
            .step(Some(id), &format!("STORE_NODE {node}, ENABLE_NODE {node}"));
        Ok(())
    }

    /// Paths between the node and all others: as it knew them, else as the others or the configuration know them.
    fn paths(&self) -> Result<Vec<PathRow>, RejoinError> {
        let node = self.node;
        let mut paths = Vec::new();
        for other in self.others() {
            for (server, client) in [(other, node), (node, other)] {
                let own = self.view.facts(node).and_then(|facts| facts.path(server, client));
                let told = self
                    .view
                    .answers()
                    .flat_map(|facts| &facts.paths)
                    .find(|path| path.server == server && path.client == client && path.is_usable());
                // A conninfo that serves others, or us, mostly serves all.
                let similar = self
                    .view
                    .answers()
                    .flat_map(|facts| &facts.paths)
                    .find(|path| path.server == server && path.is_usable());
                let conninfo = own
                    .or(told)
                    .or(similar)
                    .map(|path| path.conninfo.clone())
                    .or_else(|| {
                        self.view
                            .node(server)
                            .and_then(|view| view.conninfo())
                            .map(str::to_owned)
                    })
                    .ok_or(RejoinError::NoPath { server, client })?;
                paths.push(PathRow {
                    server,
                    client,
                    conninfo,
                    connretry: own.or(told).map_or(10, |path| path.connretry),
                });
            }
        }
        Ok(paths)
    }

    /// Asks everybody again, after the cluster has changed.
    pub(super) async fn look_again(&mut self) -> Result<(), RejoinError> {
        // Other nodes learn of the node by events; whoever has not yet, would take it for dropped.
        let view = ClusterView::discover(self.view.configuration.clone(), &[]).await?;
        self.view = view;
        Ok(())
    }

    /// Stores on the others their paths to the node, where they lack them.
    pub(super) async fn connect_others(&self) -> Result<(), RejoinError> {
        let cluster = &self.view.cluster;
        for path in self.paths()?.iter().filter(|path| path.server == self.node) {
            let other = path.client;
            let session = self.connect(other).await?;
            self.wait(
                &format!("node {other} to hear that node {} is back", self.node),
                async || {
                    let knows = rejoin::knows_node(&session, cluster, self.node)
                        .await
                        .map_err(RejoinError::database(other, "reading `sl_node`"))?;
                    Ok(knows.then_some(()).ok_or_else(String::new))
                },
            )
            .await?;
            let known = self.view.facts(other).and_then(|facts| facts.path(self.node, other));
            if known.is_none() {
                self.make_event(&session, other, &rejoin::store_path(cluster, path))
                    .await?;
                self.console
                    .step(Some(other), &format!("STORE_PATH to node {}", self.node));
            }
        }
        Ok(())
    }

    /// Waits until the node's slon runs and has the event node's events.
    pub(super) async fn await_daemon(&self) -> Result<(), RejoinError> {
        let (node, id) = (self.node, self.event_node);
        let cluster = &self.view.cluster;
        let there = self.connect(node).await?;
        let here = self.connect(id).await?;
        let target = rejoin::last_event_number(&here, cluster)
            .await
            .map_err(RejoinError::database(id, "reading events"))?;
        let mut told = false;
        self.wait(&format!("the slon of node {node}"), async || {
            let confirmed = rejoin::confirmed_by(&here, cluster, node)
                .await
                .map_err(RejoinError::database(id, "reading confirmations"))?;
            if confirmed >= target {
                return Ok(Ok(()));
            }
            let seen = self.daemon(&there).await?;
            if !told && seen.starts_with("no slon") {
                self.console.step(Some(node), &format!("{seen}; start it now"));
                told = true;
            }
            Ok(Err(seen))
        })
        .await
    }

    /// What the node's slon is doing, in words.
    async fn daemon(&self, there: &Session) -> Result<String, RejoinError> {
        let report = admin::inspect(there, &self.view.cluster, self.event_node)
            .await
            .map_err(RejoinError::database(self.node, "looking at its slon"))?;
        if report.serving == Serving::No {
            return Ok(format!("no slon serves node {}", self.node));
        }
        let troubles = trouble::list(there, &self.view.cluster)
            .await
            .map_err(RejoinError::database(self.node, "looking at its slon"))?;
        Ok(troubles.first().map_or_else(
            || "it is at work".to_owned(),
            |trouble| format!("{}: {}", trouble.actor, trouble.message),
        ))
    }

    /// Subscribes the node to the sets it had; those it receives now or will receive.
    pub(super) async fn subscribe(&self) -> Result<Vec<i32>, RejoinError> {
        let node = self.node;
        let cluster = &self.view.cluster;
        let there = self.connect(node).await?;
        let failed = RejoinError::database(node, "reading its tables");
        let held: BTreeSet<i32> = rejoin::held_sets(&there, cluster)
            .await
            .map_err(failed)?
            .into_iter()
            .collect();
        if self.arguments.every_row {
            rejoin::forget_own_changes(&there, cluster).await.map_err(failed)?;
        }
        let mut sets = Vec::new();
        for set in self.view.sets() {
            if set.subscription(node).is_some() {
                sets.push(set.id);
                continue;
            }
            if !held.contains(&set.id) || set.origin == node {
                continue;
            }
            let mode = if self.arguments.full {
                rejoin::keep_nothing(&there, cluster, &[set.id]).await
            } else {
                rejoin::keep_rows(&there, cluster, &[set.id]).await
            };
            mode.map_err(failed)?;
            let origin = self.connect(set.origin).await?;
            let call = admin::subscribe_set(cluster, set.id, set.origin, node, true, false);
            self.make_event(&origin, set.origin, &call).await?;
            let how = if self.arguments.full {
                "all rows are copied"
            } else {
                "rows that differ are copied"
            };
            self.console.step(
                Some(set.origin),
                &format!("SUBSCRIBE_SET {} for node {node}: {how}", set.id),
            );
            sets.push(set.id);
        }
        Ok(sets)
    }

    /// Waits until the node has joined the stream of all sets.
    pub(super) async fn await_copies(&self, sets: &[i32]) -> Result<(), RejoinError> {
        let node = self.node;
        let there = self.connect(node).await?;
        let mut open = sets.to_vec();
        let mut shown = Instant::now();
        let mut served = Instant::now();
        while !open.is_empty() {
            let mut left = Vec::new();
            for set in &open {
                let progress = rejoin::progress(&there, &self.view.cluster, *set)
                    .await
                    .map_err(RejoinError::database(node, "looking at its subscriptions"))?;
                if progress == Progress::Joined {
                    self.console
                        .step(Some(node), &format!("set {set} has joined the stream"));
                } else {
                    left.push(*set);
                }
            }
            open = left;
            if open.is_empty() {
                break;
            }
            if shown.elapsed() >= PROGRESS {
                let seen = self.daemon(&there).await?;
                if !seen.starts_with("no slon") {
                    served = Instant::now();
                }
                self.console.step(
                    Some(node),
                    &format!("set {} is being copied; slon: {seen}", list(&open)),
                );
                shown = Instant::now();
                if served.elapsed() >= self.arguments.wait {
                    return Err(RejoinError::Waited {
                        what: format!("the slon of node {node} to copy set {}", list(&open)),
                        seen,
                        waited: served.elapsed(),
                    });
                }
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Polls until `condition` is met, or the time the operator allows is over.
    async fn wait(
        &self,
        what: &str,
        mut condition: impl AsyncFnMut() -> Result<Result<(), String>, RejoinError>,
    ) -> Result<(), RejoinError> {
        let started = Instant::now();
        loop {
            let Err(seen) = condition().await? else { return Ok(()) };
            if started.elapsed() >= self.arguments.wait {
                return Err(RejoinError::Waited {
                    what: what.to_owned(),
                    seen,
                    waited: started.elapsed(),
                });
            }
            sleep(LOOK).await;
        }
    }
}

fn is_lock_timeout(error: Option<&tokio_postgres::Error>) -> bool {
    error.is_some_and(|error| error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE))
}
