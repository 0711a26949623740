//! Paths and listens.

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Call, Locks};

use crate::failure::Failure;
use crate::interpreter::{Interpreter, Leads, Submission};

impl Interpreter<'_> {
    pub(super) async fn store_path(
        &mut self,
        server: Id,
        client: Id,
        conninfo: &str,
        retry: i32,
    ) -> Result<(), Failure> {
        let call = admin::store_path(&self.cluster, server, client, conninfo, retry);
        let locks = Locks::EventAndConfig;
        self.submit(Submission {
            node: client,
            locks,
            call,
            leads: Leads::No,
        })
        .await
    }

    pub(super) async fn drop_path(&mut self, server: Id, client: Id, event_node: Id) -> Result<(), Failure> {
        let call = admin::drop_path(&self.cluster, server, client);
        self.submit_config_change(event_node, call).await
    }

    pub(super) async fn store_listen(&mut self, origin: Id, provider: Id, receiver: Id) -> Result<(), Failure> {
        let call = admin::store_listen(&self.cluster, origin, provider, receiver);
        self.submit_config_change(receiver, call).await
    }

    pub(super) async fn drop_listen(&mut self, origin: Id, provider: Id, receiver: Id) -> Result<(), Failure> {
        let call = admin::drop_listen(&self.cluster, origin, provider, receiver);
        self.submit_config_change(receiver, call).await
    }

    /// The ordinary way: both locks, the automatic wait, the event.
    pub(super) async fn submit_config_change(&mut self, node: Id, call: Call) -> Result<(), Failure> {
        self.submit(Submission {
            node,
            locks: Locks::EventAndConfig,
            call,
            leads: Leads::Yes,
        })
        .await
    }
}
