//! The options of statements: names, values, and what was given.

use pest::iterators::Pair;

use crate::source::Span;
use crate::syntax::Rule;

macro_rules! option_names {
    ($($name:ident $rule:ident $label:literal $kind:ident;)*) => {
        /// The name of an option.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum OptionName { $($name),* }

        impl OptionName {
            /// The option a rule of the grammar stands for.
            pub(crate) fn from_rule(rule: Rule) -> Option<Self> {
                match rule { $(Rule::$rule => Some(Self::$name),)* _ => None }
            }

            /// The words, as slonik names the option in messages.
            pub(crate) fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }

            /// The words, as people write them.
            pub(crate) fn words(self) -> &'static str {
                match self {
                    Self::QualifiedName => "fully qualified name",
                    other => other.label(),
                }
            }

            /// What may stand behind the `=`.
            pub(crate) fn kind(self) -> ValueKind {
                match self { $(Self::$name => ValueKind::$kind),* }
            }
        }
    };
}

option_names! {
    Id option_id "id" Number;
    SetId option_set_id "set id" Number;
    AddId option_add_id "add id" Number;
    NodeId option_node_id "node id" Number;
    TableId option_table_id "table id" Number;
    BackupNode option_backup_node "backup node" Number;
    EventNode option_event_node "event node" Number;
    Server option_server "server" Number;
    Client option_client "client" Number;
    Receiver option_receiver "receiver" Number;
    Provider option_provider "provider" Number;
    OldOrigin option_old_origin "old origin" Number;
    NewOrigin option_new_origin "new origin" Number;
    NewSet option_new_set "new set" Number;
    Connretry option_connretry "connretry" Number;
    WaitOn option_wait_on "wait on" Number;
    Timeout option_timeout "timeout" Number;
    Seconds option_seconds "seconds" Number;
    Origin option_origin "origin" NumberOrAll;
    Confirmed option_confirmed "confirmed" NumberOrAll;
    Comment option_comment "comment" String;
    Conninfo option_conninfo "conninfo" String;
    Format option_format "format" String;
    QualifiedName option_qualified_name "full qualified name" String;
    Key option_key "key" String;
    Filename option_filename "filename" String;
    Sql option_sql "sql" String;
    Tables option_tables "tables" String;
    Sequences option_sequences "sequences" String;
    TriggerName option_trigger_name "trigger name" String;
    Forward option_forward "forward" Boolean;
    OmitCopy option_omit_copy "omit copy" Boolean;
    AddSequences option_add_sequences "add sequences" Boolean;
    ExecuteOnlyOn option_execute_only_on "execute only on" NumberOrString;
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueKind {
    Number,
    NumberOrAll,
    NumberOrString,
    String,
    Boolean,
}

impl ValueKind {
    /// How the value is written, for messages.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Number => "<number>",
            Self::NumberOrAll => "<number> | all",
            Self::NumberOrString => "<number> | '<list>'",
            Self::String => "'<text>'",
            Self::Boolean => "yes | no",
        }
    }
}

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Number(i32),
    String(String),
    Boolean(bool),
    All,
    /// `key = serial`.
    Serial,
}

/// One option as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) name: OptionName,
    pub(crate) value: Value,
    /// The words of the name.
    pub(crate) name_span: Span,
    /// The value.
    pub(crate) value_span: Span,
}

impl Given {
    /// From the first word of the name to the end of the value.
    pub(crate) fn whole(&self, join: impl Fn(Span, Span) -> Span) -> Span {
        join(self.name_span, self.value_span)
    }
}

/// The name part and the value part of an `option` pair.
pub(crate) fn name_and_value(option: Pair<'_, Rule>) -> Option<(OptionName, Pair<'_, Rule>, Pair<'_, Rule>)> {
    let mut parts = option.into_inner().filter(|part| part.as_rule() != Rule::equals);
    let name_pair = parts.next()?;
    let name = OptionName::from_rule(name_pair.as_rule())?;
    Some((name, name_pair, parts.next()?))
}
