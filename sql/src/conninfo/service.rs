//! Service files: groups of keywords under a name.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::ConninfoError;
use super::keyword::{self, Keyword};
use super::parameters::Parameters;

/// Adds the keywords of the service to those still open, if a service is named at all.
///
/// Looked for in `servicefile`, `PGSERVICEFILE` or `~/.pg_service.conf`, then in the system's `pg_service.conf`.
pub(super) fn apply(parameters: &mut Parameters, environment: &Environment) -> Result<(), ConninfoError> {
    let named = |name: &str, variable: &str| {
        let value = parameters.get(name).or_else(|| environment.variable(variable))?;
        Some(value.to_owned()).filter(|value| !value.is_empty())
    };
    let Some(service) = named("service", "PGSERVICE") else {
        return Ok(());
    };
    let own = named("servicefile", "PGSERVICEFILE")
        .map(PathBuf::from)
        .or_else(|| environment.home_file(".pg_service.conf"));
    let system = environment
        .system_directories()
        .into_iter()
        .map(|directory| directory.join("pg_service.conf"));
    let mut searched = Vec::new();
    for path in own.into_iter().chain(system) {
        if let Some(values) = read(&path, &service)? {
            for (keyword, value) in values {
                parameters.set_default(keyword, || Some(value));
            }
            return Ok(());
        }
        searched.push(format!("`{}`", path.display()));
    }
    let searched = if searched.is_empty() {
        "any file (there is no home directory)".to_owned()
    } else {
        searched.join(", ")
    };
    Err(ConninfoError::ServiceNotFound { service, searched })
}

type Values = Vec<(&'static Keyword, String)>;

/// The group of a service in one file; `None` if the file or the group does not exist.
fn read(path: &Path, service: &str) -> Result<Option<Values>, ConninfoError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, service).map_err(|(line, reason)| ConninfoError::ServiceSyntax {
            path: path.into(),
            line,
            reason,
        }),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(ConninfoError::Unreadable {
            what: "service file",
            path: path.into(),
            reason: error.to_string(),
        }),
    }
}

/// The keywords of the first group with this name; the first value of a keyword counts, as in libpq.
fn parse(text: &str, service: &str) -> Result<Option<Values>, (usize, String)> {
    let mut values: Option<Values> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_matches(|character: char| character.is_ascii_whitespace());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            if values.is_some() {
                break;
            }
            // libpq compares up to the bracket and does not look behind it.
            if header.strip_prefix(service).is_some_and(|rest| rest.starts_with(']')) {
                values = Some(Vec::new());
            }
            continue;
        }
        let Some(values) = &mut values else { continue };
        let refuse = |reason: String| Err((index + 1, reason));
        if line.starts_with("ldap") {
            return refuse("LDAP references are not supported; write the keywords out".to_owned());
        }
        let Some((name, value)) = line.split_once('=') else {
            return refuse("a line must be `keyword=value` without blanks around `=`".to_owned());
        };
        if name == "service" || name == "servicefile" {
            return refuse("nested service specifications are not supported".to_owned());
        }
        let Some(keyword) = keyword::find(name) else {
            return refuse(format!("invalid connection option \"{name}\""));
        };
        if !values.iter().any(|(known, _)| *known == keyword) {
            values.push((keyword, value.to_owned()));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = "# services\n[one]\nhost=a\n port=1 \nhost=b\n\n[two]\nhost=c\npassword= x y\n[broken]\nhost = c\n[one]\nuser=u\n";

    fn check(service: &str, expected: &str) {
        let shown = match parse(FILE, service) {
            Ok(Some(values)) => values
                .iter()
                .map(|(keyword, value)| [keyword.name, "=", value, ";"].concat())
                .collect::<Vec<_>>()
                .concat(),
            Ok(None) => "none".to_owned(),
            Err((line, reason)) => format!("line {line}: {reason}"),
        };
        assert_eq!(shown, expected, "for {service}");
    }

    #[test]
    fn groups_are_read_as_libpq_reads_them() {
        check("one", "host=a;port=1;");
        check("two", "host=c;password= x y;");
        check("tw", "none");
        check("broken", "line 11: invalid connection option \"host \"");
    }

    #[test]
    fn the_string_wins_over_the_service_and_the_service_over_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("services");
        std::fs::write(&path, FILE).unwrap();
        let environment = Environment::bare("me")
            .with_variable("PGSERVICEFILE", path.to_str().unwrap())
            .with_variable("PGSERVICE", "two")
            .with_variable("PGPORT", "7");
        let mut parameters = super::super::parse("service=one host=mine").unwrap();
        apply(&mut parameters, &environment).unwrap();
        assert_eq!(parameters.to_words(), "host=mine port=1 service=one");
        let mut parameters = Parameters::default();
        apply(&mut parameters, &environment).unwrap();
        assert_eq!(parameters.get("host"), Some("c"));
        let mut parameters = super::super::parse("service=none").unwrap();
        let message = apply(&mut parameters, &environment).unwrap_err().to_string();
        assert!(
            message.starts_with("definition of service \"none\" not found in `"),
            "{message}"
        );
    }
}
