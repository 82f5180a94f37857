//! How this board becomes a node: `pith-agent join TOKEN`.
//!
//! ```text
//! keys made here -> TLS to an address of the token, the CA's hash checked -> the signed wish, the token's secret beside it
//!   pending: in the lobby, asks again until somebody approved | refused: said, nothing is written
//!   approved: certificate, CA, trust root, addresses and placement checked, written, the certificate last
//! ```
//! Nothing here runs in the agent's loop; a node that has joined is one whose certificate is there. Must not decide who
//! may join: the coordinator does.

pub mod answer;
pub mod https;
pub mod keys;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mqtt::VerifyAt;
use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::id::{EnvironmentName, FleetId, NodeId, NodeName};
use protocol::join::{
    ADDRESSES_FILE, Answer, BadToken, CA_FILE, CERTIFICATE_FILE, Coordinators, JOIN_PATH, Join,
    JoinBody, LOBBY_INTERVAL_SECS, RENEW_PATH, ROOT_FILE, RefusalCode, Refused, Renew, RenewBody,
    SealKey, TIMES_FILE, TLS_DIR, TlsKey, Token,
};
use protocol::keys::SecretKey;
use protocol::recovery::Again;

use crate::bundle::Bundle;
use crate::durable::{self, Readers};
use crate::identity::{self, IdentityError};
use crate::recovery;
use crate::tls::{Joined, JoinedError, PLACEMENT_FILE, Placement};
use crate::trust::TrustError;
use answer::{BadAnswer, Checked};
use https::{Client, HttpsError};

/// What somebody asks for with a token.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The node's name among people.
    pub name: NodeName,
    /// Its environment, where `agent.toml` says one; otherwise the token's.
    pub environment: Option<EnvironmentName>,
    /// Labels that it gives itself.
    pub labels: BTreeMap<String, String>,
    /// What to do about a joining that is there.
    pub existing: Existing,
}

/// What to do about a joining that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Say it, and leave it.
    Keep,
    /// Ask for another certificate of the same fleet.
    Replace,
}

/// How patient a joining is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two questions from the lobby.
    pub lobby: Duration,
    /// For the coordinator's handshake, and for its answer.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { lobby: Duration::from_secs(LOBBY_INTERVAL_SECS), patience: https::PATIENCE }
    }
}

/// Why the node has not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The text is no token.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// It has joined another fleet.
    #[error(
        "this board is a node of fleet {0} already; to take it out of there, `pith node revoke` it, stop pith-agent and \
         remove {path}", path = .1.display()
    )]
    OtherFleet(FleetId, PathBuf),
    /// The identity key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What is there of an earlier joining cannot be used.
    #[error(transparent)]
    Joined(#[from] JoinedError),
    /// The trust root that is there cannot be used.
    #[error(transparent)]
    Root(#[from] TrustError),
    /// A key file holds something else.
    #[error("{0} is damaged: remove it and join again")]
    KeyDamaged(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The coordinator cannot be asked.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// It said no.
    #[error("the coordinator refuses ({code}): {message}", code = .0.code, message = printable(&.0.message))]
    Refused(Refused),
    /// It said yes with something that cannot be used.
    #[error("the coordinator's answer cannot be used: {0}")]
    Answer(#[from] BadAnswer),
}

/// What stands on the board now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has joined.
    Joined(Placement),
    /// It had before.
    Before,
}

/// The three public keys of a board, and the secret one that signs for them.
#[derive(Debug)]
struct Board {
    key: SecretKey,
    node: NodeId,
    tls: TlsKey,
    seal: SealKey,
}

impl Board {
    fn of(state_dir: &Path) -> Result<Self, JoinError> {
        durable::folder(state_dir)
            .map_err(|source| JoinError::Io { path: state_dir.to_owned(), source })?;
        let key = identity::load_or_create(state_dir)?;
        let (tls, seal) = (keys::tls(state_dir)?, keys::seal(state_dir)?);
        Ok(Self { node: key.public().node_id(), key, tls, seal })
    }
}

/// Joins, and waits in the lobby as long as it takes. `say` gets lines for a person. Interrupted at any point it can be
/// run again with the same token.
///
/// # Errors
/// Why it could not; then the board is as it was, apart from keys.
pub async fn join(
    state_dir: &Path,
    token: &str,
    wish: &Wish,
    pace: Pace,
    floor: &VerifyAt,
    mut say: impl FnMut(&str),
) -> Result<Outcome, JoinError> {
    let token: Token = token.parse()?;
    if let Some(joined) = Joined::load(state_dir)? {
        let root = crate::trust::load(&state_dir.join(ROOT_FILE))?;
        if root.fleet != token.fleet {
            return Err(JoinError::OtherFleet(root.fleet, state_dir.to_owned()));
        }
        if wish.existing == Existing::Keep {
            say(&already(&joined, &token.fleet));
            return Ok(Outcome::Before);
        }
    }
    let board = Board::of(state_dir)?;
    let client = Client::with_token(&token, floor).patient(pace.patience);
    let body = join_body(&token, wish, &board);
    let mut answer = client.post(&token.addresses, JOIN_PATH, &body).await?;
    let mut waits = false;
    let approved = loop {
        match answer {
            Answer::Approved(approved) => break approved,
            Answer::Refused(refused) if !(waits && refused.code.may_pass()) => {
                return Err(JoinError::Refused(refused));
            }
            Answer::Pending | Answer::Refused(_) => (),
        }
        if !waits {
            say(&in_the_lobby(wish, &board.node));
            waits = true;
        }
        answer = ask_again(&client, &token, &board, pace, &mut say).await?;
    };
    let ca = client.ca();
    let checked = answer::check(*approved, ca.as_deref(), &token.fleet, &board.node, None)?;
    let key_path = state_dir.join(protocol::join::TLS_KEY_FILE);
    checked.fits(&key_path)?;
    let placement = Placement {
        name: wish.name.clone(),
        environment: checked.approved.environment.clone(),
        labels: checked.approved.labels.clone(),
        broker: checked.approved.broker.clone(),
    };
    keep(state_dir, &checked, Some(&token.addresses), Some(&placement))?;
    say(&format!(
        "joined fleet {} as {} ({}), environment {}; start the agent: systemctl enable --now pith-proxy pith-agent",
        token.fleet, placement.name, board.node, placement.environment
    ));
    Ok(Outcome::Joined(placement))
}

/// Until the coordinator answers; one that is away for a while does not end the waiting.
async fn ask_again(
    client: &Client,
    token: &Token,
    board: &Board,
    pace: Pace,
    say: &mut impl FnMut(&str),
) -> Result<Answer, JoinError> {
    let mut away = false;
    loop {
        tokio::time::sleep(pace.lobby).await;
        let body = renew_body(&token.fleet, &board.key, &board.tls, Told::default());
        match client.post(&token.addresses, RENEW_PATH, &body).await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.may_pass() => {
                if !away {
                    say(&format!("{error}; asking on"));
                    away = true;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn join_body(token: &Token, wish: &Wish, board: &Board) -> Vec<u8> {
    let request = Join {
        format: FORMAT,
        fleet: token.fleet.clone(),
        node: board.node.clone(),
        public_key: board.key.public().to_base64(),
        tls_key: board.tls.clone(),
        seal_key: board.seal.clone(),
        name: wish.name.clone(),
        environment: wish.environment.clone(),
        labels: wish.labels.clone(),
        token: token.id.clone(),
    };
    let request = Envelope::sign(&request, &[&board.key]);
    let body = JoinBody { secret: token.secret.clone(), request };
    serde_json::to_vec(&body).expect("plain data serialises")
}

/// What a wish for a certificate tells beside its keys.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The newest trust root that the node holds; 0: none.
    pub(crate) root_version: u64,
    /// Who the node is, to a coordinator that has lost everything.
    pub(crate) again: Option<Again>,
    /// The manifest that it holds, beside that.
    pub(crate) manifest: Option<Envelope>,
}

/// The signed wish for a certificate.
pub(crate) fn renew_body(
    fleet: &FleetId,
    key: &SecretKey,
    tls_key: &TlsKey,
    told: Told,
) -> Vec<u8> {
    let Told { root_version, again, manifest } = told;
    let request = Renew {
        format: FORMAT,
        fleet: fleet.clone(),
        node: key.public().node_id(),
        public_key: key.public().to_base64(),
        tls_key: tls_key.clone(),
        root_version,
        again,
    };
    let body = RenewBody { request: Envelope::sign(&request, &[key]), manifest };
    serde_json::to_vec(&body).expect("plain data serialises")
}

/// Writes what was answered, and what is given beside it. The certificate comes last: with it the node has joined, or is renewed. A CA
/// that is believed already stays as it stands, with the one before. Only joining, which gives addresses, says what the first trust root is:
/// later ones come to the ledger, which keeps those that vouch for what it holds.
///
/// # Errors
/// The file that cannot be written.
pub(crate) fn keep(
    state_dir: &Path,
    checked: &Checked,
    addresses: Option<&[String]>,
    placement: Option<&Placement>,
) -> Result<(), JoinError> {
    let write = |name: &str, bytes: &[u8]| {
        let path = state_dir.join(name);
        durable::write(&path, bytes, Readers::All).map_err(|source| JoinError::Io { path, source })
    };
    let folder = state_dir.join(TLS_DIR);
    durable::folder(&folder).map_err(|source| JoinError::Io { path: folder, source })?;
    let known = std::fs::read(state_dir.join(CA_FILE)).ok();
    let known = known.and_then(|text| Bundle::read(&text).ok());
    let is_other_ca = known.is_none_or(|known| known.first() != &checked.ca);
    if is_other_ca {
        write(CA_FILE, checked.approved.ca.as_bytes())?;
    }
    if let Some(addresses) = addresses {
        if let Some(root) = checked.approved.roots.last() {
            write(ROOT_FILE, &root.to_bytes())?;
        }
        write(
            ADDRESSES_FILE,
            &json(&Coordinators { addresses: addresses.to_vec(), edition: None }),
        )?;
    }
    if let Some(placement) = placement {
        write(PLACEMENT_FILE, &json(placement))?;
    }
    write(TIMES_FILE, &json(&checked.approved.times))?;
    write(CERTIFICATE_FILE, checked.approved.certificate.as_bytes())?;
    if is_other_ca {
        let gone = recovery::show_own(state_dir);
        gone.map_err(|source| JoinError::Io { path: state_dir.join(TLS_DIR), source })?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data serialises")
}

fn in_the_lobby(wish: &Wish, node: &NodeId) -> String {
    format!(
        "in the lobby as {name} ({node}); on the coordinator: pith node approve {name}\n\
         waiting; Ctrl-C ends it, the same command goes on",
        name = wish.name
    )
}

fn already(joined: &Joined, fleet: &FleetId) -> String {
    let name = joined.placement.as_ref().map_or("this board", |placement| placement.name.as_str());
    format!(
        "{name} is a node of fleet {fleet} already (coordinator {}); `--again` asks for another certificate",
        joined.coordinators.addresses.join(", ")
    )
}

/// What comes from outside reaches a terminal without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

impl JoinError {
    /// As everywhere: 1 failed, 2 usage, 5 refused, 6 coordinator unreachable.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Token(_) => 2,
            Self::Refused(refused) if refused.code == RefusalCode::Busy => 6,
            Self::Refused(_) | Self::OtherFleet(..) => 5,
            Self::Https(HttpsError::Distrust { .. }) => 5,
            Self::Https(_) => 6,
            Self::Identity(_)
            | Self::Joined(_)
            | Self::Root(_)
            | Self::KeyDamaged(_)
            | Self::Io { .. }
            | Self::Answer(_) => 1,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
