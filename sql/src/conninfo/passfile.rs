//! The password file: `host:port:database:user:password` per line.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// What a line of the file must match.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Host name or address; `localhost` for the default socket directories.
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) dbname: &'a str,
    pub(super) user: &'a str,
}

/// The password of the first line that matches; a file that does not exist has none.
///
/// A file that others may read, or that cannot be read, is left alone with a warning, as libpq does.
pub(super) fn lookup(path: &Path, wanted: Wanted<'_>) -> Result<Option<String>, String> {
    let name = path.display();
    let Ok(metadata) = std::fs::metadata(path) else {
        return Ok(None);
    };
    if !metadata.is_file() {
        return Err(format!("password file `{name}` is not a plain file, it is not used"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!(
            "password file `{name}` (owned by user id {}) has group or world access, it is not used; permissions should be \
             u=rw (0600) or less",
            metadata.uid()
        ));
    }
    let text = std::fs::read(path).map_err(|error| format!("could not read password file `{name}`: {error}"))?;
    let text = String::from_utf8(text).map_err(|_| format!("password file `{name}` is not UTF-8, it is not used"))?;
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| password_of(line, wanted)))
}

/// The password of a line, if its four fields match.
fn password_of(line: &str, wanted: Wanted<'_>) -> Option<String> {
    let mut rest = line.trim_end_matches('\r');
    for expected in [wanted.host, &wanted.port.to_string(), wanted.dbname, wanted.user] {
        let (field, star) = take_field(&mut rest)?;
        if !star && field != expected {
            return None;
        }
    }
    let mut password = String::new();
    let mut characters = rest.chars();
    while let Some(character) = characters.next().filter(|character| *character != ':') {
        match character {
            '\\' => password.push(characters.next().unwrap_or('\\')),
            _ => password.push(character),
        }
    }
    Some(password)
}

/// Takes the text before the next unescaped `:` and tells whether it is a bare `*`.
fn take_field(rest: &mut &str) -> Option<(String, bool)> {
    let mut field = String::new();
    let mut characters = rest.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            ':' => {
                let star = &rest[..index] == "*";
                *rest = &rest[index + 1..];
                return Some((field, star));
            }
            '\\' => field.push(characters.next()?.1),
            _ => field.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WANTED: Wanted<'_> = Wanted {
        host: "::1",
        port: 5432,
        dbname: "d:b",
        user: "u",
    };

    #[test]
    fn fields_are_compared_and_unescaped() {
        let check = |line, expected: Option<&str>| assert_eq!(password_of(line, WANTED).as_deref(), expected, "{line}");
        check(r"\:\:1:5432:d\:b:u:pass", Some("pass"));
        check(r"*:*:*:*:a\:b\\c", Some(r"a:b\c"));
        check("*:*:*:*:pass:more", Some("pass"));
        check("*:*:*:*:", Some(""));
        check(r"\*:*:*:*:pass", None);
        check("*:5433:*:*:pass", None);
        check("*:*:*:v:pass", None);
        check("*:*:*:*", None);
        check("", None);
        check("*:*:*:*:pass\r", Some("pass"));
    }

    #[test]
    fn a_file_others_can_read_is_left_alone_with_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pass");
        assert_eq!(lookup(&path, WANTED), Ok(None));
        std::fs::write(&path, "# *:*:*:*:comment\n*:1:*:*:no\n*:*:*:u:first\n*:*:*:*:second\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(lookup(&path, WANTED).unwrap_err().contains("group or world access"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(lookup(&path, WANTED), Ok(Some("first".to_owned())));
        assert!(
            lookup(directory.path(), WANTED)
                .unwrap_err()
                .contains("not a plain file")
        );
    }
}
