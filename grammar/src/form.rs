//! The table of statements: words, options, and what builds the typed command.
//!
//! A statement is added here and in `slonik.pest`; nothing else knows the list.

use crate::ast::Command;
use crate::build;
use crate::check::Checker;
use crate::option::OptionName::{
    self, AddId, AddSequences, BackupNode, Client, Comment, Confirmed, Conninfo, Connretry, EventNode, ExecuteOnlyOn,
    Filename, Format, Forward, Id, Key, NewOrigin, NewSet, OldOrigin, OmitCopy, Origin, Provider, QualifiedName,
    Receiver, Seconds, Sequences, Server, SetId, Sql, TableId, Tables, Timeout, TriggerName, WaitOn,
};
use crate::syntax::{Chunk, Rule};

/// One statement of the language.
pub(crate) struct Form {
    /// Its rule in the grammar.
    pub(crate) rule: Rule,
    /// The words it starts with.
    pub(crate) words: &'static str,
    /// The options it accepts, in the order in which people write them.
    pub(crate) options: &'static [OptionName],
    /// Options of older versions that are accepted and never proposed.
    pub(crate) old_options: &'static [OptionName],
    /// Checks what was given and makes the command.
    pub(crate) build: fn(&mut Checker<'_>) -> Command,
}

/// The form of a rule of the grammar.
pub(crate) fn of_rule(rule: Rule) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.rule == rule)
}

/// The forms whose words a step starts with (`failover` has two).
pub(crate) fn of_chunk(chunk: &Chunk) -> impl Iterator<Item = &'static Form> {
    FORMS.iter().filter(|form| {
        form.words
            .split(' ')
            .enumerate()
            .all(|(index, word)| chunk.is_word(index, word))
    })
}

/// Every statement but `try`: its words, and the options it takes today, for documentation.
pub fn statements() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    let mut last = "";
    FORMS.iter().filter_map(move |form| {
        // `failover` has two forms.
        let again = std::mem::replace(&mut last, form.words) == form.words;
        (!again).then(|| (form.words, form.options.iter().map(|option| option.words()).collect()))
    })
}

macro_rules! forms {
    ($($rule:ident $words:literal [$($option:ident),*] $(old [$($old:ident),*])?;)*) => {
        /// Every statement but `try`.
        pub(crate) static FORMS: &[Form] = &[
            $(Form {
                rule: Rule::$rule,
                words: $words,
                options: &[$($option),*],
                old_options: &[$($($old),*)?],
                build: build::$rule,
            }),*
        ];
    };
}

forms! {
    echo "echo" [];
    date "date" [Format];
    exit "exit" [];
    sleep "sleep" [Seconds];
    sync "sync" [Id];
    wait_for_event "wait for event" [Origin, Confirmed, WaitOn, Timeout];
    init_cluster "init cluster" [Id, Comment];
    store_node "store node" [Id, Comment, EventNode];
    drop_node "drop node" [Id, EventNode];
    uninstall_node "uninstall node" [Id];
    restart_node "restart node" [];
    resubscribe_node "resubscribe node" [Origin, Provider, Receiver];
    clone_prepare "clone prepare" [Id, Provider, Comment];
    clone_finish "clone finish" [Id, Provider];
    store_path "store path" [Server, Client, Conninfo, Connretry];
    drop_path "drop path" [Server, Client, EventNode];
    store_listen "store listen" [Origin, Receiver, Provider];
    drop_listen "drop listen" [Origin, Receiver, Provider];
    create_set "create set" [Id, Origin, Comment, Tables, AddSequences];
    drop_set "drop set" [Id, Origin];
    merge_set "merge set" [Id, AddId, Origin];
    lock_set "lock set" [Id, Origin];
    unlock_set "unlock set" [Id, Origin];
    move_set "move set" [Id, OldOrigin, NewOrigin];
    subscribe_set "subscribe set" [Id, Provider, Receiver, Forward, OmitCopy];
    unsubscribe_set "unsubscribe set" [Id, Receiver];
    set_add_table "set add table" [SetId, Origin, Id, QualifiedName, Key, Comment, Tables, AddSequences];
    set_add_sequence "set add sequence" [SetId, Origin, Id, QualifiedName, Comment, Sequences];
    set_drop_table "set drop table" [Id, Origin];
    set_drop_sequence "set drop sequence" [Id, Origin];
    set_move_table "set move table" [Id, Origin, NewSet];
    set_move_sequence "set move sequence" [Id, Origin, NewSet];
    execute_script "execute script" [Filename, Sql, EventNode, ExecuteOnlyOn] old [SetId];
    update_functions "update functions" [Id];
    repair_config "repair config" [SetId, EventNode, ExecuteOnlyOn];
    switch_log "switch log" [Id];
    failover "failover" [Id, BackupNode];
    failover_list "failover" [Id, BackupNode];
    store_trigger "store trigger" [TableId, TriggerName, EventNode];
    drop_trigger "drop trigger" [TableId, TriggerName, EventNode];
}
