//! How memory goes back to the system.
//!
//! glibc gives a freed block back at once if it was larger than a threshold, and raises the threshold to the size of every such block. After
//! the first rows of some megabytes all buffers of that size are cut out of the heap, which keeps what lies between them: slon held half
//! as much again as it used. A threshold that is given stays where it is, and glibc takes it from the environment alone, when a
//! program starts.

/// Blocks from this size on come from the system one by one and go back to it. Smaller than the buffers of rows, larger than what is
/// allocated often.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const THRESHOLD_BYTES: &str = "1048576";
/// Where glibc reads it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";

/// Has the program start once more, with the threshold fixed: same process, same arguments, same name. To be called before anything
/// else. Does nothing if the environment names a threshold or a tuning of its own, or if the program's file is gone (it was replaced by a
/// newer one): then it only takes more memory where rows are wide.
pub(crate) fn fix_threshold() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::os::unix::process::CommandExt as _;

        let set = [VARIABLE, "GLIBC_TUNABLES"];
        if set.iter().any(|name| std::env::var_os(name).is_some()) {
            return;
        }
        let Ok(program) = std::env::current_exe() else { return };
        let mut arguments = std::env::args_os();
        let mut command = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // Comes back only if it fails, and then everything is as it was.
        let _ = command.args(arguments).env(VARIABLE, THRESHOLD_BYTES).exec();
    }
}
