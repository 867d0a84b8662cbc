use super::*;

/// How often the properties are tried.
const CASES: u32 = 64;

fn limits() -> ConnectionLimits {
    ConnectionLimits { message_bytes_max: 300_000, message_frames_max: 40, ..Default::default() }
}

/// What was decoded, as plain bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plain {
    Message(Vec<Vec<u8>>),
    Command(Vec<u8>),
}

fn plain(decoded: Decoded<'_>) -> Plain {
    match decoded {
        Decoded::Message(message) => {
            Plain::Message(message.frames.iter().map(|frame| frame.as_ref().to_vec()).collect())
        }
        Decoded::Command(body) => Plain::Command(body.to_vec()),
    }
}

fn put(kind: FrameKind, body: &[u8], into: &mut Vec<u8>) {
    FrameHeader { kind, size: u64::try_from(body.len()).unwrap() }.encode(into);
    into.extend_from_slice(body);
}

fn encode(items: &[Plain]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        match item {
            Plain::Command(body) => put(FrameKind::Command, body, &mut bytes),
            Plain::Message(frames) => {
                let (last, head) = frames.split_last().unwrap();
                head.iter().for_each(|body| put(FrameKind::MoreFollow, body, &mut bytes));
                put(FrameKind::LastOfMessage, last, &mut bytes);
            }
        }
    }
    bytes
}

/// Decodes a stream in pieces; the last piece is what is left.
fn decode(stream: &[u8], pieces: &[usize]) -> Result<Vec<Plain>, StreamError> {
    let mut decoder = Decoder::new(&limits());
    let mut seen = Vec::new();
    let mut rest = stream;
    for piece in pieces.iter().copied().chain([usize::MAX]) {
        let (piece, after) = rest.split_at(piece.min(rest.len()));
        let read = decoder.decode(piece, |decoded| {
            seen.push(plain(decoded));
            Flow::Continue
        })?;
        assert_eq!(read, piece.len(), "a reader that never stops reads all");
        rest = after;
    }
    assert!(!decoder.is_inside_message());
    assert_eq!(decoder.buffered_bytes(), 0, "between messages a decoder owns nothing");
    Ok(seen)
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn samples() -> Vec<Plain> {
    let sizes = [0, 1, 254, 255, 256, 257, 4_095, 4_096, 16_383, 16_384, 16_385, 65_536, 65_537];
    let mut items: Vec<Plain> =
        sizes.iter().map(|size| Plain::Message(vec![body(*size)])).collect();
    items.push(Plain::Command(body(0)));
    items.push(Plain::Message(sizes.iter().map(|size| body(*size)).collect()));
    items.push(Plain::Command(body(COMMAND_BYTES_MAX)));
    items.push(Plain::Message(vec![Vec::new(); 40]));
    items
}

#[test]
fn frames_of_every_size_come_back_however_the_stream_is_cut() {
    let items = samples();
    let stream = encode(&items);
    assert_eq!(decode(&stream, &[]).unwrap(), items);
    for piece in [1, 3, 10, 255, 1_000, 16_384, 65_535, 65_536] {
        let pieces = vec![piece; stream.len() / piece];
        assert_eq!(decode(&stream, &pieces).unwrap(), items, "{piece}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(CASES))]

    #[test]
    fn any_cut_of_the_stream_gives_the_same_messages(
        sizes in proptest::collection::vec(
            proptest::collection::vec(proptest::sample::select(
                vec![0_usize, 1, 5, 200, 255, 256, 5_000, 16_383, 16_384, 40_000],
            ), 0..6),
            1..6,
        ),
        pieces in proptest::collection::vec(1_usize..30_000, 0..40),
    ) {
        // A list without frames stands for a command.
        let items: Vec<Plain> = sizes
            .iter()
            .map(|frames| match frames.as_slice() {
                [] => Plain::Command(body(7)),
                frames => Plain::Message(frames.iter().map(|size| body(*size)).collect()),
            })
            .collect();
        let stream = encode(&items);
        proptest::prop_assert_eq!(decode(&stream, &pieces).unwrap(), items);
    }

    #[test]
    fn any_bytes_give_the_same_outcome_at_every_cut(
        stream in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
        piece in 1_usize..40,
    ) {
        let run = |piece: usize| {
            let mut decoder = Decoder::new(&limits());
            let mut seen = Vec::new();
            let outcome = stream.chunks(piece).try_for_each(|bytes| {
                decoder.decode(bytes, |decoded| {
                    seen.push(plain(decoded));
                    Flow::Continue
                }).map(|_| ())
            });
            (seen, outcome)
        };
        proptest::prop_assert_eq!(run(piece), run(stream.len().max(1)));
    }
}

#[test]
fn command_between_the_frames_of_a_message_does_not_disturb_it() {
    let mut stream = Vec::new();
    put(FrameKind::MoreFollow, b"first", &mut stream);
    put(FrameKind::Command, b"\x04PING\0\0", &mut stream);
    put(FrameKind::LastOfMessage, b"second", &mut stream);
    let expected = [
        Plain::Command(b"\x04PING\0\0".to_vec()),
        Plain::Message(vec![b"first".to_vec(), b"second".to_vec()]),
    ];
    assert_eq!(decode(&stream, &[]).unwrap(), expected);
    assert_eq!(decode(&stream, &vec![1; stream.len()]).unwrap(), expected);
}

#[test]
fn reader_that_stops_gets_the_rest_when_it_comes_again() {
    let items = samples();
    let stream = encode(&items);
    let mut decoder = Decoder::new(&limits());
    let mut seen = Vec::new();
    let mut rest = stream.as_slice();
    while !rest.is_empty() {
        let read = decoder
            .decode(rest, |decoded| {
                seen.push(plain(decoded));
                Flow::Stop
            })
            .unwrap();
        rest = &rest[read..];
    }
    assert_eq!(seen, items);
}

#[test]
fn small_message_is_one_allocation_and_holds_no_more_than_its_own_bytes() {
    let message = Plain::Message(vec![Vec::new(), b"MDPC01".to_vec(), b"echo".to_vec(), body(64)]);
    let stream = encode(&[message.clone(), message]);
    let mut messages = Vec::new();
    Decoder::new(&limits())
        .decode(&stream, |decoded| {
            let Decoded::Message(message) = decoded else { panic!("a command") };
            messages.push(message);
            Flow::Continue
        })
        .unwrap();
    for Message { frames, allocated_bytes } in messages {
        assert!(!frames.spilled());
        // Headers of two bytes lie between the frames.
        assert_eq!(allocated_bytes, 2 + 6 + 2 + 4 + 2 + 64);
        assert_eq!(frames[3].as_ref(), body(64));
    }
}

#[test]
fn announced_size_costs_nothing_until_bytes_come() {
    let limits = ConnectionLimits { message_bytes_max: 1 << 30, ..Default::default() };
    let mut decoder = Decoder::new(&limits);
    let mut stream = Vec::new();
    FrameHeader { kind: FrameKind::LastOfMessage, size: 1 << 30 }.encode(&mut stream);
    let take = |_: Decoded<'_>| panic!("nothing is complete");
    decoder.decode(&stream, take).unwrap();
    assert_eq!(decoder.buffered_bytes(), 0);
    let mut come = 0;
    for _ in 0..100 {
        decoder.decode(&[1; 10_000], take).unwrap();
        come += 10_000;
        assert!(decoder.buffered_bytes() <= 2 * come, "{} of {come}", decoder.buffered_bytes());
    }
}

#[test]
fn limits_hold_while_a_message_grows() {
    let frame = |size: u64, kind| {
        let mut bytes = Vec::new();
        FrameHeader { kind, size }.encode(&mut bytes);
        bytes
    };
    let run = |bytes: &[u8]| Decoder::new(&limits()).decode(bytes, |_| Flow::Continue);
    // The size alone is enough, at once and in pieces.
    let max = 300_000;
    let too_large = frame(300_001, FrameKind::LastOfMessage);
    let error = StreamError::MessageTooLarge { bytes: 300_001, max };
    assert_eq!(run(&too_large), Err(error));
    assert_eq!(decode(&too_large, &[1; 8]), Err(error));
    assert_eq!(run(&frame(300_000, FrameKind::LastOfMessage)), Ok(9));
    // The sum of frames.
    let mut growing = Vec::new();
    put(FrameKind::MoreFollow, &body(200_000), &mut growing);
    growing.extend(frame(100_001, FrameKind::MoreFollow));
    assert_eq!(run(&growing), Err(error));
    // A size that overflows.
    let mut endless = Vec::new();
    put(FrameKind::MoreFollow, &body(1), &mut endless);
    endless.extend(frame(u64::MAX, FrameKind::MoreFollow));
    assert_eq!(run(&endless), Err(StreamError::MessageTooLarge { bytes: u64::MAX, max }));
    // Empty frames.
    let mut many = Vec::new();
    (0..40).for_each(|_| put(FrameKind::MoreFollow, b"", &mut many));
    assert_eq!(run(&many), Ok(80));
    put(FrameKind::LastOfMessage, b"", &mut many);
    let error = StreamError::TooManyFrames { max: 40 };
    assert_eq!(run(&many), Err(error));
    assert_eq!(decode(&many, &[1; 81]), Err(error));
    // Commands.
    let bytes = u64::try_from(COMMAND_BYTES_MAX + 1).unwrap();
    let error = StreamError::CommandTooLarge { bytes, max: COMMAND_BYTES_MAX };
    assert_eq!(run(&frame(bytes, FrameKind::Command)), Err(error));
    assert_eq!(run(&[0x80, 0]), Err(StreamError::BadFlags(0x80)));
}
