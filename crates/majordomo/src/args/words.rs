//! What is an option of `call` and what is part of its body.
//!
//! A body may begin with "-", as in `call calc -5`. Clap can take either every such word after the
//! service as an option or, after the first body, none; both would surprise. So the words are sorted
//! here, before clap reads them.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _};

use clap::{Arg, Command};

/// The command whose words are sorted.
const CALL: &str = "call";

/// Puts the options of `call` before a "--", and the service and the frames of its body behind it.
/// The words of other commands stay as they are.
///
/// After the service a word is an option if it is the name of one (`-t`, `--timeout`), with or without
/// "=" and a value, or a short one with a value that it takes (`-t8s`). Words like `--timeot`, which look
/// like the long name of an option, stay options, too: clap refuses them, so that a slip does not
/// become part of a request. All others, and all words after a "--", are the body.
pub(super) fn sort(program: &mut Command, words: Vec<OsString>) -> Vec<OsString> {
    program.build();
    let Some(call) = program.find_subcommand(CALL) else { return words };
    if words.get(1).is_none_or(|word| word != CALL) {
        return words;
    }
    let mut sorted = Sorted::default();
    let mut left = words.into_iter();
    let mut start: Vec<OsString> = left.by_ref().take(2).collect();
    while let Some(word) = left.next() {
        if word == "--" {
            sorted.frames.extend(left);
            break;
        }
        match meaning(call, &word, sorted.frames.is_empty()) {
            Meaning::Frame => sorted.frames.push(word),
            Meaning::Option => sorted.options.push(word),
            Meaning::OptionBeforeValue => {
                sorted.options.push(word);
                sorted.options.extend(left.next());
            }
        }
    }
    start.extend(sorted.options);
    if !sorted.frames.is_empty() {
        start.push("--".into());
        start.extend(sorted.frames);
    }
    start
}

#[derive(Debug, Default)]
struct Sorted {
    options: Vec<OsString>,
    /// The service, then its body.
    frames: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Frame,
    Option,
    OptionBeforeValue,
}

/// What a word means; before the service every word with a hyphen is for clap to judge.
fn meaning(call: &Command, word: &OsString, is_before_service: bool) -> Meaning {
    let bytes = word.as_bytes();
    if !bytes.starts_with(b"-") || bytes == b"-" {
        return Meaning::Frame;
    }
    let Some(text) = word.to_str() else { return Meaning::Frame };
    if let Some(long) = text.strip_prefix("--") {
        let (name, has_value) =
            long.split_once('=').map_or((long, false), |(name, _)| (name, true));
        return match call.get_arguments().find(|option| option.get_long() == Some(name)) {
            Some(option) if takes_value(option) && !has_value => Meaning::OptionBeforeValue,
            Some(_) => Meaning::Option,
            None if is_before_service || is_like_long(name) => Meaning::Option,
            None => Meaning::Frame,
        };
    }
    let mut letters = text.get(1..).unwrap_or_default().chars();
    let letter = letters.next();
    let attached = letters.as_str();
    match call.get_arguments().find(|option| option.get_short() == letter) {
        Some(option) if attached.is_empty() && takes_value(option) => Meaning::OptionBeforeValue,
        Some(_) if attached.is_empty() || is_before_service => Meaning::Option,
        Some(option) if takes_value(option) && is_value(option, attached) => Meaning::Option,
        None if is_before_service => Meaning::Option,
        Some(_) | None => Meaning::Frame,
    }
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

/// Whether this is what the option takes; `-teatime` is no time-out.
fn is_value(option: &Arg, attached: &str) -> bool {
    let text = attached.strip_prefix('=').unwrap_or(attached);
    match option.get_id().as_str() {
        "timeout" => super::values::time(text).is_ok(),
        "retries" => text.parse::<u32>().is_ok(),
        "endpoint" => {
            text.split(',').all(|endpoint| super::values::client_endpoint(endpoint).is_ok())
        }
        _ => attached.starts_with('='),
    }
}

/// Letters and single hyphens, as the long names of options are.
fn is_like_long(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    fn sorted(typed: &str) -> String {
        let words = ["majordomo"].into_iter().chain(typed.split(' ')).map(OsString::from);
        let words = sort(&mut Cli::command(), words.collect());
        words[1..].iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_that_are_no_options_are_the_body() {
        for (typed, meant) in [
            ("call svc -hello", "call -- svc -hello"),
            ("call svc -5", "call -- svc -5"),
            ("call svc - -1e3 ---", "call -- svc - -1e3 ---"),
            ("call svc -teatime -tx", "call -- svc -teatime -tx"),
            ("call svc --5 --Wrong", "call -- svc --5 --Wrong"),
            ("call svc a -- -t 8s --json", "call -- svc a -t 8s --json"),
        ] {
            assert_eq!(sorted(typed), meant);
        }
    }

    #[test]
    fn options_may_stand_anywhere() {
        for (typed, meant) in [
            ("call svc hi -t 8s", "call -t 8s -- svc hi"),
            ("call -t 8s svc hi", "call -t 8s -- svc hi"),
            ("call svc -t8s hi -r=5", "call -t8s -r=5 -- svc hi"),
            ("call svc -eh:1,i:2 --json -x", "call -eh:1,i:2 --json -- svc -x"),
            ("call --endpoint h:1 svc --timeout=1s a", "call --endpoint h:1 --timeout=1s -- svc a"),
            ("call svc --help", "call --help -- svc"),
            ("call -h", "call -h"),
            // Refused by clap: a slip is no body, and a service is no option.
            ("call svc hi --timeot 8s", "call --timeot -- svc hi 8s"),
            ("call -hello", "call -hello"),
        ] {
            assert_eq!(sorted(typed), meant);
        }
    }

    #[test]
    fn other_commands_keep_their_words() {
        for typed in ["work svc --exec cat", "drain --wait node-2", "--help"] {
            assert_eq!(sorted(typed), typed);
        }
    }
}
