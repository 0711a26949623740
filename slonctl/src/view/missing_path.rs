//! The statement that stores a path which is missing.

use trunkline_sql::session::redact;

use super::ClusterView;
use crate::script::literal;

impl ClusterView {
    /// `store path` for `client` to reach `server`: by the conninfo other clients use, else the one by which it was reached from here.
    /// Passwords are left out.
    pub(crate) fn store_path(&self, server: i32, client: i32) -> String {
        let mut paths = self.witnesses().flat_map(|facts| &facts.paths);
        let conninfo = paths
            .find(|path| path.server == server && path.is_usable())
            .map(|path| path.conninfo.as_str())
            .or_else(|| self.node(server)?.conninfo())
            .map_or_else(|| "…".to_owned(), redact);
        format!(
            "store path (server = {server}, client = {client}, conninfo = {});",
            literal(&conninfo)
        )
    }
}
