//! What statements mean to each other: sets used before they exist, nodes nobody named, waits that cannot end.
//!
//! Statements are noted in the order of the text, which is the order in which they run. A handler (`on error`, `on
//! success`) may not run at all, so what only a handler does proves nothing about what follows.

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{Command, Id, NodeChoice};
use crate::code::Code;
use crate::diagnostic::{Diagnostic, Findings};
use crate::option::{Given, OptionName, Value};
use crate::preamble::Preamble;
use crate::source::Span;

/// What is known of a set at some point of the script.
#[derive(Debug, Clone, Copy)]
struct SetHistory {
    /// First use since the script last removed it, if the script did not create it before.
    first_use: Option<Span>,
    /// Where the script removed it, and the word for it.
    gone: Option<(Span, &'static str)>,
    /// Whether the script created it.
    created: bool,
}

/// What happened to a node in the script, so that its slon cannot confirm what comes after.
#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Span,
    label: &'static str,
}

/// Follows a script from statement to statement.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    sets: BTreeMap<Id, SetHistory>,
    silent: BTreeMap<Id, Silence>,
    unnamed: BTreeSet<Id>,
}

/// A statement as it is noted.
pub(crate) struct Noted<'a> {
    pub(crate) command: &'a Command,
    pub(crate) given: &'a [Given],
    /// The words the statement starts with.
    pub(crate) head: Span,
    pub(crate) preamble: &'a Preamble,
    /// Whether it stands in an `on error` or `on success` block.
    pub(crate) in_handler: bool,
}

impl Noted<'_> {
    /// The value of the option, else the words of the statement.
    fn place(&self, name: OptionName) -> Span {
        self.given
            .iter()
            .find(|given| given.name == name)
            .map_or(self.head, |given| given.value_span)
    }

    fn warning(&self, code: Code, place: Span, message: String) -> Diagnostic {
        Diagnostic {
            location: self.head,
            ..Diagnostic::new(code, place, message)
        }
    }
}

impl Flow {
    /// Notes the next statement of the script.
    pub(crate) fn note(&mut self, noted: &Noted<'_>, findings: &mut Findings) {
        if findings.warnings_are_full() {
            return;
        }
        self.note_mentioned_nodes(noted, findings);
        self.note_sets(noted, findings);
        self.note_confirmations(noted, findings);
    }

    // ---- nodes -----------------------------------------------------------------------------------

    /// Statements about nodes that slonik itself need not talk to, and yet should know.
    fn note_mentioned_nodes(&mut self, noted: &Noted<'_>, findings: &mut Findings) {
        use OptionName::{Confirmed, ExecuteOnlyOn, NewOrigin, Origin, Provider, Receiver, Server};
        let mentioned: &[OptionName] = match noted.command {
            Command::StorePath { .. } => &[Server],
            Command::StoreListen { .. } => &[Origin, Provider],
            Command::SubscribeSet { .. } => &[Receiver],
            Command::ResubscribeNode { .. } | Command::CloneFinish { .. } => &[Provider],
            Command::MoveSet { .. } => &[NewOrigin],
            Command::WaitForEvent { .. } => &[Origin, Confirmed],
            Command::ExecuteScript { .. } | Command::RepairConfig { .. } => &[ExecuteOnlyOn],
            _ => &[],
        };
        for given in noted.given.iter().filter(|given| mentioned.contains(&given.name)) {
            let nodes = match (&given.value, noted.command) {
                (Value::Number(node), _) => vec![*node],
                (Value::String(_), Command::ExecuteScript { execute_only_on, .. }) => execute_only_on.clone(),
                _ => Vec::new(),
            };
            for node in nodes {
                if noted.preamble.knows(node) || !self.unnamed.insert(node) {
                    continue;
                }
                let message = format!("WARNING: the preamble does not name node {node}");
                let known = noted.preamble.listing();
                findings.push(
                    noted
                        .warning(Code::UnnamedNode, given.value_span, message)
                        .help(format!("{known}: is the number right?")),
                );
            }
        }
    }

    // ---- sets ------------------------------------------------------------------------------------

    fn note_sets(&mut self, noted: &Noted<'_>, findings: &mut Findings) {
        use OptionName::{AddId, Id as IdOption, NewSet, SetId};
        match noted.command {
            Command::CreateSet { id, .. } => self.create(*id, noted, findings),
            Command::DropSet { id, .. } => self.remove(*id, noted, "dropped", IdOption, findings),
            Command::MergeSet { id, add_id, .. } => {
                self.use_set(*id, noted, IdOption, findings);
                self.remove(*add_id, noted, "merged into another one", AddId, findings);
            }
            Command::LockSet { id, .. }
            | Command::UnlockSet { id, .. }
            | Command::MoveSet { id, .. }
            | Command::SubscribeSet { id, .. }
            | Command::UnsubscribeSet { id, .. } => self.use_set(*id, noted, IdOption, findings),
            Command::SetAddTable { set_id, .. } | Command::SetAddSequence { set_id, .. } => {
                self.use_set(*set_id, noted, SetId, findings);
            }
            Command::SetMoveTable { new_set, .. } | Command::SetMoveSequence { new_set, .. } => {
                self.use_set(*new_set, noted, NewSet, findings);
            }
            _ => {}
        }
    }

    fn history(&mut self, set: Id) -> &mut SetHistory {
        self.sets.entry(set).or_insert(SetHistory {
            first_use: None,
            gone: None,
            created: false,
        })
    }

    fn create(&mut self, set: Id, noted: &Noted<'_>, findings: &mut Findings) {
        let history = self.history(set);
        if noted.in_handler {
            // It is created because something else failed; or it is not.
            *history = SetHistory {
                first_use: None,
                gone: None,
                created: true,
            };
            return;
        }
        let early = history.first_use.take().filter(|_| !history.created);
        history.created = true;
        history.gone = None;
        if let Some(place) = early {
            let message = format!("WARNING: set {set} is used here before the script creates it");
            findings.push(
                Diagnostic::new(Code::SetBeforeCreation, place, message)
                    .related(noted.place(OptionName::Id), "created only here")
                    .help(
                        "a set that exists cannot be created, one that does not cannot be used: move `create set` up",
                    ),
            );
        }
    }

    fn remove(&mut self, set: Id, noted: &Noted<'_>, how: &'static str, name: OptionName, findings: &mut Findings) {
        self.use_set(set, noted, name, findings);
        let place = noted.place(name);
        let sure = !noted.in_handler;
        let history = self.history(set);
        history.first_use = None;
        history.created = false;
        history.gone = sure.then_some((place, how));
    }

    fn use_set(&mut self, set: Id, noted: &Noted<'_>, name: OptionName, findings: &mut Findings) {
        let place = noted.place(name);
        let history = self.history(set);
        if let Some((gone, how)) = history.gone.take() {
            let message = format!("WARNING: set {set} does not exist any more");
            findings.push(
                noted
                    .warning(Code::SetAfterDrop, place, message)
                    .related(gone, format!("it is {how} here")),
            );
        }
        if !history.created && !noted.in_handler {
            history.first_use.get_or_insert(place);
        }
    }

    // ---- waits -----------------------------------------------------------------------------------

    fn note_confirmations(&mut self, noted: &Noted<'_>, findings: &mut Findings) {
        let silence = |label| Silence {
            since: noted.head,
            label,
        };
        match noted.command {
            Command::InitCluster { id, .. } | Command::StoreNode { id, .. } => {
                self.silent.insert(
                    *id,
                    silence("the node becomes one only here: its slon has to be started while the script waits"),
                );
            }
            Command::UninstallNode { id } => {
                self.silent
                    .insert(*id, silence("from here on the node has no cluster schema"));
            }
            Command::Failover { nodes } => {
                for node in nodes {
                    self.silent
                        .insert(node.id, silence("from here on the node counts as failed"));
                }
            }
            // Nobody waits for a node that does not exist.
            Command::DropNode { ids, .. } => {
                for node in ids {
                    self.silent.remove(node);
                }
            }
            Command::WaitForEvent {
                origin,
                confirmed,
                timeout: 0,
                ..
            } => self.judge_endless_wait(*origin, *confirmed, noted, findings),
            _ => {}
        }
    }

    fn judge_endless_wait(
        &self,
        origin: NodeChoice,
        confirmed: NodeChoice,
        noted: &Noted<'_>,
        findings: &mut Findings,
    ) {
        let waited_for = |node: Id| match confirmed {
            NodeChoice::Node(only) => node == only,
            NodeChoice::All => NodeChoice::Node(node) != origin,
        };
        let Some((node, silence)) = self.silent.iter().find(|(node, _)| waited_for(**node)) else {
            return;
        };
        let message =
            format!("WARNING: this can wait for ever: there is no time limit, and no slon confirms for node {node}");
        findings.push(
            noted
                .warning(Code::EndlessWait, noted.place(OptionName::Timeout), message)
                .related(silence.since, silence.label)
                .help("give a `timeout` in seconds, or wait for a node whose slon runs"),
        );
    }
}
