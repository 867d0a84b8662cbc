//! Arbitrary bytes, cut at arbitrary places, never stop a connection, never make it hold more than its
//! limits, and mean the same however they are cut, whatever else happens in between: messages that
//! leave, writes that take a part, readers that stop, timers.
//!
//! `cargo fuzz run --sanitizer none connection` in the folder of the crate.
#![no_main]

mod listener;
mod script;
mod subject;

use libfuzzer_sys::fuzz_target;

use self::{
    script::{Script, Step},
    subject::Subject,
};

fuzz_target!(|data: &[u8]| {
    let Some(script) = Script::parse(data) else { return };
    let mut whole = Subject::new(&script);
    whole.receive(script.stream.len());
    let mut cut = Subject::new(&script);
    for step in &script.steps {
        match *step {
            Step::Receive(count) => cut.receive(count),
            Step::StopAtNext => cut.stop_at_next(),
            Step::Send(sizes) => cut.send(sizes),
            Step::Transmit(count) => cut.transmit(count),
            Step::Pass(duration) => cut.pass(duration),
            Step::RequirePong(is_required) => cut.require_pong(is_required),
        }
    }
    // A reader that stopped takes one event; then comes the rest.
    cut.receive(script.stream.len());
    cut.receive(script.stream.len());
    cut.check_same_meaning(&whole);
    cut.check_unsent_and_output();
});
