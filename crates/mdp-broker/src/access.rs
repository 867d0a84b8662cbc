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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A peer of a port on which nothing is proven and all is allowed (mode "off"), and what other nodes have
    /// decided about.
    #[default]
    Unrestricted,
    /// A peer that has shown no key where others show theirs (NULL in mode "mixed").
    Anonymous,
    /// A peer that has shown a key of an identity.
    Identity(IdentityId),
}

/// An identity: the same in each table that takes the place of another one ([`Access::new`]), and never that of
/// another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdentityId(u32);

impl IdentityId {
    /// The identity that has this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

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
    /// `mmi.endpoints` and `mmi.echo`, and of `mmi.status` the endpoints, limits and version.
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
    /// By number; `None`: it is not there any more. A number is not used again, for what it names may still have
    /// requests.
    identities: Vec<Option<Identity>>,
    by_name: BTreeMap<IdentityName, IdentityId>,
    by_key: BTreeMap<IdentityKey, IdentityId>,
    /// The grants of peers without a key; `None`: they have none.
    anonymous: Option<Grants>,
    enforcement: Enforcement,
}

impl Access {
    /// A table. An identity that `before` has, or ever had, keeps its number.
    ///
    /// # Errors
    /// Two identities have a name or a key in common.
    pub fn new(
        before: &Self,
        identities: Vec<Identity>,
        anonymous: Option<Grants>,
        enforcement: Enforcement,
    ) -> Result<Self, AccessError> {
        let mut table = Self {
            identities: before.identities.iter().map(|_| None).collect(),
            by_name: before.by_name.clone(),
            by_key: BTreeMap::new(),
            anonymous,
            enforcement,
        };
        for identity in identities {
            table.insert(identity)?;
        }
        Ok(table)
    }

    fn insert(&mut self, identity: Identity) -> Result<(), AccessError> {
        let id = match self.by_name.get(&identity.name) {
            Some(id) => *id,
            None => {
                let id = IdentityId(u32::try_from(self.identities.len()).unwrap_or(u32::MAX));
                self.identities.push(None);
                self.by_name.insert(identity.name.clone(), id);
                id
            }
        };
        for key in &identity.keys {
            let other = self.by_key.insert(*key, id).filter(|other| *other != id);
            if let Some(other) = other.and_then(|other| self.identity(other)) {
                let (first, second) = (other.name.clone(), identity.name);
                let (first, second) = (first.clone().min(second.clone()), first.max(second));
                return Err(AccessError::SameKey { first, second });
            }
        }
        let Some(place) = place(&mut self.identities, id) else { return Ok(()) };
        match place.replace(identity) {
            None => Ok(()),
            Some(twice) => Err(AccessError::SameName(twice.name)),
        }
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
        self.identities.get(index(id)?)?.as_ref()
    }

    /// All identities, by name.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.by_name.values().filter_map(|id| self.identity(*id))
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

    /// What becomes of what is beyond a quota.
    pub(crate) const fn beyond_quota(&self) -> Decision {
        match self.enforcement {
            Enforcement::Enforce => Decision::Denied,
            Enforcement::Report => Decision::Reported,
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

fn index(id: IdentityId) -> Option<usize> {
    usize::try_from(id.0).ok()
}

fn place(identities: &mut [Option<Identity>], id: IdentityId) -> Option<&mut Option<Identity>> {
    identities.get_mut(index(id)?)
}

#[cfg(test)]
mod tests;
