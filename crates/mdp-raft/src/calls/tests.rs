use proptest::prelude::*;

use super::*;
use crate::types::{LeaderId, LogId, Vote};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn vote() -> VoteV1 {
    (&Vote { leader_id: LeaderId { term: 3, node_id: 300 }, committed: true }).into()
}

fn log_id() -> LogIdV1 {
    (&LogId { leader_id: LeaderId { term: 2, node_id: 1 }, index: 70_000 }).into()
}

fn requests() -> Vec<Request> {
    let ballot = || Ballot { vote: vote(), last: Some(log_id()), is_transfer: true };
    let name = || "n1".to_owned();
    vec![
        Request::Hello { seeds: vec![(name(), "tcp://n1:1".to_owned())] },
        Request::Join { endpoint: "tcp://n1:1".to_owned(), version: (0, 1, 2) },
        Request::Append {
            vote: vote(),
            previous: Some(log_id()),
            entries: Vec::new(),
            committed: None,
        },
        Request::Vote(ballot()),
        Request::PreVote(ballot()),
        Request::TakeOver { leader: vote(), successor: 9, last: None },
        Request::ReadIndex { vote: Some(vote()) },
        Request::Propose { entry: vec![1, 2] },
        Request::Change(Change::Add { name: name(), endpoint: "e".to_owned() }),
        Request::Change(Change::Promote { name: name() }),
        Request::Change(Change::Remove { name: name() }),
        Request::Change(Change::Lead { to: None }),
        Request::Change(Change::Hold),
        Request::Change(Change::Resume),
        Request::Change(Change::Finalize),
    ]
}

fn replies() -> Vec<Reply> {
    let hello = Hello {
        id: 5,
        process: 6,
        name: "n1".to_owned(),
        is_initialised: true,
        seeds: Vec::new(),
        version: (0, 1, 2),
    };
    let refusals = [
        Refusal::Format { min: 1, max: 1 },
        Refusal::ForeignCluster,
        Refusal::NotTarget,
        Refusal::Removed,
        Refusal::NotLeader { leader: Some((5, "n".to_owned(), "e".to_owned())) },
        Refusal::NameInUse,
        Refusal::Change { reason: "r".to_owned() },
        Refusal::UnknownMember { name: "n".to_owned(), members: "m".to_owned() },
        Refusal::Unavailable,
        Refusal::Version { reason: "r".to_owned() },
    ];
    let mut replies = vec![
        Reply::Hello(hello),
        Reply::Joined,
        Reply::Append(Appended::All),
        Reply::Append(Appended::UpTo(Some(log_id()))),
        Reply::Append(Appended::Conflict),
        Reply::Append(Appended::HigherVote(vote())),
        Reply::Vote { vote: vote(), is_granted: true, last: None },
        Reply::TakeOver { is_accepted: true },
        Reply::SnapshotNext { offset: 9 },
        Reply::SnapshotDone { vote: vote() },
        Reply::ReadIndex { index: 70_000 },
        Reply::Proposed,
        Reply::Changed { leader: "n".to_owned() },
    ];
    replies.extend(refusals.map(Reply::Refused));
    replies
}

fn call(request: Request) -> Call {
    Call {
        formats: (1, 2),
        cluster: Some(7),
        from: 1,
        from_name: "n1".to_owned(),
        to: Some(2),
        request,
    }
}

fn answer(reply: Reply) -> Answer {
    Answer { formats: (1, 1), cluster: Some(7), reply }
}

fn encoded() -> Vec<String> {
    let calls = requests().into_iter().map(|request| call(request).encode(1));
    let answers = replies().into_iter().map(|reply| answer(reply).encode(1));
    calls.chain(answers).map(|bytes| hex(&bytes.unwrap())).collect()
}

#[test]
fn bytes_of_format_1_never_change() {
    let golden: Vec<&str> = include_str!("golden-format-1.txt").lines().collect();

    assert_eq!(encoded(), golden);
}

const ONE: WireRange = WireRange { min: 1, max: 1 };
const BOTH: WireRange = WireRange { min: 1, max: 2 };

#[test]
fn what_was_encoded_is_decoded_in_each_format() {
    for format in [1, 2] {
        for request in requests() {
            let said = format!("{request:?}");
            let bytes = call(request).encode(format).unwrap();
            let (heard_in, heard) = Call::decode(BOTH, &bytes).unwrap();
            let heard = (heard_in, format!("{:?}", heard.request), heard.from_name);
            assert_eq!(heard, (format, said, "n1".to_owned()));
        }
        for reply in replies() {
            let said = format!("{reply:?}");
            let bytes = answer(reply).encode(format).unwrap();
            assert_eq!(format!("{:?}", Answer::decode(BOTH, &bytes).unwrap().reply), said);
        }
    }
}

#[test]
fn call_outside_of_the_range_is_of_an_unknown_format() {
    let unknown = |range, format| {
        let bytes = call(Request::ReadIndex { vote: None }).encode(format).unwrap();
        matches!(Call::decode(range, &bytes), Err(CodecError::UnknownFormat { .. }))
    };
    assert!(unknown(ONE, 2));
    assert!(unknown(WireRange { min: 2, max: 2 }, 1));
    assert!(!unknown(ONE, 1));
}

#[test]
fn bytes_of_one_format_are_no_call_of_the_other() {
    let mut bytes = call(Request::ReadIndex { vote: None }).encode(2).unwrap();
    assert!(bytes.len() > call(Request::ReadIndex { vote: None }).encode(1).unwrap().len());
    bytes[1] = 1;
    assert!(Call::decode(BOTH, &bytes).is_err());
}

#[test]
fn refusal_of_a_format_is_read_by_all() {
    let refusal = || Reply::Refused(Refusal::Format { min: 1, max: 1 });
    let bytes = answer(refusal()).encode(REFUSAL_FORMAT).unwrap();
    let heard = Answer::decode(WireRange { min: 2, max: 2 }, &bytes).unwrap().reply;
    assert_eq!(format!("{heard:?}"), format!("{:?}", refusal()));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(Call::decode(BOTH, &bytes));
        drop(Answer::decode(BOTH, &bytes));
        let headed = |kind: Kind, format: u8| [&[kind as u8, format, 0][..], &bytes].concat();
        for format in [1, 2] {
            drop(Call::decode(BOTH, &headed(Kind::Call, format)));
            drop(Answer::decode(BOTH, &headed(Kind::Answer, format)));
        }
    }
}
