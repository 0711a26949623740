//! The command line: `slonik [-h] [-v] [-w] [file …]`.

use std::ffi::OsString;
use std::path::PathBuf;

/// The version of Slony-I whose language this is; wrappers read it.
const LANGUAGE_VERSION: &str = "2.2.11";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Run scripts.
    Run {
        /// Whether slonik waits by itself (no `-w`).
        automatic_waits: bool,
        /// The scripts; none: standard input.
        files: Vec<PathBuf>,
    },
    /// Print this on standard output and exit with 0.
    Version(String),
    /// Print this on standard error and exit with 1.
    Usage(String),
}

/// Reads the command line, without the program's name. Options may stand anywhere and be joined (`-wv`), as `getopt`
/// allows; `--` ends them.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Invocation {
    let mut automatic_waits = true;
    let mut files = Vec::new();
    let mut options = true;
    for argument in arguments {
        let flags = argument
            .to_str()
            .and_then(|text| text.strip_prefix('-'))
            .filter(|flags| !flags.is_empty());
        match flags.filter(|_| options) {
            None => files.push(PathBuf::from(argument)),
            Some("-") => options = false,
            Some("-version") => {
                return Invocation::Version(format!(
                    "slonik version {LANGUAGE_VERSION} (Trunkline {})\n",
                    env!("CARGO_PKG_VERSION")
                ));
            }
            Some("-help") => return Invocation::Usage(usage()),
            Some(flags) => {
                for flag in flags.chars() {
                    match flag {
                        'v' => return Invocation::Version(format!("slonik version {LANGUAGE_VERSION}\n")),
                        'w' => automatic_waits = false,
                        'h' => return Invocation::Usage(usage()),
                        other => {
                            return Invocation::Usage(format!("slonik: invalid option -- '{other}'\n{}", usage()));
                        }
                    }
                }
            }
        }
    }
    Invocation::Run { automatic_waits, files }
}

fn usage() -> String {
    "usage: slonik [fname [...]]\n\
     \n\
     Runs slonik scripts, one after the other; without a name it reads standard input.\n\
     \n\
     \x20 -w   do not wait by itself for events to be confirmed\n\
     \x20 -v   print the version\n\
     \x20 -h   print this\n\
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
        assert_eq!(
            read(&["a.sk", "-w", "b.sk", "--", "-c.sk"]),
            Invocation::Run {
                automatic_waits: false,
                files: vec!["a.sk".into(), "b.sk".into(), "-c.sk".into()]
            }
        );
        assert_eq!(
            read(&[]),
            Invocation::Run {
                automatic_waits: true,
                files: vec![]
            }
        );
        assert_eq!(read(&["-wv"]), Invocation::Version("slonik version 2.2.11\n".into()));
    }

    #[test]
    fn a_wrong_option_shows_the_usage() {
        for arguments in [&["-h"][..], &["-x"], &["--help"], &["--nonsense"]] {
            assert!(matches!(read(arguments), Invocation::Usage(text) if text.contains("usage: slonik [fname [...]]")));
        }
    }
}
