//! Brings a program to the board: from the coordinator, over TLS with the node's certificate, into its place, checked and tried once.
//!
//! Nothing runs of it here but its own `self-test`. What is half there is kept and gone on with.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::agent_release::{AgentVersion, Program};
use protocol::archive::Location;
use protocol::id::Digest;

use super::record::{self, Held, Slot};
use super::self_test;
use crate::download::{self, Dialling, DownloadError, Kept};
use crate::durable;

/// Between two tries, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_LONGEST: Duration = Duration::from_secs(600);

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
    /// How the coordinator is reached; programs lie in its `state_dir`.
    pub dialling: Dialling,
    /// The `agent.toml` that a new program must be able to read.
    pub config: PathBuf,
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
            // Boards that lost their coordinator together do not come back together.
            let at_most = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tokio::time::sleep(pause / 2 + Duration::from_millis(download::at_random(at_most / 2)))
                .await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    async fn once(&self, order: &Order) -> Result<Held, Problem> {
        let state_dir = &self.dialling.state_dir;
        let folder = record::folder(state_dir);
        durable::folder(&folder)?;
        let place = record::program(state_dir, order.slot);
        let there = {
            let place = place.clone();
            tokio::task::spawn_blocking(move || digest_of(&place).ok()).await.ok().flatten()
        };
        if there.as_ref() != Some(&order.program.digest) {
            let came = self.download(&order.program, &folder).await?;
            settle(came.path(), &place).await?;
            // What the server called it goes too.
            durable::remove(&came.name_file())?;
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

    async fn download(&self, wanted: &Program, folder: &Path) -> Result<Kept, Problem> {
        let mut kept = Kept::open(folder, &wanted.digest, wanted.size)?;
        kept.clear_others()?;
        let from = Location::Coordinator(wanted.digest.clone());
        match download::fetch(&self.dialling, &from, &mut kept, None, |_| {}).await {
            Ok(()) if kept.check().await? => Ok(kept),
            // Whoever sent it, it is nothing to go on with.
            Ok(()) => Err(Problem::Passing(
                "what came is not what the release names; it is asked for again".to_owned(),
            )),
            Err(DownloadError::NotFound(why)) => {
                Err(Problem::Passing(format!("{why}; `pith agent release` uploads it")))
            }
            Err(
                error @ (DownloadError::Unreachable(_)
                | DownloadError::Denied(_)
                | DownloadError::Another(_)
                | DownloadError::Wrong(_)
                | DownloadError::NoSpace(_)
                | DownloadError::Disk(_)),
            ) => Err(Problem::Passing(error.to_string())),
        }
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
    download::sha256_of(&mut File::open(path)?)
}
