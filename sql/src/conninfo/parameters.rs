//! The keywords of one connection string, as text.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::error::ConninfoError;
use super::keyword::{self, Keyword};
use super::{uri, words};

/// Keywords and values of a connection string, nothing added yet.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    values: BTreeMap<&'static str, String>,
}

/// Reads a connection string in either form.
///
/// An empty string is valid: everything comes from the environment.
pub fn parse(conninfo: &str) -> Result<Parameters, ConninfoError> {
    if conninfo.contains('\0') {
        return Err(ConninfoError::Nul);
    }
    let parameters = match uri::without_scheme(conninfo) {
        Some(rest) => uri::parse(rest),
        None => words::parse(conninfo),
    };
    parameters.map_err(|error| hide(error, conninfo))
}

/// Replaces an error that might quote a piece of a password.
pub(super) fn hide(error: ConninfoError, conninfo: &str) -> ConninfoError {
    match uri::without_scheme(conninfo) {
        Some(rest) if uri::may_be_cut_wrong(rest) => ConninfoError::CutWrong,
        _ => error,
    }
}

impl Parameters {
    /// The value of a keyword, if the string gives one (it may be empty).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The keywords and values, sorted by keyword; passwords included.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The same connection as `key=value` words, readable by every libpq; passwords included.
    #[must_use]
    pub fn to_words(&self) -> String {
        self.write_words(|_, value| value)
    }

    /// As [`Self::to_words`], with `***` for every secret.
    pub(super) fn to_redacted_words(&self) -> String {
        self.write_words(|keyword, value| if keyword.secret { "***" } else { value })
    }

    fn write_words<'a>(&'a self, show: impl Fn(&Keyword, &'a str) -> &'a str) -> String {
        let mut text = String::new();
        for (name, value) in &self.values {
            let value = keyword::find(name).map_or("***", |keyword| show(keyword, value));
            let separator = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{separator}{name}={}", words::quote(value));
        }
        text
    }

    pub(super) fn set(&mut self, keyword: &'static Keyword, value: String) {
        self.values.insert(keyword.name, value);
    }

    /// Sets a keyword of the string; the spelling of old releases is understood as libpq does.
    pub(super) fn set_named(&mut self, name: &str, value: String) -> Result<(), UnknownKeyword> {
        let (name, value) = match name {
            "requiressl" => (
                "sslmode",
                if value.starts_with('1') { "require" } else { "prefer" }.to_owned(),
            ),
            _ => (name, value),
        };
        let keyword = keyword::find(name).ok_or(UnknownKeyword)?;
        self.set(keyword, value);
        Ok(())
    }

    /// Sets a keyword that is still open.
    pub(super) fn set_default(&mut self, keyword: &'static Keyword, value: impl FnOnce() -> Option<String>) {
        if !self.values.contains_key(keyword.name)
            && let Some(value) = value()
        {
            self.set(keyword, value);
        }
    }
}

/// No keyword of this name.
pub(super) struct UnknownKeyword;

impl fmt::Debug for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Parameters")
            .field(&self.to_redacted_words())
            .finish()
    }
}
