//! Renews the node's certificate at two thirds of its life, over HTTPS, signed by the node's own key.
//!
//! ```text
//! due (by floor or clock, or the broker refused the certificate) -> asked
//!   approved: checked, written, given to the session for its next connect; the proxy reads the files by itself
//!   pending: it has ended and somebody must approve: said once, asked again; everything runs on
//! ```
//! Must not stop anything: an ended certificate costs the link to the coordinator, never a container.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mqtt::{Handle, VerifyAt};
use protocol::acceptance::NodeIdentity;
use protocol::hello::Event;
use protocol::join::{Answer, RENEW_PATH, Times};
use protocol::keys::{Root, SecretKey};
use protocol::topic::Up;
use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

use crate::join::https::Client;
use crate::join::{self, JoinError, answer, keys};
use crate::link::Outgoing;
use crate::tls::{Joined, Placement};
use crate::{clock, identity, trust};

/// How often it is looked whether it is due: the floor moves with what is heard.
const LOOK: Duration = Duration::from_secs(3_600);
/// After an attempt that failed, or that must be approved first.
const AGAIN: Duration = Duration::from_secs(600);

/// What renewing needs.
#[derive(Debug)]
pub struct Renewing {
    /// The node's durable state.
    pub state_dir: PathBuf,
    /// The trust root's file.
    pub root_file: PathBuf,
    /// Who the node is.
    pub node: NodeIdentity,
    /// The newest time that somebody vouched for.
    pub floor: VerifyAt,
    /// The session that gets the new certificate.
    pub handle: Handle,
    /// To the broker, for what people should see.
    pub outgoing: mpsc::Sender<Outgoing>,
    /// Somebody refused the certificate.
    pub refused: Arc<Notify>,
}

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// There is another certificate.
    Yes(Times),
    /// It must be approved first.
    Pending,
}

/// Whether it is time. `now_s` may be wrong: a clock that is ahead renews too early, which costs nothing; one that is
/// behind counts as the floor (see [`clock::unix_s`]).
#[must_use]
pub fn is_due(times: Option<Times>, now_s: u64) -> bool {
    times.is_none_or(|times| now_s >= times.renew_at)
}

impl Renewing {
    /// Until it is dropped.
    pub async fn keep(self) {
        let mut times = Joined::load(&self.state_dir).ok().flatten().and_then(|one| one.times);
        let mut said = String::new();
        // A clock that is far ahead would find every certificate due: one a day is enough for it.
        let mut pause = Duration::ZERO;
        loop {
            // Both are cancel-safe: a point in time, and a permit that stays.
            let asked = tokio::select! {
                () = tokio::time::sleep(pause) => false,
                () = self.refused.notified() => true,
            };
            if !asked && !is_due(times, clock::unix_s(&self.floor)) {
                pause = LOOK;
                continue;
            }
            match self.once().await {
                Ok(Renewed::Yes(new)) => {
                    info!(
                        renew_at = new.renew_at,
                        expires_at = new.expires_at,
                        "certificate renewed"
                    );
                    (times, pause) = (Some(new), LOOK * 24);
                    said.clear();
                }
                Ok(Renewed::Pending) => {
                    let text = "the node's certificate has ended; on the coordinator: pith node approve. \
                                Everything runs on meanwhile";
                    self.say(&mut said, text).await;
                    pause = AGAIN;
                }
                Err(error) => {
                    let text = format!("the node's certificate is not renewed: {error}");
                    self.say(&mut said, &text).await;
                    pause = AGAIN;
                }
            }
        }
    }

    /// Asks once, and keeps what is answered.
    ///
    /// # Errors
    /// Why there is no new certificate.
    pub async fn once(&self) -> Result<Renewed, JoinError> {
        let state_dir: &Path = &self.state_dir;
        let Some(joined) = Joined::load(state_dir)? else { return Ok(Renewed::Pending) };
        let root: Root = trust::load(&self.root_file)?;
        let key: SecretKey = identity::load_or_create(state_dir)?;
        let fleet = &self.node.fleet;
        let client = Client::with_ca(&joined.ca, fleet, &self.floor).map_err(|source| {
            JoinError::Io { path: state_dir.join(protocol::join::CA_FILE), source }
        })?;
        let body = join::renew_body(fleet, &key, &keys::tls(state_dir)?, root.version);
        let addresses = &joined.coordinators.addresses;
        let approved = match client.post(addresses, RENEW_PATH, &body).await? {
            Answer::Approved(approved) => *approved,
            Answer::Pending => return Ok(Renewed::Pending),
            Answer::Refused(refused) => return Err(JoinError::Refused(refused)),
        };
        let ca = client.ca();
        let checked = answer::check(approved, ca.as_deref(), fleet, &self.node.node, Some(&root))?;
        checked.fits(&state_dir.join(protocol::join::TLS_KEY_FILE))?;
        let placement = joined
            .placement
            .map(|before| Placement { broker: checked.approved.broker.clone(), ..before });
        join::keep(state_dir, &checked, None, placement.as_ref())?;
        if let Some(renewed) = Joined::load(state_dir)? {
            match renewed.session(fleet, &self.floor) {
                Ok(tls) => self.handle.set_tls(tls),
                Err(error) => warn!(%error, "the renewed certificate cannot be used"),
            }
        }
        Ok(Renewed::Yes(checked.approved.times))
    }

    /// Once for each text.
    async fn say(&self, said: &mut String, text: &str) {
        if said == text {
            return;
        }
        text.clone_into(said);
        warn!("{text}");
        let event = Event { service: None, reason: None, message: text.to_owned() };
        let payload = serde_json::to_vec(&event).expect("plain data serialises");
        // A loop that has ended says nothing more.
        let _ = self.outgoing.send(Outgoing { subject: Up::Event, payload }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_by_the_time_as_far_as_it_is_known_and_where_nothing_is_known() {
        let times = Some(Times { renew_at: 1_000, expires_at: 2_000 });
        assert!(!is_due(times, 999));
        assert!(is_due(times, 1_000));
        assert!(is_due(times, 4_070_908_800), "a clock of 2099");
        assert!(is_due(None, 0));
    }
}
