//! Giving an archive to Docker, and making sure that the image that was named is what came of it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bollard::query_parameters as query;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use protocol::release::Image;
use tokio::sync::mpsc;

use super::pull::{bring, failed};
use super::{Docker, classify};
use crate::engine::error::PullError;
use crate::engine::pull::PullUpdate;

/// Read from the card at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Docker is looked at this often; bytes that it took are progress.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Without a byte taken and without a word for this long Docker has stopped: it unpacks the whole before it says something.
const SILENT_LOOKS: u32 = 120;
/// The client's own limit ends with the answer's head, which comes after the archive has been taken.
const HEAD_WITHIN: Duration = Duration::from_secs(6 * 3600);

pub(super) async fn load(
    docker: &Docker,
    image: &Image,
    file: &Path,
    updates: &mpsc::Sender<PullUpdate>,
) -> PullUpdate {
    let missing = || {
        let message = format!(
            "the archive {} was loaded and holds another image than the release names ({})",
            image.reference,
            image.pinned_reference()
        );
        PullUpdate::Failed { error: PullError::NotFound, message }
    };
    bring(docker, image, give(docker, image, file, updates), missing).await
}

async fn give(
    docker: &Docker,
    image: &Image,
    file: &Path,
    updates: &mpsc::Sender<PullUpdate>,
) -> Result<(), PullUpdate> {
    let client = docker.client().map_err(|error| failed(&error))?;
    let unreadable = |error: io::Error| PullUpdate::Failed {
        error: PullError::Other,
        message: format!("{}: {error}", file.display()),
    };
    let total = std::fs::metadata(file).map_err(unreadable)?.len();
    let taken = Arc::new(AtomicU64::new(0));
    let body = pieces(file.to_owned(), Arc::clone(&taken));
    let client = client.clone().with_timeout(HEAD_WITHIN);
    let options = query::ImportImageOptionsBuilder::new().quiet(false).build();
    let mut words = std::pin::pin!(client.import_image_stream(options, body, None));
    let (mut before, mut silent) = (0, 0);
    loop {
        let word = match tokio::time::timeout(LOOK_EVERY, words.next()).await {
            Ok(Some(Ok(_))) => true,
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => {
                let (error, message) = classify::load_error(&image.reference, &error);
                return Err(PullUpdate::Failed { error, message });
            }
            Err(_) => false,
        };
        let now = taken.load(Relaxed);
        silent = if word || now != before { 0 } else { silent + 1 };
        before = now;
        if silent >= SILENT_LOOKS {
            let seconds = LOOK_EVERY.as_secs() * u64::from(SILENT_LOOKS);
            let message =
                format!("Docker has taken nothing of {} for {seconds} s", image.reference);
            return Err(PullUpdate::Failed { error: PullError::EngineUnavailable, message });
        }
        if silent == 0 {
            // Nobody listens: this task is being ended.
            let _ = updates.try_send(PullUpdate::Progress { bytes: total, total });
        }
    }
}

/// The file from its start, counted as it is taken.
fn pieces(file: PathBuf, taken: Arc<AtomicU64>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    enum At {
        Start(PathBuf),
        Open(File),
        End,
    }
    stream::unfold((At::Start(file), taken), |(at, taken)| async move {
        // A card may take its time to read.
        let reading = tokio::task::spawn_blocking(move || {
            let mut file = match at {
                At::Start(path) => File::open(path)?,
                At::Open(file) => file,
                At::End => return Ok(None),
            };
            let mut piece = vec![0; PIECE_BYTES];
            let count = file.read(&mut piece)?;
            piece.truncate(count);
            Ok((count > 0).then_some((Bytes::from(piece), file)))
        });
        match reading.await.map_err(io::Error::other).flatten() {
            Ok(Some((piece, file))) => {
                taken.fetch_add(piece.len() as u64, Relaxed);
                Some((Ok(piece), (At::Open(file), taken)))
            }
            Ok(None) => None,
            Err(error) => Some((Err(error), (At::End, taken))),
        }
    })
}
