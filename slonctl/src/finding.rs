//! What a look at the nodes before a change found.

use serde::Serialize;

use crate::console::Console;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// The change would fail, or do harm: it is refused.
    Problem,
    /// The operator should know before he says yes.
    Warning,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) node: Option<i32>,
    pub(crate) text: String,
}

/// Everything that was found, in the order it was looked for.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn problem(&mut self, node: impl Into<Option<i32>>, text: impl Into<String>) {
        self.add(Severity::Problem, node.into(), text.into());
    }

    pub(crate) fn warning(&mut self, node: impl Into<Option<i32>>, text: impl Into<String>) {
        self.add(Severity::Warning, node.into(), text.into());
    }

    fn add(&mut self, severity: Severity, node: Option<i32>, text: String) {
        let finding = Finding { severity, node, text };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something forbids the change.
    pub(crate) fn forbid(&self) -> bool {
        self.problems().next().is_some()
    }

    pub(crate) fn problems(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter(|finding| finding.severity == Severity::Problem)
    }

    /// Tells everything, problems first.
    pub(crate) fn tell(&self, console: &Console) {
        let warnings = self.0.iter().filter(|finding| finding.severity == Severity::Warning);
        for finding in self.problems().chain(warnings) {
            let (kind, word) = match finding.severity {
                Severity::Problem => ("problem", "PROBLEM"),
                Severity::Warning => ("warning", "warning"),
            };
            if console.is_json() {
                console.event(finding.node, kind, &finding.text);
            } else {
                let place = finding.node.map_or_else(String::new, |node| format!("node {node}: "));
                console.line(&format!("  {word:<8} {place}{}", finding.text));
            }
        }
    }
}
