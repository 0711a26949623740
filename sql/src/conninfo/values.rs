//! Keywords with a fixed list of values.

use super::error::ConninfoError;

/// A keyword whose value is one of a list.
pub(super) trait Choice: Copy + 'static {
    const OPTION: &'static str;
    const EXPECTED: &'static str;
    const VALUES: &'static [(&'static str, Self)];

    fn parse(value: &str) -> Result<Self, ConninfoError> {
        match Self::VALUES.iter().find(|(name, _)| *name == value) {
            Some((_, choice)) => Ok(*choice),
            None => Err(ConninfoError::InvalidValue {
                option: Self::OPTION,
                value: value.to_owned(),
                expected: Self::EXPECTED,
            }),
        }
    }
}

/// How much TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    /// Never.
    Disable,
    /// Only if the server refuses us without.
    Allow,
    /// If the server can.
    Prefer,
    /// Always, with any certificate.
    Require,
    /// Always, signed by our authority.
    VerifyCa,
    /// Always, signed by our authority and for this host.
    VerifyFull,
}

impl SslMode {
    /// The name in connection strings.
    pub(crate) fn name(self) -> &'static str {
        Self::VALUES
            .iter()
            .find(|(_, mode)| *mode == self)
            .map_or("", |(name, _)| name)
    }
}

impl Choice for SslMode {
    const OPTION: &'static str = "sslmode";
    const EXPECTED: &'static str = "disable, allow, prefer, require, verify-ca or verify-full";
    const VALUES: &'static [(&'static str, Self)] = &[
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

/// How TLS starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslNegotiation {
    /// The server is asked first.
    Postgres,
    /// At once, from server 17 on.
    Direct,
}

impl Choice for SslNegotiation {
    const OPTION: &'static str = "sslnegotiation";
    const EXPECTED: &'static str = "postgres or direct";
    const VALUES: &'static [(&'static str, Self)] = &[("postgres", Self::Postgres), ("direct", Self::Direct)];
}

/// When a client certificate is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificateMode {
    Disable,
    Allow,
    Require,
}

impl Choice for CertificateMode {
    const OPTION: &'static str = "sslcertmode";
    const EXPECTED: &'static str = "disable, allow or require";
    const VALUES: &'static [(&'static str, Self)] = &[
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("require", Self::Require),
    ];
}

/// A version of TLS, as a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    /// 1.0 and 1.1, which nobody should speak any more and we do not.
    Older,
    V1_2,
    V1_3,
}

impl TlsVersion {
    pub(super) fn parse(option: &'static str, value: &str) -> Result<Self, ConninfoError> {
        // libpq compares without regard to case here.
        match value.to_ascii_lowercase().as_str() {
            "tlsv1" | "tlsv1.1" => Ok(Self::Older),
            "tlsv1.2" => Ok(Self::V1_2),
            "tlsv1.3" => Ok(Self::V1_3),
            _ => Err(ConninfoError::InvalidValue {
                option,
                value: value.to_owned(),
                expected: "TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3",
            }),
        }
    }
}

/// Whether the proof of the password is tied to the TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

impl Choice for ChannelBinding {
    const OPTION: &'static str = "channel_binding";
    const EXPECTED: &'static str = "disable, prefer or require";
    const VALUES: &'static [(&'static str, Self)] = &[
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
    ];
}

/// Which of several servers will do: `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerRole {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

impl Choice for ServerRole {
    const OPTION: &'static str = "target_session_attrs";
    const EXPECTED: &'static str = "any, read-write, read-only, primary, standby or prefer-standby";
    const VALUES: &'static [(&'static str, Self)] = &[
        ("any", Self::Any),
        ("read-write", Self::ReadWrite),
        ("read-only", Self::ReadOnly),
        ("primary", Self::Primary),
        ("standby", Self::Standby),
        ("prefer-standby", Self::PreferStandby),
    ];
}

/// In which order hosts are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoadBalance {
    Disable,
    Random,
}

impl Choice for LoadBalance {
    const OPTION: &'static str = "load_balance_hosts";
    const EXPECTED: &'static str = "disable or random";
    const VALUES: &'static [(&'static str, Self)] = &[("disable", Self::Disable), ("random", Self::Random)];
}

/// Encryption by GSSAPI, which we do not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GssEncryption {
    Optional,
    Require,
}

impl Choice for GssEncryption {
    const OPTION: &'static str = "gssencmode";
    const EXPECTED: &'static str = "disable, prefer or require";
    const VALUES: &'static [(&'static str, Self)] = &[
        ("disable", Self::Optional),
        ("prefer", Self::Optional),
        ("require", Self::Require),
    ];
}

/// Versions of the wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProtocolVersion {
    V3_0,
    Newer,
}

impl ProtocolVersion {
    pub(super) fn parse(option: &'static str, value: &str) -> Result<Self, ConninfoError> {
        match value {
            "3.0" => Ok(Self::V3_0),
            "3.2" | "latest" => Ok(Self::Newer),
            _ => Err(ConninfoError::InvalidValue {
                option,
                value: value.to_owned(),
                expected: "3.0, 3.2 or latest",
            }),
        }
    }
}

/// Reads an integer as libpq does, with blanks around it.
pub(super) fn integer(option: &'static str, value: &str) -> Result<i32, ConninfoError> {
    let trimmed = value.trim_matches(|character: char| character.is_ascii_whitespace());
    trimmed.parse().map_err(|_| ConninfoError::InvalidInteger {
        option,
        value: value.to_owned(),
    })
}
