//! Asking before something is done.

use std::io::{BufRead, Write};

use crate::console::Console;

/// What the operator said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    Given,
    Refused,
}

/// Waits for ENTER; Ctrl-C ends the program, as nothing has been done yet. Without anybody to ask it is a no.
pub(crate) async fn press_enter() -> Consent {
    if read_line("\npress ENTER to continue, Ctrl-C to abort > ")
        .await
        .is_some()
    {
        return Consent::Given;
    }
    Console::complain("nobody is there to say yes (standard input has ended); use -f in scripts. Nothing was done");
    Consent::Refused
}

/// Waits for a word; anything else is a no.
pub(crate) async fn type_word(word: &str, what: &str) -> Consent {
    let line = read_line(&format!("\ntype {word} and ENTER to {what}, anything else to abort > ")).await;
    if line.is_some_and(|line| line.trim() == word) {
        Consent::Given
    } else {
        Console::complain("nothing was done");
        Consent::Refused
    }
}

/// The prompt goes to standard error, so that standard output holds only answers. None: the input has ended.
async fn read_line(prompt: &str) -> Option<String> {
    let mut terminal = std::io::stderr();
    let _ = terminal.write_all(prompt.as_bytes()).and_then(|()| terminal.flush());
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line),
        }
    });
    read.await.ok().flatten()
}
