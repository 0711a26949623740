//! `require_auth`: which ways of proving who we are the server may ask for.

use super::error::ConninfoError;

/// A way to authenticate, by libpq's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Password,
    Md5,
    Gss,
    Sspi,
    ScramSha256,
    OAuth,
    /// The server lets us in without asking.
    None,
}

impl Method {
    const ALL: [(Method, &'static str); 7] = [
        (Method::Password, "password"),
        (Method::Md5, "md5"),
        (Method::Gss, "gss"),
        (Method::Sspi, "sspi"),
        (Method::ScramSha256, "scram-sha-256"),
        (Method::OAuth, "oauth"),
        (Method::None, "none"),
    ];

    /// libpq's name.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(method, _)| *method == self)
            .map_or("", |(_, name)| name)
    }
}

/// A parsed `require_auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequiredAuthentication {
    text: String,
    methods: Vec<Method>,
    negated: bool,
}

impl RequiredAuthentication {
    /// Reads the list; an empty one requires nothing.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, ConninfoError> {
        const EXPECTED: &str = "a list of password, md5, gss, sspi, scram-sha-256, oauth, none, each or none with `!`";
        let invalid = || ConninfoError::InvalidValue {
            option: "require_auth",
            value: text.to_owned(),
            expected: EXPECTED,
        };
        if text.is_empty() {
            return Ok(None);
        }
        let mut methods = Vec::new();
        let negated = text.starts_with('!');
        for word in text.split(',') {
            let (name, word_negated) = match word.strip_prefix('!') {
                Some(name) => (name, true),
                None => (word, false),
            };
            let method = Method::ALL
                .iter()
                .find(|(_, known)| *known == name)
                .ok_or_else(invalid)?
                .0;
            if word_negated != negated || methods.contains(&method) {
                return Err(invalid());
            }
            methods.push(method);
        }
        let required = Self {
            text: text.to_owned(),
            methods,
            negated,
        };
        let ours = [Method::Password, Method::Md5, Method::ScramSha256, Method::None];
        if ours.iter().any(|method| required.allows(*method)) {
            return Ok(Some(required));
        }
        Err(ConninfoError::Unsupported {
            option: format!("require_auth={text}"),
            reason: "of these methods none is supported; allow password, md5, scram-sha-256 or none",
        })
    }

    /// Whether the server may ask for this.
    pub(crate) fn allows(&self, method: Method) -> bool {
        self.methods.contains(&method) != self.negated
    }

    /// As written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_allow_or_forbid() {
        let only = RequiredAuthentication::parse("scram-sha-256,md5").unwrap().unwrap();
        assert!(only.allows(Method::ScramSha256) && only.allows(Method::Md5));
        assert!(!only.allows(Method::Password) && !only.allows(Method::None));
        let not = RequiredAuthentication::parse("!password,!none").unwrap().unwrap();
        assert!(not.allows(Method::ScramSha256) && !not.allows(Method::None));
        assert_eq!(RequiredAuthentication::parse(""), Ok(None));
        for wrong in ["x", "md5,!password", "md5,md5", "gss", "gss,sspi,oauth", "md5,"] {
            assert!(RequiredAuthentication::parse(wrong).is_err(), "{wrong}");
        }
    }
}
