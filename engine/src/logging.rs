//! Log lines in slon's form, one write per line, never lost and never a reason to die.
//!
//! Modules write `use crate::logging as log;` and then `log::info!("copy_set {set} done in {seconds:.3} seconds")`.
//! There are slon's nine levels: `fatal!`, `error!`, `warn!`, `config!`, `info!`, `debug1!` .. `debug4!`; a line is
//! printed when its number is at most `log_level`. The macros emit [`tracing`] events whose target names the level; the
//! [`SlonLayer`] turns every event into one line on stdout, in syslog, or both. Events of libraries have no such target
//! and are shown at DEBUG4 only, their warnings at DEBUG1.
//!
//! Scrapers read these lines, so stdout is written line by line even when it is a pipe, and a closed stdout (EPIPE) is
//! ignored: nothing in this program may panic because nobody reads its log. Nor may it wait: a thread of its own writes, so
//! that a reader who stops reading stalls neither replication nor the answer to a signal. What is queued for it is bounded;
//! beyond that lines are dropped, and how many is said as soon as somebody reads again.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicI8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Severity of a line, numbered as slon's `log_level` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The program cannot go on.
    Fatal,
    /// Something failed; it is retried or given up as the text says.
    Error,
    /// Something an operator should know.
    Warn,
    /// Configuration read or changed.
    Config,
    /// Normal progress.
    Info,
    /// Details, a little.
    Debug1,
    /// Details, per event.
    Debug2,
    /// Details, per decision.
    Debug3,
    /// Details, everything, libraries included.
    Debug4,
}

impl Level {
    /// slon's number: FATAL -4 .. CONFIG -1, INFO 0, DEBUG1 1 .. DEBUG4 4.
    #[must_use]
    pub fn number(self) -> i8 {
        match self {
            Self::Fatal => -4,
            Self::Error => -3,
            Self::Warn => -2,
            Self::Config => -1,
            Self::Info => 0,
            Self::Debug1 => 1,
            Self::Debug2 => 2,
            Self::Debug3 => 3,
            Self::Debug4 => 4,
        }
    }

    /// The word in the line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Config => "CONFIG",
            Self::Info => "INFO",
            Self::Debug1 => "DEBUG1",
            Self::Debug2 => "DEBUG2",
            Self::Debug3 => "DEBUG3",
            Self::Debug4 => "DEBUG4",
        }
    }

    /// Which level an event has: ours say so in the target, the libraries' are ranked low.
    fn of(metadata: &Metadata<'_>) -> Self {
        match metadata.target() {
            "slon.FATAL" => Self::Fatal,
            "slon.ERROR" => Self::Error,
            "slon.WARN" => Self::Warn,
            "slon.CONFIG" => Self::Config,
            "slon.INFO" => Self::Info,
            "slon.DEBUG1" => Self::Debug1,
            "slon.DEBUG2" => Self::Debug2,
            "slon.DEBUG3" => Self::Debug3,
            "slon.DEBUG4" => Self::Debug4,
            _ if *metadata.level() <= tracing::Level::WARN => Self::Debug1,
            _ => Self::Debug4,
        }
    }

    /// The severity syslog knows.
    fn syslog_severity(self) -> u8 {
        match self {
            Self::Fatal => 2,
            Self::Error => 3,
            Self::Warn => 4,
            Self::Config => 5,
            Self::Info => 6,
            Self::Debug1 | Self::Debug2 | Self::Debug3 | Self::Debug4 => 7,
        }
    }
}

/// Emits one event; the level macros below are the way to call it.
macro_rules! event {
    ($target:literal, $level:ident, $($arguments:tt)+) => {
        ::tracing::event!(target: $target, ::tracing::Level::$level, $($arguments)+)
    };
}
/// Logs at FATAL: the program is about to end.
macro_rules! fatal_line { ($($a:tt)+) => { $crate::logging::event!("slon.FATAL", ERROR, $($a)+) } }
/// Logs at ERROR.
macro_rules! error_line { ($($a:tt)+) => { $crate::logging::event!("slon.ERROR", ERROR, $($a)+) } }
/// Logs at WARN.
macro_rules! warn_line { ($($a:tt)+) => { $crate::logging::event!("slon.WARN", WARN, $($a)+) } }
/// Logs at CONFIG.
macro_rules! config_line { ($($a:tt)+) => { $crate::logging::event!("slon.CONFIG", INFO, $($a)+) } }
/// Logs at INFO.
macro_rules! info_line { ($($a:tt)+) => { $crate::logging::event!("slon.INFO", INFO, $($a)+) } }
/// Logs at DEBUG1.
macro_rules! debug1_line { ($($a:tt)+) => { $crate::logging::event!("slon.DEBUG1", DEBUG, $($a)+) } }
/// Logs at DEBUG2.
macro_rules! debug2_line { ($($a:tt)+) => { $crate::logging::event!("slon.DEBUG2", DEBUG, $($a)+) } }
/// Logs at DEBUG3.
#[allow(unused_macros)]
macro_rules! debug3_line { ($($a:tt)+) => { $crate::logging::event!("slon.DEBUG3", TRACE, $($a)+) } }
/// Logs at DEBUG4.
#[allow(unused_macros)]
macro_rules! debug4_line { ($($a:tt)+) => { $crate::logging::event!("slon.DEBUG4", TRACE, $($a)+) } }

#[allow(unused_imports)]
pub(crate) use {
    config_line as config, debug1_line as debug1, debug2_line as debug2, debug3_line as debug3, debug4_line as debug4,
    error_line as error, event, fatal_line as fatal, info_line as info, warn_line as warn,
};

/// Is this level printed now? For lines that cost something to build.
#[must_use]
pub fn enabled(level: Level) -> bool {
    level.number() <= THRESHOLD.load(Ordering::Relaxed)
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// slon's lines.
    #[default]
    Text,
    /// One JSON object per line: timestamp, level, pid, thread, message.
    Json,
}

/// Where lines go besides stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// Also print on stdout (`syslog = 1`), or syslog only (`syslog = 2`).
    pub stdout_too: bool,
    /// LOCAL0..LOCAL7 as 0..7.
    pub facility: u8,
    /// Name in front of each message.
    pub ident: String,
}

/// The logging part of the parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// `log_level`: highest level number printed.
    pub level: i8,
    /// `log_pid`.
    pub pid: bool,
    /// `log_timestamp`.
    pub timestamp: bool,
    /// `log_timestamp_format`, strftime.
    pub timestamp_format: String,
    /// `log_format`.
    pub format: LogFormat,
    /// `syslog` and its companions; `None` for stdout only.
    pub syslog: Option<Syslog>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: 0,
            pid: false,
            timestamp: true,
            timestamp_format: "%Y-%m-%d %H:%M:%S %Z ".to_owned(),
            format: LogFormat::Text,
            syslog: None,
        }
    }
}

/// Most lines that wait to be written ...
const QUEUE_LINES: usize = 16_384;
/// ... and most bytes.
const QUEUE_BYTES: usize = 16 << 20;

static THRESHOLD: AtomicI8 = AtomicI8::new(0);
static STDOUT_GONE: AtomicBool = AtomicBool::new(false);
static QUEUE: OnceLock<SyncSender<Vec<u8>>> = OnceLock::new();
static QUEUED_BYTES: AtomicUsize = AtomicUsize::new(0);
static LOST_LINES: AtomicU64 = AtomicU64::new(0);
static SETTINGS: RwLock<Option<LogSettings>> = RwLock::new(None);
static SYSLOG_SOCKET: Mutex<Option<UnixDatagram>> = Mutex::new(None);

/// Starts logging with slon's defaults, so that errors on the command line are logged too; call once, first.
pub fn start() {
    // A second call (tests) finds a subscriber in place; the settings below are shared either way.
    let _ = tracing_subscriber::registry().with(SlonLayer).try_init();
    let (sender, receiver) = sync_channel(QUEUE_LINES);
    let writer = std::thread::Builder::new().name("log".to_owned());
    // Without the thread every line is written where it is made.
    if writer.spawn(move || write_queued(&receiver)).is_ok() {
        let _ = QUEUE.set(sender);
    }
}

/// Waits until all lines are written, at most so long; to be called before the process ends.
pub fn flush(limit: Duration) {
    let end = Instant::now() + limit;
    while QUEUED_BYTES.load(Ordering::Acquire) > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The writer's thread.
fn write_queued(lines: &Receiver<Vec<u8>>) {
    while let Ok(line) = lines.recv() {
        write_stdout(&line);
        QUEUED_BYTES.fetch_sub(line.len(), Ordering::Release);
        let lost = LOST_LINES.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("log: {lost} lines are missing here, nobody was reading them");
            let settings = SETTINGS
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
                .unwrap_or_default();
            let mut line = rendered(&settings, Level::Warn, &text);
            line.push('\n');
            write_stdout(line.as_bytes());
        }
    }
}

/// Hands a line to the writer.
fn enqueue(line: Vec<u8>) {
    let Some(queue) = QUEUE.get() else {
        write_stdout(&line);
        return;
    };
    let size = line.len();
    let queued = QUEUED_BYTES.fetch_add(size, Ordering::AcqRel);
    if queued > QUEUE_BYTES || queue.try_send(line).is_err() {
        QUEUED_BYTES.fetch_sub(size, Ordering::AcqRel);
        LOST_LINES.fetch_add(1, Ordering::Relaxed);
    }
}

/// Switches to the settings that were read from the command line and the configuration file.
pub fn apply(settings: LogSettings) {
    THRESHOLD.store(settings.level, Ordering::Relaxed);
    *SETTINGS.write().unwrap_or_else(PoisonError::into_inner) = Some(settings);
    tracing::callsite::rebuild_interest_cache();
}

/// Checks a `log_timestamp_format` by using it.
pub fn check_timestamp_format(format: &str) -> Result<(), String> {
    let mut rendered = String::new();
    render_time(&mut rendered, format, &now()).map_err(|error| error.to_string())
}

/// The local time; without a usable time zone of the system it is UTC, as in C.
fn now() -> Zoned {
    let zone = TimeZone::system();
    let zone = if zone.is_unknown() { TimeZone::UTC } else { zone };
    Timestamp::now().to_zoned(zone)
}

fn render_time(line: &mut String, format: &str, time: &Zoned) -> Result<(), jiff::Error> {
    let text = jiff::fmt::strtime::format(format.as_bytes(), time)?;
    line.push_str(&text);
    Ok(())
}

/// Builds the line without the newline. Line breaks inside the text stay: slon's error lines have them too.
fn text_line(settings: &LogSettings, level: Level, text: &str, time: &Zoned, pid: u32) -> String {
    let mut line = String::with_capacity(64 + text.len());
    if settings.timestamp && render_time(&mut line, &settings.timestamp_format, time).is_err() {
        // The format was checked when it was read; should it fail after all, the line must not be lost.
        line.clear();
        let _ = write!(line, "{} ", time.timestamp());
    }
    if settings.pid {
        let _ = write!(line, "[{pid}] ");
    }
    let _ = write!(line, "{:<6} {text}", level.name());
    line
}

fn json_line(level: Level, text: &str, time: &Zoned, pid: u32) -> String {
    let mut object = serde_json::Map::new();
    object.insert("timestamp".to_owned(), time.timestamp().to_string().into());
    object.insert("level".to_owned(), level.name().into());
    object.insert("pid".to_owned(), pid.into());
    let message = match text.split_once(": ") {
        Some((thread, rest)) if !thread.is_empty() && !thread.contains(char::is_whitespace) => {
            object.insert("thread".to_owned(), thread.into());
            rest
        }
        _ => text,
    };
    object.insert("message".to_owned(), message.into());
    serde_json::Value::Object(object).to_string()
}

/// Turns tracing events into slon's lines.
#[derive(Debug, Clone, Copy)]
pub struct SlonLayer;

impl<S: Subscriber> Layer<S> for SlonLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        enabled(Level::of(metadata))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = EventText::default();
        event.record(&mut text);
        write_line(Level::of(event.metadata()), &text.finish());
    }
}

/// Collects the message of an event and appends other fields as `name=value`.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl EventText {
    fn finish(mut self) -> String {
        self.message.push_str(&self.fields);
        self.message
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}

/// Writes one line to where the settings say. Never fails: a log that cannot be written is nobody's reason to stop.
fn write_line(level: Level, text: &str) {
    let guard = SETTINGS.read().unwrap_or_else(PoisonError::into_inner);
    let defaults;
    let settings = if let Some(settings) = guard.as_ref() {
        settings
    } else {
        defaults = LogSettings::default();
        &defaults
    };
    if let Some(syslog) = &settings.syslog {
        let delivered = send_to_syslog(syslog, level, text, std::process::id());
        if delivered && !syslog.stdout_too {
            return;
        }
    }
    let mut line = rendered(settings, level, text);
    line.push('\n');
    enqueue(line.into_bytes());
}

fn rendered(settings: &LogSettings, level: Level, text: &str) -> String {
    let (pid, time) = (std::process::id(), now());
    match settings.format {
        LogFormat::Text => text_line(settings, level, text, &time, pid),
        LogFormat::Json => json_line(level, text, &time, pid),
    }
}

/// Writes and flushes bytes to stdout; after the reader is gone nothing more is tried.
pub fn write_stdout(bytes: &[u8]) {
    if STDOUT_GONE.load(Ordering::Relaxed) {
        return;
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    if written.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        STDOUT_GONE.store(true, Ordering::Relaxed);
    }
}

/// Sends one datagram to the local syslog; false when there is none, the line then goes to stdout.
fn send_to_syslog(syslog: &Syslog, level: Level, text: &str, pid: u32) -> bool {
    let priority = (16 + u32::from(syslog.facility)) * 8 + u32::from(level.syslog_severity());
    let message = format!("<{priority}>{}[{pid}]: {:<6} {text}", syslog.ident, level.name());
    let mut socket = SYSLOG_SOCKET.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..2 {
        if socket.is_none() {
            *socket = UnixDatagram::unbound()
                .ok()
                .filter(|new| new.connect("/dev/log").is_ok());
        }
        match socket.as_ref().map(|open| open.send(message.as_bytes())) {
            Some(Ok(_)) => return true,
            // syslogd was restarted: connect again, once.
            Some(Err(_)) => *socket = None,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn time() -> Zoned {
        "2026-11-22T05:48:41.25Z"
            .parse::<Timestamp>()
            .unwrap()
            .to_zoned(TimeZone::UTC)
    }

    #[test]
    fn lines_look_like_slons() {
        let settings = LogSettings::default();
        let line = |level, text| text_line(&settings, level, text, &time(), 7);
        assert_eq!(
            line(Level::Info, "copy_set 1 done in 0.048 seconds"),
            "2026-11-22 05:48:41 UTC INFO   copy_set 1 done in 0.048 seconds"
        );
        assert_eq!(
            line(Level::Config, "main: configuration complete - starting threads"),
            "2026-11-22 05:48:41 UTC CONFIG main: configuration complete - starting threads"
        );
        assert_eq!(line(Level::Debug2, "x"), "2026-11-22 05:48:41 UTC DEBUG2 x");
    }

    #[test]
    fn pid_and_timestamp_are_optional() {
        let mut settings = LogSettings {
            pid: true,
            timestamp: false,
            ..LogSettings::default()
        };
        assert_eq!(text_line(&settings, Level::Warn, "w", &time(), 42), "[42] WARN   w");
        settings.timestamp = true;
        settings.timestamp_format = "%H:%M ".to_owned();
        assert_eq!(
            text_line(&settings, Level::Fatal, "f", &time(), 42),
            "05:48 [42] FATAL  f"
        );
    }

    #[test]
    fn json_names_the_thread() {
        let line = json_line(
            Level::Error,
            "remoteWorkerThread_1: SYNC \"aborted\"\nat once",
            &time(),
            5,
        );
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["timestamp"], "2026-11-22T05:48:41.25Z");
        assert_eq!(value["level"], "ERROR");
        assert_eq!(value["thread"], "remoteWorkerThread_1");
        assert_eq!(value["message"], "SYNC \"aborted\"\nat once");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn levels_are_numbered_as_log_level_counts() {
        let numbers: Vec<i8> = [
            Level::Fatal,
            Level::Error,
            Level::Warn,
            Level::Config,
            Level::Info,
            Level::Debug1,
            Level::Debug2,
            Level::Debug3,
            Level::Debug4,
        ]
        .iter()
        .map(|level| level.number())
        .collect();
        assert_eq!(numbers, (-4..=4).collect::<Vec<i8>>());
    }

    #[test]
    fn wrong_timestamp_formats_are_found_when_read() {
        assert!(check_timestamp_format("%Y-%m-%d %H:%M:%S %Z ").is_ok());
        assert!(check_timestamp_format("%!").is_err());
    }
}
