//! Times on the command line and in the configuration file: `5s`, `500ms`, `2m`.

use std::time::Duration;

use jiff::SignedDuration;

/// Reads a time; a bare number means seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a time; write it like `5s`, `500ms` or `2m`");
    let time = if let Ok(seconds) = text.trim().parse::<f64>() {
        Duration::try_from_secs_f64(seconds).map_err(|_| bad())?
    } else {
        let time: SignedDuration = text.parse().map_err(|_| bad())?;
        Duration::try_from(time).map_err(|_| bad())?
    };
    if time.is_zero() {
        return Err(format!("`{text}`: the time must be longer than nothing"));
    }
    Ok(time)
}

/// `5 s`, `0.5 s`.
pub(crate) fn show(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let milliseconds = |text| parse(text).map(|time| time.as_millis());
        assert_eq!(milliseconds("5s"), Ok(5000));
        assert_eq!(milliseconds("500ms"), Ok(500));
        assert_eq!(milliseconds("2m"), Ok(120_000));
        assert_eq!(milliseconds("1 minute 30 seconds"), Ok(90_000));
        assert_eq!(milliseconds("0.5"), Ok(500));
        for wrong in ["", "0", "-5s", "soon"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(show(Duration::from_millis(500)), "0.5 s");
    }
}
