//! The real Slony-I 2.2.11, where it is installed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server_binaries;

/// Packages that bring it on Debian.
const PACKAGES: &str = "slony1-2-bin and postgresql-15-slony1-2";

/// The programs of the real Slony-I.
#[derive(Debug, Clone)]
pub struct GenuineSlony {
    /// Its daemon.
    pub slon: PathBuf,
    /// Its interpreter.
    pub slonik: PathBuf,
}

/// The real Slony-I if its programs are installed and its server module fits the server under test; else prints why an
/// interoperation test is left out. `TRUNKLINE_REQUIRE_SLONY` turns that into a failure.
#[must_use]
pub fn genuine_slony(test: &str) -> Option<GenuineSlony> {
    match find() {
        Ok(found) => Some(found),
        Err(reason) => {
            assert!(
                std::env::var_os("TRUNKLINE_REQUIRE_SLONY").is_none(),
                "{test} needs the real Slony-I 2.2.11: {reason}"
            );
            // Not `println`: the test runner would hide it, and a test left out must not look like one that passed.
            let notice = format!("{test}: LEFT OUT, {reason}; install {PACKAGES} and run it on PostgreSQL 15\n");
            let _ = std::io::stderr().write_all(notice.as_bytes());
            None
        }
    }
}

fn find() -> Result<GenuineSlony, String> {
    let directory = std::env::var_os("TRUNKLINE_SLONY_BIN").map_or_else(|| PathBuf::from("/usr/bin"), PathBuf::from);
    let found = GenuineSlony {
        slon: directory.join("slon"),
        slonik: directory.join("slonik"),
    };
    for program in [&found.slon, &found.slonik] {
        let said = Command::new(program)
            .arg("-v")
            .output()
            .map_err(|_| format!("no `{}`", program.display()))?;
        let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        if !said.ends_with("version 2.2.11") {
            return Err(format!("`{} -v` says `{said}`", program.display()));
        }
    }
    let binaries = server_binaries();
    let module = "slony1_funcs.2.2.11.so";
    let libraries = [
        binaries.directory().join("../lib"),
        binaries.directory().join("../lib/postgresql"),
        Path::new("/usr/lib64/pgsql").to_owned(),
    ];
    if libraries.iter().any(|library| library.join(module).is_file()) {
        Ok(found)
    } else {
        Err(format!(
            "PostgreSQL {} in `{}` has no `{module}`",
            binaries.version(),
            binaries.directory().display()
        ))
    }
}

/// Asks for the triggers on the tables of schema `public` as the original would have them: where a table is captured by
/// functions written for it, the triggers that run them count as `_C_logtrigger`.
pub const ORIGINALS_TRIGGERS: &str = "
    select c.relname, t.tgname, case when t.tgname like '%logtrigger' and t.tgenabled = 'D' and 3 = (
               select sum(case when s.tgname ~ 'r$' then 3 else 1 end) from pg_trigger s
               where s.tgrelid = c.oid and s.tgenabled = 'O' and s.tgname ~ 'logtrigger_[iudr]$'
           ) then 'O' else t.tgenabled end
    from pg_trigger t join pg_class c on c.oid = t.tgrelid
    where not t.tgisinternal and c.relnamespace = 'public'::regnamespace
      and t.tgname !~ '(logtrigger_[iudr]|see_tl_capture_mode)$'
    order by 1, 2";
