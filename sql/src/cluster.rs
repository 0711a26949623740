//! The cluster's name and everything spelled from it.

use std::sync::Arc;

/// Longest cluster name: the schema is called `_` + name and PostgreSQL keeps 63 bytes of an identifier.
pub const MAX_CLUSTER_NAME_BYTES: usize = 62;

/// A cluster name that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClusterNameError {
    /// Empty name.
    #[error("the cluster name is empty; give the name that follows `cluster name =` in the slonik scripts")]
    Empty,
    /// Too long for an identifier.
    #[error(
        "cluster name `{name}` has {bytes} bytes; at most {MAX_CLUSTER_NAME_BYTES} fit into the schema name `_{name}`"
    )]
    TooLong {
        /// The name as given.
        name: String,
        /// Its length in bytes.
        bytes: usize,
    },
    /// A NUL byte.
    #[error("the cluster name contains a NUL byte")]
    Nul,
}

/// A cluster, known by its name; cheap to clone.
///
/// Slony's schema of cluster `C` is `"_C"`, always quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    name: Arc<str>,
    namespace: Arc<str>,
    literal: Arc<str>,
}

impl Cluster {
    /// Checks the name and prepares its spellings.
    pub fn new(name: &str) -> Result<Self, ClusterNameError> {
        if name.is_empty() {
            return Err(ClusterNameError::Empty);
        }
        if name.contains('\0') {
            return Err(ClusterNameError::Nul);
        }
        if name.len() > MAX_CLUSTER_NAME_BYTES {
            return Err(ClusterNameError::TooLong {
                name: name.to_owned(),
                bytes: name.len(),
            });
        }
        let schema = format!("_{name}");
        Ok(Self {
            name: name.into(),
            namespace: quote_ident(&schema).into(),
            literal: quote_literal(&schema).into(),
        })
    }

    /// The name without the leading underscore, as in `cluster name = C`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schema as a quoted identifier: `"_C"`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The schema's bare name: `_C`.
    #[must_use]
    pub fn schema(&self) -> String {
        format!("_{}", self.name)
    }

    /// Channel of the restart request, quoted: `"_C_Restart"`.
    #[must_use]
    pub fn restart_channel(&self) -> String {
        quote_ident(&self.restart_channel_name())
    }

    /// The restart channel as the server reports it (identifiers are cut at 63 bytes).
    #[must_use]
    pub fn restart_channel_name(&self) -> String {
        truncate_identifier(&format!("_{}_Restart", self.name))
    }

    /// Channel of news (events, confirmations), quoted: `"_C_Event"`. Ours; real slons ignore it.
    #[must_use]
    pub fn event_channel(&self) -> String {
        quote_ident(&self.event_channel_name())
    }

    /// The news channel as the server reports it. `createEvent` spells it by the same rule.
    ///
    /// With a long cluster name the word comes first: cut at the end, the name would be that of the restart channel.
    #[must_use]
    pub fn event_channel_name(&self) -> String {
        let name = format!("_{}_Event", self.name);
        if name.len() <= 63 {
            name
        } else {
            truncate_identifier(&format!("Event__{}", self.name))
        }
    }

    /// Fills in a statement: `@NAMESPACE@` becomes the quoted schema, `@CLUSTER@` the literal `'_C'`.
    #[must_use]
    pub fn sql(&self, template: &str) -> String {
        // Split first: a name may itself look like a placeholder.
        let parts: Vec<String> = template
            .split("@NAMESPACE@")
            .map(|part| part.replace("@CLUSTER@", &self.literal))
            .collect();
        parts.join(&self.namespace)
    }
}

/// Cuts a name to the 63 bytes PostgreSQL keeps, never inside a character.
fn truncate_identifier(name: &str) -> String {
    let mut end = name.len().min(63);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// Quotes an identifier: `a"b` becomes `"a""b"`.
#[must_use]
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a string literal so that it reads the same with any `standard_conforming_strings`.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn schema_is_always_quoted_and_keeps_case() {
        let cluster = Cluster::new("My\"C").unwrap();
        assert_eq!(cluster.namespace(), "\"_My\"\"C\"");
        assert_eq!(
            cluster.sql("select @NAMESPACE@.f(@CLUSTER@)"),
            "select \"_My\"\"C\".f('_My\"C')"
        );
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        assert_eq!(Cluster::new(""), Err(ClusterNameError::Empty));
        assert!(Cluster::new(&"x".repeat(62)).is_ok());
        assert!(matches!(
            Cluster::new(&"x".repeat(63)),
            Err(ClusterNameError::TooLong { bytes: 63, .. })
        ));
    }

    #[test]
    fn channels_of_long_names_stay_apart() {
        let cluster = Cluster::new(&"x".repeat(62)).unwrap();
        assert_ne!(cluster.event_channel_name(), cluster.restart_channel_name());
        assert_eq!(cluster.event_channel_name().len(), 63);
        assert_eq!(Cluster::new("c").unwrap().event_channel_name(), "_c_Event");
    }

    #[test]
    fn literals_with_backslashes_do_not_depend_on_the_session() {
        assert_eq!(quote_literal("a'b"), "'a''b'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
    }
}
