//! `slonik --dry-run`: plans scripts and prints the plans.

use serde::Serialize;
use trunkline_grammar::Parsed;

use super::Plan;
use crate::cli::Format;
use crate::{EXIT_FAILED, Output, Slonik, check};

/// Grows when a field changes its meaning.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    /// Whether every precondition of every script holds.
    holds: bool,
    scripts: Vec<PlannedScript>,
}

#[derive(Debug, Serialize)]
struct PlannedScript {
    #[serde(flatten)]
    read: check::ScriptReport,
    /// Null if the script has an error.
    plan: Option<Plan>,
}

/// Plans each script as if those before it had been executed. The answer is the exit code: 0 if every precondition of
/// every script holds, else 255.
pub async fn dry_run(
    slonik: &mut Slonik,
    scripts: impl IntoIterator<Item = Parsed>,
    format: Format,
    output: &dyn Output,
) -> u8 {
    let mut document = Document {
        version: VERSION,
        holds: true,
        scripts: Vec::new(),
    };
    for mut parsed in scripts {
        let plan = slonik.plan(&mut parsed).await;
        document.holds &= plan.as_ref().is_some_and(Plan::holds);
        match format {
            Format::Json => document.scripts.push(PlannedScript {
                read: check::ScriptReport::of(&parsed),
                plan,
            }),
            Format::Text => {
                check::say(&parsed, output);
                if let Some(plan) = plan {
                    output.out(&plan.to_string());
                }
            }
        }
    }
    if format == Format::Json {
        let text = serde_json::to_string_pretty(&document);
        output.out(&text.map_or_else(|error| format!("{error}\n"), |text| text + "\n"));
    }
    if document.holds { 0 } else { EXIT_FAILED }
}
