//! Connection strings as libpq reads them: `key=value` words and `postgresql://` URIs, completed from service files,
//! `PG*` variables, defaults and the password file.
//!
//! Two steps, both free of network traffic:
//!
//! 1. [`parse`] reads the text into [`Parameters`], keyword by keyword, without looking at anything else;
//! 2. `Settings::resolve` adds what the string leaves open and types the values. Where it looks comes from an
//!    [`Environment`], so that tests never touch the variables of the process.
//!
//! Keywords that cannot be honoured are ignored where that is safe (`krbsrvname`, `client_encoding`: the session
//! always speaks UTF-8) and refused with a reason where it is not (`gssencmode=require`, `replication`).
//! The variables `PGDATESTYLE`, `PGTZ` and `PGGEQO` are not sent: the programs set what they depend on themselves.

mod authentication;
mod environment;
mod error;
mod keyword;
mod parameters;
mod passfile;
mod redact;
mod service;
mod settings;
mod uri;
mod values;
mod words;

pub use environment::Environment;
pub use error::ConninfoError;
pub use parameters::{Parameters, parse};
pub use redact::redact;

pub(crate) use authentication::{Method, RequiredAuthentication};
pub(crate) use settings::{Endpoint, Host, KeepaliveSettings, Setting, Settings, TlsSettings, socket_path};
pub(crate) use values::{CertificateMode, ChannelBinding, ServerRole, SslMode, SslNegotiation, TlsVersion};
