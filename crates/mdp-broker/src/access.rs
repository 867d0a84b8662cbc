//! [`Access`]: who may call and register what. It decides and knows nothing of keys' mathematics, of files or
//! of connections: what it is asked about is a peer that has shown a key, or has shown none.
//!
//! What is not granted is denied. A grant names services by patterns; there are no roles.

mod identity;

use std::collections::BTreeMap;

use thiserror::Error;

pub use self::identity::{Grants, Identity, IdentityKey, IdentityName, IdentityNameError, Quotas};

/// What becomes of what is not allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// It is denied.
    #[default]
    Enforce,
    /// It is done, and counted as what would be denied: for the time in which grants are written.
    Report,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A peer of a port on which nothing is proven and all is allowed (mode "off").
    Unrestricted,
    /// A peer that has shown no key where others show theirs (NULL in mode "mixed").
    Anonymous,
    /// A peer that has shown a key of an identity.
    Identity(IdentityId),
}

/// An identity, as long as the table is the same ([`Access::admit`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdentityId(usize);

/// What a peer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A request to a service.
    Call,
    /// To be a worker of a service.
    Register,
    /// To see whether there is a service, or what is said of it.
    See,
}

/// A question of the management interface beside `mmi.service`, which tells each of what it may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `mmi.endpoints` and `mmi.echo`, and of `mmi.status` the endpoints, versions and features.
    Basic,
    /// `mmi.directory`: which services there are.
    Directory,
    /// All of `mmi.status`.
    FullStatus,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is allowed.
    Allowed,
    /// It is not allowed, and done all the same ([`Enforcement::Report`]): it is counted.
    Reported,
    /// It is not allowed.
    Denied,
}

impl Decision {
    /// Whether what was asked for is to be done.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Allowed | Self::Reported)
    }
}

/// Two identities can not be told apart.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AccessError {
    /// They have one name.
    #[error("there are two identities with the name {0}")]
    SameName(IdentityName),
    /// They have one key.
    #[error("{first} and {second} have the same key; each key is of one identity")]
    SameKey {
        /// The first of them by name.
        first: IdentityName,
        /// The other one.
        second: IdentityName,
    },
}

/// All identities and their grants. It is made once and does not change; when files change, another one takes
/// its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// By name.
    identities: Vec<Identity>,
    by_key: BTreeMap<IdentityKey, IdentityId>,
    /// The grants of peers without a key; `None`: they have none.
    anonymous: Option<Grants>,
    enforcement: Enforcement,
}

impl Access {
    /// A table.
    ///
    /// # Errors
    /// Two identities have a name or a key in common.
    pub fn new(
        mut identities: Vec<Identity>,
        anonymous: Option<Grants>,
        enforcement: Enforcement,
    ) -> Result<Self, AccessError> {
        identities.sort_by(|a, b| a.name.cmp(&b.name));
        let names = identities.iter().zip(identities.iter().skip(1));
        if let Some((twice, _)) = names.into_iter().find(|(a, b)| a.name == b.name) {
            return Err(AccessError::SameName(twice.name.clone()));
        }
        let mut by_key = BTreeMap::new();
        for (at, identity) in identities.iter().enumerate() {
            for key in &identity.keys {
                let Some(IdentityId(first)) = by_key.insert(*key, IdentityId(at)) else { continue };
                if let Some(first) = identities.get(first).filter(|_| first != at) {
                    let (first, second) = (first.name.clone(), identity.name.clone());
                    return Err(AccessError::SameKey { first, second });
                }
            }
        }
        Ok(Self { identities, by_key, anonymous, enforcement })
    }

    /// The identity of a key, if a peer that shows it now is let in; `now` in seconds of Unix time. Without
    /// regard to the time an open connection keeps its identity ([`identity_of`](Self::identity_of)).
    #[must_use]
    pub fn admit(&self, key: &IdentityKey, now: u64) -> Option<IdentityId> {
        let id = self.identity_of(key)?;
        let not_after = self.identity(id)?.not_after;
        not_after.is_none_or(|last| now <= last).then_some(id)
    }

    /// The identity of a key. `None`: it has none (any more), and connections with it are closed.
    #[must_use]
    pub fn identity_of(&self, key: &IdentityKey) -> Option<IdentityId> {
        self.by_key.get(key).copied()
    }

    /// All that is said of an identity.
    #[must_use]
    pub fn identity(&self, id: IdentityId) -> Option<&Identity> {
        self.identities.get(id.0)
    }

    /// All identities, by name.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.identities.iter()
    }

    /// The grants of peers without a key; `None`: they have none.
    #[must_use]
    pub const fn anonymous(&self) -> Option<&Grants> {
        self.anonymous.as_ref()
    }

    /// Whether a subject may do this with a service.
    #[must_use]
    pub fn decide(&self, subject: Subject, operation: Operation, service: &[u8]) -> Decision {
        let is_granted = |grants: &Grants| match operation {
            Operation::Call => grants.call.matches(service),
            Operation::Register => grants.register.matches(service),
            Operation::See => grants.call.matches(service) || grants.register.matches(service),
        };
        self.decision(subject, is_granted)
    }

    /// Whether a subject may ask this of the management interface.
    #[must_use]
    pub fn decide_question(&self, subject: Subject, question: Question) -> Decision {
        match question {
            Question::Basic => Decision::Allowed,
            Question::Directory => self.decision(subject, |grants| grants.directory),
            Question::FullStatus => self.decision(subject, |grants| grants.full_status),
        }
    }

    fn decision(&self, subject: Subject, is_granted: impl Fn(&Grants) -> bool) -> Decision {
        let grants = match subject {
            Subject::Unrestricted => return Decision::Allowed,
            Subject::Anonymous => self.anonymous.as_ref(),
            Subject::Identity(id) => self.identity(id).map(|identity| &identity.grants),
        };
        match (grants.is_some_and(is_granted), self.enforcement) {
            (true, _) => Decision::Allowed,
            (false, Enforcement::Enforce) => Decision::Denied,
            (false, Enforcement::Report) => Decision::Reported,
        }
    }
}

#[cfg(test)]
mod tests;
