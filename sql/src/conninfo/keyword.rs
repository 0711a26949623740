//! The keywords of libpq 18, with the variable that stands in for each.

/// One keyword of a connection string.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keyword {
    pub(super) name: &'static str,
    /// Variable of the environment read when neither the string nor the service file sets the keyword.
    pub(super) variable: Option<&'static str>,
    /// Its value never shows up in a message.
    pub(super) secret: bool,
}

const fn plain(name: &'static str) -> Keyword {
    Keyword {
        name,
        variable: None,
        secret: false,
    }
}

const fn with_variable(name: &'static str, variable: &'static str) -> Keyword {
    Keyword {
        name,
        variable: Some(variable),
        secret: false,
    }
}

const fn secret(name: &'static str, variable: Option<&'static str>) -> Keyword {
    Keyword {
        name,
        variable,
        secret: true,
    }
}

/// Every keyword, sorted by name.
pub(super) const KEYWORDS: &[Keyword] = &[
    with_variable("application_name", "PGAPPNAME"),
    with_variable("channel_binding", "PGCHANNELBINDING"),
    with_variable("client_encoding", "PGCLIENTENCODING"),
    with_variable("connect_timeout", "PGCONNECT_TIMEOUT"),
    with_variable("dbname", "PGDATABASE"),
    plain("fallback_application_name"),
    with_variable("gssdelegation", "PGGSSDELEGATION"),
    with_variable("gssencmode", "PGGSSENCMODE"),
    with_variable("gsslib", "PGGSSLIB"),
    with_variable("host", "PGHOST"),
    with_variable("hostaddr", "PGHOSTADDR"),
    plain("keepalives"),
    plain("keepalives_count"),
    plain("keepalives_idle"),
    plain("keepalives_interval"),
    with_variable("krbsrvname", "PGKRBSRVNAME"),
    with_variable("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    with_variable("max_protocol_version", "PGMAXPROTOCOLVERSION"),
    with_variable("min_protocol_version", "PGMINPROTOCOLVERSION"),
    plain("oauth_client_id"),
    secret("oauth_client_secret", None),
    plain("oauth_issuer"),
    plain("oauth_scope"),
    with_variable("options", "PGOPTIONS"),
    with_variable("passfile", "PGPASSFILE"),
    secret("password", Some("PGPASSWORD")),
    with_variable("port", "PGPORT"),
    plain("replication"),
    with_variable("require_auth", "PGREQUIREAUTH"),
    with_variable("requirepeer", "PGREQUIREPEER"),
    secret("scram_client_key", None),
    secret("scram_server_key", None),
    with_variable("service", "PGSERVICE"),
    with_variable("servicefile", "PGSERVICEFILE"),
    with_variable("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    with_variable("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    with_variable("sslcert", "PGSSLCERT"),
    with_variable("sslcertmode", "PGSSLCERTMODE"),
    with_variable("sslcompression", "PGSSLCOMPRESSION"),
    with_variable("sslcrl", "PGSSLCRL"),
    with_variable("sslcrldir", "PGSSLCRLDIR"),
    with_variable("sslkey", "PGSSLKEY"),
    plain("sslkeylogfile"),
    with_variable("sslmode", "PGSSLMODE"),
    with_variable("sslnegotiation", "PGSSLNEGOTIATION"),
    secret("sslpassword", None),
    with_variable("sslrootcert", "PGSSLROOTCERT"),
    with_variable("sslsni", "PGSSLSNI"),
    with_variable("target_session_attrs", "PGTARGETSESSIONATTRS"),
    plain("tcp_user_timeout"),
    with_variable("user", "PGUSER"),
];

/// Finds a keyword by its exact name.
pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS
        .binary_search_by(|keyword| keyword.name.cmp(name))
        .ok()
        .map(|index| &KEYWORDS[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_keyword_is_found() {
        assert!(KEYWORDS.is_sorted_by(|a, b| a.name < b.name));
        for keyword in KEYWORDS {
            assert_eq!(find(keyword.name), Some(keyword));
        }
    }
}
