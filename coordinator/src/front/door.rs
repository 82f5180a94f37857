//! Who may come in, and who is in: admission as the state decided it, and the live session of each node.
//!
//! The tokens behind it are made here, live in memory, and are known to the embedded broker alone: a node never sees one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use protocol::id::{FleetId, NodeId, sha256_hex};
use tokio::sync::watch;

use super::Cut;
use crate::broker::{COORDINATOR_CLIENT_ID, Credentials, Identity, InvalidToken};
use crate::data_dir::{DataDirError, random};

/// Admission, shared by the loop that decides it and the port that asks.
#[derive(Debug, Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    fleet: FleetId,
    credentials: Credentials,
    secret: [u8; 32],
    live: Mutex<HashMap<NodeId, Live>>,
    sessions: AtomicU64,
}

/// Dropping it cuts the session.
struct Live {
    number: u64,
    peer: SocketAddr,
    _session: watch::Sender<()>,
}

/// A node's session that was let in; dropping it says that it is over.
#[derive(Debug)]
pub(super) struct Pass {
    door: Door,
    node: NodeId,
    number: u64,
    pub(super) token: String,
    pub(super) cut: Cut,
}

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No random bytes.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The token is too short, which it never is.
    #[error(transparent)]
    Token(#[from] InvalidToken),
}

impl Door {
    /// A door that only the coordinator's own session may pass.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn new(fleet: FleetId) -> Result<Self, DoorError> {
        let secret: [u8; 32] = random()?;
        let own = token(&secret, COORDINATOR_CLIENT_ID);
        let credentials = Credentials::new(fleet.clone(), &own)?;
        let (live, sessions) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { fleet, credentials, secret, live, sessions })))
    }

    /// What the embedded broker asks.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }

    /// The fleet whose nodes may pass.
    #[must_use]
    pub fn fleet(&self) -> &FleetId {
        &self.0.fleet
    }

    /// The internal token of the coordinator's own session.
    #[must_use]
    pub fn own_token(&self) -> String {
        token(&self.0.secret, COORDINATOR_CLIENT_ID)
    }

    /// Whether a node may come in.
    pub(super) fn is_admitted(&self, node: &NodeId) -> bool {
        self.0.credentials.holder(node.as_str()).is_some()
    }

    /// Lets a node in from now on.
    pub fn admit(&self, node: &NodeId) {
        let token = token(&self.0.secret, node.as_str());
        let admitted = self.0.credentials.admit(node, &token);
        debug_assert!(admitted.is_ok(), "64 characters are long enough");
    }

    /// Refuses a node from now on, and cuts its session at once.
    pub fn revoke(&self, node: &NodeId) {
        // First the access, then the session: one that comes in between the two is refused.
        self.0.credentials.revoke(node);
        let mut live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = live.remove(node) {
            tracing::info!(node = %node.short(), peer = %session.peer, "session cut: the node is revoked");
        }
    }

    /// Lets a session of a node in; an older one of the same node is cut. None: the node is not admitted.
    pub(super) fn enter(&self, node: &NodeId, peer: SocketAddr) -> Option<Pass> {
        let mut live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = self.0.credentials.holder(node.as_str())?;
        debug_assert_eq!(identity, Identity::Node(node.clone()));
        let number = self.0.sessions.fetch_add(1, Ordering::Relaxed);
        let (session, cut) = watch::channel(());
        let older = live.insert(node.clone(), Live { number, peer, _session: session });
        if let Some(older) = older {
            tracing::debug!(node = %node.short(), %peer, older = %older.peer, "a second session of a node");
        }
        let token = token(&self.0.secret, node.as_str());
        Some(Pass { door: self.clone(), node: node.clone(), number, token, cut })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut live = self.door.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.get(&self.node).is_some_and(|session| session.number == self.number) {
            live.remove(&self.node);
        }
    }
}

/// One secret, a token for each: 64 hexadecimal digits.
fn token(secret: &[u8; 32], client_id: &str) -> String {
    let mut text = b"pith internal token\n".to_vec();
    text.extend_from_slice(secret);
    text.extend_from_slice(client_id.as_bytes());
    sha256_hex(&text)
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("fleet", &self.fleet).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        "0a".repeat(16).parse().unwrap()
    }

    #[tokio::test]
    async fn a_revoked_node_is_cut_and_stays_out() {
        let door = Door::new(FleetId::from_random([1; 16])).unwrap();
        let peer = "127.0.0.1:1".parse().unwrap();
        assert!(door.enter(&node(), peer).is_none(), "nobody admitted it");
        door.admit(&node());
        let mut pass = door.enter(&node(), peer).unwrap();
        let identity = door.credentials().authenticate(
            node().as_str(),
            Some(node().as_str()),
            Some(pass.token.as_bytes()),
        );
        assert_eq!(identity, Ok(Identity::Node(node())));
        door.revoke(&node());
        assert!(pass.cut.changed().await.is_err(), "the session is cut");
        assert!(door.enter(&node(), peer).is_none());
    }

    #[tokio::test]
    async fn a_newer_session_cuts_the_older_and_not_the_other_way_round() {
        let door = Door::new(FleetId::from_random([1; 16])).unwrap();
        let peer = "127.0.0.1:1".parse().unwrap();
        door.admit(&node());
        let mut older = door.enter(&node(), peer).unwrap();
        let newer = door.enter(&node(), peer).unwrap();
        assert!(older.cut.changed().await.is_err());
        drop(older);
        assert!(newer.cut.has_changed().is_ok(), "the end of the older says nothing of the newer");
    }
}
