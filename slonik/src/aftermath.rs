//! How things stand when a script ends early: what is committed, what stays locked, and how to go on.

use std::sync::{Arc, Mutex, PoisonError};

use trunkline_grammar::Id;

/// Known to the interpreter, which keeps it up to date, and to whoever stops the interpreter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aftermath {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Where the last statement stands whose effects are committed.
    committed: Option<String>,
    /// Where the statement stands that is being executed, or the `try` block around it.
    running: Option<String>,
    /// Sets that this script locked: (set, origin).
    locked: Vec<(Id, Id)>,
    /// Sets that the open transactions open again.
    opening: Vec<Id>,
    /// Sets with members on their way into another set: (set, the other).
    on_their_way: Vec<(Id, Id)>,
}

impl Aftermath {
    /// A statement, or a `try` block, begins.
    pub(crate) fn begin(&self, place: &str) {
        self.with(|inner| inner.running = Some(place.to_owned()));
    }

    /// A set is locked, and that is committed.
    pub(crate) fn locked(&self, set: Id, origin: Id) {
        self.with(|inner| inner.locked.push((set, origin)));
    }

    /// The open transaction opens the set again.
    pub(crate) fn opens(&self, set: Id) {
        self.with(|inner| inner.opening.push(set));
    }

    /// Members that will join set `target` are committed and subscribed to in set `own`.
    pub(crate) fn sets_out(&self, own: Id, target: Id) {
        self.with(|inner| inner.on_their_way.push((own, target)));
    }

    /// Set `own` is merged, and that is committed.
    pub(crate) fn arrived(&self, own: Id) {
        self.with(|inner| inner.on_their_way.retain(|(set, _)| *set != own));
    }

    /// Everything that was begun is committed.
    pub(crate) fn committed(&self) {
        self.with(|inner| {
            let opened = std::mem::take(&mut inner.opening);
            inner.locked.retain(|(set, _)| !opened.contains(set));
            inner.committed = inner.running.take().or(inner.committed.take());
        });
    }

    /// The open transactions are rolled back.
    pub(crate) fn rolled_back(&self) {
        self.with(|inner| inner.opening.clear());
    }

    /// A line for each set that stays locked.
    pub(crate) fn locked_sets(&self) -> Vec<String> {
        self.with(|inner| {
            inner
                .locked
                .iter()
                .map(|(set, origin)| {
                    format!(
                        "set {set} stays locked on node {origin}, nobody can write to its tables; \
                         `unlock set (id = {set}, origin = {origin});` opens it, `move set` goes on"
                    )
                })
                .collect()
        })
    }

    /// What to say when a statement has failed and nothing handles that.
    pub(crate) fn failed(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.with(|inner| {
            let place = inner.committed.as_ref();
            place
                .map(|place| format!("the script ends here; {place} and what ran before it stay committed"))
                .into_iter()
                .collect()
        });
        lines.extend(self.locked_sets());
        lines
    }

    /// What to say when the script is stopped from outside.
    pub(crate) fn interrupted(&self) -> Vec<String> {
        let mut lines = self.with(|inner| {
            let mut lines = Vec::new();
            if let Some(place) = &inner.running {
                lines.push(format!(
                    "what was begun at {place} and not committed by itself is rolled back"
                ));
            }
            lines.push(match &inner.committed {
                Some(place) => format!("everything up to {place} is committed; go on behind it"),
                None => "no statement was completed".to_owned(),
            });
            for (own, target) in &inner.on_their_way {
                lines.push(format!(
                    "what goes into set {target} is committed in set {own}, and the slons go on copying it; \
                     write the statement again and it goes on with that set"
                ));
            }
            lines
        });
        lines.extend(self.locked_sets());
        lines
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_locked_until_its_opening_is_committed() {
        let aftermath = Aftermath::default();
        aftermath.begin("s:1");
        aftermath.locked(1, 10);
        aftermath.locked(2, 10);
        aftermath.committed();
        aftermath.begin("s:2");
        aftermath.opens(1);
        aftermath.rolled_back();
        assert_eq!(aftermath.locked_sets().len(), 2);
        aftermath.opens(1);
        aftermath.committed();
        aftermath.begin("s:3");
        assert_eq!(
            aftermath.failed(),
            [
                "the script ends here; s:2 and what ran before it stay committed",
                "set 2 stays locked on node 10, nobody can write to its tables; \
                 `unlock set (id = 2, origin = 10);` opens it, `move set` goes on",
            ]
        );
        assert_eq!(
            aftermath.interrupted(),
            [
                "what was begun at s:3 and not committed by itself is rolled back",
                "everything up to s:2 is committed; go on behind it",
                "set 2 stays locked on node 10, nobody can write to its tables; \
                 `unlock set (id = 2, origin = 10);` opens it, `move set` goes on",
            ]
        );
    }
}
