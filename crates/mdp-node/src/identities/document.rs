//! One file of an identity: `NAME.toml`, as text and as what it means.

use mdp_broker::{Grants, IdentityKey, Patterns, Quotas};
use mdp_transport::PublicKey;
use serde::Deserialize;
use toml::value::Datetime;

/// The keys of a file. One that is not among them is an error: a grant that is misspelt would be missed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    call: Vec<String>,
    #[serde(default)]
    register: Vec<String>,
    #[serde(default)]
    mmi: Vec<String>,
    max_in_flight: Option<u64>,
    max_requests_per_second: Option<u64>,
    max_queued_bytes: Option<u64>,
    max_workers: Option<u64>,
    max_connections: Option<u64>,
    not_after: Option<Datetime>,
}

/// Their names.
const FIELDS: [&str; 10] = [
    "keys",
    "call",
    "register",
    "mmi",
    "max_in_flight",
    "max_requests_per_second",
    "max_queued_bytes",
    "max_workers",
    "max_connections",
    "not_after",
];

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) keys: Vec<IdentityKey>,
    pub(super) grants: Grants,
    pub(super) quotas: Quotas,
    /// In seconds of Unix time.
    pub(super) not_after: Option<u64>,
}

/// How many keys an identity may have: one, and another one while it is rotated.
const KEYS_MAX: usize = 2;

/// Reads the text of a file; the error says what is wrong and what would be right.
pub(super) fn parse(text: &str) -> Result<Document, String> {
    let raw: Raw = toml::from_str(text).map_err(|error| mistake(text, &error))?;
    let keys = raw.keys.iter().map(|text| key(text)).collect::<Result<Vec<_>, _>>()?;
    if keys.len() > KEYS_MAX {
        return Err(format!(
            "keys: there are {}; an identity has one key, and two while one is rotated",
            keys.len()
        ));
    }
    let quotas = Quotas {
        max_in_flight: raw.max_in_flight,
        max_requests_per_second: raw.max_requests_per_second,
        max_queued_bytes: raw.max_queued_bytes,
        max_workers: raw.max_workers,
        max_connections: raw.max_connections,
    };
    let mut grants = Grants {
        call: patterns("call", &raw.call)?,
        register: patterns("register", &raw.register)?,
        ..Grants::default()
    };
    for word in &raw.mmi {
        match word.as_str() {
            "directory" => grants.directory = true,
            "full-status" => grants.full_status = true,
            // What any identity may ask.
            "service" | "endpoints" | "status" | "echo" => {}
            _ => {
                return Err(format!(
                    "mmi = [{word:?}]: use \"directory\" or \"full-status\"; service, endpoints, echo and a \
                     short status are for all identities"
                ));
            }
        }
    }
    let not_after = raw.not_after.as_ref().map(unix_seconds).transpose()?;
    Ok(Document { keys, grants, quotas, not_after })
}

/// What is wrong, and in which line. The line itself and the values in it may be secret by mistake.
fn mistake(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let message = error.message();
    // "invalid type: string \"...\", expected a sequence": what is there stands in front of what is wanted.
    let wanted = message.rfind("expected ").and_then(|at| message.get(at..));
    let is_about_value = message.starts_with("invalid ");
    let message = if is_about_value { wanted.unwrap_or("a value is wrong") } else { message };
    let field = text.lines().nth(line - 1).and_then(|line| line.split_once('='));
    let field = field.map(|(field, _)| field.trim()).filter(|it| FIELDS.contains(it));
    match field {
        Some(field) => format!("line {line}, {field}: {message}"),
        None => format!("line {line}: {message}"),
    }
}

/// A key that is secret by mistake must not stand in a log, so no error shows what was read.
fn key(text: &str) -> Result<IdentityKey, String> {
    let key = PublicKey::from_z85(text);
    let key = key.map_err(|_| {
        let count = text.chars().count();
        format!(
            "keys: one of {count} characters is no public key; use 40 characters of Z85 (32/Z85)"
        )
    })?;
    Ok(IdentityKey(*key.as_bytes()))
}

fn patterns(field: &str, texts: &[String]) -> Result<Patterns, String> {
    for text in texts {
        let wrong = |what: &str| Err(format!("{field} = [{text:?}]: {what}"));
        if text.is_empty() {
            return wrong("a pattern has at least one character; \"*\" stands for all services");
        }
        if text.len() > mdp_wire::SERVICE_NAME_BYTES_MAX {
            return wrong("no service has so long a name: at most 255 bytes");
        }
        if text.starts_with("mmi.") {
            return wrong("mmi.* is not called by patterns; see the key mmi");
        }
    }
    Ok(texts.iter().collect())
}

fn unix_seconds(date: &Datetime) -> Result<u64, String> {
    let text = date.to_string();
    let wrong = || {
        format!("not_after = {text}: use a moment in UTC, as in not_after = 2027-01-31T12:00:00Z")
    };
    if !text.ends_with('Z') {
        return Err(wrong());
    }
    let moment: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(moment.as_second()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";

    #[test]
    fn file_with_every_key_means_what_it_says() {
        let text = format!(
            "keys = [\"{KEY}\"]\ncall = [\"billing.*\", \"echo\"]\nregister = [\"audit\"]\n\
             mmi = [\"directory\", \"service\"]\nmax_in_flight = 10\nmax_requests_per_second = 20\n\
             max_queued_bytes = 30\nmax_workers = 40\nmax_connections = 50\n\
             not_after = 2027-01-31T12:00:00Z\n"
        );
        let document = parse(&text).unwrap();
        assert_eq!(document.keys, [IdentityKey(*PublicKey::from_z85(KEY).unwrap().as_bytes())]);
        let grants = &document.grants;
        assert!(grants.call.matches(b"billing.pay") && !grants.call.matches(b"audit"));
        assert!(grants.register.matches(b"audit") && !grants.register.matches(b"echo"));
        assert!(grants.directory && !grants.full_status);
        let quotas = Quotas {
            max_in_flight: Some(10),
            max_requests_per_second: Some(20),
            max_queued_bytes: Some(30),
            max_workers: Some(40),
            max_connections: Some(50),
        };
        assert_eq!((document.quotas, document.not_after), (quotas, Some(1_801_396_800)));
        let empty = parse("").unwrap();
        assert!(empty.keys.is_empty() && empty.grants == Grants::default());
    }

    #[test]
    fn mistake_is_named_with_what_would_be_right() {
        let secret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%c";
        for (text, reason) in [
            ("cal = [\"x\"]", "unknown field `cal`"),
            ("call = \"x\"", "expected a sequence"),
            ("max_workers = -1", "max_workers"),
            ("call = [\"\"]", "call = [\"\"]: a pattern has at least one character"),
            ("register = [\"mmi.x\"]", "register = [\"mmi.x\"]: mmi.* is not called by patterns"),
            ("mmi = [\"all\"]", "mmi = [\"all\"]: use \"directory\" or \"full-status\""),
            ("not_after = 2027-01-31", "not_after = 2027-01-31: use a moment in UTC"),
            ("not_after = 2027-01-31T12:00:00+01:00", "use a moment in UTC"),
            (&format!("keys = \"{secret}\""), "line 1, keys: expected a sequence"),
            (&format!("\nsecret-key = \"{secret}\""), "line 2: unknown field `secret-key`"),
            (&format!("keys = [\"{secret}"), "line 1"),
            (&format!("keys = [\"{secret}\"]"), "keys: one of 39 characters is no public key"),
            (&format!("keys = [\"{KEY}\", \"{KEY}\", \"{KEY}\"]"), "keys: there are 3"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains(secret), "{error}");
        }
    }
}
