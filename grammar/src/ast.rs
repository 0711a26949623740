//! The typed script: what a slonik script says, after defaults are filled in.
//!
//! Every value that can be wrong at run time keeps the span of the statement it stands in, so that
//! later messages can name `file:line` and show the source. Required options are plain fields: the
//! parser refuses a script that lacks one, so the interpreter never meets an absent value.

use crate::source::Span;

/// A number of a node, set, table or sequence.
pub type Id = i32;

/// A whole script: preamble and statements of one file with everything it includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Name after `cluster name =`, without the leading underscore of the schema.
    pub cluster: String,
    /// Where the cluster name stands.
    pub cluster_span: Span,
    /// The `node N admin conninfo = '…'` lines in order.
    pub nodes: Vec<AdminNode>,
    /// The statements in order.
    pub statements: Vec<Statement>,
}

/// One `node N admin conninfo = '…';` line of the preamble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminNode {
    /// Node number.
    pub id: Id,
    /// libpq connection string of the administrator.
    pub conninfo: String,
    /// Where the line stands.
    pub span: Span,
}

/// A statement and where it stands (`span.line` is the line of its first token).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it does.
    pub kind: StatementKind,
    /// From the first token to the closing `;` or `}`.
    pub span: Span,
}

/// `try` or a plain statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementKind {
    /// `try { … } on error { … } on success { … }`.
    Try(TryBlock),
    /// Anything else.
    Command(Command),
}

/// A `try` block with its handlers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TryBlock {
    /// The guarded statements; never `try` nor `wait for event`.
    pub body: Vec<Statement>,
    /// `on error { … }`, run after a rollback; may hold `try`.
    pub on_error: Option<Vec<Statement>>,
    /// `on success { … }`, run after the commit; may hold `try`.
    pub on_success: Option<Vec<Statement>>,
}

/// One node, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeChoice {
    /// The keyword `all`.
    All,
    /// One node number.
    Node(Id),
}

/// What `set add table` and `set add sequence` add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectSelection {
    /// `fully qualified name = '…'`, as written.
    Name(String),
    /// `tables = '…'` or `sequences = '…'`: a PostgreSQL regular expression over `schema.name`.
    Pattern(String),
}

/// Where the text of `execute script` comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptSource {
    /// `filename = '…'`.
    File(String),
    /// `sql = '…'`.
    Sql(String),
}

/// One failed node and the node that takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedNode {
    /// The failed node.
    pub id: Id,
    /// The node that becomes origin of its sets.
    pub backup_node: Id,
}

/// Every statement of slonik 2.2.11 except `try`, and what older versions had beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields carry the names of the language's options")]
pub enum Command {
    /// `echo 'text';`
    Echo { text: String },
    /// `date (format = '…');` with the strftime default `%F %T`.
    Date { format: String },
    /// `exit [-]n;` already checked to be 0..=255.
    Exit { code: u8 },
    /// `sleep (seconds = n);`
    Sleep { seconds: u32 },
    /// `sync (id = n);`
    Sync { id: Id },
    /// `wait for event (origin = …, confirmed = …, wait on = n, timeout = 600);`
    WaitForEvent {
        origin: NodeChoice,
        confirmed: NodeChoice,
        wait_on: Id,
        /// Seconds; 0 waits for ever.
        timeout: u32,
    },
    /// `init cluster (id, comment = 'Initial Node')`
    InitCluster { id: Id, comment: String },
    /// `store node (id, comment, event node)`
    StoreNode { id: Id, comment: String, event_node: Id },
    /// `drop node (id = n | 'n,m', event node)`
    DropNode { ids: Vec<Id>, event_node: Id },
    /// `uninstall node (id)`
    UninstallNode { id: Id },
    /// `restart node n;`
    RestartNode { id: Id },
    /// `update functions (id)`
    UpdateFunctions { id: Id },
    /// `clone prepare (id, provider, comment = 'Node <id>')`
    ClonePrepare { id: Id, provider: Id, comment: String },
    /// `clone finish (id, provider)`
    CloneFinish { id: Id, provider: Id },
    /// `resubscribe node (origin, provider, receiver)`
    ResubscribeNode { origin: Id, provider: Id, receiver: Id },
    /// `repair config (set id, event node = 1, execute only on)`
    RepairConfig {
        set_id: Id,
        event_node: Id,
        execute_only_on: Option<Id>,
    },
    /// `store path (server, client, conninfo, connretry = 10)`
    StorePath {
        server: Id,
        client: Id,
        conninfo: String,
        connretry: i32,
    },
    /// `drop path (server, client, event node = client)`
    DropPath { server: Id, client: Id, event_node: Id },
    /// `store listen (origin, receiver, provider = origin)`
    StoreListen { origin: Id, provider: Id, receiver: Id },
    /// `drop listen (origin, receiver, provider = origin)`
    DropListen { origin: Id, provider: Id, receiver: Id },
    /// `create set (id, origin, comment, tables, add sequences = no)`
    CreateSet {
        id: Id,
        origin: Id,
        comment: String,
        /// A regular expression: tables that are added at once. Ours.
        tables: Option<String>,
        add_sequences: bool,
    },
    /// `drop set (id, origin)`
    DropSet { id: Id, origin: Id },
    /// `merge set (id, add id, origin)`
    MergeSet { id: Id, add_id: Id, origin: Id },
    /// `lock set (id, origin)`
    LockSet { id: Id, origin: Id },
    /// `unlock set (id, origin)`
    UnlockSet { id: Id, origin: Id },
    /// `move set (id, old origin, new origin)`
    MoveSet { id: Id, old_origin: Id, new_origin: Id },
    /// `subscribe set (id, provider, receiver, forward = no, omit copy = no)`
    SubscribeSet {
        id: Id,
        provider: Id,
        receiver: Id,
        forward: bool,
        omit_copy: bool,
    },
    /// `unsubscribe set (id, receiver)`
    UnsubscribeSet { id: Id, receiver: Id },
    /// `set add table (set id, origin, id, fully qualified name | tables, key, comment, add sequences = no)`
    SetAddTable {
        set_id: Id,
        /// None: found by asking the nodes of the preamble.
        origin: Option<Id>,
        /// None: one more than the highest in use.
        id: Option<Id>,
        tables: ObjectSelection,
        /// Name of the unique index that identifies rows; None: the primary key.
        key: Option<String>,
        comment: Option<String>,
        add_sequences: bool,
    },
    /// `set add sequence (set id, origin, id, fully qualified name | sequences, comment)`
    SetAddSequence {
        set_id: Id,
        origin: Option<Id>,
        id: Option<Id>,
        sequences: ObjectSelection,
        comment: Option<String>,
    },
    /// `set drop table (id, origin)`
    SetDropTable { id: Id, origin: Id },
    /// `set drop sequence (id, origin)`
    SetDropSequence { id: Id, origin: Id },
    /// `set move table (id, origin, new set)`
    SetMoveTable { id: Id, origin: Id, new_set: Id },
    /// `set move sequence (id, origin, new set)`
    SetMoveSequence { id: Id, origin: Id, new_set: Id },
    /// `execute script (filename | sql, event node, execute only on)`
    ExecuteScript {
        source: ScriptSource,
        event_node: Id,
        /// Empty: every node.
        execute_only_on: Vec<Id>,
    },
    /// `store trigger (table id, trigger name, event node = 1)` of Slony-I 1.x: the trigger fires on subscribers too.
    StoreTrigger {
        table_id: Id,
        trigger: String,
        event_node: Id,
    },
    /// `drop trigger (table id, trigger name, event node = 1)` of Slony-I 1.x: the trigger fires on the origin only.
    DropTrigger {
        table_id: Id,
        trigger: String,
        event_node: Id,
    },
    /// `switch log (id)`
    SwitchLog { id: Id },
    /// `failover (id, backup node)` or `failover (node = (…), node = (…))`
    Failover { nodes: Vec<FailedNode> },
}
