//! What twenty peers say.

use mdp_broker::{Input, PeerId, PeerSource};
use mdp_wire::{
    AtBroker, Body, DecodeError, Defect, ServiceFrame, Version, client::Request, worker::ToBroker,
};

use super::{
    model::Model,
    op::{HandedOver, Malformation, Op, Part, Said, Tongue},
};
use crate::support::Bytes;

/// More services than may be known at once, one of them reserved.
const SERVICES: [&str; 9] =
    ["echo", "once", "now", "quick", "echo", "once.more", "other", "rare", "mmi.service"];

const MMI_NAMES: [&str; 7] =
    ["mmi.service", "mmi.service", "mmi.service", "mmi.echo", "mmi.status", "mmi.", "mmi.unknown"];

/// The version that a peer speaks when it makes no mistake.
fn version_of(peer: u8, tongue: Tongue) -> Version {
    match (peer.is_multiple_of(2), tongue) {
        (true, Tongue::Own) | (false, Tongue::Other) => Version::V01,
        (true, Tongue::Other) | (false, Tongue::Own) => Version::V02,
    }
}

fn id(peer: u8) -> PeerId {
    PeerId::from([b'p', peer].as_slice())
}

fn pick<'a>(names: &'a [&str], index: u8) -> &'a [u8] {
    names[usize::from(index) % names.len()].as_bytes()
}

fn service_frame(name: &[u8]) -> ServiceFrame<Bytes> {
    ServiceFrame::try_new(name.to_vec()).unwrap()
}

/// The number of a request is the first frame of its body.
pub(super) fn number_of(body: &Body<Bytes>) -> Option<u64> {
    Some(u64::from_be_bytes(body.first()?.as_slice().try_into().ok()?))
}

/// Makes messages out of numbers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    next_request: u64,
}

impl Peers {
    pub(super) fn inputs(&mut self, op: &Op, model: &Model) -> Vec<Input<Bytes>> {
        match op {
            Op::Request { peer, service, frames, bytes, envelope } => {
                let mut body: Body<Bytes> = std::iter::once(self.new_number()).collect();
                body.extend((0..*frames).map(|_| vec![b'x'; usize::from(*bytes)]));
                vec![client(*peer, pick(&SERVICES[..8], *service), body, *envelope)]
            }
            Op::Mmi { peer, name, about } => {
                let about = pick(&SERVICES, *about).to_vec();
                vec![client(*peer, pick(&MMI_NAMES, *name), std::iter::once(about).collect(), 1)]
            }
            Op::Ready { peer, service, tongue } => {
                let service = service_frame(pick(&SERVICES, *service));
                vec![worker(id(*peer), version_of(*peer, *tongue), ToBroker::Ready { service })]
            }
            Op::Storm { peer, count } => {
                let ready = || ToBroker::Ready { service: service_frame(b"mmi.x") };
                let version = version_of(*peer, Tongue::Own);
                (0..*count).map(|_| worker(id(*peer), version, ready())).collect()
            }
            Op::Answer { pick, part, bytes } => answer(model, *pick, *part, *bytes),
            Op::Misanswer { peer, token, part } => {
                let client = model.token(*token).unwrap_or_else(|| b"never given".to_vec());
                let message = reply(*part, client, vec![b"?".to_vec()]);
                vec![worker(id(*peer), version_of(*peer, Tongue::Own), message)]
            }
            Op::Say { peer, said, tongue } => {
                let message = match said {
                    Said::Heartbeat => ToBroker::Heartbeat,
                    Said::Disconnect => ToBroker::Disconnect,
                    Said::Request => ToBroker::Request,
                };
                vec![worker(id(*peer), version_of(*peer, *tongue), message)]
            }
            Op::Heartbeats => heartbeats(model),
            Op::Malformed { peer, defect, what } => vec![malformed(model, *peer, *defect, *what)],
            Op::Lose { peer, handed_over } => {
                let peer = id(*peer);
                let unsent = match handed_over {
                    HandedOver::Maybe => None,
                    HandedOver::No => model.token_of(&peer),
                };
                vec![Input::PeerLost { peer, unsent }]
            }
            Op::Wait { .. }
            | Op::Lag { .. }
            | Op::Late { .. }
            | Op::Pause { .. }
            | Op::Cluster(_)
            | Op::Release { .. }
            | Op::Forget
            | Op::AnswerAgain { .. }
            | Op::NewLife
            | Op::Gone
            | Op::Isolate
            | Op::Drain { .. } => Vec::new(),
        }
    }

    fn new_number(&mut self) -> Bytes {
        self.next_request += 1;
        self.next_request.to_be_bytes().to_vec()
    }
}

fn client(peer: u8, service: &[u8], body: Body<Bytes>, envelope: u8) -> Input<Bytes> {
    let version = version_of(peer, Tongue::Own);
    let envelope = match version {
        Version::V01 => (0..envelope).map(|frame| vec![peer, frame]).collect(),
        Version::V02 => Vec::new(),
    };
    let service = service_frame(service);
    let message = AtBroker::Client(Request { version, envelope, service, body });
    Input::Received { from: id(peer), source: PeerSource::default(), message }
}

fn worker(
    from: PeerId,
    version: Version,
    message: ToBroker<ServiceFrame<Bytes>, Bytes>,
) -> Input<Bytes> {
    Input::Received {
        from,
        source: PeerSource::default(),
        message: AtBroker::Worker { version, message },
    }
}

fn reply(part: Part, client: Bytes, body: Vec<Bytes>) -> ToBroker<ServiceFrame<Bytes>, Bytes> {
    match part {
        Part::Partial => ToBroker::Partial { client, body: body.into() },
        Part::Final => ToBroker::Final { client, body: body.into() },
    }
}

/// One of the workers that have a request answers it.
fn answer(model: &Model, pick: u8, part: Part, bytes: u8) -> Vec<Input<Bytes>> {
    let busy = model.busy();
    let count = busy.len().max(1);
    let Some((peer, version, token)) = busy.into_iter().nth(usize::from(pick) % count) else {
        return Vec::new();
    };
    let part = if version == Version::V01 { Part::Final } else { part };
    let body = vec![vec![b'y'; usize::from(bytes)]];
    if version == Version::V01 && bytes.is_multiple_of(4) {
        let (client, body) = (token.as_ref().to_vec(), body.into());
        return vec![worker(peer, version, ToBroker::Undelimited { client, body })];
    }
    vec![worker(peer, version, reply(part, token.as_ref().to_vec(), body))]
}

fn heartbeats(model: &Model) -> Vec<Input<Bytes>> {
    let registered = model.worker_versions().into_iter();
    registered.map(|(peer, version)| worker(peer, version, ToBroker::Heartbeat)).collect()
}

fn malformed(model: &Model, peer: u8, defect: u8, what: Malformation) -> Input<Bytes> {
    let defect = Defect::ALL[usize::from(defect) % Defect::ALL.len()];
    let error = match what {
        Malformation::Message => DecodeError::Malformed(defect),
        // Its own request, or one of another worker.
        Malformation::Answer => match model.token_of(&id(peer)).or_else(|| model.any_token()) {
            Some(address) => DecodeError::BadAnswer { address, defect },
            None => DecodeError::Malformed(defect),
        },
        Malformation::Ready => {
            DecodeError::BadReady { version: version_of(peer, Tongue::Own), defect }
        }
    };
    Input::Malformed { from: id(peer), error }
}
