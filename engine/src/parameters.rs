//! All parameters of slon, defined once.
//!
//! The table below gives each parameter its type, default, range, command line letter and meaning. The command line,
//! the configuration file, `slon -h` (which the reference quotes) and the dump of options in the log all follow from it.

use std::fmt;
use std::ops::RangeInclusive;

use crate::logging::{LogFormat, LogSettings, Syslog, check_timestamp_format};

/// What values a parameter takes.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A whole number.
    Integer {
        /// Smallest and largest value.
        range: RangeInclusive<i64>,
        /// `ms`, `s` or nothing, for messages and help.
        unit: &'static str,
    },
    /// On or off.
    Boolean,
    /// A number; there is none that does anything.
    Real(RangeInclusive<f64>),
    /// Any text.
    Text,
    /// An interval as PostgreSQL reads it; a bare number counts seconds. The database checks it.
    Interval,
    /// A strftime format.
    TimeFormat,
    /// One of some words, whatever their case.
    Choice(&'static [&'static str]),
}

/// A value on its way into or out of [`Parameters`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of an integer parameter.
    Integer(i64),
    /// Of a boolean parameter.
    Boolean(bool),
    /// Of a real parameter.
    Real(f64),
    /// Of the others.
    Text(String),
    /// A text parameter that is not set.
    Unset,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Boolean(value) => f.write_str(if *value { "1" } else { "0" }),
            Self::Real(value) => write!(f, "{value:.6}"),
            Self::Text(value) => f.write_str(value),
            Self::Unset => f.write_str("[NULL]"),
        }
    }
}

/// A type a parameter's field may have.
trait Field: Sized {
    fn read(&self) -> Value;
    fn from_value(value: Value) -> Option<Self>;
}

impl Field for i32 {
    fn read(&self) -> Value {
        Value::Integer(i64::from(*self))
    }
    fn from_value(value: Value) -> Option<Self> {
        if let Value::Integer(value) = value {
            Self::try_from(value).ok()
        } else {
            None
        }
    }
}

impl Field for u32 {
    fn read(&self) -> Value {
        Value::Integer(i64::from(*self))
    }
    fn from_value(value: Value) -> Option<Self> {
        if let Value::Integer(value) = value {
            Self::try_from(value).ok()
        } else {
            None
        }
    }
}

impl Field for bool {
    fn read(&self) -> Value {
        Value::Boolean(*self)
    }
    fn from_value(value: Value) -> Option<Self> {
        if let Value::Boolean(value) = value {
            Some(value)
        } else {
            None
        }
    }
}

impl Field for f64 {
    fn read(&self) -> Value {
        Value::Real(*self)
    }
    fn from_value(value: Value) -> Option<Self> {
        if let Value::Real(value) = value {
            Some(value)
        } else {
            None
        }
    }
}

impl Field for String {
    fn read(&self) -> Value {
        Value::Text(self.clone())
    }
    fn from_value(value: Value) -> Option<Self> {
        if let Value::Text(value) = value {
            Some(value)
        } else {
            None
        }
    }
}

impl Field for Option<String> {
    fn read(&self) -> Value {
        self.clone().map_or(Value::Unset, Value::Text)
    }
    fn from_value(value: Value) -> Option<Self> {
        if let Value::Text(value) = value {
            Some(Some(value).filter(|text| !text.is_empty()))
        } else {
            None
        }
    }
}

/// One parameter: everything there is to know about it.
pub struct Definition {
    /// Its name in the configuration file; `--name` on the command line.
    pub name: &'static str,
    /// Its type and range.
    pub kind: Kind,
    /// Its letter on the command line and what the usage calls the value.
    pub flag: Option<(char, &'static str)>,
    /// What it does.
    pub meaning: &'static str,
    read: fn(&Parameters) -> Value,
    store: fn(&mut Parameters, Value) -> bool,
}

macro_rules! parameters {
    ($($(#[doc = $meaning:literal])+ $name:ident : $type:ty = $default:expr, $kind:expr, $flag:expr;)+) => {
        /// The effective parameters of this slon.
        // The texts are for people at a terminal too, who have no use for Markdown.
        #[allow(clippy::doc_markdown)]
        #[derive(Clone, PartialEq)]
        pub struct Parameters {
            $($(#[doc = $meaning])+ pub $name: $type,)+
        }

        impl Default for Parameters {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// All parameters, in the order of the reference.
        pub static DEFINITIONS: &[Definition] = &[
            $(Definition {
                name: stringify!($name),
                kind: $kind,
                flag: $flag,
                meaning: concat!($($meaning),+),
                read: |parameters| parameters.$name.read(),
                store: |parameters, value| match <$type as Field>::from_value(value) {
                    Some(value) => {
                        parameters.$name = value;
                        true
                    }
                    None => false,
                },
            },)+
        ];
    };
}

const fn integer(range: RangeInclusive<i64>, unit: &'static str) -> Kind {
    Kind::Integer { range, unit }
}

parameters! {
    /// name of the cluster, without the leading underscore of its schema
    cluster_name: Option<String> = None, Kind::Text, None;
    /// connection string of the local node's database
    conn_info: Option<String> = None, Kind::Text, None;
    /// what is logged: -1 up to CONFIG, 0 INFO, 1..4 DEBUG1 to DEBUG4
    log_level: i32 = 0, integer(-1..=4, ""), Some(('d', "level"));
    /// put the process id into each line
    log_pid: bool = false, Kind::Boolean, None;
    /// put the time into each line
    log_timestamp: bool = true, Kind::Boolean, None;
    /// form of the time, as for strftime
    log_timestamp_format: String = "%Y-%m-%d %H:%M:%S %Z ".to_owned(), Kind::TimeFormat, None;
    /// slon's lines, or one JSON object per line
    log_format: String = "text".to_owned(), Kind::Choice(&["text", "json"]), None;
    /// file that holds the process id while slon runs
    pid_file: Option<String> = None, Kind::Text, Some(('p', "file"));
    /// log to stdout only (0), to both (1), to syslog only (2)
    syslog: u32 = 0, integer(0..=2, ""), None;
    /// facility for syslog
    syslog_facility: String = "LOCAL0".to_owned(), Kind::Choice(FACILITIES), None;
    /// name for syslog
    syslog_ident: String = "slon".to_owned(), Kind::Text, None;
    /// longest time between two looks for new changes; it looks much more often while there are some
    sync_interval: u32 = 2000, integer(10..=60000, "ms"), Some(('s', "ms"));
    /// a SYNC at least this often, changes or not (0: never by time); longest poll interval of listeners
    sync_interval_timeout: u32 = 10000, integer(0..=1_200_000, "ms"), Some(('t', "ms"));
    /// most SYNCs applied in one transaction
    sync_group_maxsize: u32 = 20, integer(0..=10000, ""), Some(('g', "number"));
    /// tables of a large set that its first copy transfers at the same time, each over two connections
    copy_sessions: u32 = 2, integer(1..=16, ""), None;
    /// vacuum in every n-th cleanup (0: never)
    vac_frequency: u32 = 3, integer(0..=100, ""), Some(('c', "number"));
    /// time between two cleanups, and age up to which confirmations are kept
    cleanup_interval: String = "10 minutes".to_owned(), Kind::Interval, None;
    /// longest time a query for events may take
    remote_listen_timeout: u32 = 300, integer(30..=30000, "s"), None;
    /// read events in serializable read only deferrable transactions, else repeatable read
    remote_listen_serializable_transactions: bool = true, Kind::Boolean, None;
    /// compare the versions of the cluster schema on local and remote nodes
    enable_version_check: bool = true, Kind::Boolean, None;
    /// keep sl_components and sl_apply_stats
    monitor_threads: bool = true, Kind::Boolean, None;
    /// time between two updates of sl_components
    monitor_interval: u32 = 500, integer(10..=12000, "ms"), None;
    /// log the log selection and its plan this often (0: never)
    explain_interval: u32 = 0, integer(0..=86400, "s"), None;
    /// prepared statements kept for applying changes
    apply_cache_size: u32 = 100, integer(10..=2000, ""), None;
    /// stay behind the providers by this interval
    lag_interval: Option<String> = None, Kind::Interval, Some(('l', "interval"));
    /// SQL run on each new connection
    sql_on_connection: Option<String> = None, Kind::Text, None;
    /// directory for the files of log shipping
    archive_dir: Option<String> = None, Kind::Text, Some(('a', "directory"));
    /// command run after each archive file
    command_on_logarchive: Option<String> = None, Kind::Text, Some(('x', "command"));
    /// probe idle connections
    tcp_keepalive: bool = true, Kind::Boolean, None;
    /// silence before the first probe (0: 30 s)
    tcp_keepalive_idle: u32 = 0, integer(0..=1_073_741_824, "s"), None;
    /// time between probes (0: 10 s)
    tcp_keepalive_interval: u32 = 0, integer(0..=1_073_741_824, "s"), None;
    /// lost probes before a connection counts as dead (0: 3)
    tcp_keepalive_count: u32 = 0, integer(0..=1_073_741_824, ""), None;
    /// accepted for old configurations, without effect
    quit_sync_provider: u32 = 0, integer(0..=2_147_483_647, ""), Some(('q', "number"));
    /// exit with 1 instead of 0 when another slon serves the node
    exit_on_conflict: bool = false, Kind::Boolean, None;
    /// an origin that reaches no other node for so long keeps writers out until it does (0: never)
    fence_when_isolated: u32 = 0, integer(0..=86400, "s"), None;
    /// accepted for old configurations, without effect
    real_placeholder: f64 = 0.0, Kind::Real(0.0..=1.0), None;
}

const FACILITIES: &[&str] = &[
    "LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7",
];

/// Parameters of other versions of slon, with their letters: a warning, then ignored, so that old command lines start.
pub const REMOVED: &[(&str, Option<char>)] = &[
    ("desired_sync_time", Some('o')),
    ("quit_sync_finalsync", Some('r')),
    ("cleanup_deletelogs", None),
    ("sync_max_rowsize", None),
    ("sync_max_largemem", None),
];

/// A value or name that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// Nobody knows this name.
    #[error("unknown parameter `{name}`{}", similar(.name))]
    Unknown {
        /// As written.
        name: String,
    },
    /// Not of the parameter's type.
    #[error("`{value}` is not a valid value for parameter `{name}`: expected {expected}")]
    Invalid {
        /// The parameter.
        name: &'static str,
        /// As written.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A number that is too small or too large.
    #[error("{value} is outside the valid range for parameter `{name}` ({low} .. {high}{unit})")]
    OutOfRange {
        /// The parameter.
        name: &'static str,
        /// As written.
        value: String,
        /// Smallest value.
        low: String,
        /// Largest value.
        high: String,
        /// The unit with a blank in front, or nothing.
        unit: String,
    },
}

fn similar(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let near = DEFINITIONS.iter().find(|definition| {
        let common = name
            .bytes()
            .zip(definition.name.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let rest = name.len().max(definition.name.len()) - common;
        common > 3 && rest <= 3
    });
    near.map_or_else(
        || "; `slon -h` lists all parameters".to_owned(),
        |definition| format!("; did you mean `{}`?", definition.name),
    )
}

/// Finds a parameter by its name, whatever its case; `-` counts as `_`.
#[must_use]
pub fn definition(name: &str) -> Option<&'static Definition> {
    let name = name.replace('-', "_");
    DEFINITIONS
        .iter()
        .find(|definition| definition.name.eq_ignore_ascii_case(&name))
}

/// Was this a parameter of another version of slon?
#[must_use]
pub fn is_removed(name: &str) -> bool {
    let name = name.replace('-', "_");
    REMOVED.iter().any(|(removed, _)| removed.eq_ignore_ascii_case(&name))
}

impl Definition {
    /// Reads a value as the configuration file and the command line write it.
    pub fn parse(&self, text: &str) -> Result<Value, ParameterError> {
        let invalid = |expected: String| ParameterError::Invalid {
            name: self.name,
            value: text.to_owned(),
            expected,
        };
        match &self.kind {
            Kind::Integer { range, unit } => {
                let value = parse_integer(text.trim()).ok_or_else(|| invalid(format!("a number, {}", self.range())))?;
                if range.contains(&value) {
                    Ok(Value::Integer(value))
                } else {
                    Err(self.out_of_range(text, range.start(), range.end(), unit))
                }
            }
            Kind::Boolean => parse_boolean(text.trim())
                .map(Value::Boolean)
                .ok_or_else(|| invalid("on or off".to_owned())),
            Kind::Real(range) => match text.trim().parse::<f64>() {
                Ok(value) if range.contains(&value) => Ok(Value::Real(value)),
                Ok(_) => Err(self.out_of_range(text, range.start(), range.end(), "")),
                Err(_) => Err(invalid("a number".to_owned())),
            },
            Kind::Text | Kind::Interval => Ok(Value::Text(text.to_owned())),
            Kind::TimeFormat => match check_timestamp_format(text) {
                Ok(()) => Ok(Value::Text(text.to_owned())),
                Err(reason) => Err(invalid(format!("a format as for strftime ({reason})"))),
            },
            Kind::Choice(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(text.trim()))
                .map(|word| Value::Text((*word).to_owned()))
                .ok_or_else(|| invalid(format!("one of {}", words.join(", ")))),
        }
    }

    fn out_of_range(&self, value: &str, low: &dyn fmt::Display, high: &dyn fmt::Display, unit: &str) -> ParameterError {
        ParameterError::OutOfRange {
            name: self.name,
            value: value.trim().to_owned(),
            low: low.to_string(),
            high: high.to_string(),
            unit: if unit.is_empty() {
                String::new()
            } else {
                format!(" {unit}")
            },
        }
    }

    /// What is allowed, in words.
    #[must_use]
    pub fn range(&self) -> String {
        match &self.kind {
            Kind::Integer { range, unit } => {
                let unit = if unit.is_empty() {
                    String::new()
                } else {
                    format!(" {unit}")
                };
                format!("{} .. {}{unit}", range.start(), range.end())
            }
            Kind::Boolean => "on, off".to_owned(),
            Kind::Real(range) => format!("{} .. {}", range.start(), range.end()),
            Kind::Text => "text".to_owned(),
            Kind::Interval => "interval, or seconds".to_owned(),
            Kind::TimeFormat => "strftime format".to_owned(),
            Kind::Choice(words) if words.len() > 3 => {
                format!("{}..{}", words.first().unwrap_or(&""), words.last().unwrap_or(&""))
            }
            Kind::Choice(words) => words.join(", "),
        }
    }

    /// The default, as the usage shows it.
    #[must_use]
    pub fn default_text(&self) -> String {
        match (self.read)(&Parameters::default()) {
            Value::Boolean(value) => if value { "on" } else { "off" }.to_owned(),
            Value::Unset => "none".to_owned(),
            Value::Text(text) => format!("`{text}`"),
            Value::Real(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
        }
    }

    fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Integer { .. } => "Integer",
            Kind::Boolean => "Boolean",
            Kind::Real(_) => "Real",
            Kind::Text | Kind::Interval | Kind::TimeFormat | Kind::Choice(_) => "String",
        }
    }
}

/// Decimal, octal `0..` or hexadecimal `0x..`, signed.
fn parse_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let value = if let Some(hexadecimal) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        i64::from_str_radix(hexadecimal, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(digits, 8).ok()?
    } else if digits.bytes().all(|digit| digit.is_ascii_digit()) {
        // A number of any length is a number; too long means out of range, not malformed.
        digits.parse().unwrap_or(i64::MAX)
    } else {
        return None;
    };
    Some(if negative { -value } else { value })
}

/// `true`, `false`, `yes`, `no`, `on`, `off`, any prefix of them that is not ambiguous, `1`, `0`.
fn parse_boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    match text.as_str() {
        // `o` begins both words; slon takes it for neither.
        "" | "o" => None,
        "1" => Some(true),
        "0" | "of" => Some(false),
        _ if "true".starts_with(&text) || "yes".starts_with(&text) || "on".starts_with(&text) => Some(true),
        _ if "false".starts_with(&text) || "no".starts_with(&text) || "off".starts_with(&text) => Some(false),
        _ => None,
    }
}

impl Parameters {
    /// Sets a parameter from text.
    pub fn set(&mut self, definition: &Definition, text: &str) -> Result<(), ParameterError> {
        let value = definition.parse(text)?;
        if (definition.store)(self, value) {
            Ok(())
        } else {
            // The table pairs a kind with a field of another type; a unit test keeps that from happening.
            Err(ParameterError::Invalid {
                name: definition.name,
                value: text.to_owned(),
                expected: definition.type_name().to_owned(),
            })
        }
    }

    /// Brings parameters that depend on each other in line, after all of them were read.
    pub fn settle(&mut self) {
        if self.sync_interval_timeout != 0 && self.sync_interval_timeout <= self.sync_interval {
            self.sync_interval_timeout = self.sync_interval * 2;
        }
    }

    /// The part the log needs.
    #[must_use]
    pub fn log_settings(&self) -> LogSettings {
        let facility = FACILITIES
            .iter()
            .position(|name| *name == self.syslog_facility)
            .unwrap_or(0);
        LogSettings {
            level: i8::try_from(self.log_level).unwrap_or(0),
            pid: self.log_pid,
            timestamp: self.log_timestamp,
            timestamp_format: self.log_timestamp_format.clone(),
            format: if self.log_format == "json" {
                LogFormat::Json
            } else {
                LogFormat::Text
            },
            syslog: (self.syslog > 0).then(|| Syslog {
                stdout_too: self.syslog == 1,
                facility: u8::try_from(facility).unwrap_or(0),
                ident: self.syslog_ident.clone(),
            }),
        }
    }

    /// All options as slon dumps them at start, `Integer option a = b`, grouped by type; the password is left out.
    #[must_use]
    pub fn dump(&self) -> Vec<String> {
        let mut lines = Vec::with_capacity(DEFINITIONS.len());
        for type_name in ["Integer", "Boolean", "Real", "String"] {
            for definition in DEFINITIONS
                .iter()
                .filter(|definition| definition.type_name() == type_name)
            {
                let value = match (definition.name, (definition.read)(self)) {
                    ("conn_info", Value::Text(conninfo)) => Value::Text(trunkline_sql::session::redact(&conninfo)),
                    (_, value) => value,
                };
                lines.push(format!("{type_name} option {} = {value}", definition.name));
            }
        }
        lines
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.dump()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn set(name: &str, value: &str) -> Result<Parameters, ParameterError> {
        let mut parameters = Parameters::default();
        parameters.set(definition(name).unwrap(), value)?;
        Ok(parameters)
    }

    #[test]
    fn kinds_fit_their_fields_and_defaults_are_valid() {
        for definition in DEFINITIONS {
            let value = (definition.read)(&Parameters::default());
            let text = match &value {
                Value::Unset => "some text".to_owned(),
                value => value.to_string(),
            };
            Parameters::default()
                .set(definition, &text)
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn flags_are_unique() {
        let mut letters: Vec<char> = DEFINITIONS
            .iter()
            .filter_map(|d| d.flag)
            .map(|(letter, _)| letter)
            .collect();
        letters.extend(REMOVED.iter().filter_map(|(_, letter)| *letter));
        letters.extend(['f', 'h', 'v', '?']);
        let count = letters.len();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), count);
    }

    #[test]
    fn integers_in_three_bases() {
        assert_eq!(set("sync_interval", "100").unwrap().sync_interval, 100);
        assert_eq!(set("SYNC_Interval", "0x64").unwrap().sync_interval, 100);
        assert_eq!(set("sync-interval", "0144").unwrap().sync_interval, 100);
        assert_eq!(set("log_level", "-1").unwrap().log_level, -1);
    }

    #[test]
    fn ranges_are_named() {
        let message = set("sync_interval", "5").unwrap_err().to_string();
        assert_eq!(
            message,
            "5 is outside the valid range for parameter `sync_interval` (10 .. 60000 ms)"
        );
        assert!(matches!(
            set("vac_frequency", "99999999999999999999"),
            Err(ParameterError::OutOfRange { .. })
        ));
        assert!(matches!(
            set("vac_frequency", "3x"),
            Err(ParameterError::Invalid { .. })
        ));
        assert!(matches!(
            set("real_placeholder", "2"),
            Err(ParameterError::OutOfRange { .. })
        ));
    }

    #[test]
    fn booleans_are_prefixes() {
        for text in ["true", "T", "tr", "y", "Yes", "on", "ON", "1"] {
            assert!(set("log_pid", text).unwrap().log_pid, "{text}");
        }
        for text in ["false", "f", "n", "no", "off", "of", "0"] {
            assert!(!set("log_timestamp", text).unwrap().log_timestamp, "{text}");
        }
        for text in ["o", "", "2", "truely", "nope"] {
            assert!(set("log_pid", text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_timeout_is_longer_than_the_interval() {
        let mut parameters = set("sync_interval_timeout", "1500").unwrap();
        parameters.settle();
        assert_eq!(parameters.sync_interval_timeout, 4000);
        let mut parameters = set("sync_interval_timeout", "0").unwrap();
        parameters.settle();
        assert_eq!(parameters.sync_interval_timeout, 0);
    }

    #[test]
    fn the_dump_hides_the_password() {
        let parameters = set("conn_info", "host=a password=hunter2 dbname=d").unwrap();
        let dump = parameters.dump().join("\n");
        assert!(!dump.contains("hunter2"), "{dump}");
        assert!(dump.contains("Integer option sync_interval = 2000"));
        assert!(dump.contains("String option pid_file = [NULL]"));
        assert!(dump.contains("Real option real_placeholder = 0.000000"));
        assert!(!format!("{parameters:?}").contains("hunter2"));
    }

    #[test]
    fn misspelt_names_get_a_hint() {
        let error = ParameterError::Unknown {
            name: "sync_intervall".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "unknown parameter `sync_intervall`; did you mean `sync_interval`?"
        );
    }
}
