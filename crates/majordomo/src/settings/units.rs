//! Times, sizes and counts: from text and to text.

use std::{fmt, time::Duration};

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A whole number, in which `_` may part the digits.
pub(crate) fn parse_count(text: &str) -> Option<u64> {
    let is_number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
            && text.starts_with(|first: char| first.is_ascii_digit())
            && !text.ends_with('_')
    };
    is_number(text).then(|| text.replace('_', "").parse().ok()).flatten()
}

/// A number of bytes: `64MiB`, `64 MiB`, `67108864`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    for (unit, bytes) in UNITS {
        if let Some(number) = text.strip_suffix(unit) {
            return parse_count(number.trim_end())?.checked_mul(bytes);
        }
    }
    parse_count(text)
}

/// A time with its unit: `2500ms`, `1m 30s`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// A time in the largest unit that divides it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurationText(pub(crate) Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u128); 5] =
            [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
        let Self(time) = self;
        let ms = time.as_millis();
        if time.is_zero() {
            return f.write_str("0s");
        }
        if !time.subsec_nanos().is_multiple_of(1_000_000) {
            return humantime::format_duration(*time).fmt(f);
        }
        let (unit, length) =
            UNITS.into_iter().find(|(_, length)| ms.is_multiple_of(*length)).unwrap_or(("ms", 1));
        write!(f, "{}{unit}", ms / length)
    }
}

/// A number of bytes in the largest unit that divides it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeText(pub(crate) u64);

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        let fits = |length: u64| bytes > 0 && bytes.is_multiple_of(length);
        let (unit, length) =
            UNITS.into_iter().find(|(_, length)| fits(*length)).unwrap_or(("B", 1));
        write!(f, "{}{unit}", bytes / length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        assert_eq!(parse_size("0"), Some(0));
        assert_eq!(parse_size("1_000"), Some(1_000));
        assert_eq!(parse_size("64MiB"), Some(64 << 20));
        assert_eq!(parse_size("2 GiB"), Some(2 << 30));
        for bad in ["", "MiB", "1MB", "1.5MiB", "-1", "1__", "_1", "99999999999999GiB", "1 K"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_and_times_are_shown_as_they_are_read() {
        for text in ["256MiB", "1KiB", "1000B", "3GiB"] {
            assert_eq!(SizeText(parse_size(text).unwrap()).to_string(), text);
        }
        for text in ["2500ms", "15m", "1h", "0s", "7d", "10ms"] {
            assert_eq!(DurationText(parse_duration(text).unwrap()).to_string(), text);
        }
    }
}
