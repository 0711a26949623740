//! The statements that read changes from a provider: log rows of a window and sequence values.

use std::fmt::Write as _;

use crate::Cluster;
use crate::snapshot::Window;

/// Tables that share one window: usually all tables of all sets a node gets from one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowTables {
    /// What has to be applied.
    pub window: Window,
    /// Table ids (`tab_id`).
    pub tables: Vec<i32>,
}

/// Which log tables hold rows, from `sl_log_status` of the node that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTables {
    /// Status 0.
    First,
    /// Status 1.
    Second,
    /// A switch is going on (2, 3): either may.
    Both,
}

impl LogTables {
    /// Reads `sl_log_status.last_value`.
    #[must_use]
    pub fn from_status(status: i64) -> Self {
        match status {
            0 => Self::First,
            1 => Self::Second,
            _ => Self::Both,
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::First => &["sl_log_1"],
            Self::Second => &["sl_log_2"],
            Self::Both => &["sl_log_1", "sl_log_2"],
        }
    }
}

/// Columns of a log row in the order in which they are selected and stored.
pub const LOG_COLUMNS: &str = "log_origin, log_txid, log_tableid, log_actionseq, log_tablenspname, log_tablerelname, \
                               log_cmdtype, log_cmdupdncols, log_cmdargs";

/// Settings of a session that reads the log.
///
/// A window of a backlog is sorted where it is small enough without a detour over the disk (4 MB, the server's default, hold
/// 30,000 rows). No parallel workers: processors of the provider are its applications', and they cost more than they gain
/// where the result goes through one connection.
pub const READ_SETTINGS: &str = "\
select pg_catalog.set_config('work_mem', '64MB', false)
  from pg_catalog.pg_settings s where s.name = 'work_mem' and s.setting::int8 < 65536; \
set max_parallel_workers_per_gather to 0";

/// What to read from one provider for one group of SYNCs.
#[derive(Debug, Clone)]
pub struct LogSelection<'a> {
    /// Origin of the changes.
    pub origin: i32,
    /// Log tables to look into.
    pub log_tables: LogTables,
    /// Windows and their tables.
    pub groups: &'a [WindowTables],
    /// Only rows in this stretch of the log; scripts stand between stretches.
    pub stretch: Stretch,
}

/// A stretch of an origin's log between two numbers (`log_actionseq`), neither of which belongs to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Rows behind this one.
    pub after: Option<i64>,
    /// Rows before this one.
    pub before: Option<i64>,
}

impl Stretch {
    fn condition(self) -> String {
        let mut condition = String::new();
        if let Some(after) = self.after {
            let _ = write!(condition, " and log_actionseq > {after}");
        }
        if let Some(before) = self.before {
            let _ = write!(condition, " and log_actionseq < {before}");
        }
        condition
    }
}

impl LogSelection<'_> {
    /// `COPY (…) TO STDOUT` in binary format and `log_actionseq` order; None if there is nothing to ask for.
    #[must_use]
    pub fn copy_statement(&self, cluster: &Cluster) -> Option<String> {
        let union = self.union(LOG_COLUMNS)?;
        Some(cluster.sql(&format!("copy ({union} order by 4) to stdout (format binary)")))
    }

    /// The number of the first row of the selection (null if there is none); None if there is nothing to ask for.
    #[must_use]
    pub fn first_action_statement(&self, cluster: &Cluster) -> Option<String> {
        let union = self.union("log_actionseq")?;
        Some(cluster.sql(&format!("select min(log_actionseq) from ({union}) as l")))
    }

    fn union(&self, columns: &str) -> Option<String> {
        let mut parts = Vec::new();
        for log_table in self.log_tables.names() {
            for group in self.groups.iter().filter(|group| !group.tables.is_empty()) {
                let mut tables = String::new();
                for (index, table) in group.tables.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "," };
                    let _ = write!(tables, "{separator}{table}");
                }
                parts.push(format!(
                    "select {columns} from @NAMESPACE@.{log_table} where log_origin = {} and {} \
                     and log_tableid = any ('{{{tables}}}'::int4[]){}",
                    self.origin,
                    group.window.condition("log_txid"),
                    self.stretch.condition(),
                ));
            }
        }
        (!parts.is_empty()).then(|| parts.join(" union all "))
    }
}

/// `COPY … FROM STDIN` (binary) into the log table that is being written on this node.
#[must_use]
pub fn forward_statement(cluster: &Cluster, log_table: &str) -> String {
    cluster.sql(&format!(
        "copy @NAMESPACE@.{log_table} ({LOG_COLUMNS}) from stdin (format binary)"
    ))
}

/// The newest value of each sequence of the sets (`$1` origin, `$2` sets, `$3` first and `$4` last event number).
///
/// Newest, not greatest: a sequence that was set back on the origin is set back here as well.
pub const SEQUENCE_VALUES: &str = "select distinct on (seql_seqid) seql_seqid, seql_last_value
       from @NAMESPACE@.sl_seqlog
      where seql_origin = $1 and seql_ev_seqno >= $3 and seql_ev_seqno <= $4
        and seql_seqid in (select seq_id from @NAMESPACE@.sl_sequence where seq_set = any ($2))
      order by seql_seqid, seql_ev_seqno desc";
