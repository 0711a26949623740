//! The command line: `slonik [-h] [-v] [-w] [--check | --dry-run] [--format text|json] [--deny-warnings] [file …]`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::Options;

/// The version of Slony-I whose language this is; wrappers read it.
const LANGUAGE_VERSION: &str = "2.2.11";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Do something with scripts.
    Run(Request),
    /// Print this on standard output and exit with 0.
    Version(String),
    /// Print this on standard error and exit with 1.
    Usage(String),
}

/// What to do with which scripts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// What to do.
    pub task: Task,
    /// How the answers of `--check` and `--dry-run` are written.
    pub format: Format,
    /// How scripts are executed.
    pub options: Options,
    /// The scripts; none: standard input.
    pub files: Vec<PathBuf>,
}

/// What is done with the scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Task {
    /// Run them.
    #[default]
    Execute,
    /// Say what is wrong with them (`--check`).
    Check,
    /// Say what running them would do (`--dry-run`).
    DryRun,
}

/// How an answer is written (`--format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Reads the command line, without the program's name. Options may stand anywhere and short ones be joined (`-wv`), as
/// `getopt` allows; `--` ends them.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Invocation {
    let mut request = Request::default();
    let mut format = None;
    let mut options = true;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let flags = argument
            .to_str()
            .and_then(|text| text.strip_prefix('-'))
            .filter(|flags| !flags.is_empty());
        let Some(flags) = flags.filter(|_| options) else {
            request.files.push(PathBuf::from(argument));
            continue;
        };
        let Some(long) = flags.strip_prefix('-') else {
            for flag in flags.chars() {
                match flag {
                    'v' => return Invocation::Version(format!("slonik version {LANGUAGE_VERSION}\n")),
                    'w' => request.options.automatic_waits = false,
                    'h' => return Invocation::Usage(usage()),
                    other => return wrong(&format!("invalid option -- '{other}'")),
                }
            }
            continue;
        };
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        if value.is_some() && name != "format" {
            return wrong(&format!("option '--{name}' takes no value"));
        }
        match name {
            "" => options = false,
            "version" => {
                return Invocation::Version(format!(
                    "slonik version {LANGUAGE_VERSION} (Trunkline {})\n",
                    env!("CARGO_PKG_VERSION")
                ));
            }
            "help" => return Invocation::Usage(usage()),
            "check" | "dry-run" => {
                let task = if name == "check" { Task::Check } else { Task::DryRun };
                if request.task != Task::Execute && request.task != task {
                    return wrong("'--check' and '--dry-run' exclude each other");
                }
                request.task = task;
            }
            "deny-warnings" => request.options.deny_warnings = true,
            "format" => {
                let value = value.or_else(|| arguments.next().map(|next| next.to_string_lossy().into_owned()));
                format = match value.as_deref() {
                    Some("text") => Some(Format::Text),
                    Some("json") => Some(Format::Json),
                    Some(other) => return wrong(&format!("'--format' is 'text' or 'json', not '{other}'")),
                    None => return wrong("'--format' needs 'text' or 'json'"),
                };
            }
            _ => return wrong(&format!("unrecognized option '--{name}'")),
        }
    }
    if format == Some(Format::Json) && request.task == Task::Execute {
        return wrong("'--format json' belongs to '--check' or '--dry-run'");
    }
    request.format = format.unwrap_or_default();
    Invocation::Run(request)
}

fn wrong(what: &str) -> Invocation {
    Invocation::Usage(format!("slonik: {what}\n{}", usage()))
}

fn usage() -> String {
    "usage: slonik [fname [...]]\n\
     \n\
     Runs slonik scripts, one after the other; without a name it reads standard input.\n\
     \n\
     \x20 --check              read and check only, connect nowhere: all mistakes of all scripts\n\
     \x20 --dry-run            say step by step what running would do, and what would refuse; change nothing\n\
     \x20 --format text|json   how the answer of --check or --dry-run is written\n\
     \x20 --deny-warnings      refuse scripts with warnings like those with errors\n\
     \x20 -w                   do not wait by itself for events to be confirmed\n\
     \x20 -v, --version        print the version\n\
     \x20 -h, --help           print this\n\
     \n\
     Exit code: 0, the n of `exit n;`, 255 after an error, 1 for wrong usage\n"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Invocation {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn options_and_files_mix() {
        let waiting = Options::default();
        let mut expected = Request {
            files: vec!["a.sk".into(), "b.sk".into(), "-c.sk".into()],
            ..Request::default()
        };
        expected.options.automatic_waits = false;
        assert_eq!(read(&["a.sk", "-w", "b.sk", "--", "-c.sk"]), Invocation::Run(expected));
        assert_eq!(read(&[]), Invocation::Run(Request::default()));
        assert_eq!(read(&["-wv"]), Invocation::Version("slonik version 2.2.11\n".into()));
        assert_eq!(
            read(&["--format", "json", "a.sk", "--check", "--deny-warnings"]),
            Invocation::Run(Request {
                task: Task::Check,
                format: Format::Json,
                options: Options {
                    deny_warnings: true,
                    ..waiting
                },
                files: vec!["a.sk".into()],
            })
        );
        assert_eq!(
            read(&["--dry-run", "--format=text"]),
            Invocation::Run(Request {
                task: Task::DryRun,
                ..Request::default()
            })
        );
    }

    #[test]
    fn a_wrong_option_shows_the_usage() {
        for arguments in [
            &["-h"][..],
            &["-x"],
            &["--help"],
            &["--nonsense"],
            &["--check", "--dry-run"],
            &["--format"],
            &["--format=xml", "--check"],
            &["--format", "json"],
            &["--check=yes"],
        ] {
            assert!(
                matches!(read(arguments), Invocation::Usage(text) if text.contains("usage: slonik [fname [...]]")),
                "{arguments:?}"
            );
        }
    }
}
