//! `set add table` and `set add sequence` on a set that has subscribers.
//!
//! The members go into a set of their own, which the same nodes subscribe to over the same providers; when every one of
//! them has confirmed its copy, it is merged. All of that are events of the original, so its slons take part. A run that
//! dies in between leaves that set, replicated already; the next run finds it by its comment and goes on.

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Leftover, Locks, Subscriber};

use crate::failure::Failure;
use crate::interpreter::{Interpreter, Leads, Submission};

/// Where new members of a set go.
pub(super) struct Destination {
    /// The set they are added to.
    pub(super) set: Id,
    /// The set they are meant for, if its subscribers have to copy them first.
    joins: Option<Joins>,
}

struct Joins {
    target: Id,
    subscribers: Vec<Subscriber>,
    /// What an earlier run had left and this one has brought in: schema and name.
    arrived: Vec<(String, String)>,
}

impl Destination {
    /// Whether the member has come in already, with what an earlier run had left.
    pub(super) fn has(&self, written: &str) -> bool {
        let Some(joins) = &self.joins else { return false };
        admin::read_name(written).is_some_and(|name| joins.arrived.contains(&name))
    }
}

impl Interpreter<'_> {
    /// Decides where members of `set` go; brings in first what an earlier run has left.
    pub(super) async fn destination(&mut self, set: Id, origin: Id) -> Result<Destination, Failure> {
        let subscribers = self.subscribers_of(set, origin).await?;
        if subscribers.is_empty() {
            return Ok(Destination { set, joins: None });
        }
        if self.block.in_try() {
            return Err(Failure::Refused(format!(
                "set {set} has subscribers, to which new members are copied before they join it; that takes several \
                 transactions, so it cannot be part of a `try` block: write it before or behind the block"
            )));
        }
        self.must_originate_there(set, origin).await?;
        let mut arrived = Vec::new();
        if let Some(left) = self.left_on_its_way(set, origin).await? {
            self.report.say(&format!(
                "set {} holds what an earlier run has left on its way into set {set}: going on with it",
                left.set
            ));
            self.join(left.set, set, origin, &subscribers).await?;
            arrived = left.members;
        }
        let own = self.free_set(origin).await?;
        Ok(Destination {
            set: own,
            joins: Some(Joins {
                target: set,
                subscribers,
                arrived,
            }),
        })
    }

    /// Refuses an origin that the set does not have, in words about that set and not about the one on its way.
    async fn must_originate_there(&mut self, set: Id, origin: Id) -> Result<(), Failure> {
        let known = if let Some(rehearsal) = self.connections.rehearsal() {
            let state = rehearsal.forecast.state(origin);
            state.and_then(|state| state.sets.get(&set)).map(|known| known.origin)
        } else {
            let cluster = self.cluster.clone();
            let session = self.connections.session(origin).await?;
            let question = format!("origin of set {set} as node {origin} knows it");
            let known = admin::set_origin(session, &cluster, set).await;
            known.map_err(Failure::of_query(&question))?
        };
        match known {
            Some(known) if known != origin => Err(Failure::Refused(format!(
                "set {set} originates on node {known}, not on node {origin}; write `origin = {known}`, or leave `origin` out"
            ))),
            _ => Ok(()),
        }
    }

    /// What an earlier run has left on its way into the set and, in a plan, no statement before will have brought in.
    async fn left_on_its_way(&mut self, set: Id, origin: Id) -> Result<Option<Leftover>, Failure> {
        if let Some(rehearsal) = self.connections.rehearsal()
            && !rehearsal.is_installed(origin)
        {
            return Ok(None);
        }
        let question = format!("what is on its way into set {set}");
        let cluster = self.cluster.clone();
        let session = self.connections.session(origin).await?;
        let left = admin::leftover(session, &cluster, set).await;
        let left = left.map_err(Failure::of_query(&question))?;
        let Some(rehearsal) = self.connections.rehearsal() else {
            return Ok(left);
        };
        let state = rehearsal.forecast.state(origin);
        Ok(left.filter(|left| state.is_some_and(|state| state.sets.contains_key(&left.set))))
    }

    /// Makes the set for members on their way, in the transaction that adds them.
    pub(super) async fn prepare(&mut self, destination: &Destination, origin: Id) -> Result<(), Failure> {
        let Some(joins) = &destination.joins else { return Ok(()) };
        let comment = admin::joining_comment(joins.target);
        self.submit_on_its_way(origin, admin::store_set(&self.cluster, destination.set, &comment))
            .await
    }

    /// Has members that were added copied to the subscribers, and takes them into the set.
    pub(super) async fn arrive(&mut self, destination: Destination, origin: Id, added: usize) -> Result<(), Failure> {
        let Some(joins) = destination.joins else { return Ok(()) };
        if added == 0 {
            self.connections.rollback_all().await;
            return Ok(());
        }
        self.join(destination.set, joins.target, origin, &joins.subscribers)
            .await
    }

    /// Subscribes everybody who subscribes to `target` and not yet to `own`, waits for the copies, and merges.
    async fn join(&mut self, own: Id, target: Id, origin: Id, wanted: &[Subscriber]) -> Result<(), Failure> {
        let there = self.subscribers_of(own, origin).await?;
        self.begin(origin).await?;
        self.connections.lock(origin, Locks::EventAndConfig).await?;
        for one in wanted {
            if there.iter().any(|known| known.receiver == one.receiver) {
                continue;
            }
            let call = admin::subscribe_set(&self.cluster, own, one.provider, one.receiver, one.forward, false);
            self.submit_on_its_way(origin, call).await?;
        }
        self.connections.commit(origin).await?;
        self.aftermath.sets_out(own, target);
        let outcome = self.merge_set(target, own, origin).await;
        if outcome.is_ok() {
            self.connections.commit(origin).await?;
            self.aftermath.arrived(own);
        } else {
            self.report.say(&format!(
                "set {own} is replicated and on its way into set {target}; write the statement again to go on with it"
            ));
        }
        outcome
    }

    async fn submit_on_its_way(&mut self, origin: Id, call: admin::Call) -> Result<(), Failure> {
        self.submit(Submission {
            node: origin,
            locks: Locks::None,
            call,
            leads: Leads::Yes,
        })
        .await
    }

    async fn subscribers_of(&mut self, set: Id, origin: Id) -> Result<Vec<Subscriber>, Failure> {
        if let Some(rehearsal) = self.connections.rehearsal() {
            let Some(state) = rehearsal.forecast.state(origin) else {
                return Ok(Vec::new());
            };
            let mut left: Vec<Subscriber> = state
                .subscriptions
                .iter()
                .filter(|((of, _), _)| *of == set)
                .map(|((_, receiver), known)| Subscriber {
                    provider: known.provider,
                    receiver: *receiver,
                    forward: known.forward,
                })
                .collect();
            // Providers before their receivers.
            let (mut ordered, mut reached): (Vec<Subscriber>, Vec<Id>) = (Vec::new(), vec![origin]);
            while let Some(place) = left.iter().position(|one| reached.contains(&one.provider)) {
                let one = left.remove(place);
                reached.push(one.receiver);
                ordered.push(one);
            }
            return Ok(ordered);
        }
        let cluster = self.cluster.clone();
        let session = self.connections.session(origin).await?;
        admin::subscribers(session, &cluster, set)
            .await
            .map_err(Failure::of_query(&format!("subscribers of set {set}")))
    }

    async fn free_set(&mut self, origin: Id) -> Result<Id, Failure> {
        if let Some(rehearsal) = self.connections.rehearsal() {
            let state = rehearsal.forecast.state(origin);
            let highest = state.and_then(|state| state.sets.keys().max().copied());
            return Ok(highest.unwrap_or(0).max(admin::FIRST_JOINING_SET - 1) + 1);
        }
        let cluster = self.cluster.clone();
        let mut free = 0;
        for node in self.connections.nodes() {
            let Some(session) = self.connections.open_session(node) else {
                continue;
            };
            let question = format!("numbers of sets on node {node}");
            let installed = admin::schema_exists(session, &cluster).await;
            if installed.map_err(Failure::of_query(&question))? {
                let found = admin::free_joining_set(session, &cluster).await;
                free = free.max(found.map_err(Failure::of_query(&question))?);
            }
        }
        Ok(free.max(admin::FIRST_JOINING_SET))
    }
}
