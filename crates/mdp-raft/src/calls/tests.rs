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
        Request::Join { endpoint: "tcp://n1:1".to_owned() },
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
    ]
}

fn replies() -> Vec<Reply> {
    let hello =
        Hello { id: 5, process: 6, name: "n1".to_owned(), is_initialised: true, seeds: Vec::new() };
    let refusals = [
        Refusal::Format { known: 1 },
        Refusal::ForeignCluster,
        Refusal::NotTarget,
        Refusal::Removed,
        Refusal::NotLeader { leader: Some((5, "n".to_owned(), "e".to_owned())) },
        Refusal::NameInUse,
        Refusal::Change { reason: "r".to_owned() },
        Refusal::UnknownMember { name: "n".to_owned(), members: "m".to_owned() },
        Refusal::Unavailable,
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
    Call { cluster: Some(7), from: 1, from_name: "n1".to_owned(), to: Some(2), request }
}

fn encoded() -> Vec<String> {
    let calls = requests().into_iter().map(|request| call(request).encode());
    let answers = replies().into_iter().map(|reply| Answer { cluster: Some(7), reply }.encode());
    calls.chain(answers).map(|bytes| hex(&bytes.unwrap())).collect()
}

#[test]
fn bytes_of_format_1_never_change() {
    let golden: Vec<&str> = include_str!("golden-format-1.txt").lines().collect();

    assert_eq!(encoded(), golden);
}

#[test]
fn what_was_encoded_is_decoded() {
    for request in requests() {
        let said = format!("{request:?}");
        let heard = Call::decode(&call(request).encode().unwrap()).unwrap();
        assert_eq!((format!("{:?}", heard.request), heard.from_name.as_str()), (said, "n1"));
    }
    for reply in replies() {
        let said = format!("{reply:?}");
        let bytes = Answer { cluster: None, reply }.encode().unwrap();
        assert_eq!(format!("{:?}", Answer::decode(&bytes).unwrap().reply), said);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(Call::decode(&bytes));
        drop(Answer::decode(&bytes));
        let headed = |kind: Kind| [&[kind as u8, 1, 0][..], &bytes].concat();
        drop(Call::decode(&headed(Kind::Call)));
        drop(Answer::decode(&headed(Kind::Answer)));
    }
}
