//! What can be wrong with a connection string.

use std::path::PathBuf;

/// A connection string, or one of the files and variables that complete it, cannot be used.
///
/// Messages follow libpq's wording where a DBA may know it; none shows a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConninfoError {
    /// A word without `=`.
    #[error("missing \"=\" after \"{0}\" in connection info string")]
    MissingEquals(String),
    /// As before, where the word may be the rest of a password with a blank.
    #[error(
        "missing \"=\" in connection info string after the value of \"{0}\"; put a value with blanks into single quotes"
    )]
    MissingEqualsAfterSecret(&'static str),
    /// An opening `'` without its partner.
    #[error("unterminated quoted string in connection info string, in the value of \"{0}\"")]
    UnterminatedQuote(&'static str),
    /// A keyword libpq does not know either.
    #[error("invalid connection option \"{0}\"")]
    UnknownOption(String),
    /// As before, where the word may be the rest of a password with a blank.
    #[error("invalid connection option after the value of \"{0}\"; put a value with blanks into single quotes")]
    UnknownOptionAfterSecret(&'static str),
    /// A URI parameter libpq does not know either.
    #[error("invalid URI query parameter: \"{0}\"")]
    UnknownUriParameter(String),
    /// `a=b=c` among the URI parameters.
    #[error("extra key/value separator \"=\" in URI query parameter: \"{0}\"")]
    ExtraSeparator(String),
    /// `a` alone among the URI parameters.
    #[error("missing key/value separator \"=\" in URI query parameter: \"{0}\"")]
    MissingSeparator(String),
    /// `[` without `]`.
    #[error("end of string reached when looking for matching \"]\" in IPv6 host address in URI")]
    UnclosedBracket,
    /// `[]`.
    #[error("IPv6 host address may not be empty in URI")]
    EmptyBrackets,
    /// Something after `]` that does not belong there.
    #[error("unexpected character \"{0}\" after \"]\" in URI (expected \":\" or \"/\")")]
    AfterBracket(char),
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("invalid percent-encoded token in the {part} of the URI")]
    PercentEncoding {
        /// Which part of the URI; the text itself may be secret.
        part: String,
    },
    /// `%00`.
    #[error("forbidden value %00 in the {part} of the URI")]
    PercentNul {
        /// Which part of the URI.
        part: String,
    },
    /// Bytes that are no UTF-8 after decoding.
    #[error("the {part} of the URI is not UTF-8 after percent-decoding")]
    NotUtf8 {
        /// Which part of the URI.
        part: String,
    },
    /// A mistake in a URI that may have been cut in the middle of the password; nothing of it is shown.
    #[error(
        "invalid URI: there is an `@` behind the first one or behind a `/`; if it belongs to the password or user name, \
         write `@` as %40, `/` as %2F, `:` as %3A, `?` as %3F"
    )]
    CutWrong,
    /// A NUL byte in the string.
    #[error("the connection string contains a NUL byte")]
    Nul,
    /// A value outside the keyword's list.
    #[error("invalid {option} value: \"{value}\" (expected {expected})")]
    InvalidValue {
        /// The keyword.
        option: &'static str,
        /// The value as given.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Not a number.
    #[error("invalid integer value \"{value}\" for connection option \"{option}\"")]
    InvalidInteger {
        /// The keyword.
        option: &'static str,
        /// The value as given.
        value: String,
    },
    /// Not a port.
    #[error("invalid port number: \"{0}\" (expected 1 to 65535)")]
    InvalidPort(String),
    /// Not an address.
    #[error("could not parse network address \"{0}\" in hostaddr")]
    InvalidAddress(String),
    /// Different numbers of hosts and addresses.
    #[error("could not match {hosts} host names to {addresses} hostaddr values")]
    HostaddrCount {
        /// Names in `host`.
        hosts: usize,
        /// Addresses in `hostaddr`.
        addresses: usize,
    },
    /// Different numbers of ports and hosts.
    #[error("could not match {ports} port numbers to {hosts} hosts")]
    PortCount {
        /// Numbers in `port`.
        ports: usize,
        /// Hosts.
        hosts: usize,
    },
    /// A socket path the system cannot address.
    #[error("Unix-domain socket path \"{path}\" is too long (maximum {maximum} bytes)")]
    SocketPathTooLong {
        /// The path.
        path: String,
        /// What fits.
        maximum: usize,
    },
    /// Nobody to connect as.
    #[error("no user name: the process runs as user id {0}, which has no name; set `user=`")]
    NoUser(u32),
    /// Two keywords that contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// A keyword we know and cannot honour.
    #[error("connection option \"{option}\" cannot be honoured: {reason}")]
    Unsupported {
        /// The keyword, with its value where that matters.
        option: String,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// The service is in no file.
    #[error("definition of service \"{service}\" not found in {searched}")]
    ServiceNotFound {
        /// Its name.
        service: String,
        /// The files looked at.
        searched: String,
    },
    /// A line of a service file is wrong.
    #[error("syntax error in service file \"{path}\", line {line}: {reason}", path = path.display())]
    ServiceSyntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read.
    #[error("could not read {what} \"{path}\": {reason}", path = path.display())]
    Unreadable {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
}
