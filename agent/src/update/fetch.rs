//! Brings a program to the board: from the coordinator, over TLS with the node's certificate, into its place, checked and tried once.
//!
//! Nothing runs of it here but its own `self-test`. What is half there is kept and gone on with.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::BodyExt as _;
use mqtt::VerifyAt;
use protocol::agent_release::{AgentVersion, MAX_PROGRAM_BYTES, PROGRAM_PATH, Program};
use protocol::id::{Digest, FleetId, NodeId};
use sha2::Digest as _;
use tokio::time::timeout;

use super::record::{self, Held, Slot};
use super::self_test;
use crate::durable;
use crate::tls::Joined;

/// Without a byte for this long, it is begun again.
const STALLED: Duration = Duration::from_secs(30);
/// Between two tries, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_LONGEST: Duration = Duration::from_secs(600);
const HASH_BUFFER_BYTES: usize = 64 * 1024;

/// What is to be brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Of the release.
    pub counter: u64,
    /// Of the release.
    pub version: AgentVersion,
    /// Which.
    pub program: Program,
    /// To where.
    pub slot: Slot,
    /// Of the packaged program.
    pub package: AgentVersion,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// It is in its place and has tested itself.
    Ready(Held),
    /// It is what runs.
    Same,
}

/// Where programs come from and go to.
#[derive(Debug, Clone)]
pub struct Source {
    /// The node's durable state.
    pub state_dir: PathBuf,
    /// The `agent.toml` that a new program must be able to read.
    pub config: PathBuf,
    /// The fleet.
    pub fleet: FleetId,
    /// Who asks.
    pub node: NodeId,
    /// The newest time that somebody vouched for.
    pub floor: VerifyAt,
    /// Where the board's owner says that the coordinator is.
    pub own_address: Option<String>,
}

/// Why it does not come.
#[derive(Debug, thiserror::Error)]
enum Problem {
    /// Asking again may help.
    #[error("{0}")]
    Passing(String),
    /// It will not.
    #[error("{0}")]
    Final(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Passing(format!("it cannot be kept: {error}"))
    }
}

impl Source {
    /// Until it is there; `said` is told why it is not yet.
    ///
    /// # Errors
    /// Why it can never be.
    pub async fn fetch(
        &self,
        order: &Order,
        said: impl AsyncFn(String),
    ) -> Result<Fetched, String> {
        let running = tokio::task::spawn_blocking(own_digest).await;
        if running.ok().flatten().as_ref() == Some(&order.program.digest) {
            return Ok(Fetched::Same);
        }
        let mut pause = PAUSE_FIRST;
        loop {
            match self.once(order).await {
                Ok(held) => return Ok(Fetched::Ready(held)),
                Err(Problem::Final(why)) => return Err(why),
                Err(Problem::Passing(why)) => said(why).await,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    async fn once(&self, order: &Order) -> Result<Held, Problem> {
        durable::folder(&record::folder(&self.state_dir))?;
        let place = record::program(&self.state_dir, order.slot);
        if digest_of(&place).ok().as_ref() != Some(&order.program.digest) {
            let part = place.with_extension("part");
            self.download(order, &part).await?;
            settle(&part, &place).await?;
        }
        let tested = self_test::ask(&place, &self.config).await;
        tested.and_then(|said| said.fits(&order.version)).map_err(Problem::Final)?;
        Ok(Held {
            slot: order.slot,
            digest: order.program.digest.clone(),
            size: order.program.size,
            version: order.version.clone(),
            counter: order.counter,
            package: order.package.clone(),
        })
    }

    async fn download(&self, order: &Order, part: &Path) -> Result<(), Problem> {
        let mut download = Download::resume(part, &order.program, &self.node)?;
        if download.has < order.program.size {
            let passing = |error: &dyn std::fmt::Display| Problem::Passing(error.to_string());
            let joined = Joined::load(&self.state_dir).map_err(|error| passing(&error))?;
            let joined = joined.ok_or_else(|| {
                Problem::Final(
                    "this board has not joined: it has no certificate to ask with".to_owned(),
                )
            })?;
            let client = joined.https(&self.fleet, &self.floor).map_err(|error| passing(&error))?;
            let own = self.own_address.iter().filter(|_| joined.is_at_coordinator());
            let addresses: Vec<&String> = own.chain(&joined.coordinators.addresses).collect();
            let mut last = Problem::Passing("no address of the coordinator is known".to_owned());
            for address in addresses {
                match download.from(&client, address).await {
                    Ok(()) => return download.finish(part),
                    Err(problem @ Problem::Final(_)) => return Err(problem),
                    Err(problem @ Problem::Passing(_)) => last = problem,
                }
            }
            return Err(last);
        }
        download.finish(part)
    }
}

/// A program on its way.
struct Download<'a> {
    wanted: &'a Program,
    node: &'a NodeId,
    file: File,
    hash: sha2::Sha256,
    has: u64,
}

impl<'a> Download<'a> {
    /// Goes on with what is there.
    fn resume(part: &Path, wanted: &'a Program, node: &'a NodeId) -> io::Result<Self> {
        if wanted.size > MAX_PROGRAM_BYTES {
            return Err(io::Error::other("it is larger than an agent may be"));
        }
        let open =
            || OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(part);
        let mut file = open()?;
        if file.metadata()?.len() > wanted.size {
            file.set_len(0)?;
        }
        let (hash, has) = hash(&mut file)?;
        Ok(Self { wanted, node, file, hash, has })
    }

    async fn from(&mut self, client: &crate::join::https::Client, at: &str) -> Result<(), Problem> {
        let path = format!("{PROGRAM_PATH}/{}/{}", self.node, self.wanted.digest.hex());
        let opened = client.open(at, &path, self.has).await;
        let (status, mut body, _connection) =
            opened.map_err(|error| Problem::Passing(error.to_string()))?;
        match status {
            206 => {}
            // All of it again.
            200 => self.begin_anew()?,
            404 => {
                let why =
                    format!("{at} does not have the program: `pith agent release` uploads it");
                return Err(Problem::Passing(why));
            }
            status => return Err(Problem::Passing(format!("{at} answered {status}"))),
        }
        loop {
            let next = timeout(STALLED, body.frame()).await;
            let frame = next.map_err(|_| Problem::Passing(format!("{at} sends no more")))?;
            let Some(frame) = frame else { break };
            let frame =
                frame.map_err(|error| Problem::Passing(format!("{at} broke off: {error}")))?;
            let Some(bytes) = frame.data_ref() else { continue };
            if self.has + bytes.len() as u64 > self.wanted.size {
                return Err(Problem::Final(format!("{at} sends more than the release says")));
            }
            self.file.write_all(bytes)?;
            self.hash.update(bytes);
            self.has += bytes.len() as u64;
        }
        if self.has < self.wanted.size {
            return Err(Problem::Passing(format!("{at} broke off")));
        }
        Ok(())
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.hash, self.has) = (sha2::Sha256::new(), 0);
        Ok(())
    }

    fn finish(self, part: &Path) -> Result<(), Problem> {
        if digest(self.hash) == self.wanted.digest {
            return Ok(());
        }
        // Whoever sent it, it is nothing to go on with.
        std::fs::remove_file(part)?;
        Err(Problem::Passing(
            "what came is not what the release names; it is asked for again".to_owned(),
        ))
    }
}

/// From what came to a program in its place, durable.
async fn settle(part: &Path, place: &Path) -> Result<(), Problem> {
    let (part, place) = (part.to_owned(), place.to_owned());
    let settled = tokio::task::spawn_blocking(move || {
        let file = File::open(&part)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o500))?;
        file.sync_all()?;
        std::fs::rename(&part, &place)?;
        match place.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    });
    Ok(settled.await.map_err(|error| Problem::Passing(error.to_string()))??)
}

fn own_digest() -> Option<Digest> {
    digest_of(Path::new("/proc/self/exe")).ok()
}

/// Of a file's bytes.
///
/// # Errors
/// The system's.
pub fn digest_of(path: &Path) -> io::Result<Digest> {
    Ok(digest(hash(&mut File::open(path)?)?.0))
}

fn hash(file: &mut File) -> io::Result<(sha2::Sha256, u64)> {
    let (mut hash, mut has, mut buffer) = (sha2::Sha256::new(), 0, vec![0; HASH_BUFFER_BYTES]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hash, has));
        }
        hash.update(&buffer[..read]);
        has += read as u64;
    }
}

fn digest(hash: sha2::Sha256) -> Digest {
    Digest::of_sha256(&hash.finalize().into())
}
