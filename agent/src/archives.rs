//! Images in archives: downloaded whole, checked, and only then given to the engine.
//!
//! ```text
//! image here? -> done | room? -> download, resumed (state_dir/archives/SHA256.part) -> sha256 -> engine.load -> file removed
//! ```
//! Nothing old is touched by any of it. Must not decide when it is tried again: it goes on by itself while bytes come, and else ends
//! as a pull does, which the loop begins again.

pub(crate) mod room;

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::archive::{Archive, Location};
use protocol::release::Image;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::download::{Dialling, DownloadError, Kept, at_random, fetch};
use crate::engine::pull::Pull;
use crate::engine::{Engine, PullError, PullUpdate};

/// The folder in `state_dir`.
const FOLDER: &str = "archives";
/// A link that brought something and broke is tried again within this, at random.
const AGAIN_WITHIN_MS: u64 = 1_000;
/// Progress is told at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Where archives are gathered, and how they are reached.
#[derive(Debug, Clone)]
pub struct Archives {
    folder: PathBuf,
    dialling: Dialling,
    /// Bytes in a second; none: as fast as they come.
    rate: Option<u64>,
}

impl Archives {
    /// Gathered in the `state_dir` of what they are reached with.
    #[must_use]
    pub fn new(dialling: Dialling, rate: Option<u64>) -> Self {
        Self { folder: dialling.state_dir.join(FOLDER), dialling, rate }
    }

    /// Begins to get an image that is in an archive. Ends like [`Engine::pull`]; dropping it cancels and keeps what has come.
    pub fn pull<E: Engine>(&self, engine: &E, image: &Image, archive: &Archive) -> Pull {
        let work = Work {
            archives: self.clone(),
            engine: engine.clone(),
            image: image.clone(),
            archive: archive.clone(),
        };
        Pull::spawn(move |updates| async move { work.run(&updates).await })
    }
}

struct Work<E> {
    archives: Archives,
    engine: E,
    image: Image,
    archive: Archive,
}

impl<E: Engine> Work<E> {
    async fn run(&self, updates: &mpsc::Sender<PullUpdate>) -> PullUpdate {
        match self.engine.image(&self.image).await {
            // The engine says whether it is for this processor.
            Ok(Some(_)) => return self.engine.load(&self.image, Path::new("")).finish().await,
            Ok(None) => {}
            Err(error) => return failed(PullError::EngineUnavailable, error.to_string()),
        }
        let kept = match self.gather(updates).await {
            Ok(kept) => kept,
            Err(error) => return of_download(&error),
        };
        self.load(kept, updates).await
    }

    /// The whole file, checked.
    async fn gather(&self, updates: &mpsc::Sender<PullUpdate>) -> Result<Kept, DownloadError> {
        let disk = |error| self.disk(&error);
        let location: Location =
            self.image.reference.parse().map_err(|error: protocol::archive::InvalidLocation| {
                DownloadError::NotFound(error.to_string())
            })?;
        let Archive { sha256, bytes, .. } = &self.archive;
        let mut kept = Kept::open(&self.archives.folder, sha256, *bytes).map_err(disk)?;
        loop {
            self.make_room(&kept).await?;
            let is_in_one = kept.is_empty();
            let before = kept.len();
            match self.fetch(&location, &mut kept, updates).await {
                Ok(()) if kept.check().await.map_err(disk)? => return Ok(kept),
                Ok(()) if is_in_one => {
                    return Err(DownloadError::Wrong(format!(
                        "{location} has another sha256 than the release names: what came was thrown away, and \
                         Docker has not seen it"
                    )));
                }
                // What was kept may have been another file's, or torn by a power cut.
                Ok(()) => {}
                Err(error) if error.may_pass() && kept.len() > before => {
                    tracing::info!(%error, "an archive's download goes on");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(at_random(AGAIN_WITHIN_MS))).await;
        }
    }

    fn disk(&self, error: &std::io::Error) -> DownloadError {
        DownloadError::Disk(format!("{}: {error}", self.archives.folder.display()))
    }

    async fn fetch(
        &self,
        location: &Location,
        kept: &mut Kept,
        updates: &mpsc::Sender<PullUpdate>,
    ) -> Result<(), DownloadError> {
        let total = self.archive.bytes;
        let mut told: Option<Instant> = None;
        let tell = |bytes: u64| {
            if told.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL) {
                told = Some(Instant::now());
                // Where the loop is behind, the next one says more.
                let _ = updates.try_send(PullUpdate::Progress { bytes, total });
            }
        };
        fetch(&self.archives.dialling, location, kept, self.archives.rate, tell).await
    }

    /// What other downloads have left goes before this one fails.
    async fn make_room(&self, kept: &Kept) -> Result<(), DownloadError> {
        let docker = self.engine.info().await.ok().map(|info| PathBuf::from(info.root_dir));
        let missing = kept.bytes() - kept.len();
        let look = || room::look(&self.archives.folder, missing, docker.as_deref(), kept.bytes());
        let Err(first) = look() else { return Ok(()) };
        if kept.clear_others().map_err(|e| self.disk(&e))? == 0 {
            return Err(DownloadError::NoSpace(first));
        }
        look().map_err(DownloadError::NoSpace)
    }

    async fn load(&self, mut kept: Kept, updates: &mpsc::Sender<PullUpdate>) -> PullUpdate {
        tracing::info!(
            image = self.image.reference,
            "archive whole, its sha256 is right: Docker loads it"
        );
        let mut loading = self.engine.load(&self.image, kept.path());
        let mut last = None;
        while let Some(update) = loading.next().await {
            if matches!(update, PullUpdate::Progress { .. }) {
                let _ = updates.try_send(update);
            } else {
                last = Some(update);
            }
        }
        let last = last.unwrap_or_else(|| {
            failed(PullError::Other, "the engine ended without saying how".to_owned())
        });
        let is_used_up = match &last {
            PullUpdate::Done => true,
            PullUpdate::Failed { error, .. } => error.is_permanent(),
            PullUpdate::Progress { .. } => false,
        };
        if is_used_up && let Err(error) = kept.remove() {
            tracing::warn!(%error, path = %kept.path().display(), "an archive is left");
        }
        last
    }
}

fn of_download(error: &DownloadError) -> PullUpdate {
    let kind = match error {
        DownloadError::Unreachable(_) => PullError::Unreachable,
        DownloadError::NotFound(_) => PullError::NotFound,
        DownloadError::Denied(_) => PullError::Denied,
        DownloadError::Another(_) => PullError::Another,
        DownloadError::Wrong(_) => PullError::Wrong,
        DownloadError::NoSpace(_) => PullError::NoSpace,
        DownloadError::Disk(_) => PullError::Other,
    };
    failed(kind, error.to_string())
}

fn failed(error: PullError, message: String) -> PullUpdate {
    PullUpdate::Failed { error, message }
}
