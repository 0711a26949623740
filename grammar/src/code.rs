//! The kinds of findings, with the names by which programs and the manual know them.

use crate::diagnostic::{Phase, Severity};

macro_rules! codes {
    ($($name:ident $text:literal $phase:ident $severity:ident $meaning:literal;)*) => {
        /// The kind of a finding. The name (`as_str`) is stable; messages may change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $meaning] $name),* }

        impl Code {
            /// Every kind, errors first.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name in JSON and in the manual.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What it means, in one line for the manual.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),* }
            }

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity),* }
            }

            /// What finds it.
            #[must_use]
            pub fn phase(self) -> Phase {
                match self { $(Self::$name => Phase::$phase),* }
            }
        }
    };
}

codes! {
    UnreadableScript "unreadable-script" Syntax Error "the script cannot be opened or read";
    IncludeNotFound "include-not-found" Include Error "an included file cannot be opened or read";
    IncludeLoop "include-loop" Include Error "a file includes itself, directly or through others";
    MalformedInclude "malformed-include" Syntax Error "`include` without `<path>`";
    MalformedDefine "malformed-define" Syntax Error "`define` without a name, a text or its `;`";
    EndlessDefine "endless-define" Syntax Error "an `@NAME` is replaced by itself";
    NestedTooDeep "nested-too-deep" Syntax Error "includes, definitions or blocks stand too deep inside each other";
    TooLong "too-long" Syntax Error "the script is too long with everything it includes and expands";
    TooManyErrors "too-many-errors" Syntax Error "reading stopped after many errors";
    NotText "not-text" Syntax Error "the file is no text: UTF-16, or the data of a program";
    NulByte "nul-byte" Syntax Error "a NUL byte stands in the text";
    NotUtf8 "not-utf8" Syntax Error "words or strings are not UTF-8";
    SyntaxError "syntax-error" Syntax Error "the words make no statement";
    UnterminatedString "unterminated-string" Syntax Error "a string is never closed";
    UnexpectedEnd "unexpected-end" Syntax Error "the script ends inside a statement or block, or has none";
    MissingSemicolon "missing-semicolon" Syntax Error "the `;` of the statement before is missing";
    UnknownStatement "unknown-statement" Syntax Error "no statement starts with these words";
    UnknownOption "unknown-option" Syntax Error "no option is called so";
    MisplacedStatement "misplaced-statement" Syntax Error "the statement stands where it cannot stand";
    RemovedStatement "removed-statement" Syntax Error "a statement of older versions that has no meaning any more";
    NumberOutOfRange "number-out-of-range" Syntax Error "a number does not fit in 32 bits";
    WaitInTry "wait-in-try" Syntax Error "`wait for event` stands inside a `try` block";
    OptionNotAllowed "option-not-allowed" Option Error "the statement does not take the option";
    OptionGivenTwice "option-given-twice" Option Error "an option is given twice";
    MissingOption "missing-option" Semantic Error "an option that must be given is not, or not as a number";
    NodeWithoutConninfo "node-without-conninfo" Semantic Error "slonik has to talk to a node that the preamble does not name";
    NodeGivenTwice "node-given-twice" Semantic Error "the preamble names a node twice, with different connection strings or without repeating `cluster name`";
    AnotherCluster "another-cluster" Semantic Error "a second `cluster name` names another cluster";
    Contradiction "contradiction" Semantic Error "values or options exclude each other";
    BadNodeList "bad-node-list" Semantic Error "a list in a string is not made of node numbers";
    ExitCodeOutOfRange "exit-code-out-of-range" Semantic Error "an exit code is not 0 to 255";
    BadClusterName "bad-cluster-name" Semantic Error "the cluster name is too long for a schema";
    BadSqlScript "bad-sql-script" Semantic Error "the text of `execute script` has a statement that cannot be part of a transaction, does not end, has too many statements or is not UTF-8";
    UnreadableFile "unreadable-file" Semantic Error "the file of `execute script` cannot be opened";
    ByteOrderMark "byte-order-mark" Syntax Warning "the file starts with a byte order mark";
    UndefinedName "undefined-name" Syntax Warning "an `@NAME` is not defined and stands for nothing";
    ShadowedDefine "shadowed-define" Syntax Warning "a name is defined again with another text";
    RepeatedPreamble "repeated-preamble" Syntax Warning "`cluster name` is given again, as when scripts are put one behind the other";
    OldWaitForEvent "old-wait-for-event" Semantic Warning "`wait for event` without `wait on`, as in Slony-I 1.x";
    OldTrigger "old-trigger" Semantic Warning "`store trigger` or `drop trigger` of Slony-I 1.x";
    OldFullName "old-full-name" Semantic Warning "`full qualified name`, the spelling of older versions";
    OldSerialKey "old-serial-key" Semantic Warning "`key = serial` of Slony-I 1.x";
    OldScriptSet "old-script-set" Semantic Warning "`execute script` with the `set id` of versions before 2.2";
    BadConninfo "bad-conninfo" Semantic Warning "a connection string that libpq could not read either";
    IgnoredId "ignored-id" Semantic Warning "an `id` in quotes is ignored";
    Unreachable "unreachable" Semantic Warning "statements behind `exit` are never reached";
    EndlessWait "endless-wait" Semantic Warning "a `wait for event` without time limit waits for a node whose slon cannot confirm";
    SetBeforeCreation "set-before-creation" Semantic Warning "a set is used before the script creates it";
    SetAfterDrop "set-after-drop" Semantic Warning "a set is used after the script has dropped or merged it away";
    UnnamedNode "unnamed-node" Semantic Warning "a statement is about a node that the preamble does not name";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Code;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
