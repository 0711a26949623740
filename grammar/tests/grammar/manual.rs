//! The manual says what the code does.

use std::fs;
use std::path::Path;

use trunkline_grammar::{Code, Severity};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/src/reference")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_kind_of_finding_is_listed_with_its_meaning() {
    let expected: Vec<String> = Code::ALL
        .iter()
        .map(|code| {
            let severity = match code.severity() {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            format!("| `{}` | {severity} | {} |", code.as_str(), code.meaning())
        })
        .collect();
    let page = page("check.md");
    let listed: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("| code | severity"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(listed, expected);
}
