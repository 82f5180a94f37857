//! Who may connect to the embedded broker and what each may touch. Pure: the hooks ask, this answers.
//!
//! Identity is a client id with its own token, which the nodes' port puts in once a certificate has proved it (crate::front).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use protocol::id::{FleetId, NodeId};
use protocol::topic::{Retain, Topic};
use sha2::{Digest as _, Sha256};

/// The coordinator's client id; no node id can equal it, for those are hexadecimal.
pub const COORDINATOR_CLIENT_ID: &str = "coordinator";

/// Shorter tokens can be guessed.
const MIN_TOKEN_BYTES: usize = 16;

/// Who stands behind a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Of this fleet.
    Coordinator,
    /// A board.
    Node(NodeId),
}

/// Why a client may not connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither the coordinator's id nor one of an admitted node.
    #[error("unknown client id")]
    UnknownClient,
    /// A username that is not the client id.
    #[error("username and client id differ")]
    UsernameDiffers,
    /// No password, or not this client's token.
    #[error("wrong token")]
    WrongToken,
}

/// A token that would protect nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token needs at least {MIN_TOKEN_BYTES} bytes")]
pub struct InvalidToken;

type TokenDigest = [u8; 32];

/// The tokens of one fleet. Clones share them, so a node admitted later may connect at once.
#[derive(Clone)]
pub struct Credentials {
    fleet: FleetId,
    // Only digests: comparing those in variable time tells an attacker nothing about a token.
    tokens: Arc<RwLock<HashMap<Identity, TokenDigest>>>,
}

impl Credentials {
    /// Credentials with which only the coordinator may connect.
    ///
    /// # Errors
    /// Where the token is too short.
    pub fn new(fleet: FleetId, coordinator_token: &str) -> Result<Self, InvalidToken> {
        let credentials = Self { fleet, tokens: Arc::default() };
        credentials.set(Identity::Coordinator, coordinator_token)?;
        Ok(credentials)
    }

    /// Lets a node connect with this token from now on, and with no earlier one.
    ///
    /// # Errors
    /// Where the token is too short.
    pub fn admit(&self, node: &NodeId, token: &str) -> Result<(), InvalidToken> {
        self.set(Identity::Node(node.clone()), token)
    }

    /// Takes a node's access: it cannot connect, publish or subscribe any more.
    pub fn revoke(&self, node: &NodeId) {
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        tokens.remove(&Identity::Node(node.clone()));
    }

    /// Who this client is.
    ///
    /// # Errors
    /// Says which of the three parts was wrong; the client is told only that it is refused.
    pub fn authenticate(
        &self,
        client_id: &str,
        username: Option<&str>,
        password: Option<&[u8]>,
    ) -> Result<Identity, Refusal> {
        let identity = Identity::of_client_id(client_id).ok_or(Refusal::UnknownClient)?;
        if username != Some(client_id) {
            return Err(Refusal::UsernameDiffers);
        }
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let expected = tokens.get(&identity).ok_or(Refusal::UnknownClient)?;
        let offered = password.map(digest).ok_or(Refusal::WrongToken)?;
        if *expected != offered {
            return Err(Refusal::WrongToken);
        }
        Ok(identity)
    }

    /// Who holds an authenticated session with this client id; none where the access was taken since.
    #[must_use]
    pub fn holder(&self, client_id: &str) -> Option<Identity> {
        let identity = Identity::of_client_id(client_id)?;
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        tokens.contains_key(&identity).then_some(identity)
    }

    /// The coordinator writes what nodes read; a node writes its own `up/`, and of that only the subjects of the
    /// topic table may be retained, so that no node fills the broker's memory.
    #[must_use]
    pub fn may_publish(&self, who: &Identity, topic: &str, retain: Retain) -> bool {
        match who {
            Identity::Coordinator => self
                .node_part(topic)
                .is_some_and(|(node, rest)| is_node(node) && is_below(rest, "down")),
            Identity::Node(node) => {
                let own = |(of, rest): (&str, &str)| of == node.as_str() && is_below(rest, "up");
                self.node_part(topic).is_some_and(own)
                    && (retain == Retain::Passing || is_kept_subject(topic))
            }
        }
    }

    /// The coordinator reads what any node writes; a node reads its own `down/` only.
    #[must_use]
    pub fn may_subscribe(&self, who: &Identity, filter: &str) -> bool {
        let Some((of, rest)) = self.node_part(filter) else { return false };
        match who {
            Identity::Coordinator => (of == "+" || is_node(of)) && is_below(rest, "up"),
            Identity::Node(node) => of == node.as_str() && is_below(rest, "down"),
        }
    }

    /// `(node, rest)` of `pith/v1/<fleet>/n/<node>/<rest>`.
    fn node_part<'t>(&self, topic: &'t str) -> Option<(&'t str, &'t str)> {
        let rest = topic.strip_prefix("pith/v1/")?.strip_prefix(self.fleet.as_str())?;
        rest.strip_prefix("/n/")?.split_once('/')
    }

    fn set(&self, identity: Identity, token: &str) -> Result<(), InvalidToken> {
        if token.len() < MIN_TOKEN_BYTES {
            return Err(InvalidToken);
        }
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(identity, digest(token.as_bytes()));
        Ok(())
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("fleet", &self.fleet).finish_non_exhaustive()
    }
}

impl Identity {
    fn of_client_id(client_id: &str) -> Option<Self> {
        if client_id == COORDINATOR_CLIENT_ID {
            return Some(Self::Coordinator);
        }
        client_id.parse().ok().map(Self::Node)
    }
}

fn digest(token: &[u8]) -> TokenDigest {
    Sha256::digest(token).into()
}

fn is_node(text: &str) -> bool {
    text.parse::<NodeId>().is_ok()
}

fn is_below(rest: &str, part: &str) -> bool {
    rest.strip_prefix(part).and_then(|rest| rest.strip_prefix('/')).is_some_and(|r| !r.is_empty())
}

fn is_kept_subject(topic: &str) -> bool {
    Topic::parse(topic).is_some_and(|topic| topic.subject.retain() == Retain::Kept)
}

#[cfg(test)]
mod tests;
