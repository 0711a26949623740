//! Tables and sequences that the cluster replicated when the node failed and does not any more, or in other sets: their set was merged
//! into another or dropped, they were moved or taken out, or nobody else had the set.

use std::collections::BTreeSet;

use trunkline_sql::Session;
use trunkline_sql::rejoin::{self, Grouping, Member};

use super::{RejoinError, list};
use crate::view::ClusterView;

/// What becomes of the node's members that are no longer where they were.
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
        let mut now: Vec<Member> = Vec::new();
        let mut unknown: Vec<i32> = Vec::new();
        for set in &sets {
            let Some(session) = view.node(set.origin).and_then(|node| node.session()) else {
                unknown.push(set.id);
                continue;
            };
            let members = rejoin::members(session, &view.cluster)
                .await
                .map_err(RejoinError::database(set.origin, "reading its tables"))?;
            now.extend(members.into_iter().filter(|member| member.set == set.id));
        }
        // Of a set that no survivor had, the new origin has nothing but its number.
        let lost = held.into_iter().filter(|member| {
            let kept = now
                .iter()
                .any(|other| other.set == member.set && other.is_same_object(member));
            !kept && !unknown.contains(&member.set)
        });
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
