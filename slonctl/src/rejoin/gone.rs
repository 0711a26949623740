//! Sets the cluster had when the node failed and has no more: merged into others, or dropped.

use std::collections::BTreeSet;

use trunkline_sql::Session;
use trunkline_sql::rejoin::{self, Grouping, Member};

use super::{RejoinError, list};
use crate::view::ClusterView;

/// What becomes of the node's members of such sets.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Members that other sets have taken over: they follow them there.
    pub(super) follow: Grouping,
    /// Sets of which something is in no set any more.
    pub(super) sets: BTreeSet<i32>,
    /// Those members: nothing will keep writers out of them.
    pub(super) released: Vec<Member>,
}

impl Gone {
    /// Compares what the node has with what the origins of the cluster's sets have now.
    pub(super) async fn find(view: &ClusterView, node: i32, there: &Session) -> Result<Self, RejoinError> {
        let held = rejoin::members(there, &view.cluster)
            .await
            .map_err(RejoinError::database(node, "reading its tables"))?;
        let sets = view.sets();
        let mut gone = Self::default();
        let lost: Vec<Member> = held
            .into_iter()
            .filter(|member| !sets.iter().any(|set| set.id == member.set))
            .collect();
        if lost.is_empty() {
            return Ok(gone);
        }
        let mut now: Vec<Member> = Vec::new();
        for set in &sets {
            let Some(session) = view.node(set.origin).and_then(|node| node.session()) else {
                continue;
            };
            let members = rejoin::members(session, &view.cluster)
                .await
                .map_err(RejoinError::database(set.origin, "reading its tables"))?;
            now.extend(members.into_iter().filter(|member| member.set == set.id));
        }
        for member in lost {
            if let Some(other) = now.iter().find(|other| other.is_same_object(&member)) {
                let origin = sets.iter().find(|set| set.id == other.set).map(|set| set.origin);
                gone.follow.add(other, origin.unwrap_or(node));
            } else {
                gone.sets.insert(member.set);
                gone.released.push(member);
            }
        }
        Ok(gone)
    }

    /// `set 2: "public"."a", "public"."b"`, for messages.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.released.iter().map(|member| member.name.as_str()).collect();
        let sets: Vec<i32> = self.sets.iter().copied().collect();
        format!("set {}: {}", list(&sets), names.join(", "))
    }
}
