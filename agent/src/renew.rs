//! Renews the node's certificate at two thirds of its life, over HTTPS, signed by the node's own key. And follows a coordinator that was lost
//! and made anew, which is asked for a certificate in the same way.
//!
//! ```text
//! due (by floor or clock, or the broker refused the certificate) -> asked
//!   approved: checked, written, given to the session for its next connect; the proxy reads the files by itself
//!   pending: it has ended, or is of a CA before, and somebody must approve: said once, asked again; everything runs on
//! what answers is of another CA -> asked for its recovery, once a minute at most -> followed -> due; or said once why not
//! ```
//! Must not stop anything: an ended certificate costs the link to the coordinator, never a container.

mod agenda;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mqtt::{Handle, VerifyAt};
use protocol::acceptance::NodeIdentity;
use protocol::hello::Event;
use protocol::id::NodeName;
use protocol::join::{Answer, LOBBY_INTERVAL_SECS, RENEW_PATH, TLS_DIR, Times};
use protocol::keys::{Root, SecretKey};
use protocol::recovery::Again;
use protocol::topic::Up;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::bundle::{self, AfterRenewal};
use crate::durable::{self, Readers};
use crate::join::https::{Client, HttpsError};
use crate::join::{self, JoinError, Told, answer, keys};
use crate::ledger::Contents;
use crate::link::{Bells, Outgoing};
use crate::recovery::{self, unverified};
use crate::tls::{Joined, Placement};
use crate::{clock, identity, ledger, trust};
use agenda::{Agenda, Cause};

/// How often it is looked whether it is due: the floor moves with what is heard.
const LOOK: Duration = Duration::from_secs(3_600);
/// After an attempt that failed, or that must be approved first.
const AGAIN: Duration = Duration::from_secs(600);
/// The same where the coordinator was made anew: somebody sits there and approves.
const LOBBY: Duration = Duration::from_secs(LOBBY_INTERVAL_SECS);

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
    /// Somebody refused the certificate, or is of another CA.
    pub bells: Arc<Bells>,
    /// The node's name, as its hello says it.
    pub name: NodeName,
    /// Labels, as its hello says them.
    pub labels: BTreeMap<String, String>,
    /// Where the board's owner says that the coordinator is.
    pub own_address: Option<String>,
    /// For each answer.
    pub patience: Duration,
}

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// There is another certificate.
    Yes(Times),
    /// It must be approved first.
    Pending,
    /// The same, by a coordinator that was made anew and knows nothing of the node but what it says.
    Lobby,
}

/// What became of asking strangers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// One of them is the coordinator, made anew: the version of the trust root that says so.
    Followed(u64),
    /// What they say was followed before.
    Known,
    /// Why none of them is followed.
    No(String),
}

/// What was said last, of each kind.
#[derive(Debug, Default)]
struct Said {
    renewal: String,
    stranger: String,
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
        let mut agenda = Agenda::new(Instant::now());
        let mut said = Said::default();
        loop {
            // All are cancel-safe: a point in time, and permits that stay.
            tokio::select! {
                () = tokio::time::sleep_until(agenda.wake_at().into()) => {}
                () = self.bells.refused.notified() => agenda.refused(),
                () = self.bells.foreign.notified() => agenda.foreign(),
            }
            let now = Instant::now();
            if agenda.take_stranger(now) {
                self.ask_strangers(&mut agenda, &mut said).await;
            }
            if let Some(cause) = agenda.take_renewal(now) {
                self.look(cause, &mut agenda, &mut said).await;
            }
        }
    }

    /// Renews where that is due.
    async fn look(&self, cause: Cause, agenda: &mut Agenda, said: &mut Said) {
        self.replace_worn();
        let now = Instant::now();
        let joined = Joined::load(&self.state_dir).ok().flatten();
        let awaits = joined.as_ref().is_some_and(Joined::is_awaiting);
        let times = joined.and_then(|joined| joined.times);
        if cause == Cause::Look && !awaits && !is_due(times, clock::unix_s(&self.floor)) {
            agenda.look_in(LOOK, now);
            return;
        }
        agenda.asks(now);
        let pause = match self.once().await {
            Ok(Renewed::Yes(new)) => {
                let Times { renew_at, expires_at } = new;
                info!(renew_at, expires_at, "certificate renewed");
                said.renewal.clear();
                // A clock that is far ahead would find every certificate due: one a day is enough for it.
                LOOK * 24
            }
            Ok(Renewed::Pending) => {
                let text = "the node's certificate has ended; on the coordinator: pith node approve. \
                            Everything runs on meanwhile";
                self.say(&mut said.renewal, text).await;
                AGAIN
            }
            Ok(Renewed::Lobby) => {
                let text = format!(
                    "the coordinator was made anew, and this node waits there: pith node approve {}. Everything runs on \
                     meanwhile",
                    self.name
                );
                self.say(&mut said.renewal, &text).await;
                LOBBY
            }
            Err(error) => {
                if matches!(&error, JoinError::Https(error) if error.is_of_another_ca()) {
                    agenda.foreign();
                }
                let text = format!("the node's certificate is not renewed: {error}");
                self.say(&mut said.renewal, &text).await;
                if awaits && may_pass(&error) { LOBBY } else { AGAIN }
            }
        };
        agenda.look_in(pause, Instant::now());
    }

    /// Asks once, and keeps what is answered.
    ///
    /// # Errors
    /// Why there is no new certificate.
    pub async fn once(&self) -> Result<Renewed, JoinError> {
        let state_dir: &Path = &self.state_dir;
        let Some(joined) = Joined::load(state_dir)? else { return Ok(Renewed::Pending) };
        let (root, contents) = self.held()?;
        let key: SecretKey = identity::load_or_create(state_dir)?;
        let fleet = &self.node.fleet;
        let client = Client::with_ca(&joined.ca, fleet, &self.floor)
            .map_err(|source| self.io(protocol::join::CA_FILE, source))?
            .patient(self.patience);
        let awaits = joined.is_awaiting();
        let mut told = Told { root_version: root.version, ..Told::default() };
        if awaits {
            told.again = Some(self.again()?);
            told.manifest = contents.manifest().cloned();
        }
        let body = join::renew_body(fleet, &key, &keys::tls(state_dir)?, told);
        let approved = match client.post(&self.addresses(&joined), RENEW_PATH, &body).await? {
            Answer::Approved(approved) => *approved,
            Answer::Pending if awaits => return Ok(Renewed::Lobby),
            Answer::Pending => return Ok(Renewed::Pending),
            Answer::Refused(refused) => return Err(JoinError::Refused(refused)),
        };
        let ca = client.ca();
        let checked = answer::check(approved, ca.as_deref(), fleet, &self.node.node, Some(&root))?;
        checked.fits(&state_dir.join(protocol::join::TLS_KEY_FILE))?;
        let placement = joined
            .placement
            .clone()
            .map(|before| Placement { broker: checked.approved.broker.clone(), ..before });
        join::keep(state_dir, &checked, None, placement.as_ref())?;
        self.tidy(&joined)?;
        self.use_files()?;
        Ok(Renewed::Yes(checked.approved.times))
    }

    /// The newest trust root that the node holds, and the rest of what it remembers.
    fn held(&self) -> Result<(Root, Contents), JoinError> {
        let first = trust::load(&self.root_file)?;
        let contents = ledger::look(&self.state_dir)
            .map_err(|source| JoinError::Io { path: self.state_dir.clone(), source })?;
        Ok((contents.trust(&first).root, contents))
    }

    /// The owner's word stands above what the coordinator said, unless it is about a broker elsewhere.
    fn addresses(&self, joined: &Joined) -> Vec<String> {
        let own = self.own_address.iter().filter(|_| joined.is_at_coordinator());
        let known = &joined.coordinators.addresses;
        own.chain(known.iter().filter(|one| Some(*one) != self.own_address.as_ref()))
            .cloned()
            .collect()
    }

    fn again(&self) -> Result<Again, JoinError> {
        Ok(Again {
            name: self.name.clone(),
            environment: self.node.environment.clone(),
            labels: self.labels.clone(),
            seal_key: keys::seal(&self.state_dir)?,
        })
    }

    /// What a recovery has left is done away with step by step, one at each renewal.
    fn tidy(&self, before: &Joined) -> Result<(), JoinError> {
        let Ok(known) = before.bundle() else { return Ok(()) };
        let shows_another = recovery::shows_another(&self.state_dir);
        let own = before.certificate();
        match bundle::after_renewal(&known, own.as_ref(), shows_another, self.floor.unix_s()) {
            AfterRenewal::Stay => Ok(()),
            AfterRenewal::ShowOwn => {
                recovery::show_own(&self.state_dir).map_err(|source| self.io(TLS_DIR, source))
            }
            AfterRenewal::ForgetBefore => {
                // The key of what was shown, if a power cut left it.
                recovery::show_own(&self.state_dir).map_err(|source| self.io(TLS_DIR, source))?;
                let name = protocol::join::CA_FILE;
                let first = known.without_before().to_pem();
                durable::write(&self.state_dir.join(name), first.as_bytes(), Readers::All)
                    .map_err(|source| self.io(name, source))
            }
        }
    }

    /// Gives what stands in the files to the session, which connects with it at once where it waits.
    fn use_files(&self) -> Result<(), JoinError> {
        let Some(joined) = Joined::load(&self.state_dir)? else { return Ok(()) };
        match joined.session(&self.node.fleet, &self.floor) {
            Ok(tls) => {
                self.handle.set_tls(tls);
                self.handle.retry_now();
            }
            Err(error) => warn!(%error, "the certificate cannot be used"),
        }
        Ok(())
    }

    async fn ask_strangers(&self, agenda: &mut Agenda, said: &mut Said) {
        match self.recover().await {
            Ok(Asked::Followed(root)) => {
                said.stranger.clear();
                info!(
                    root,
                    "the coordinator was made anew: root vouches for its CA, which is followed"
                );
                agenda.look_in(Duration::ZERO, Instant::now());
            }
            Ok(Asked::Known) => debug!("a stranger shows a CA that is followed already"),
            Ok(Asked::No(why)) => self.say(&mut said.stranger, &why).await,
            Err(error) => {
                let text = format!("a coordinator that was made anew cannot be followed: {error}");
                self.say(&mut said.stranger, &text).await;
            }
        }
    }

    /// Asks everyone in the coordinator's place what they have to say for themselves, and follows the first whom root vouches for.
    ///
    /// # Errors
    /// A file of the node that cannot be read or written.
    pub async fn recover(&self) -> Result<Asked, JoinError> {
        let Some(joined) = Joined::load(&self.state_dir)? else { return Ok(Asked::Known) };
        let (held, _) = self.held()?;
        let mut why = Vec::new();
        for address in self.addresses(&joined) {
            let sent = unverified::ask_anyone(&address, &self.node.fleet, self.patience).await;
            let read = match sent {
                Ok(sent) => recovery::read(&sent, &held),
                Err(error) => {
                    why.push(silent(&address, &error));
                    continue;
                }
            };
            match read {
                Ok((ca, version)) => {
                    let news = recovery::follow(&self.state_dir, &ca)
                        .map_err(|(path, source)| JoinError::Io { path, source })?;
                    if !news {
                        return Ok(Asked::Known);
                    }
                    self.use_files()?;
                    return Ok(Asked::Followed(version));
                }
                Err(error) => why.push(format!(
                    "what answers at {address} is of another CA and is not followed: {error}; {}",
                    error.mend()
                )),
            }
        }
        Ok(Asked::No(why.join("; ")))
    }

    /// A copy of an ended certificate is worth nothing to anybody.
    fn replace_worn(&self) {
        match recovery::replace_worn(&self.state_dir, self.floor.unix_s()) {
            Ok(true) => info!("other boards are shown the certificate of the new CA from now on"),
            Ok(false) => {}
            Err(error) => warn!(%error, "what other boards are shown cannot be replaced"),
        }
    }

    fn io(&self, name: &str, source: std::io::Error) -> JoinError {
        JoinError::Io { path: self.state_dir.join(name), source }
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

/// One that answers in other words may be an older coordinator, a lost one that runs on, or anybody.
fn silent(address: &str, error: &HttpsError) -> String {
    match error {
        HttpsError::Strange { .. } => format!(
            "what answers at {address} is of another CA and knows of no recovery: check the address, and who answers there"
        ),
        HttpsError::Unreachable { .. }
        | HttpsError::TimedOut { .. }
        | HttpsError::Distrust { .. }
        | HttpsError::Broken { .. } => error.to_string(),
    }
}

/// Whether asking again soon, unchanged, may help.
fn may_pass(error: &JoinError) -> bool {
    match error {
        JoinError::Https(error) => error.may_pass(),
        JoinError::Refused(refused) => refused.code.may_pass(),
        JoinError::Token(_)
        | JoinError::OtherFleet(..)
        | JoinError::Identity(_)
        | JoinError::Joined(_)
        | JoinError::Root(_)
        | JoinError::KeyDamaged(_)
        | JoinError::Io { .. }
        | JoinError::Answer(_) => false,
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
