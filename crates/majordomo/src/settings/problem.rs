//! What is wrong with a configuration: which key, which value, from where, and what would be right.

use std::{error::Error, fmt};

use config::{Value, ValueKind};

/// The longest value that an error repeats in full.
const SHOWN_CHARS_MAX: usize = 80;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem(String);

impl Problem {
    /// Something other than a key or its value.
    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A value that its key does not take.
    pub(crate) fn value(key: &str, value: &Value, wanted: &str) -> Self {
        let (shown, origin) = (Shown(&value.kind), origin_of(value));
        Self(format!("{key} = {shown} ({origin}) is not valid: use {wanted}"))
    }

    /// A value that its key takes, but not here.
    pub(crate) fn refused(key: &str, value: &Value, reason: &str) -> Self {
        let (shown, origin) = (Shown(&value.kind), origin_of(value));
        Self(format!("{key} = {shown} ({origin}) cannot be used: {reason}"))
    }

    /// A key that does not exist.
    pub(crate) fn unknown<'a>(
        key: &str,
        value: &Value,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let (shown, origin) = (Shown(&value.kind), origin_of(value));
        let advice = nearest(key, known).map_or_else(
            || "see config/majordomo.toml for all keys".to_owned(),
            |meant| format!("did you mean {meant}?"),
        );
        Self(format!("{key} = {shown} ({origin}): there is no such key; {advice}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is wrong, one line each.
#[derive(Debug)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}configuration: {problem}")?;
        }
        Ok(())
    }
}

impl Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// Where a value came from, in words.
pub(crate) fn origin_of(value: &Value) -> &str {
    value.origin().unwrap_or("configuration file")
}

/// The candidate that was probably meant: the last part of a key counts, wherever it stands.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Three slips are a typing error, more are another word.
    const SLIPS_MAX: usize = 3;
    let slips = |candidate: &str| {
        let whole = strsim::damerau_levenshtein(word, candidate);
        let is_moved = last(word) == last(candidate) && candidate.contains('.');
        if is_moved { whole.min(SLIPS_MAX) } else { whole }
    };
    let allowed = SLIPS_MAX.min(word.chars().count() / 2);
    candidates
        .into_iter()
        .map(|candidate| (slips(candidate), candidate))
        .min_by_key(|(slips, _)| *slips)
        .filter(|(slips, _)| *slips <= allowed)
        .map(|(_, candidate)| candidate)
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A value as a person would write it.
struct Shown<'a>(&'a ValueKind);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ValueKind::Nil => f.write_str("nothing"),
            ValueKind::Boolean(flag) => flag.fmt(f),
            ValueKind::I64(number) => number.fmt(f),
            ValueKind::I128(number) => number.fmt(f),
            ValueKind::U64(number) => number.fmt(f),
            ValueKind::U128(number) => number.fmt(f),
            ValueKind::Float(number) => number.fmt(f),
            ValueKind::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
                let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
                write!(f, "{start:?}...")
            }
            ValueKind::String(text) => write!(f, "{text:?}"),
            ValueKind::Table(_) => f.write_str("{ .. }"),
            ValueKind::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}", Self(&item.kind))?;
                }
                f.write_str("]")
            }
        }
    }
}
