//! Rates as people write them.

/// Reads `500k`, `20M`, `20MB`, `1G/s` as bytes a second; units are powers of 1024.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let bare = lower.strip_suffix("/s").unwrap_or(&lower);
    let bare = bare
        .strip_suffix("ib")
        .or_else(|| bare.strip_suffix('b'))
        .unwrap_or(bare);
    let (digits, unit) = match bare.chars().last() {
        Some('k') => (&bare[..bare.len() - 1], 1 << 10),
        Some('m') => (&bare[..bare.len() - 1], 1 << 20),
        Some('g') => (&bare[..bare.len() - 1], 1 << 30),
        _ => (bare, 1),
    };
    digits
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|rate| *rate > 0)
        .ok_or_else(|| "a rate is a number of bytes a second, as in `500k`, `20M`, `1G`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!(parse("500k"), Ok(512_000));
        assert_eq!(parse("20MB/s"), Ok(20 << 20));
        assert_eq!(parse("1 GiB"), Ok(1 << 30));
        assert_eq!(parse("7"), Ok(7));
        for wrong in ["", "M", "-1", "0", "1T", "fast", "99999999999G"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
