//! What a connection string only warns of, for example a password file that others may read.

/// Writes warnings of the connections to stderr, as libpq does; nothing else that libraries have to say.
///
/// For the `main` of a program: it holds for the whole process, and only the first call counts.
pub fn to_stderr() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter("off,trunkline_sql=warn")
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .try_init();
}
