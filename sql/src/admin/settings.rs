//! Settings of the sessions in which people change a cluster.

/// Statements to run right after connecting, in this order.
///
/// Without statistics the planner takes the small tables of the cluster schema for large ones, and compiles queries for
/// seconds that run for a millisecond; so nothing is compiled (PostgreSQL 11 and newer can).
///
/// A server process that waits for a lock does not look at its connection: a program killed meanwhile would leave `lock set`
/// behind, which some time later gets its locks and keeps the applications out, for nobody. From PostgreSQL 14 on the server
/// can look, where its operating system tells it (asking for it elsewhere is an error). That a machine is gone it learns from
/// the keepalives, within a minute instead of two hours.
pub const SETTINGS: [&str; 2] = [
    "set datestyle to 'ISO'",
    "select pg_catalog.set_config(w.name, w.value, false)
       from (values ('jit', 'off'), ('client_connection_check_interval', '1s'), ('tcp_keepalives_idle', '30'),
                    ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3')) w (name, value)
       join pg_catalog.pg_settings s on s.name = w.name
      where w.name <> 'client_connection_check_interval'
         or pg_catalog.version() ~ 'linux'
         or pg_catalog.version() ~ 'darwin|bsd'
            and pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 150000",
];
