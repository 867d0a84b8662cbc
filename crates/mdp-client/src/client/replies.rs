//! What a client makes of a received message.

use mdp_wire::{
    Defect, ServiceFrame, Version,
    client::{Reply, ReplyCommand},
};

use crate::RequestId;

/// Which part of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// More parts follow (MDP18-02).
    Partial,
    /// The reply of 0.1, the last part of 0.2.
    Last,
}

/// A well-formed reply.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) part: Part,
    /// The envelope, if there is one and it is ours.
    pub(crate) id: Option<RequestId>,
    pub(crate) service: Vec<u8>,
    pub(crate) body: Vec<Vec<u8>>,
}

/// Decodes a message as a reply in the client's version.
pub(crate) fn decode(version: Version, frames: &mut Vec<Vec<u8>>) -> Result<Answer, Defect> {
    let reply = Reply::<ServiceFrame<Vec<u8>>, Vec<u8>>::decode(frames)?;
    let part = match (reply.command, version) {
        (ReplyCommand::Partial, Version::V02) => Part::Partial,
        (ReplyCommand::Reply, Version::V01) | (ReplyCommand::Final, Version::V02) => Part::Last,
        (ReplyCommand::Reply, Version::V02)
        | (ReplyCommand::Partial | ReplyCommand::Final, Version::V01) => {
            return Err(Defect::UnknownHeader);
        }
    };
    let id = match reply.envelope.as_slice() {
        [] => None,
        [frame] => Some(RequestId::from_frame(frame).ok_or(Defect::NoDelimiter)?),
        [_, _, ..] => return Err(Defect::NoDelimiter),
    };
    let body = reply.body.into_iter().collect();
    Ok(Answer { part, id, service: reply.service.into_frame(), body })
}
