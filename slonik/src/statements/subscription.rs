//! Subscriptions.

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Call, Locks, Standing};

use crate::failure::Failure;
use crate::interpreter::{Interpreter, Leads, Submission};
use crate::waits::CaughtUpWith;

impl Interpreter<'_> {
    pub(super) async fn subscribe_set(
        &mut self,
        id: Id,
        provider: Id,
        receiver: Id,
        forward: bool,
        omit_copy: bool,
    ) -> Result<(), Failure> {
        self.must_be_itself(provider).await?;
        self.wait_until_caught_up(provider, CaughtUpWith::AllBut(&[])).await?;
        let standing = self.standing_of(id, provider, receiver).await?;
        let Some(origin) = standing.origin else {
            return Err(Failure::Plain(format!(
                "error: can not determine set origin for set {id}"
            )));
        };
        let reshape = standing.provider.is_some_and(|current| current != provider);
        if reshape && !self.connections.knows(receiver) {
            // Before anything is done: the receiver itself must be told of its new provider.
            return Err(Failure::NoConninfo(receiver));
        }
        if reshape && let Some(reason) = self.unreachable(origin).await {
            return self.reroute(origin, provider, receiver, &reason).await;
        }
        // Said once more on the way to a failover: only the origin could do anything about it, and there is nothing to do.
        if standing.provider == Some(provider)
            && let Some(reason) = self.unreachable(origin).await
        {
            self.report.say(&format!(
                "node {receiver} gets set {id} from node {provider} already; node {origin} cannot be reached ({reason}), so nothing \
                 was changed"
            ));
            return Ok(());
        }
        if reshape {
            self.move_other_subscriptions(id, origin, provider, receiver).await?;
        }
        let call = admin::subscribe_set(&self.cluster, id, provider, receiver, forward, omit_copy);
        self.submit_subscription(origin, call, Some(id), receiver).await?;
        if reshape {
            self.reshape(origin, provider, receiver).await?;
        }
        Ok(())
    }

    /// Slony-I 1.x changed the provider of one set at a time. All sets of an origin come to a receiver from one provider
    /// since, so the others move along.
    async fn move_other_subscriptions(
        &mut self,
        set: Id,
        origin: Id,
        provider: Id,
        receiver: Id,
    ) -> Result<(), Failure> {
        let others = self.also_provided(set, origin, provider, receiver).await?;
        if others.is_empty() {
            return Ok(());
        }
        let named: Vec<String> = others.iter().map(ToString::to_string).collect();
        self.report.say(&format!(
            "warning: all sets of node {origin} come to node {receiver} from one provider, so it gets set {} from node \
             {provider} as well; today this is `resubscribe node (origin = {origin}, provider = {provider}, receiver = \
             {receiver});`",
            named.join(", ")
        ));
        self.resubscribe_node(origin, provider, receiver).await
    }

    /// The receiver's other sets of the origin that come from another provider.
    async fn also_provided(&mut self, set: Id, origin: Id, provider: Id, receiver: Id) -> Result<Vec<Id>, Failure> {
        if let Some(rehearsal) = self.connections.rehearsal() {
            return Ok(rehearsal.forecast.also_provided(set, origin, provider, receiver));
        }
        let cluster = self.cluster.clone();
        let session = self.connections.session(origin).await?;
        admin::also_provided(session, &cluster, set, origin, provider, receiver)
            .await
            .map_err(Failure::of_query(&format!(
                "sets of node {origin} that node {receiver} receives"
            )))
    }

    /// The set's origin and the receiver's provider, as the new provider knows them.
    async fn standing_of(&mut self, set: Id, provider: Id, receiver: Id) -> Result<Standing, Failure> {
        if let Some(rehearsal) = self.connections.rehearsal() {
            let state = rehearsal.forecast.state(provider);
            let subscription = state.and_then(|state| state.subscriptions.get(&(set, receiver)));
            return Ok(Standing {
                origin: rehearsal.forecast.origin_of(set),
                provider: subscription.map(|subscription| subscription.provider),
            });
        }
        let session = self.connections.session(provider).await?;
        admin::standing(session, &self.cluster, set, receiver)
            .await
            .map_err(Failure::of_query(&format!(
                "origin of set {set} as node {provider} knows it"
            )))
    }

    pub(super) async fn resubscribe_node(&mut self, origin: Id, provider: Id, receiver: Id) -> Result<(), Failure> {
        if !self.connections.knows(receiver) {
            return Err(Failure::NoConninfo(receiver));
        }
        self.wait_until_caught_up(provider, CaughtUpWith::AllBut(&[])).await?;
        if let Some(reason) = self.unreachable(origin).await {
            return self.reroute(origin, provider, receiver, &reason).await;
        }
        let call = admin::resubscribe_node(&self.cluster, origin, provider, receiver);
        self.submit_subscription(origin, call, None, receiver).await?;
        self.reshape(origin, provider, receiver).await
    }

    /// The stored function of a real Slony node returns the set's number, so the event is looked up: a following
    /// `wait for event` waits for the copy to be confirmed.
    async fn submit_subscription(
        &mut self,
        origin: Id,
        call: Call,
        set: Option<Id>,
        receiver: Id,
    ) -> Result<(), Failure> {
        let submission = Submission {
            node: origin,
            locks: Locks::EventAndConfig,
            call,
            leads: Leads::Yes,
        };
        if self.connections.rehearses() {
            return self.submit(submission).await;
        }
        self.submit_unremembered(submission).await?;
        let session = self.connections.session(origin).await?;
        let seqno = admin::last_subscription_event(session, &self.cluster, set, receiver)
            .await
            .map_err(Failure::of_query("event of the subscription"))?;
        if seqno.is_some() {
            self.memory.remember(origin, seqno);
        }
        Ok(())
    }

    /// Tells the receiver directly of its new provider; the old one may no longer bring the event.
    async fn reshape(&mut self, origin: Id, provider: Id, receiver: Id) -> Result<(), Failure> {
        self.must_be_itself(receiver).await?;
        self.begin(receiver).await?;
        self.connections.lock(receiver, Locks::Config).await?;
        let call = admin::reshape_subscription(&self.cluster, origin, provider, receiver);
        self.connections.run(receiver, &call).await?;
        Ok(())
    }

    /// Why a node of the preamble cannot be reached; None: it can, or the script does not say how.
    async fn unreachable(&mut self, node: Id) -> Option<String> {
        match self.connections.session(node).await {
            Err(Failure::Unreachable(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Another provider for a receiver whose origin is gone, as the first step towards a failover: nobody can make an event
    /// of it, so every node that can be reached is told directly. What the origin thinks does not matter: log rows are
    /// kept for whoever has not confirmed them.
    async fn reroute(&mut self, origin: Id, provider: Id, receiver: Id, reason: &str) -> Result<(), Failure> {
        self.must_be_itself(receiver).await?;
        let mut told = Vec::new();
        for node in self.connections.nodes() {
            let Some(session) = self.connections.open_session(node).filter(|_| node != origin) else {
                continue;
            };
            let question = format!("schema of node {node}");
            let installed = admin::schema_exists(session, &self.cluster).await;
            if !installed.map_err(Failure::of_query(&question))? {
                continue;
            }
            let ours = admin::is_ours(session, &self.cluster).await;
            let ours = ours.map_err(Failure::of_query(&question))?;
            self.must_be_itself(node).await?;
            self.begin(node).await?;
            self.connections.lock(node, Locks::Config).await?;
            let call = admin::reroute_subscription(&self.cluster, ours, origin, provider, receiver);
            self.connections.run(node, &call).await?;
            told.push(node.to_string());
        }
        self.report.say(&format!(
            "the origin, node {origin}, cannot be reached ({reason}): nodes {} are told directly that node {receiver} gets its \
             sets from node {provider}",
            told.join(", ")
        ));
        Ok(())
    }

    pub(super) async fn unsubscribe_set(&mut self, id: Id, receiver: Id) -> Result<(), Failure> {
        let call = admin::unsubscribe_set(&self.cluster, id, receiver);
        self.submit_config_change(receiver, call).await
    }
}
