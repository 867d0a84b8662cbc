//! Patterns of names of services, in which `*` stands for any bytes.

use std::collections::BTreeSet;

/// `*` matches any run of bytes; everything else matches itself. Linear but for the last `*`.
pub(crate) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, n));
            p += 1;
        } else if pattern.get(p) == name.get(n) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((after_star, taken)) = retry {
            (p, n) = (after_star, taken + 1);
            retry = Some((after_star, taken + 1));
        } else {
            return false;
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

/// Some patterns, of which one has to match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    /// Those without a `*`: there may be many.
    names: BTreeSet<Box<[u8]>>,
    globs: Vec<Box<[u8]>>,
}

impl Patterns {
    /// Whether one of them matches the whole name.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        self.names.contains(name) || self.globs.iter().any(|pattern| glob(pattern, name))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.globs.is_empty()
    }

    /// All of them: names in their order, and then what has a `*`, as it was given.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().chain(&self.globs).map(AsRef::as_ref)
    }
}

impl<P: AsRef<[u8]>> FromIterator<P> for Patterns {
    fn from_iter<I: IntoIterator<Item = P>>(patterns: I) -> Self {
        let mut all = Self::default();
        for pattern in patterns {
            let pattern = Box::from(pattern.as_ref());
            if pattern_has_star(&pattern) {
                all.globs.push(pattern);
            } else {
                all.names.insert(pattern);
            }
        }
        all
    }
}

fn pattern_has_star(pattern: &[u8]) -> bool {
    pattern.contains(&b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_any_run_of_bytes() {
        for (pattern, name) in [
            ("*", "x"),
            ("a*", "a"),
            ("a*c", "abbc"),
            ("*.x", "a.b.x"),
            ("a*b*c", "aXbYbZc"),
            ("a", "a"),
        ] {
            assert!(glob(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "b"), ("a*", "ba"), ("a*c", "ab"), ("*x", "xy"), ("", "a")] {
            assert!(!glob(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn one_of_some_patterns_has_to_match() {
        let patterns = Patterns::from_iter(["echo", "billing.*", "b"]);
        for name in ["echo", "billing.", "billing.pay", "b"] {
            assert!(patterns.matches(name.as_bytes()), "{name}");
        }
        for name in ["", "echo.", "billing", "c"] {
            assert!(!patterns.matches(name.as_bytes()), "{name}");
        }
        assert!(!Patterns::default().matches(b"") && Patterns::default().is_empty());
        let all: Vec<&[u8]> = patterns.iter().collect();
        assert_eq!(all, [&b"b"[..], b"echo", b"billing.*"]);
    }
}
