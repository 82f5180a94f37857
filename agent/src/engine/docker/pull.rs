//! Pulling an image by its digest, and making sure that what came is what was asked for.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters as query;
use futures_util::StreamExt as _;
use protocol::release::{Image, Pin};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Docker, classify, observe};
use crate::archives::room;
use crate::engine::Engine as _;
use crate::engine::error::{EngineError, PullError};
use crate::engine::pull::PullUpdate;
use protocol::registries::RegistryLogin;

/// Without a word from Docker for this long a pull has failed; Docker speaks while it downloads and while it unpacks.
const IDLE_LIMIT_MS: u64 = 120_000;
/// Progress is told at most this often.
const PROGRESS_INTERVAL_MS: u64 = 200;

pub(super) async fn pull(
    docker: &Docker,
    image: &Image,
    credentials: Option<RegistryLogin>,
    updates: &mpsc::Sender<PullUpdate>,
) -> PullUpdate {
    let missing = || {
        let message = format!("{} was pulled and is not there", image.pinned_reference());
        PullUpdate::Failed { error: PullError::Other, message }
    };
    let pulling = async {
        let Pin::Digest(digest) = &image.pin else {
            let reference = &image.reference;
            let message =
                format!("{reference} is a local image of another Docker; no registry has it");
            return Err(PullUpdate::Failed { error: PullError::NotFound, message });
        };
        download(docker, image, digest.as_str(), credentials, updates).await
    };
    bring(docker, image, pulling, missing).await
}

/// What is there is left; what is brought is looked at, and on the disk when this ends. `missing`: it is not there all the same.
pub(super) async fn bring(
    docker: &Docker,
    image: &Image,
    bringing: impl Future<Output = Result<(), PullUpdate>>,
    missing: impl FnOnce() -> PullUpdate,
) -> PullUpdate {
    let done = async {
        if present(docker, image).await? {
            return Ok(());
        }
        bringing.await?;
        if !present(docker, image).await? {
            return Err(missing());
        }
        flush(docker).await;
        Ok(())
    };
    done.await.map_or_else(|failed| failed, |()| PullUpdate::Done)
}

/// Whether the image is there for this processor.
async fn present(docker: &Docker, image: &Image) -> Result<bool, PullUpdate> {
    let host = docker.host().await.map_err(|error| failed(&error))?;
    match observe::refuse_wrong_platform(docker, host, image).await {
        Ok(()) => Ok(true),
        Err(EngineError::NotFound(_)) => Ok(false),
        Err(error) => Err(failed(&error)),
    }
}

pub(super) fn failed(error: &EngineError) -> PullUpdate {
    let kind = match error {
        EngineError::WrongPlatform(_) => PullError::WrongPlatform,
        EngineError::NoSpace(_) => PullError::NoSpace,
        EngineError::Unavailable(_) => PullError::EngineUnavailable,
        EngineError::NotFound(_)
        | EngineError::Conflict(_)
        | EngineError::AddressTaken(_)
        | EngineError::PortTaken(_)
        | EngineError::BadRequest(_)
        | EngineError::Other(_) => PullError::Other,
    };
    PullUpdate::Failed { error: kind, message: error.to_string() }
}

async fn download(
    docker: &Docker,
    image: &Image,
    digest: &str,
    credentials: Option<RegistryLogin>,
    updates: &mpsc::Sender<PullUpdate>,
) -> Result<(), PullUpdate> {
    let client = docker.client().map_err(|error| failed(&error))?;
    let options =
        query::CreateImageOptionsBuilder::new().from_image(image.repository()).tag(digest).build();
    let credentials = credentials.map(|credentials| DockerCredentials {
        username: Some(credentials.username),
        password: Some(credentials.password),
        serveraddress: Some(credentials.registry),
        ..Default::default()
    });
    let root = docker.info().await.ok().map(|info| PathBuf::from(info.root_dir));
    let look = |missing| refuse_what_does_not_fit(image, root.as_deref(), missing);
    look(0)?;
    let mut words = client.create_image(Some(options), None, credentials);
    let mut progress = Progress::default();
    let (mut told, mut largest) = (None::<Instant>, 0);
    loop {
        let next = tokio::time::timeout(Duration::from_millis(IDLE_LIMIT_MS), words.next()).await;
        let word = match next {
            Ok(Some(Ok(word))) => word,
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => {
                let (error, message) = classify::pull_error(&image.reference, &error);
                return Err(PullUpdate::Failed { error, message });
            }
            Err(_) => {
                let seconds = IDLE_LIMIT_MS / 1000;
                let message = format!("{}: nothing moved for {seconds} s", image.reference);
                return Err(PullUpdate::Failed { error: PullError::Unreachable, message });
            }
        };
        progress.hear(&word);
        let (bytes, total) = progress.sum();
        if total > largest {
            largest = total;
            look(total - bytes.min(total))?;
        }
        let is_due = told.is_none_or(|at| at.elapsed().as_millis() >= PROGRESS_INTERVAL_MS.into());
        if is_due && progress.moved {
            told = Some(Instant::now());
            progress.moved = false;
            // Nobody listens: this task is being ended.
            let _ = updates.send(PullUpdate::Progress { bytes, total }).await;
        }
    }
}

/// Before the pull, and each time a layer's size is learned; nothing old was touched yet.
fn refuse_what_does_not_fit(
    image: &Image,
    root: Option<&Path>,
    missing: u64,
) -> Result<(), PullUpdate> {
    let Some(root) = root else { return Ok(()) };
    room::for_layers(root, missing).map_err(|problem| PullUpdate::Failed {
        error: PullError::NoSpace,
        message: format!("no room for {}: {problem}", image.reference),
    })
}

/// Bytes per layer, as Docker tells them.
#[derive(Debug, Default)]
struct Progress {
    layers: BTreeMap<String, (u64, u64)>,
    moved: bool,
}

impl Progress {
    fn hear(&mut self, word: &CreateImageInfo) {
        let (Some(id), Some(status)) = (&word.id, &word.status) else { return };
        let detail = word.progress_detail.as_ref();
        let amount = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        let current = detail.and_then(|d| amount(d.current));
        match status.as_str() {
            "Downloading" => {
                let Some(current) = current else { return };
                let total = detail.and_then(|d| amount(d.total)).unwrap_or(current);
                self.moved |=
                    self.layers.insert(id.clone(), (current, total)) != Some((current, total));
            }
            "Download complete" => {
                if let Some((current, total)) = self.layers.get_mut(id) {
                    *current = *total;
                }
                self.moved = true;
            }
            "Extracting" | "Pull complete" => self.moved = true,
            _ => {}
        }
    }

    fn sum(&self) -> (u64, u64) {
        self.layers.values().fold((0, 0), |(a, b), (bytes, total)| (a + bytes, b + total))
    }
}

/// An image whose layers are in the page cache alone is torn by a power cut (moby#49784): everything Docker wrote goes to
/// the disk before the image counts. Where its directory cannot be opened from here, Docker's own care is what there is.
async fn flush(docker: &Docker) {
    let Ok(info) = docker.info().await else { return };
    let sync = move || match std::fs::File::open(&info.root_dir) {
        Ok(directory) => nix::unistd::syncfs(directory.as_fd()).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Ok(Err(error)) = tokio::task::spawn_blocking(sync).await {
        tracing::debug!(%error, "Docker's directory cannot be flushed from here");
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn word(id: &str, status: &str, current: i64, total: i64) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(total) }),
            ..Default::default()
        }
    }

    #[test]
    fn the_bytes_of_all_layers_are_summed_and_a_repeated_word_moves_nothing() {
        let mut progress = Progress::default();
        progress.hear(&word("a", "Downloading", 10, 100));
        progress.hear(&word("b", "Downloading", 5, 50));
        assert_eq!(progress.sum(), (15, 150));
        progress.moved = false;
        progress.hear(&word("a", "Downloading", 10, 100));
        assert!(!progress.moved);
        progress.hear(&word("a", "Download complete", 0, 0));
        assert_eq!(progress.sum(), (105, 150));
        assert!(progress.moved);
    }
}
