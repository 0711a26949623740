//! Watches what the server asks for while a session logs in, for `require_auth`.
//!
//! The driver answers whatever the server asks, so the answer must be stopped before it: this gate reads the server's
//! messages on their way and breaks the connection at the first request that is not allowed.

use crate::conninfo::{Method, RequiredAuthentication};

/// Longest authentication request we read; they are tens of bytes.
const MAX_REQUEST_BYTES: usize = 4096;

/// Reads the server's messages until the session is ready for queries.
#[derive(Debug)]
pub(super) struct Gate {
    required: RequiredAuthentication,
    /// The message being read: type and length, then, for authentication requests, the body.
    message: Vec<u8>,
    /// Bytes of an uninteresting message still to come.
    skip: usize,
    asked: bool,
    open: bool,
}

impl Gate {
    pub(super) fn new(required: RequiredAuthentication) -> Self {
        Self {
            required,
            message: Vec::new(),
            skip: 0,
            asked: false,
            open: false,
        }
    }

    /// Looks at bytes the server sent; an error must keep them from the driver.
    pub(super) fn check(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !self.open && !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.message.push(bytes[0]);
            bytes = &bytes[1..];
            let &[kind, a, b, c, d, ref body @ ..] = self.message.as_slice() else {
                continue;
            };
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            let Some(expected) = length.checked_sub(4) else {
                return Err("the server sent a malformed message while logging in".to_owned());
            };
            match kind {
                b'R' if expected > MAX_REQUEST_BYTES => {
                    return Err("the server sent an oversized authentication request".to_owned());
                }
                b'R' if body.len() < expected => continue,
                b'R' => {
                    let body = body.to_vec();
                    self.judge(&body)?;
                }
                b'Z' => self.open = true,
                _ => self.skip = expected,
            }
            self.message.clear();
        }
        Ok(())
    }

    /// Judges one authentication request.
    fn judge(&mut self, body: &[u8]) -> Result<(), String> {
        let Some((code, rest)) = body.split_first_chunk::<4>() else {
            return Err("the server sent a malformed authentication request".to_owned());
        };
        let method = match u32::from_be_bytes(*code) {
            // Later steps and the end of a method that has been judged.
            0 | 8 | 11 | 12 if self.asked => return Ok(()),
            0 => Method::None,
            3 => Method::Password,
            5 => Method::Md5,
            7 => Method::Gss,
            9 => Method::Sspi,
            10 => {
                let mut mechanisms = rest.split(|byte| *byte == 0);
                if mechanisms.any(|name| name.starts_with(b"SCRAM-SHA-256")) {
                    Method::ScramSha256
                } else {
                    Method::OAuth
                }
            }
            other => return Err(format!("the server asks for unknown authentication method {other}")),
        };
        self.asked = true;
        if self.required.allows(method) {
            return Ok(());
        }
        let required = self.required.text();
        Err(match method {
            Method::None => {
                format!(
                    "authentication method requirement \"{required}\" failed: server did not ask for any authentication"
                )
            }
            method => {
                let name = method.name();
                format!("authentication method requirement \"{required}\" failed: server requested \"{name}\"")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::conninfo::{Environment, Settings};

    fn gate(required: &str) -> Gate {
        let settings = Settings::resolve(&format!("require_auth={required}"), &Environment::bare("me")).unwrap();
        Gate::new(settings.required_authentication.unwrap())
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    fn request(code: u8, rest: &[u8]) -> Vec<u8> {
        message(b'R', &[&[0, 0, 0, code][..], rest].concat())
    }

    /// Feeds messages whole and byte by byte; both must agree.
    fn check(required: &str, messages: &[Vec<u8>], allowed: bool) {
        let bytes = messages.concat();
        assert_eq!(gate(required).check(&bytes).is_ok(), allowed, "{required} {messages:?}");
        let mut slow = gate(required);
        assert_eq!(
            bytes.iter().try_for_each(|byte| slow.check(&[*byte])).is_ok(),
            allowed,
            "{required} {messages:?}"
        );
    }

    #[test]
    fn only_allowed_requests_pass() {
        let notice = message(b'N', b"some notice");
        let ready = message(b'Z', b"I");
        let scram = [
            request(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
            request(11, b"x"),
            request(12, b"y"),
            request(0, b""),
        ];
        let clear = [notice.clone(), request(3, b""), request(0, b"")];
        let none = [request(0, b""), message(b'S', b"a\0b\0"), ready];
        check("scram-sha-256", &scram, true);
        check("!scram-sha-256", &scram, false);
        check("scram-sha-256", &clear, false);
        check("password,md5", &clear, true);
        check("scram-sha-256", &[request(5, b"salt")], false);
        check("md5", &[request(5, b"salt")], true);
        check("scram-sha-256", &none, false);
        check("none,scram-sha-256", &none, true);
        check("!password", &none, true);
        check("!none", &none, false);
        check("scram-sha-256", &[request(12, b"")], false);
        check("!gss", &[message(b'R', &[0])], false);
    }

    #[test]
    fn after_login_nothing_is_looked_at() {
        let mut gate = gate("none");
        gate.check(&[request(0, b""), message(b'Z', b"I"), vec![0xff; 10]].concat())
            .unwrap();
        gate.check(&request(3, b"")).unwrap();
    }
}
