//! The same scripts to Slony-I's own slonik, where one is installed.
//!
//! Set `SLONY_SLONIK` to its path; `/usr/bin/slonik` is tried if it is not set. Each script starts with
//! an exit code out of range, so the original checks the script and never connects anywhere.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use trunkline_grammar::Severity;

use crate::corpus;
use crate::fixture::{PREAMBLE, parse};

/// What the original says where we only say more: the text of the other tests.
const SCRIPTS: &[&str] = &[
    "lok set (id=1);",
    "lock st (id=1);",
    "lock set ();",
    "lock set (id=1,);",
    "lock set (id=1",
    "echo 5;",
    "echo 'a' echo 'b';",
    "echo 'open;",
    "table add key (node id=1);",
    "store path (server=1, client=2, conninfo='x', retry=3);",
    "lock set (id=1,\nprovider=1,\nid=2);",
    "repair config (set id=1, execute only on='1');",
    "try { }",
    "try { try { date; } }",
    "try { wait for event (origin=1, confirmed=2, wait on=1); }",
    "try { date; } on error { date; } on error { date; }",
    "try { date; } on success { date; } on error { date; }",
    "try { date; };",
    "on error { date; }",
    "failover (node=(id=1,backup node=1), node=(id=3,backup node=9));",
    "failover (id=1,backup node=2,node=(id=3,backup node=5));",
    "failover (node=(id=1,backup node=2,origin=3));",
    "move set (id=1, old origin=1, new origin=1);",
    "store node (id=1, event node=1);",
    "drop node (id='3,1,2', event node=1);",
    "subscribe set (id=all, provider=1, receiver=2);",
    "subscribe set (id=1, provider=1, receiver=2, forward=maybe);",
    "execute script (filename='/nonexistent', event node=1);",
    "set add table (set id=1, fully qualified name='x', tables='y');",
    "set add sequence (set id=1, fully qualified name='x', sequences='y');",
    "node 1 admin conninfo='x';",
    "define n 5;\nexit @n@n;",
    "define lock 7;\nlock set (id=@lock, origin=9);",
    "lock set (id=1,\n\norigin=9);",
    "-- a comment\n;",
    "exit /* a */ 5;",
    "exit\n5\n5;",
];

fn original() -> Option<PathBuf> {
    let path = std::env::var_os("SLONY_SLONIK").map_or_else(|| PathBuf::from("/usr/bin/slonik"), PathBuf::from);
    path.exists().then_some(path)
}

#[test]
fn says_what_the_original_says() {
    let Some(original) = original() else {
        eprintln!("skipped: no slonik of Slony-I here; name one with SLONY_SLONIK");
        return;
    };
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("s");
    for script in SCRIPTS {
        let text = if script.starts_with("node") {
            format!("{PREAMBLE}{script}\nexit 300;")
        } else {
            format!("{PREAMBLE}exit 300;{script}")
        };
        fs::write(&file, &text).unwrap();
        let output = Command::new(&original)
            .arg("s")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("the original runs");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
        // Its first syntax error stands for all; a definition restarts its line count.
        let syntax_error = said.lines().find(|line| line.contains("syntax error"));
        let theirs: Vec<&str> = match syntax_error {
            Some(line) => vec![line],
            None => said
                .lines()
                .filter(|line| line.contains("rror:") || line.contains(" option ") || line.contains("wait for"))
                .collect(),
        };
        let parsed = parse(text.clone());
        let ours: Vec<String> = parsed
            .diagnostics
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| format!("{}: {}", parsed.sources.location(finding.location), finding.message))
            .collect();
        for line in theirs {
            let message = line.splitn(3, ':').nth(2).unwrap_or(line).trim();
            let place = if script.contains('@') {
                ""
            } else {
                line.rsplit_once(&format!(" {message}")).unwrap().0
            };
            let same = |our: &String| our.starts_with(place) && our.contains(message);
            // A file is only looked at when the test allows it.
            let expected = !message.contains("No such file");
            assert!(
                !expected || ours.iter().any(same),
                "{script}\ntheirs: {line}\nours: {ours:#?}"
            );
        }
        assert_eq!(output.status.code(), parsed.exit_code().map(i32::from), "{script}");
    }
}

/// Scripts of the corpus on which the original is of another mind, because it kills itself or reads no further.
const ITS_OWN_MIND: &[&str] = &[
    "odd/a-byte-order-mark.slonik",
    // What is added so that it does not begin is a statement.
    "broken/no-statements.slonik",
];

#[test]
fn judges_the_corpus_like_the_original() {
    let Some(original) = original() else {
        eprintln!("skipped: no slonik of Slony-I here; name one with SLONY_SLONIK");
        return;
    };
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("s");
    for (verdict, accepts) in [("plain", true), ("odd", true), ("old", false), ("broken", false)] {
        for (name, text) in corpus::scripts(verdict) {
            if ITS_OWN_MIND.contains(&name.as_str()) {
                continue;
            }
            // It knows no other root, and must not begin: an exit code out of range sees to that.
            let text = String::from_utf8_lossy(&text).replace("</tmp/", "<tmp/");
            fs::write(&file, format!("{text}\nexit 300;\n")).unwrap();
            let output = Command::new(&original)
                .arg(&file)
                .current_dir(corpus::directory())
                .stdin(Stdio::null())
                .output()
                .expect("the original runs");
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stderr),
                String::from_utf8_lossy(&output.stdout)
            );
            let complaints: Vec<&str> = said
                .lines()
                .filter(|line| !line.contains("exitcode was 300") && !line.trim().is_empty())
                .collect();
            assert_eq!(complaints.is_empty(), accepts, "{name}: {said}");
            assert_ne!(output.status.code(), Some(0), "{name}");
        }
    }
}
