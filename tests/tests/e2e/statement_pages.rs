//! The reference page of each statement says what the programs do: options, defaults, locks, stored functions, events and
//! messages are held against the code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trunkline_grammar::{ParseOptions, parse_text};
use trunkline_slonik::plan::{PlannedStatement, Step};
use trunkline_slonik::{Options, Slonik, Terminal};
use trunkline_tests::{Cluster, program, run_slonik, slonik_string};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// One page, taken apart.
struct Page {
    words: &'static str,
    text: String,
}

impl Page {
    fn of(words: &'static str) -> Self {
        let file = root().join(format!("docs/src/reference/statements/{}.md", words.replace(' ', "-")));
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("`{words}` has no page `{}`: {error}", file.display()));
        Self { words, text }
    }

    /// The rows of the table under this head, without the head: cells by column.
    fn table(&self, head: &str) -> Vec<Vec<String>> {
        let rows = self.text.lines().skip_while(|line| *line != head).skip(2);
        rows.take_while(|line| line.starts_with('|'))
            .map(|line| {
                let line = line.replace("\\|", "\u{1}");
                let cells = line.trim_matches('|').split('|');
                cells.map(|cell| cell.trim().replace('\u{1}', "|")).collect()
            })
            .collect()
    }

    fn options(&self) -> Vec<Vec<String>> {
        self.table("| option | value | if left out |")
    }

    /// A row of the table of facts.
    fn fact(&self, name: &str) -> Option<String> {
        let rows = self.table("| | |");
        rows.into_iter().find(|row| row[0] == name).map(|row| row[1].clone())
    }

    fn example(&self) -> &str {
        let (_, rest) = self.text.rsplit_once("```text\n").expect("an example");
        rest.split_once("\n```").expect("its end").0
    }
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn words_of_events(text: &str) -> BTreeSet<&str> {
    let event = |word: &&str| word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    text.split([',', ' ']).filter(event).collect()
}

#[test]
fn every_statement_has_a_page_with_its_options() {
    let summary = std::fs::read_to_string(root().join("docs/src/SUMMARY.md")).expect("the summary");
    for (words, options) in trunkline_grammar::statements() {
        let page = Page::of(words);
        let listed: Vec<String> = page.options().iter().map(|row| quoted(&row[0])[0].to_owned()).collect();
        let listed: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        let known: BTreeSet<&str> = options.into_iter().collect();
        assert_eq!(listed, known, "options of `{words}`");
        let link = format!("reference/statements/{}.md", words.replace(' ', "-"));
        assert!(summary.contains(&link), "the page of `{words}` is not in the summary");
    }
}

/// Texts of messages, with what varies taken out, must stand in the sources.
#[test]
fn every_message_of_a_page_is_in_the_code() {
    let mut sources = String::new();
    for crate_name in ["grammar/src", "slonik/src", "sql/src"] {
        collect(&root().join(crate_name), &mut sources);
    }
    // Messages span lines in the sources.
    let sources = sources.replace("\\\n", "");
    let sources: String = sources.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut missing = Vec::new();
    for (words, _) in trunkline_grammar::statements() {
        let page = Page::of(words);
        for row in page.table("| message | what to do |") {
            for message in quoted(&row[0]) {
                // A capital letter alone stands for a number or a name.
                let fixed = message.split(' ').map(|word| {
                    let varies = word.trim_matches(|c: char| !c.is_alphanumeric()).len() <= 1 || word.contains('"');
                    if varies { "\u{1}" } else { word }
                });
                let fixed: Vec<&str> = fixed.collect();
                let fixed = fixed.join(" ");
                for piece in fixed
                    .split(['\u{1}', '…'])
                    .map(str::trim)
                    .filter(|piece| piece.len() > 6)
                {
                    if !sources.contains(piece) {
                        missing.push(format!("{words}: `{piece}` of `{message}`"));
                    }
                }
            }
        }
    }
    // The server's own.
    missing.retain(|line| !line.contains("duplicate key value"));
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

fn collect(directory: &Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, text);
        } else {
            text.push_str(&std::fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// A cluster in which the examples mean something: nodes 1 to 3, sets 1 and 2, node 2 subscribes to set 1.
async fn stage() -> Cluster {
    let cluster = Cluster::new("pages", 4).await;
    cluster
        .run_on_all(
            "create table item (id serial primary key); create table extra (id int primary key);
             create table orders (id int primary key); create sequence ticket",
        )
        .await;
    let script = cluster.establishing_script();
    let three: Vec<&str> = script.lines().filter(|line| !line.contains("= 4")).collect();
    let script = format!(
        "{}{}\n\
         create set (id = 1, origin = 1); create set (id = 2, origin = 1);\n\
         set add table (set id = 1, origin = 1, id = 1, fully qualified name = 'public.item', add sequences = yes);\n\
         set add table (set id = 2, origin = 1, id = 2, fully qualified name = 'public.extra');\n\
         subscribe set (id = 1, provider = 1, receiver = 2, forward = yes);\n",
        cluster.preamble(),
        three.join("\n")
    );
    run_slonik(&program("slonik"), &["-w"], &script).await.succeeds();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_calls_events_and_defaults_of_every_page_are_those_of_the_plan() {
    let cluster = stage().await;
    let options = Options {
        automatic_waits: false,
        ..Options::default()
    };
    for (words, _) in trunkline_grammar::statements() {
        let page = Page::of(words);
        let mut slonik = Slonik::new(options, Arc::new(Terminal));
        // Node 5 is the copy of node 2 that `clone finish` works on.
        let copy = slonik_string(&cluster.node(2).conninfo);
        let text = format!(
            "{}node 5 admin conninfo = {copy};\n{}\n",
            cluster.preamble(),
            page.example()
        );
        let mut parsed = parse_text(words, text, &ParseOptions::default());
        let plan = slonik.plan(&mut parsed).await;
        let plan = plan.unwrap_or_else(|| panic!("the example of `{words}` has an error: {:?}", parsed.diagnostics));
        let planned: Vec<&PlannedStatement> = plan
            .statements
            .iter()
            .filter(|statement| statement.statement.starts_with(words))
            .collect();
        let (mut locks, mut calls, mut events) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for step in planned.iter().flat_map(|statement| &statement.steps) {
            match step {
                Step::Lock { tables, .. } => locks.extend(tables.iter().copied()),
                Step::Call { sql, events: made, .. } => {
                    events.extend(made.iter().copied());
                    let call = sql.strip_prefix("select \"_e2e\".");
                    calls.extend(call.and_then(|call| call.split_once('(')).map(|(name, _)| name));
                }
                _ => {}
            }
        }
        for (name, found) in [("locks", &locks), ("calls", &calls)] {
            if let Some(told) = page.fact(name) {
                let told: BTreeSet<&str> = quoted(&told).into_iter().collect();
                assert_eq!(&told, found, "{name} of `{}`", page.words);
            }
        }
        if let Some(told) = page.fact("events") {
            assert_eq!(words_of_events(&told), events, "events of `{words}`");
        }
        // What the example leaves out has the default that the page names.
        let written = planned.last().map(|statement| statement.statement.clone());
        for row in page.options() {
            let option = quoted(&row[0])[0];
            let literal = row[2].strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
            let given = page.example().contains(&format!("{option} = "));
            if let (Some(default), false) = (literal, given)
                && !default.contains('<')
                && !page.options().iter().any(|other| quoted(&other[0])[0] == default)
            {
                let written = written.clone().unwrap_or_default();
                assert!(
                    written.contains(&format!("{option} = {default}")),
                    "`{words}`: the page says that `{option}` is {default}, the plan says {written}"
                );
            }
        }
    }
}
