//! The command line: options from left to right, `-f` at its position, then cluster name and connection string.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;

use crate::config_file;
use crate::parameters::{self, DEFINITIONS, Definition, ParameterError, Parameters, REMOVED};

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Serve a node.
    Run {
        /// The effective parameters.
        parameters: Box<Parameters>,
        /// What was ignored and should be logged.
        warnings: Vec<String>,
    },
    /// Print the usage and exit with this code: `-h` is 1 as ever, `--help` is 0.
    Help {
        /// Exit code.
        code: u8,
    },
    /// Print the version.
    Version,
}

/// The command line or a file it names cannot be used; all findings, one per line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct UsageError {
    /// One finding each.
    pub problems: Vec<String>,
    /// Print the usage as well: something is missing rather than wrong.
    pub show_usage: bool,
}

/// Reads the arguments behind the program's name. `read_file` is how `-f` gets a file's text, `cluster_variable` the
/// environment variable `CLUSTER`.
pub fn parse(
    arguments: impl IntoIterator<Item = String>,
    cluster_variable: Option<String>,
    read_file: impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Invocation, UsageError> {
    let mut reading = Reading {
        rest: arguments.into_iter().collect(),
        parameters: Parameters::default(),
        positional: Vec::new(),
        warnings: Vec::new(),
        problems: Vec::new(),
        read_file,
    };
    if let Some(answer) = reading.options() {
        return Ok(answer);
    }
    let Reading {
        mut parameters,
        positional,
        warnings,
        mut problems,
        ..
    } = reading;
    let mut show_usage = false;
    let mut positional = positional.into_iter();
    if let Some(cluster) = positional.next() {
        parameters.cluster_name = Some(cluster);
        // A configured connection string may belong to another cluster, so the argument is required.
        parameters.conn_info = positional.next();
    }
    if let Some(extra) = positional.next() {
        problems.push(format!(
            "unexpected argument `{extra}`; the connection string is one argument, put it in quotes"
        ));
    }
    if parameters.cluster_name.is_none() {
        parameters.cluster_name = cluster_variable.filter(|name| !name.is_empty());
    }
    match parameters.cluster_name.as_deref() {
        None => {
            problems.push("the cluster name is missing".to_owned());
            show_usage = true;
        }
        Some(name) => {
            if let Err(error) = trunkline_sql::Cluster::new(name) {
                problems.push(error.to_string());
            }
        }
    }
    match parameters.conn_info.as_deref() {
        None => {
            problems.push("the connection string of the local database is missing".to_owned());
            show_usage = true;
        }
        // Only what no change outside can mend: service files and the like may come later.
        Some(conninfo) => {
            if let Err(error) = trunkline_sql::conninfo::parse(conninfo) {
                problems.push(format!("the connection string of the local database is wrong: {error}"));
            }
        }
    }
    if parameters.archive_dir.is_some() || parameters.command_on_logarchive.is_some() {
        problems.push(
            "log shipping (`archive_dir`, `command_on_logarchive`) is not available yet; start without these options"
                .to_owned(),
        );
    }
    parameters.settle();
    if problems.is_empty() {
        Ok(Invocation::Run {
            parameters: Box::new(parameters),
            warnings,
        })
    } else {
        Err(UsageError { problems, show_usage })
    }
}

struct Reading<F> {
    rest: VecDeque<String>,
    parameters: Parameters,
    positional: Vec<String>,
    warnings: Vec<String>,
    problems: Vec<String>,
    read_file: F,
}

impl<F: Fn(&Path) -> std::io::Result<String>> Reading<F> {
    /// Goes through the arguments; `Some` when the usage or the version is asked for.
    fn options(&mut self) -> Option<Invocation> {
        while let Some(argument) = self.rest.pop_front() {
            if argument == "--" {
                self.positional.extend(self.rest.drain(..));
            } else if let Some(long) = argument.strip_prefix("--") {
                match long {
                    "help" => return Some(Invocation::Help { code: 0 }),
                    "version" => return Some(Invocation::Version),
                    _ => self.long(long),
                }
            } else if argument.len() > 1 && argument.starts_with('-') {
                if let Some(answer) = self.letters(&argument[1..]) {
                    return Some(answer);
                }
            } else {
                self.positional.push(argument);
            }
        }
        None
    }

    /// `-d2`, `-d 2`, `-hv`: letters in one argument, the first that takes a value takes the rest.
    fn letters(&mut self, letters: &str) -> Option<Invocation> {
        let letter = letters.chars().next()?;
        match letter {
            'h' | '?' => return Some(Invocation::Help { code: 1 }),
            'v' => return Some(Invocation::Version),
            _ => {}
        }
        let attached = &letters[letter.len_utf8()..];
        let known = DEFINITIONS
            .iter()
            .find(|definition| definition.flag.is_some_and(|(flag, _)| flag == letter));
        let removed = REMOVED.iter().find(|(_, flag)| *flag == Some(letter));
        if known.is_none() && removed.is_none() && letter != 'f' {
            self.problems
                .push(format!("unknown option `-{letter}`; `slon -h` lists all options"));
            return None;
        }
        let value = if attached.is_empty() {
            self.rest.pop_front()
        } else {
            Some(attached.to_owned())
        };
        let Some(value) = value else {
            self.problems.push(format!("option `-{letter}` needs a value"));
            return None;
        };
        if letter == 'f' {
            self.file(&value);
        } else if let Some(definition) = known {
            self.set(definition, &value, &format!("option `-{letter}`"));
        } else if let Some((name, _)) = removed {
            self.warnings.push(ignored(name));
        }
        None
    }

    /// `--name=value` or `--name value`.
    fn long(&mut self, text: &str) {
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let definition = parameters::definition(name);
        if definition.is_none() && !parameters::is_removed(name) {
            let error = ParameterError::Unknown { name: name.to_owned() };
            self.problems.push(format!("option `--{name}`: {error}"));
            return;
        }
        let Some(value) = attached.or_else(|| self.rest.pop_front()) else {
            self.problems.push(format!("option `--{name}` needs a value"));
            return;
        };
        match definition {
            Some(definition) => self.set(definition, &value, &format!("option `--{name}`")),
            None => self.warnings.push(ignored(name)),
        }
    }

    fn set(&mut self, definition: &Definition, value: &str, place: &str) {
        if let Err(error) = self.parameters.set(definition, value) {
            self.problems.push(format!("{place}: {error}"));
        }
    }

    fn file(&mut self, name: &str) {
        let text = match (self.read_file)(Path::new(name)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.warnings
                    .push(format!("configuration file `{name}` does not exist - ignored"));
                return;
            }
            Err(error) => {
                self.problems
                    .push(format!("configuration file `{name}` cannot be read: {error}"));
                return;
            }
        };
        match config_file::read(name, &text) {
            Err(errors) => self.problems.extend(errors.iter().map(ToString::to_string)),
            Ok(settings) => {
                for setting in settings {
                    let place = format!("{name}:{}", setting.line);
                    if let Some(definition) = parameters::definition(&setting.name) {
                        self.set(definition, &setting.value, &place);
                    } else if parameters::is_removed(&setting.name) {
                        self.warnings.push(format!("{place}: {}", ignored(&setting.name)));
                    } else {
                        let error = ParameterError::Unknown { name: setting.name };
                        self.problems.push(format!("{place}: {error}"));
                    }
                }
            }
        }
    }
}

fn ignored(name: &str) -> String {
    format!("unrecognized configuration parameter \"{name}\" - ignored, it belongs to another version of slon")
}

/// The usage, with every option, its default and its range.
#[must_use]
pub fn usage() -> String {
    let mut text = String::from(
        "usage: slon [options] clustername conninfo\n\n\
         Serves the node of cluster `clustername` whose database is at `conninfo`.\n\
         Options are read from left to right, later ones win; -f reads its file at its position.\n\n\
         Options:\n",
    );
    let mut option = |left: &str, right: &str| {
        let _ = writeln!(text, "    {left:<22}{right}");
    };
    option("-h", "print usage message and exit");
    option("-v", "print version and exit");
    option("-f <file>", "read a configuration file");
    for definition in DEFINITIONS {
        if let Some((letter, value)) = definition.flag {
            option(&format!("-{letter} <{value}>"), &described(definition, definition.name));
        }
    }
    for (name, letter) in REMOVED {
        if let Some(letter) = letter {
            option(
                &format!("-{letter} <number>"),
                &format!("{name} of other versions, ignored with a warning"),
            );
        }
    }
    text.push_str("\nAll parameters, as `name = value` in the configuration file or `--name=value` here:\n");
    for definition in DEFINITIONS {
        let _ = writeln!(text, "    {}", definition.name);
        let _ = writeln!(text, "        {}", described(definition, ""));
    }
    text
}

fn described(definition: &Definition, name: &str) -> String {
    let name = if name.is_empty() {
        String::new()
    } else {
        format!("{name}: ")
    };
    format!(
        "{name}{} (default {}; {})",
        definition.meaning.trim(),
        definition.default_text(),
        definition.range()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const FILE: &str = "sync_interval=500\nlog_level=2\ncluster_name='filed'\nconn_info='dbname=filed'\n";

    fn parse_words(words: &[&str]) -> Result<Invocation, UsageError> {
        parse(
            words.iter().map(ToString::to_string),
            Some("from_env".to_owned()),
            |path| match path.to_str() {
                Some("slon.conf") => Ok(FILE.to_owned()),
                Some("bad.conf") => {
                    Ok("sync_interval=5\nfoo=1\ndesired_sync_time=3\nsync_interval_timeout=99x\n".to_owned())
                }
                _ => Err(std::io::ErrorKind::NotFound.into()),
            },
        )
    }

    fn run(words: &[&str]) -> (Parameters, Vec<String>) {
        match parse_words(words) {
            Ok(Invocation::Run { parameters, warnings }) => (*parameters, warnings),
            other => panic!("{other:?}"),
        }
    }

    fn problems(words: &[&str]) -> Vec<String> {
        parse_words(words).unwrap_err().problems
    }

    #[test]
    fn later_options_win_and_the_file_counts_at_its_position() {
        let (parameters, _) = run(&["-s", "100", "-f", "slon.conf", "-d4", "c", "dbname=x"]);
        assert_eq!((parameters.sync_interval, parameters.log_level), (500, 4));
        let (parameters, _) = run(&["-f", "slon.conf", "-s100"]);
        assert_eq!((parameters.sync_interval, parameters.log_level), (100, 2));
        assert_eq!(parameters.cluster_name.as_deref(), Some("filed"));
        assert_eq!(parameters.conn_info.as_deref(), Some("dbname=filed"));
    }

    #[test]
    fn arguments_win_over_the_file_and_may_stand_before_options() {
        let (parameters, _) = run(&["c", "dbname=x", "-f", "slon.conf"]);
        assert_eq!(parameters.cluster_name.as_deref(), Some("c"));
        assert_eq!(parameters.conn_info.as_deref(), Some("dbname=x"));
    }

    #[test]
    fn a_cluster_name_needs_its_connection_string() {
        let error = parse_words(&["-f", "slon.conf", "c"]).unwrap_err();
        assert!(error.show_usage);
        assert_eq!(
            error.problems,
            ["the connection string of the local database is missing"]
        );
        assert!(problems(&["c", "dbname=x", "host=y"])[0].contains("`host=y`"));
    }

    #[test]
    fn the_cluster_may_come_from_the_environment() {
        let (parameters, _) = run(&["--conn-info=dbname=x"]);
        assert_eq!(parameters.cluster_name.as_deref(), Some("from_env"));
    }

    #[test]
    fn wrong_values_are_refused_together_with_their_place() {
        assert_eq!(
            problems(&[
                "-s",
                "5",
                "-f",
                "bad.conf",
                "--sync-group-maxsize",
                "99999",
                "-z",
                "c",
                "dbname=x"
            ]),
            [
                "option `-s`: 5 is outside the valid range for parameter `sync_interval` (10 .. 60000 ms)",
                "bad.conf:1: 5 is outside the valid range for parameter `sync_interval` (10 .. 60000 ms)",
                "bad.conf:2: unknown parameter `foo`; `slon -h` lists all parameters",
                "bad.conf:4: `99x` is not a valid value for parameter `sync_interval_timeout`: \
                 expected a number, 0 .. 1200000 ms",
                "option `--sync-group-maxsize`: 99999 is outside the valid range for parameter \
                 `sync_group_maxsize` (0 .. 10000)",
                "unknown option `-z`; `slon -h` lists all options",
            ]
        );
    }

    #[test]
    fn what_other_versions_knew_is_ignored_with_a_warning() {
        let (_, warnings) = run(&["-o", "5", "-r3", "-f", "nowhere.conf", "c", "dbname=x"]);
        assert_eq!(warnings.len(), 3);
        assert!(warnings[0].starts_with("unrecognized configuration parameter \"desired_sync_time\""));
        assert_eq!(
            warnings[2],
            "configuration file `nowhere.conf` does not exist - ignored"
        );
    }

    #[test]
    fn log_shipping_is_refused_until_it_exists() {
        assert!(problems(&["-a", "/tmp/archive", "c", "dbname=x"])[0].contains("not available yet"));
    }

    #[test]
    fn help_and_version() {
        assert!(matches!(parse_words(&["-h"]), Ok(Invocation::Help { code: 1 })));
        assert!(matches!(parse_words(&["-?"]), Ok(Invocation::Help { code: 1 })));
        assert!(matches!(
            parse_words(&["c", "--help"]),
            Ok(Invocation::Help { code: 0 })
        ));
        assert!(matches!(parse_words(&["-v"]), Ok(Invocation::Version)));
        let usage = usage();
        for definition in DEFINITIONS {
            assert!(usage.contains(definition.name), "{}", definition.name);
        }
        assert!(usage.contains("(default 2000; 10 .. 60000 ms)"));
    }

    #[test]
    fn the_reference_quotes_the_usage() {
        let reference = include_str!("../../docs/src/reference/slon.md");
        assert!(
            reference.contains(&usage()),
            "put this into docs/src/reference/slon.md:\n{}",
            usage()
        );
    }

    #[test]
    fn a_connection_string_no_libpq_would_take_is_refused() {
        let problems = problems(&["c", "dbname=x no_such_keyword=1"]);
        assert!(
            problems[0].starts_with("the connection string of the local database is wrong: "),
            "{problems:?}"
        );
        assert!(problems[0].contains("no_such_keyword"), "{problems:?}");
    }

    #[test]
    fn a_value_may_be_missing() {
        assert_eq!(problems(&["c", "dbname=x", "-d"]), ["option `-d` needs a value"]);
        assert_eq!(
            problems(&["c", "dbname=x", "--log-pid"]),
            ["option `--log-pid` needs a value"]
        );
    }
}
