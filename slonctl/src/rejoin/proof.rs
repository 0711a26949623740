//! When the node has joined: does it have the origins' rows?

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::course::Course;
use crate::cli::with_causes;
use crate::proof::tell;
use crate::verify::{self, Extent, VerifyArguments};
use crate::view::ClusterView;

/// Most differing keys that are named per table.
const NAMED_KEYS: usize = 20;

impl Course<'_> {
    /// Compares the node's tables with the origins', as far as the time allows, and makes rows equal that differ although no log
    /// named them. True: nothing differs, or not any more.
    pub(super) async fn prove(&self, sets: &[i32]) -> bool {
        let budget = match self.arguments.verify {
            Extent::None => return true,
            Extent::All => None,
            Extent::Within(time) => Some(Instant::now() + time),
        };
        let mut origins: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for set in self.view.sets().iter().filter(|set| sets.contains(&set.id)) {
            origins.entry(set.origin).or_default().push(set.id);
        }
        let mut holds = true;
        for (origin, sets) in origins {
            let left = budget.map(|end| end.saturating_duration_since(Instant::now()));
            holds &= self.prove_against(origin, sets, left).await;
        }
        holds
    }

    async fn prove_against(&self, origin: i32, sets: Vec<i32>, limit: Option<Duration>) -> bool {
        let node = self.node;
        let glance = match verify::glance(&self.view, origin, node, sets.clone(), limit).await {
            Ok(glance) => glance,
            Err(error) => {
                let text = format!("its rows cannot be compared: {}", with_causes(&error));
                return tell(self.console, node, false, &text);
            }
        };
        if let Some(text) = glance.compared(origin, node) {
            tell(self.console, node, glance.is_equal(), &text);
        }
        if let Some(text) = glance.left(node) {
            self.console.event(Some(node), "not_compared", &text);
        }
        glance.is_equal() || self.make_equal(sets).await
    }

    /// Something was written past the logs.
    async fn make_equal(&self, sets: Vec<i32>) -> bool {
        let node = self.node;
        self.console.step(
            Some(node),
            "rows differ that no log names; what the node has of them is saved, then they are made equal",
        );
        let repair = VerifyArguments {
            set: sets,
            node: vec![node],
            table: Vec::new(),
            repair: true,
            save: Some(self.arguments.save.clone()),
            max_rate: None,
            wait: self.arguments.wait,
            show: NAMED_KEYS,
        };
        // The view of before does not know the subscriptions.
        let view = match ClusterView::discover(self.view.configuration.clone(), &[]).await {
            Ok(view) => view,
            Err(error) => return tell(self.console, node, false, &with_causes(&error)),
        };
        match verify::verify(&repair, self.console, &view).await {
            Ok(report) => {
                self.console.text(&report.to_string());
                tell(
                    self.console,
                    node,
                    report.equal,
                    if report.equal {
                        "every row is equal now"
                    } else {
                        "rows differ still"
                    },
                )
            }
            Err(error) => tell(
                self.console,
                node,
                false,
                &format!("rows cannot be made equal: {}", with_causes(&error)),
            ),
        }
    }
}
