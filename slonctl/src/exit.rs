//! Exit codes, the same for all commands but `check`.

use std::process::ExitCode;

/// How a command ended. `check` alone has the codes of monitoring plug-ins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or nothing to complain of.
    Done,
    /// 1: failed; the message says what, and what state things are in.
    Failed,
    /// 2: wrong usage, or an unusable configuration file; nothing was done.
    Usage,
    /// 3: refused before the first step; nothing was done.
    Refused,
    /// 4: the operator said no; nothing was done.
    Declined,
    /// 5: a step failed, and everything has been put back as it was.
    PutBack,
    /// 6: a step failed after the point of no return, or putting back failed; somebody must look now.
    Incomplete,
    /// 7: the origin cannot be reached; a failover would be needed, and was not asked for.
    OriginDown,
    /// 8: the nodes are not equal, or something that had to be proved is not so.
    Unproved,
    /// A code of `check`.
    Monitoring(u8),
}

impl Exit {
    /// The number the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Declined => 4,
            Self::PutBack => 5,
            Self::Incomplete => 6,
            Self::OriginDown => 7,
            Self::Unproved => 8,
            Self::Monitoring(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
