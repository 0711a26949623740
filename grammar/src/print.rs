//! A script as text that reads back to the same script.
//!
//! Every option is written out, also where it has its default, so the text says what will happen.

use std::fmt::{self, Display, Formatter, Write as _};

use crate::ast::{Command, Id, NodeChoice, ObjectSelection, Script, ScriptSource, Statement, StatementKind, TryBlock};

/// Blanks for each block around a statement.
const INDENT: usize = 4;

impl Display for Script {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "cluster name = {};", self.cluster)?;
        for node in &self.nodes {
            writeln!(out, "node {} admin conninfo = {};", node.id, Quoted(&node.conninfo))?;
        }
        writeln!(out)?;
        write_block(out, &self.statements, 0)
    }
}

impl Display for Statement {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write_statement(out, self, 0)
    }
}

fn write_block(out: &mut Formatter<'_>, statements: &[Statement], depth: usize) -> fmt::Result {
    for statement in statements {
        write!(out, "{:1$}", "", depth * INDENT)?;
        write_statement(out, statement, depth)?;
        writeln!(out)?;
    }
    Ok(())
}

fn write_statement(out: &mut Formatter<'_>, statement: &Statement, depth: usize) -> fmt::Result {
    match &statement.kind {
        StatementKind::Command(command) => write!(out, "{command}"),
        StatementKind::Try(TryBlock {
            body,
            on_error,
            on_success,
        }) => {
            let handlers = [
                ("try", Some(body)),
                (" on error", on_error.as_ref()),
                (" on success", on_success.as_ref()),
            ];
            for (words, block) in handlers {
                if let Some(statements) = block {
                    writeln!(out, "{words} {{")?;
                    write_block(out, statements, depth + 1)?;
                    write!(out, "{:1$}}}", "", depth * INDENT)?;
                }
            }
            Ok(())
        }
    }
}

impl Display for Command {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo { text } => write!(out, "echo {};", Quoted(text)),
            Self::Date { format } => Line::new("date").string("format", format).write(out),
            Self::Exit { code } => write!(out, "exit {code};"),
            Self::Sleep { seconds } => Line::new("sleep").value("seconds", seconds).write(out),
            Self::Sync { id } => Line::new("sync").value("id", id).write(out),
            Self::WaitForEvent {
                origin,
                confirmed,
                wait_on,
                timeout,
            } => Line::new("wait for event")
                .value("origin", origin)
                .value("confirmed", confirmed)
                .value("wait on", wait_on)
                .value("timeout", timeout)
                .write(out),
            Self::InitCluster { id, comment } => Line::new("init cluster")
                .value("id", id)
                .string("comment", comment)
                .write(out),
            Self::StoreNode {
                id,
                comment,
                event_node,
            } => Line::new("store node")
                .value("id", id)
                .string("comment", comment)
                .value("event node", event_node)
                .write(out),
            Self::DropNode { ids, event_node } => Line::new("drop node")
                .list("id", ids)
                .value("event node", event_node)
                .write(out),
            Self::UninstallNode { id } => Line::new("uninstall node").value("id", id).write(out),
            Self::RestartNode { id } => write!(out, "restart node {id};"),
            Self::UpdateFunctions { id } => Line::new("update functions").value("id", id).write(out),
            Self::ClonePrepare { id, provider, comment } => Line::new("clone prepare")
                .value("id", id)
                .value("provider", provider)
                .string("comment", comment)
                .write(out),
            Self::CloneFinish { id, provider } => Line::new("clone finish")
                .value("id", id)
                .value("provider", provider)
                .write(out),
            Self::ResubscribeNode {
                origin,
                provider,
                receiver,
            } => Line::new("resubscribe node")
                .value("origin", origin)
                .value("provider", provider)
                .value("receiver", receiver)
                .write(out),
            Self::RepairConfig {
                set_id,
                event_node,
                execute_only_on,
            } => Line::new("repair config")
                .value("set id", set_id)
                .value("event node", event_node)
                .optional("execute only on", execute_only_on.as_ref())
                .write(out),
            Self::StorePath {
                server,
                client,
                conninfo,
                connretry,
            } => Line::new("store path")
                .value("server", server)
                .value("client", client)
                .string("conninfo", conninfo)
                .value("connretry", connretry)
                .write(out),
            Self::DropPath {
                server,
                client,
                event_node,
            } => Line::new("drop path")
                .value("server", server)
                .value("client", client)
                .value("event node", event_node)
                .write(out),
            Self::StoreListen {
                origin,
                provider,
                receiver,
            } => listen("store listen", *origin, *provider, *receiver).write(out),
            Self::DropListen {
                origin,
                provider,
                receiver,
            } => listen("drop listen", *origin, *provider, *receiver).write(out),
            Self::CreateSet {
                id,
                origin,
                comment,
                tables,
                add_sequences,
            } => {
                let mut line = Line::new("create set")
                    .value("id", id)
                    .value("origin", origin)
                    .string("comment", comment);
                if let Some(tables) = tables {
                    line = line.string("tables", tables).flag("add sequences", *add_sequences);
                }
                line.write(out)
            }
            Self::DropSet { id, origin } => member("drop set", *id, *origin).write(out),
            Self::MergeSet { id, add_id, origin } => Line::new("merge set")
                .value("id", id)
                .value("add id", add_id)
                .value("origin", origin)
                .write(out),
            Self::LockSet { id, origin } => member("lock set", *id, *origin).write(out),
            Self::UnlockSet { id, origin } => member("unlock set", *id, *origin).write(out),
            Self::MoveSet {
                id,
                old_origin,
                new_origin,
            } => Line::new("move set")
                .value("id", id)
                .value("old origin", old_origin)
                .value("new origin", new_origin)
                .write(out),
            Self::SubscribeSet {
                id,
                provider,
                receiver,
                forward,
                omit_copy,
            } => Line::new("subscribe set")
                .value("id", id)
                .value("provider", provider)
                .value("receiver", receiver)
                .flag("forward", *forward)
                .flag("omit copy", *omit_copy)
                .write(out),
            Self::UnsubscribeSet { id, receiver } => Line::new("unsubscribe set")
                .value("id", id)
                .value("receiver", receiver)
                .write(out),
            Self::SetAddTable {
                set_id,
                origin,
                id,
                tables,
                key,
                comment,
                add_sequences,
            } => Line::new("set add table")
                .value("set id", set_id)
                .optional("origin", origin.as_ref())
                .optional("id", id.as_ref())
                .selection(tables, "tables")
                .optional_string("key", key.as_deref())
                .optional_string("comment", comment.as_deref())
                .flag("add sequences", *add_sequences)
                .write(out),
            Self::SetAddSequence {
                set_id,
                origin,
                id,
                sequences,
                comment,
            } => Line::new("set add sequence")
                .value("set id", set_id)
                .optional("origin", origin.as_ref())
                .optional("id", id.as_ref())
                .selection(sequences, "sequences")
                .optional_string("comment", comment.as_deref())
                .write(out),
            Self::SetDropTable { id, origin } => member("set drop table", *id, *origin).write(out),
            Self::SetDropSequence { id, origin } => member("set drop sequence", *id, *origin).write(out),
            Self::SetMoveTable { id, origin, new_set } => member("set move table", *id, *origin)
                .value("new set", new_set)
                .write(out),
            Self::SetMoveSequence { id, origin, new_set } => member("set move sequence", *id, *origin)
                .value("new set", new_set)
                .write(out),
            Self::ExecuteScript {
                source,
                event_node,
                execute_only_on,
            } => {
                let line = match source {
                    ScriptSource::File(file) => Line::new("execute script").string("filename", file),
                    ScriptSource::Sql(sql) => Line::new("execute script").string("sql", sql),
                };
                let line = line.value("event node", event_node);
                if execute_only_on.is_empty() {
                    line
                } else {
                    line.list("execute only on", execute_only_on)
                }
                .write(out)
            }
            Self::StoreTrigger {
                table_id,
                trigger,
                event_node,
            } => trigger_line("store trigger", *table_id, trigger, *event_node).write(out),
            Self::DropTrigger {
                table_id,
                trigger,
                event_node,
            } => trigger_line("drop trigger", *table_id, trigger, *event_node).write(out),
            Self::SwitchLog { id } => Line::new("switch log").value("id", id).write(out),
            Self::Failover { nodes } => match nodes.as_slice() {
                [node] => Line::new("failover")
                    .value("id", &node.id)
                    .value("backup node", &node.backup_node)
                    .write(out),
                nodes => {
                    let groups: Vec<String> = nodes
                        .iter()
                        .map(|node| format!("node = (id = {}, backup node = {})", node.id, node.backup_node))
                        .collect();
                    write!(out, "failover ({});", groups.join(", "))
                }
            },
        }
    }
}

impl Display for NodeChoice {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => out.write_str("all"),
            Self::Node(node) => write!(out, "{node}"),
        }
    }
}

/// A string literal of the language: only the quote is special.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "'{}'", self.0.replace('\'', "''"))
    }
}

/// A statement with its options.
struct Line {
    text: String,
    options: usize,
}

impl Line {
    fn new(words: &str) -> Self {
        Self {
            text: words.to_owned(),
            options: 0,
        }
    }

    fn value(mut self, name: &str, value: &impl Display) -> Self {
        self.text.push_str(if self.options == 0 { " (" } else { ", " });
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{name} = {value}");
        self.options += 1;
        self
    }

    fn string(self, name: &str, value: &str) -> Self {
        self.value(name, &Quoted(value))
    }

    fn flag(self, name: &str, value: bool) -> Self {
        self.value(name, &if value { "yes" } else { "no" })
    }

    fn optional(self, name: &str, value: Option<&Id>) -> Self {
        match value {
            Some(value) => self.value(name, value),
            None => self,
        }
    }

    fn optional_string(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.string(name, value),
            None => self,
        }
    }

    fn selection(self, selection: &ObjectSelection, pattern: &str) -> Self {
        match selection {
            ObjectSelection::Name(name) => self.string("fully qualified name", name),
            ObjectSelection::Pattern(text) => self.string(pattern, text),
        }
    }

    /// One number, or a string of several.
    fn list(self, name: &str, values: &[Id]) -> Self {
        match values {
            [one] => self.value(name, one),
            many => {
                let list: Vec<String> = many.iter().map(ToString::to_string).collect();
                self.string(name, &list.join(","))
            }
        }
    }

    fn write(self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{}{};", self.text, if self.options == 0 { "" } else { ")" })
    }
}

/// The statements that name a set, table or sequence and its origin.
fn member(words: &str, id: Id, origin: Id) -> Line {
    Line::new(words).value("id", &id).value("origin", &origin)
}

fn trigger_line(words: &str, table: Id, trigger: &str, event_node: Id) -> Line {
    Line::new(words)
        .value("table id", &table)
        .string("trigger name", trigger)
        .value("event node", &event_node)
}

fn listen(words: &str, origin: Id, provider: Id, receiver: Id) -> Line {
    Line::new(words)
        .value("origin", &origin)
        .value("receiver", &receiver)
        .value("provider", &provider)
}
