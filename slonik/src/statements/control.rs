//! `echo`, `date`, `sleep`, `sync`.

use std::time::Duration;

use jiff::Zoned;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Locks};

use crate::failure::Failure;
use crate::interpreter::{Interpreter, Leads, Submission};

impl Interpreter<'_> {
    pub(super) fn echo(&self, text: &str) {
        self.report.say(text);
    }

    pub(super) fn date(&self, format: &str) -> Result<(), Failure> {
        let text = format_time(format, &Zoned::now())
            .map_err(|reason| Failure::Refused(format!("date format '{format}' cannot be used: {reason}")))?;
        self.report.say(&text);
        Ok(())
    }

    pub(super) async fn sleep(seconds: u32) {
        tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    }

    pub(super) async fn sync(&mut self, node: Id) -> Result<(), Failure> {
        let call = admin::create_event_sync(&self.cluster);
        self.submit(Submission {
            node,
            locks: Locks::Event,
            call,
            leads: Leads::No,
        })
        .await
    }
}

/// Formats like `strftime`; what it does not know stays as it is written.
fn format_time(format: &str, time: &Zoned) -> Result<String, jiff::Error> {
    let mut text = String::new();
    let config = Config::new().lenient(true);
    BrokenDownTime::from(time).format_with_config(&config, format, &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_formatted_as_by_strftime() {
        let time: Zoned = "2024-03-07T08:09:10[UTC]".parse().unwrap();
        assert_eq!(format_time("%F %T", &time).unwrap(), "2024-03-07 08:09:10");
        assert_eq!(format_time("day %j, %% %A", &time).unwrap(), "day 067, % Thursday");
        assert!(format_time("%Ö", &time).is_ok());
    }
}
