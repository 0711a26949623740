//! Signals to processes and their children.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Sends `signal` to the process; false when there is no such process.
#[expect(
    clippy::must_use_candidate,
    reason = "most callers do not mind whether the process was still there"
)]
pub fn signal(pid: u32, signal: Signal) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
}

/// Is there such a process (a zombie counts)?
#[must_use]
pub fn exists(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None).is_ok())
}

/// Sends `signal` to the process first and then to its children. PostgreSQL's backends each lead a process group of
/// their own, so the group of the postmaster would not reach them.
pub fn signal_tree(pid: u32, wanted: Signal) {
    signal(pid, wanted);
    for child in children(pid) {
        signal(child, wanted);
    }
}

/// Direct children of `pid`.
fn children(pid: u32) -> Vec<u32> {
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output() else {
        return children_from_proc(pid);
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse::<u32>);
            match (fields.next(), fields.next()) {
                (Some(Ok(child)), Some(Ok(parent))) if parent == pid => Some(child),
                _ => None,
            }
        })
        .collect()
}

/// The same where `ps` is not installed (slim containers).
fn children_from_proc(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parent_of = |child: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        // The name stands in parentheses and may contain anything; state and parent follow the last one.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .filter(|child| parent_of(*child) == Some(pid))
        .collect()
}
