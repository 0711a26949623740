//! What holds for every script: it reads back as written, and nothing makes the parser fall over.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use trunkline_grammar::{
    AdminNode, Command, FailedNode, NodeChoice, ObjectSelection, Script, ScriptSource, Span, Statement, StatementKind,
    TryBlock,
};

use crate::fixture::{PREAMBLE, parse, rendered};

const NOWHERE: Span = Span {
    source: 0,
    start: 0,
    end: 0,
    line: 0,
};

/// Numbers of nodes in the preamble of generated scripts.
const NODES: std::ops::Range<i32> = 1..6;

fn id() -> impl Strategy<Value = i32> {
    prop_oneof![0..20, 0..=i32::MAX]
}

fn count() -> impl Strategy<Value = u32> {
    0..=u32::try_from(i32::MAX).unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z' ;#@{}()\\\\\"\n\t-]{0,12}",
        "[^\0]{0,12}",
        Just("@NAME; # 'x'".to_owned())
    ]
}

fn choice() -> impl Strategy<Value = NodeChoice> {
    prop_oneof![Just(NodeChoice::All), id().prop_map(NodeChoice::Node)]
}

/// Two different numbers, the second one a node of the preamble.
fn other_and_node() -> impl Strategy<Value = (i32, i32)> {
    (id(), NODES).prop_filter("different", |(other, node)| other != node)
}

fn selection() -> impl Strategy<Value = ObjectSelection> {
    prop_oneof![
        text().prop_map(ObjectSelection::Name),
        text().prop_map(ObjectSelection::Pattern)
    ]
}

fn failed_node() -> impl Strategy<Value = FailedNode> {
    other_and_node().prop_map(|(id, backup_node)| FailedNode { id, backup_node })
}

fn wait() -> impl Strategy<Value = Command> {
    (choice(), choice(), NODES, count()).prop_map(|(origin, confirmed, wait_on, timeout)| Command::WaitForEvent {
        origin,
        confirmed,
        wait_on,
        timeout,
    })
}

fn plain() -> impl Strategy<Value = Command> {
    let control = prop_oneof![
        text().prop_map(|text| Command::Echo { text }),
        text().prop_map(|format| Command::Date { format }),
        any::<u8>().prop_map(|code| Command::Exit { code }),
        count().prop_map(|seconds| Command::Sleep { seconds }),
        NODES.prop_map(|id| Command::Sync { id }),
        NODES.prop_map(|id| Command::RestartNode { id }),
        NODES.prop_map(|id| Command::SwitchLog { id }),
        NODES.prop_map(|id| Command::UninstallNode { id }),
        NODES.prop_map(|id| Command::UpdateFunctions { id }),
    ];
    let nodes = prop_oneof![
        (NODES, text()).prop_map(|(id, comment)| Command::InitCluster { id, comment }),
        (NODES, NODES, text())
            .prop_filter("different", |(id, event_node, _)| id != event_node)
            .prop_map(|(id, event_node, comment)| Command::StoreNode {
                id,
                comment,
                event_node
            }),
        (vec(id(), 1..4), NODES)
            .prop_filter("different", |(ids, event_node)| !ids.contains(event_node))
            .prop_map(|(ids, event_node)| Command::DropNode { ids, event_node }),
        (id(), NODES, text()).prop_map(|(id, provider, comment)| Command::ClonePrepare { id, provider, comment }),
        (NODES, id()).prop_map(|(id, provider)| Command::CloneFinish { id, provider }),
        (NODES, id(), NODES).prop_map(|(origin, provider, receiver)| Command::ResubscribeNode {
            origin,
            provider,
            receiver
        }),
        (id(), NODES, of(id())).prop_map(|(set_id, event_node, execute_only_on)| Command::RepairConfig {
            set_id,
            event_node,
            execute_only_on
        }),
        vec(failed_node(), 1..4).prop_map(|nodes| Command::Failover { nodes }),
        (id(), NODES, text(), id()).prop_map(|(server, client, conninfo, connretry)| Command::StorePath {
            server,
            client,
            conninfo,
            connretry
        }),
        (id(), id(), NODES).prop_map(|(server, client, event_node)| Command::DropPath {
            server,
            client,
            event_node
        }),
        (id(), id(), NODES).prop_map(|(origin, provider, receiver)| Command::StoreListen {
            origin,
            provider,
            receiver
        }),
        (id(), id(), NODES).prop_map(|(origin, provider, receiver)| Command::DropListen {
            origin,
            provider,
            receiver
        }),
    ];
    let sets = prop_oneof![
        (id(), NODES, text(), of((text(), any::<bool>()))).prop_map(|(id, origin, comment, tables)| {
            Command::CreateSet {
                id,
                origin,
                comment,
                add_sequences: tables.as_ref().is_some_and(|(_, sequences)| *sequences),
                tables: tables.map(|(pattern, _)| pattern),
            }
        }),
        (id(), NODES).prop_map(|(id, origin)| Command::DropSet { id, origin }),
        (id(), id(), NODES).prop_map(|(id, add_id, origin)| Command::MergeSet { id, add_id, origin }),
        (id(), NODES).prop_map(|(id, origin)| Command::LockSet { id, origin }),
        (id(), NODES).prop_map(|(id, origin)| Command::UnlockSet { id, origin }),
        (id(), other_and_node()).prop_map(|(id, (new_origin, old_origin))| Command::MoveSet {
            id,
            old_origin,
            new_origin
        }),
        (id(), NODES, id(), any::<bool>(), any::<bool>()).prop_map(|(id, provider, receiver, forward, omit_copy)| {
            Command::SubscribeSet {
                id,
                provider,
                receiver,
                forward,
                omit_copy,
            }
        }),
        (id(), NODES).prop_map(|(id, receiver)| Command::UnsubscribeSet { id, receiver }),
    ];
    let members = prop_oneof![
        (
            id(),
            of(NODES),
            of(id()),
            selection(),
            of(text()),
            of(text()),
            any::<bool>()
        )
            .prop_map(|(set_id, origin, id, tables, key, comment, add_sequences)| {
                let key = key.filter(|_| matches!(tables, ObjectSelection::Name(_)));
                Command::SetAddTable {
                    set_id,
                    origin,
                    id,
                    tables,
                    key,
                    comment,
                    add_sequences,
                }
            }),
        (id(), of(NODES), of(id()), selection(), of(text())).prop_map(|(set_id, origin, id, sequences, comment)| {
            Command::SetAddSequence {
                set_id,
                origin,
                id,
                sequences,
                comment,
            }
        }),
        (id(), NODES).prop_map(|(id, origin)| Command::SetDropTable { id, origin }),
        (id(), NODES).prop_map(|(id, origin)| Command::SetDropSequence { id, origin }),
        (id(), NODES, id()).prop_map(|(id, origin, new_set)| Command::SetMoveTable { id, origin, new_set }),
        (id(), NODES, id()).prop_map(|(id, origin, new_set)| Command::SetMoveSequence { id, origin, new_set }),
        (
            prop_oneof![text().prop_map(ScriptSource::File), text().prop_map(ScriptSource::Sql)],
            NODES,
            vec(id(), 0..4)
        )
            .prop_map(|(source, event_node, execute_only_on)| Command::ExecuteScript {
                source,
                event_node,
                execute_only_on
            }),
    ];
    prop_oneof![control, nodes, sets, members]
}

fn statement_of(kind: StatementKind) -> Statement {
    Statement { kind, span: NOWHERE }
}

fn statements() -> impl Strategy<Value = Vec<Statement>> {
    let command = |command| statement_of(StatementKind::Command(command));
    let leaf = prop_oneof![4 => plain(), 1 => wait()].prop_map(command);
    let statement = leaf.prop_recursive(3, 24, 4, move |inner| {
        (
            vec(plain().prop_map(command), 1..4),
            of(vec(inner.clone(), 1..4)),
            of(vec(inner, 1..4)),
        )
            .prop_map(|(body, on_error, on_success)| {
                statement_of(StatementKind::Try(TryBlock {
                    body,
                    on_error,
                    on_success,
                }))
            })
    });
    vec(statement, 1..6)
}

fn script() -> impl Strategy<Value = Script> {
    // The prefix keeps the name clear of reserved words.
    ("x[a-zA-Z0-9_$é]{0,20}", vec(text(), 5), statements()).prop_map(|(cluster, conninfos, statements)| Script {
        cluster,
        cluster_span: NOWHERE,
        nodes: NODES
            .zip(conninfos)
            .map(|(id, conninfo)| AdminNode {
                id,
                conninfo,
                span: NOWHERE,
            })
            .collect(),
        statements,
    })
}

fn forget_spans(script: &mut Script) {
    fn forget(statements: &mut [Statement]) {
        for statement in statements {
            statement.span = NOWHERE;
            if let StatementKind::Try(block) = &mut statement.kind {
                forget(&mut block.body);
                block
                    .on_error
                    .iter_mut()
                    .chain(&mut block.on_success)
                    .for_each(|inner| forget(inner));
            }
        }
    }
    script.cluster_span = NOWHERE;
    script.nodes.iter_mut().for_each(|node| node.span = NOWHERE);
    forget(&mut script.statements);
}

/// Bits of the language, to build nonsense that gets far.
fn soup() -> impl Strategy<Value = String> {
    let bits = "cluster name node admin conninfo store drop set add table sequence id origin provider receiver event wait for on \
                try error success echo date exit failover backup execute script sql only full fully qualified forward yes all \
                include define ; ; ; ( ) { } , = = - ' '' 'x' # @a @b < > 1 22 99999999999 \n \" é a b \u{0}";
    let bits: Vec<String> = bits.split(' ').map(str::to_owned).collect();
    vec(proptest::sample::select(bits), 0..60).prop_map(|bits| bits.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_script_reads_back_as_written(script in script()) {
        let text = script.to_string();
        let parsed = parse(text.clone());
        // Random statements hardly mean anything together, so there may be warnings.
        prop_assert_eq!(parsed.exit_code(), None, "{}", rendered(&parsed));
        let mut read = parsed.script.unwrap();
        forget_spans(&mut read);
        prop_assert_eq!(read, script, "{}", text);
    }

    #[test]
    fn bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        rendered(&parse(bytes));
    }

    #[test]
    fn nonsense_never_panics(head in any::<bool>(), soup in soup()) {
        let text = if head { format!("{PREAMBLE}{soup}") } else { soup };
        let parsed = parse(text);
        rendered(&parsed);
        prop_assert_eq!(parsed.script.is_some(), parsed.exit_code().is_none());
    }

    #[test]
    fn a_damaged_script_never_panics(
        script in script(),
        cuts in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = script.to_string().into_bytes();
        for (at, to, byte) in cuts {
            if bytes.is_empty() {
                break;
            }
            let (at, to) = (at.index(bytes.len()), to.index(bytes.len()));
            match byte % 3 {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.drain(at.min(to)..at.max(to).min(at.min(to) + 20))),
            }
        }
        let parsed = parse(bytes);
        rendered(&parsed);
        prop_assert_eq!(parsed.script.is_some(), parsed.exit_code().is_none());
    }
}

/// Generous for a busy machine with a debug build, hopeless for anything quadratic.
const PATIENCE: Duration = Duration::from_secs(20);

#[track_caller]
fn check_quick(what: &str, text: String) {
    let begin = Instant::now();
    let parsed = parse(text);
    rendered(&parsed);
    let took = begin.elapsed();
    assert!(took < PATIENCE, "{what} took {took:?}");
}

#[test]
fn long_scripts_take_linear_time() {
    const LENGTH: usize = 1 << 17;
    let long = |unit: &str| unit.repeat(LENGTH / unit.len());
    for unit in [
        "lock set (id = 1, origin = 1);\n",
        "lock set (id = 1, origin = 7);\n",
        "date\n",
        "date;",
        "echo ",
        ";",
        "(",
        "}",
        "{",
        "try {",
        "try { date; ",
        "try { date; } on error { ",
        "'",
        "''",
        "' '",
        "@a ",
        "define a ",
        "define a 1; ",
        "include < ",
        "include ",
        "# ",
        "#\n",
        "node 1 ",
        "\u{0}",
        "\n",
        "é",
        "id=1,",
    ] {
        check_quick(unit, format!("{PREAMBLE}{}", long(unit)));
    }
    check_quick(
        "one name defined again and again",
        format!("{PREAMBLE}{}", long("define a 1;\ndefine a 2;\n")),
    );
    check_quick("preambles", format!("{PREAMBLE}{}date;", long(PREAMBLE)));
    check_quick(
        "many nodes",
        format!(
            "cluster name = c;\n{}date;",
            (0..4000)
                .map(|node| format!("node {node} admin conninfo = 'dbname=x';\n"))
                .collect::<Vec<_>>()
                .concat()
        ),
    );
    check_quick(
        "wrong options",
        format!("{PREAMBLE}lock set ({} origin=1);", long("x = 1, ")),
    );
    check_quick("one string", format!("{PREAMBLE}echo '{}';", long("x'' y\n")));
    check_quick(
        "one statement",
        format!("{PREAMBLE}lock set ({} origin=1);", long("id = 1, ")),
    );
    check_quick(
        "one failover",
        format!(
            "{PREAMBLE}failover ({} node=(id=1,backup node=2));",
            long("node=(id=1,backup node=2), ")
        ),
    );
    check_quick(
        "many definitions",
        format!(
            "{PREAMBLE}{}@x",
            (0..10_000)
                .map(|n| format!("define n{n} @m{n};\n@n{n}"))
                .collect::<Vec<_>>()
                .join("\n")
        ),
    );
}

/// Ten times the text may take ten times as long, and some; anything quadratic takes a hundred times as long.
#[test]
fn ten_megabytes_take_ten_times_as_long_as_one() {
    let script = |bytes: usize| {
        let mut text = String::from(PREAMBLE);
        text.push_str("define main set id = 1, origin = 1;\n");
        let mut number = 0;
        while text.len() < bytes {
            number += 1;
            write!(
                text,
                "# table {number}\ncreate set (id = {number}, origin = 1);\n\
                 set add table (@main, id = {number}, fully qualified name = 'public.table_{number}', comment = 'It''s\none');\n\
                 try {{ lock set (id = {number}, origin = 1); }} on error {{ echo 'no'; exit 1; }}\n"
            )
            .unwrap();
        }
        text
    };
    let time = |text: String| {
        let begin = Instant::now();
        let parsed = parse(text);
        let statements = parsed.script.expect("a script without errors").statements.len();
        assert!(statements > 1000, "{statements}");
        begin.elapsed()
    };
    let small = time(script(1 << 20));
    let large = time(script(10 << 20));
    assert!(large < small * 40 + PATIENCE, "1 MB took {small:?}, 10 MB {large:?}");
    println!("1 MB took {small:?}, 10 MB {large:?}");
}

#[test]
fn expansion_is_bounded() {
    let mut text = format!("{PREAMBLE}define n0 date; {};\n", " ".repeat(200_000));
    for level in 1..60 {
        let below = level - 1;
        writeln!(text, "define n{level} @n{below} @n{below};").unwrap();
    }
    text.push_str("@n59\n");
    let begin = Instant::now();
    let parsed = parse(text);
    assert!(
        rendered(&parsed).contains("longer than 32 MiB"),
        "{}",
        rendered(&parsed)
    );
    assert!(begin.elapsed() < PATIENCE * 4, "{:?}", begin.elapsed());
}
