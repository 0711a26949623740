//! From options to typed commands: one function for each statement.
//!
//! The messages are those of slonik 2.2.11, in its order. Where it checks nothing and fails only when
//! the statement runs (an option that is simply missing, a node it cannot talk to), the script is
//! refused here, before its first step.

use crate::ast::{Command, FailedNode, Id, ObjectSelection, ScriptSource};
use crate::check::Checker;
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::dialect;
use crate::option::OptionName::{
    AddId, AddSequences, BackupNode, Client, Comment, Confirmed, Conninfo, Connretry, EventNode, ExecuteOnlyOn,
    Filename, Format, Forward, Id as IdOption, Key, NewOrigin, NewSet, OldOrigin, OmitCopy, Origin, Provider,
    QualifiedName, Receiver, Seconds, Sequences, Server, SetId, Sql, TableId as TableIdOption, Tables, Timeout,
    TriggerName, WaitOn,
};
use crate::option::Value;

const DEFAULT_DATE_FORMAT: &str = "%F %T";
const DEFAULT_FIRST_NODE_COMMENT: &str = "Initial Node";
const DEFAULT_SET_COMMENT: &str = "A replication set so boring no one thought to give it a name";
const DEFAULT_CONNRETRY: i32 = 10;
const DEFAULT_WAIT_TIMEOUT: u32 = 600;

const SET_ID: &str = "set id must be specified";
const NODE_ID: &str = "node ID must be specified";
const ORIGIN: &str = "origin must be specified";
const TABLE_ID: &str = "table id must be specified";
const SEQUENCE_ID: &str = "sequence id must be specified";
const NEW_SET: &str = "new set id must be specified";
const EVENT_NODE: &str = "require EVENT NODE";

// ---- control -----------------------------------------------------------------------------------

pub(crate) fn echo(checker: &mut Checker<'_>) -> Command {
    Command::Echo {
        text: checker.operands.text.take().unwrap_or_default(),
    }
}

pub(crate) fn date(checker: &mut Checker<'_>) -> Command {
    Command::Date {
        format: checker.string(Format).unwrap_or_else(|| DEFAULT_DATE_FORMAT.to_owned()),
    }
}

pub(crate) fn exit(checker: &mut Checker<'_>) -> Command {
    let (number, place) = checker.operands.number.unwrap_or((0, checker.head));
    let place = checker
        .operands
        .minus
        .map_or(place, |minus| checker.sources.join(minus, place));
    let code = if checker.operands.negative { -number } else { number };
    let code = u8::try_from(code).unwrap_or_else(|_| {
        checker.error(
            Code::ExitCodeOutOfRange,
            place,
            &format!("exitcode was {code} - must be in range [0-255]"),
        );
        0
    });
    Command::Exit { code }
}

pub(crate) fn sleep(checker: &mut Checker<'_>) -> Command {
    checker.required(Seconds, " sleep time (-1) must be positive");
    Command::Sleep {
        seconds: checker.count(Seconds).unwrap_or(0),
    }
}

pub(crate) fn sync(checker: &mut Checker<'_>) -> Command {
    Command::Sync {
        id: checker.required_admin(IdOption, NODE_ID),
    }
}

pub(crate) fn wait_for_event(checker: &mut Checker<'_>) -> Command {
    let origin = checker.required_choice(Origin, "event origin to wait for must be specified");
    let confirmed = checker.required_choice(Confirmed, "confirming node to wait for must be specified");
    let wait_on = if checker.given(WaitOn).is_some() || checker.failed {
        checker.admin(WaitOn)
    } else {
        dialect::node_to_ask(checker, origin, confirmed)
    };
    Command::WaitForEvent {
        origin,
        confirmed,
        wait_on,
        timeout: checker.count(Timeout).unwrap_or(DEFAULT_WAIT_TIMEOUT),
    }
}

// ---- nodes -------------------------------------------------------------------------------------

pub(crate) fn init_cluster(checker: &mut Checker<'_>) -> Command {
    Command::InitCluster {
        id: checker.admin(IdOption),
        comment: checker
            .string(Comment)
            .unwrap_or_else(|| DEFAULT_FIRST_NODE_COMMENT.to_owned()),
    }
}

pub(crate) fn store_node(checker: &mut Checker<'_>) -> Command {
    let event_node = checker.required_admin(EventNode, EVENT_NODE);
    let id = checker.required_admin(IdOption, NODE_ID);
    if checker.number(IdOption).is_some() && checker.number(IdOption) == checker.number(EventNode) {
        let place = checker.whole(EventNode);
        checker.error(
            Code::Contradiction,
            place,
            "ev_origin for store_node cannot be the new node",
        );
    }
    Command::StoreNode {
        id,
        comment: checker.string(Comment).unwrap_or_default(),
        event_node,
    }
}

pub(crate) fn drop_node(checker: &mut Checker<'_>) -> Command {
    const NO_ID: &str = "A node id must be provided";
    let event_node = checker.required_admin(EventNode, EVENT_NODE);
    let ids = match checker.string(IdOption) {
        Some(list) => checker.node_list(IdOption, &list, NO_ID),
        None => vec![checker.required(IdOption, NO_ID)],
    };
    if let Some(event_node) = checker.number(EventNode)
        && checker.given(IdOption).is_some()
        && ids.contains(&event_node)
    {
        let place = checker.place(IdOption);
        checker.error(
            Code::Contradiction,
            place,
            &format!("Node ID ({event_node}) and event node cannot be identical"),
        );
    }
    Command::DropNode { ids, event_node }
}

pub(crate) fn uninstall_node(checker: &mut Checker<'_>) -> Command {
    Command::UninstallNode {
        id: checker.admin(IdOption),
    }
}

pub(crate) fn restart_node(checker: &mut Checker<'_>) -> Command {
    let (id, place) = checker.operands.number.unwrap_or((0, checker.head));
    checker.has_conninfo(id, place);
    Command::RestartNode { id }
}

pub(crate) fn update_functions(checker: &mut Checker<'_>) -> Command {
    Command::UpdateFunctions {
        id: checker.admin(IdOption),
    }
}

pub(crate) fn clone_prepare(checker: &mut Checker<'_>) -> Command {
    let id = checker.required(IdOption, "new node ID must be specified");
    Command::ClonePrepare {
        id,
        provider: checker.admin(Provider),
        comment: checker.string(Comment).unwrap_or_else(|| format!("Node {id}")),
    }
}

pub(crate) fn clone_finish(checker: &mut Checker<'_>) -> Command {
    Command::CloneFinish {
        id: checker.admin(IdOption),
        provider: checker.required(Provider, "provider must be specified"),
    }
}

pub(crate) fn resubscribe_node(checker: &mut Checker<'_>) -> Command {
    Command::ResubscribeNode {
        origin: checker.required_admin(Origin, "require ORIGIN node"),
        provider: checker.required(Provider, "require PROVIDER node"),
        receiver: checker.required_admin(Receiver, "require RECEIVER node"),
    }
}

pub(crate) fn repair_config(checker: &mut Checker<'_>) -> Command {
    let event_node = dialect::event_node(checker);
    Command::RepairConfig {
        set_id: checker.required(SetId, SET_ID),
        event_node,
        execute_only_on: checker.number(ExecuteOnlyOn),
    }
}

pub(crate) fn switch_log(checker: &mut Checker<'_>) -> Command {
    Command::SwitchLog {
        id: checker.required_admin(IdOption, NODE_ID),
    }
}

pub(crate) fn failover(checker: &mut Checker<'_>) -> Command {
    Command::Failover {
        nodes: vec![failed_node(checker)],
    }
}

pub(crate) fn failover_list(checker: &mut Checker<'_>) -> Command {
    let groups = std::mem::take(&mut checker.operands.groups);
    let mut nodes = Vec::with_capacity(groups.len());
    for group in groups {
        checker.given = group;
        nodes.push(failed_node(checker));
    }
    Command::Failover { nodes }
}

fn failed_node(checker: &mut Checker<'_>) -> FailedNode {
    let id = checker.required(IdOption, NODE_ID);
    let backup_node = checker.required_admin(BackupNode, "require BACKUP NODE");
    if checker.number(IdOption).is_some() && checker.number(IdOption) == checker.number(BackupNode) {
        let place = checker.whole(BackupNode);
        checker.error(
            Code::Contradiction,
            place,
            "Node ID and backup node cannot be identical",
        );
    }
    FailedNode { id, backup_node }
}

// ---- paths and listens ---------------------------------------------------------------------------

pub(crate) fn store_path(checker: &mut Checker<'_>) -> Command {
    Command::StorePath {
        server: checker.required(Server, "server must be specified"),
        client: checker.admin(Client),
        conninfo: checker.required_string(Conninfo, "conninfo must be specified"),
        connretry: checker.number(Connretry).unwrap_or(DEFAULT_CONNRETRY),
    }
}

pub(crate) fn drop_path(checker: &mut Checker<'_>) -> Command {
    let server = checker.required(Server, "server must be specified");
    let client = checker.required(Client, "client must be specified");
    let event_node = match checker.number(EventNode) {
        Some(_) => checker.admin(EventNode),
        None => client,
    };
    if checker.number(EventNode).is_none() && checker.number(Client).is_some() {
        checker.has_conninfo(client, checker.place(Client));
    }
    Command::DropPath {
        server,
        client,
        event_node,
    }
}

pub(crate) fn store_listen(checker: &mut Checker<'_>) -> Command {
    let (origin, provider, receiver) = listen(checker);
    Command::StoreListen {
        origin,
        provider,
        receiver,
    }
}

pub(crate) fn drop_listen(checker: &mut Checker<'_>) -> Command {
    let (origin, provider, receiver) = listen(checker);
    Command::DropListen {
        origin,
        provider,
        receiver,
    }
}

fn listen(checker: &mut Checker<'_>) -> (Id, Id, Id) {
    let receiver = checker.admin(Receiver);
    let origin = checker.required(Origin, ORIGIN);
    (origin, checker.number(Provider).unwrap_or(origin), receiver)
}

// ---- sets ----------------------------------------------------------------------------------------

pub(crate) fn create_set(checker: &mut Checker<'_>) -> Command {
    let tables = checker.string(Tables);
    let add_sequences = checker.flag(AddSequences);
    if add_sequences && tables.is_none() {
        let place = checker.whole(AddSequences);
        checker.error(
            Code::MissingOption,
            place,
            "'add sequences' belongs to 'tables', which is not given",
        );
    }
    Command::CreateSet {
        id: checker.required(IdOption, SET_ID),
        origin: checker.admin(Origin),
        comment: checker
            .string(Comment)
            .unwrap_or_else(|| DEFAULT_SET_COMMENT.to_owned()),
        tables,
        add_sequences,
    }
}

pub(crate) fn drop_set(checker: &mut Checker<'_>) -> Command {
    Command::DropSet {
        id: checker.required(IdOption, SET_ID),
        origin: checker.admin(Origin),
    }
}

pub(crate) fn merge_set(checker: &mut Checker<'_>) -> Command {
    Command::MergeSet {
        id: checker.required(IdOption, SET_ID),
        add_id: checker.required(AddId, "set id to merge (add) must be specified"),
        origin: checker.admin(Origin),
    }
}

pub(crate) fn lock_set(checker: &mut Checker<'_>) -> Command {
    Command::LockSet {
        id: checker.required(IdOption, SET_ID),
        origin: checker.required_admin(Origin, ORIGIN),
    }
}

pub(crate) fn unlock_set(checker: &mut Checker<'_>) -> Command {
    Command::UnlockSet {
        id: checker.required(IdOption, SET_ID),
        origin: checker.required_admin(Origin, ORIGIN),
    }
}

pub(crate) fn move_set(checker: &mut Checker<'_>) -> Command {
    let id = checker.required(IdOption, SET_ID);
    let old_origin = checker.required_admin(OldOrigin, "old origin must be specified");
    let new_origin = checker.required(NewOrigin, "new origin must be specified");
    if checker.number(NewOrigin).is_some() && checker.number(OldOrigin) == checker.number(NewOrigin) {
        let place = checker.whole(NewOrigin);
        checker.error(Code::Contradiction, place, "old and new origin cannot be identical");
    }
    Command::MoveSet {
        id,
        old_origin,
        new_origin,
    }
}

pub(crate) fn subscribe_set(checker: &mut Checker<'_>) -> Command {
    Command::SubscribeSet {
        id: checker.required(IdOption, SET_ID),
        provider: checker.required_admin(Provider, "provider must be specified"),
        receiver: checker.required(Receiver, "receiver must be specified"),
        forward: checker.flag(Forward),
        omit_copy: checker.flag(OmitCopy),
    }
}

pub(crate) fn unsubscribe_set(checker: &mut Checker<'_>) -> Command {
    Command::UnsubscribeSet {
        id: checker.required(IdOption, SET_ID),
        receiver: checker.admin(Receiver),
    }
}

pub(crate) fn set_add_table(checker: &mut Checker<'_>) -> Command {
    let set_id = checker.required(SetId, SET_ID);
    let tables = match (checker.string(QualifiedName), checker.string(Tables)) {
        (Some(name), None) => ObjectSelection::Name(name),
        (None, Some(pattern)) => ObjectSelection::Pattern(pattern),
        (Some(_), Some(pattern)) => {
            let place = checker.whole(Tables);
            checker.error(
                Code::Contradiction,
                place,
                "'fully qualified name' and 'tables' can not both be specified",
            );
            ObjectSelection::Pattern(pattern)
        }
        (None, None) => {
            let head = checker.head;
            checker.push(
                // slonik spells it so.
                Diagnostic::new(
                    Code::MissingOption,
                    head,
                    "Error: 'fully qualfied name' or 'tables' must be specified",
                )
                .help("add `fully qualified name = 'schema.table'`, or `tables = '<regular expression>'` for many"),
            );
            ObjectSelection::Name(String::new())
        }
    };
    let origin = optional_admin(checker);
    let key = checker.string(Key);
    if checker.given(Key).is_some_and(|given| given.value == Value::Serial) {
        dialect::serial_key(checker);
    }
    if matches!(tables, ObjectSelection::Pattern(_)) && key.is_some() {
        let place = checker.whole(Key);
        checker.push(
            Diagnostic::new(
                Code::Contradiction,
                place,
                "ERROR: 'key' can not be used with the 'tables' option.",
            )
            .help("add the tables that need a `key` one by one, each with `fully qualified name`"),
        );
    }
    Command::SetAddTable {
        set_id,
        origin,
        id: optional_id(checker),
        tables,
        key,
        comment: checker.string(Comment),
        add_sequences: checker.flag(AddSequences),
    }
}

pub(crate) fn set_add_sequence(checker: &mut Checker<'_>) -> Command {
    let set_id = checker.required(SetId, SET_ID);
    let sequences = match (checker.string(QualifiedName), checker.string(Sequences)) {
        (Some(name), None) => ObjectSelection::Name(name),
        (None, Some(pattern)) => ObjectSelection::Pattern(pattern),
        (Some(_), Some(pattern)) => {
            let place = checker.whole(Sequences);
            checker.error(
                Code::Contradiction,
                place,
                "'fully qualified name' and 'sequences' can not both be specified",
            );
            ObjectSelection::Pattern(pattern)
        }
        (None, None) => {
            let head = checker.head;
            checker.push(
                Diagnostic::new(
                    Code::MissingOption,
                    head,
                    "Error: sequence FQ-name or sequences must be specified",
                )
                .help(
                    "add `fully qualified name = 'schema.sequence'`, or `sequences = '<regular expression>'` for many",
                ),
            );
            ObjectSelection::Name(String::new())
        }
    };
    Command::SetAddSequence {
        set_id,
        origin: optional_admin(checker),
        id: optional_id(checker),
        sequences,
        comment: checker.string(Comment),
    }
}

/// The origin, which slonik finds out by itself when it is not given.
fn optional_admin(checker: &mut Checker<'_>) -> Option<Id> {
    checker.given(Origin)?;
    Some(checker.admin(Origin))
}

/// The id, which slonik chooses by itself when it is not given, or given as a string.
fn optional_id(checker: &mut Checker<'_>) -> Option<Id> {
    if checker.string(IdOption).is_some() {
        let place = checker.place(IdOption);
        checker.findings.push(
            Diagnostic::new(
                Code::IgnoredId,
                place,
                "WARNING: an `id` in quotes is ignored, the next free one is used",
            )
            .help("write the number without quotes"),
        );
    }
    checker.number(IdOption)
}

pub(crate) fn set_drop_table(checker: &mut Checker<'_>) -> Command {
    let origin = checker.required_admin(Origin, ORIGIN);
    Command::SetDropTable {
        id: checker.required(IdOption, TABLE_ID),
        origin,
    }
}

pub(crate) fn set_drop_sequence(checker: &mut Checker<'_>) -> Command {
    let origin = checker.required_admin(Origin, ORIGIN);
    Command::SetDropSequence {
        id: checker.required(IdOption, SEQUENCE_ID),
        origin,
    }
}

pub(crate) fn set_move_table(checker: &mut Checker<'_>) -> Command {
    let origin = checker.required_admin(Origin, ORIGIN);
    let id = checker.required(IdOption, TABLE_ID);
    Command::SetMoveTable {
        id,
        origin,
        new_set: checker.required(NewSet, NEW_SET),
    }
}

pub(crate) fn set_move_sequence(checker: &mut Checker<'_>) -> Command {
    let origin = checker.required_admin(Origin, ORIGIN);
    let id = checker.required(IdOption, SEQUENCE_ID);
    Command::SetMoveSequence {
        id,
        origin,
        new_set: checker.required(NewSet, NEW_SET),
    }
}

// ---- triggers, of Slony-I 1.x --------------------------------------------------------------------

pub(crate) fn store_trigger(checker: &mut Checker<'_>) -> Command {
    let (table_id, trigger, event_node) = trigger(checker);
    dialect::trigger(checker, "on subscribers too", "enable always trigger");
    Command::StoreTrigger {
        table_id,
        trigger,
        event_node,
    }
}

pub(crate) fn drop_trigger(checker: &mut Checker<'_>) -> Command {
    let (table_id, trigger, event_node) = trigger(checker);
    dialect::trigger(checker, "on the origin only", "enable trigger");
    Command::DropTrigger {
        table_id,
        trigger,
        event_node,
    }
}

fn trigger(checker: &mut Checker<'_>) -> (Id, String, Id) {
    let table = checker.required(TableIdOption, TABLE_ID);
    let name = checker.required_string(TriggerName, "trigger name must be specified");
    (table, name, dialect::event_node(checker))
}

// ---- DDL -----------------------------------------------------------------------------------------

pub(crate) fn execute_script(checker: &mut Checker<'_>) -> Command {
    let event_node = match dialect::script_of_set(checker) {
        Some(node) => node,
        None => checker.required_admin(EventNode, EVENT_NODE),
    };
    let source = match (checker.string(Filename), checker.string(Sql)) {
        (Some(file), sql) => {
            if sql.is_some() {
                let place = checker.whole(Sql);
                checker.error(
                    Code::Contradiction,
                    place,
                    "script file name and sql are mutually exclusive",
                );
            }
            checker.readable(Filename, &file);
            ScriptSource::File(file)
        }
        (None, Some(sql)) => ScriptSource::Sql(sql),
        (None, None) => {
            let head = checker.head;
            checker.push(
                Diagnostic::new(
                    Code::MissingOption,
                    head,
                    "Error: script file name or sql must be specified",
                )
                .help("add `filename = '<path>'` or `sql = '<text>'`"),
            );
            ScriptSource::Sql(String::new())
        }
    };
    let execute_only_on = match (checker.number(ExecuteOnlyOn), checker.string(ExecuteOnlyOn)) {
        (Some(_), Some(_)) => {
            let place = checker.whole(ExecuteOnlyOn);
            checker.error(
                Code::Contradiction,
                place,
                "cannot specify singular node as well as node list",
            );
            Vec::new()
        }
        (Some(node), None) => vec![node],
        (None, Some(list)) => checker.node_list(ExecuteOnlyOn, &list, "execute only on needs at least one node"),
        (None, None) => Vec::new(),
    };
    Command::ExecuteScript {
        source,
        event_node,
        execute_only_on,
    }
}
