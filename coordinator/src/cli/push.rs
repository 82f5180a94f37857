//! `pith push`: a local image becomes an archive at the coordinator, for nodes without a registry.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, stream};
use protocol::id::{Digest, hex};

use super::arguments::PushArgs;
use super::session::Session;
use super::{CliError, Exit};
use crate::archives::ArchiveShown;
use crate::client::Client;
use crate::docker::Docker;
use crate::render;

/// Progress is told after so many bytes.
const TELL_EVERY: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

pub(super) async fn run(session: &Session, args: PushArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    if args.ls {
        session.print(&client.archives().await?, |all| render::archives::list(all));
        return Ok(Exit::Done);
    }
    if let Some(sha256) = &args.rm {
        let removed = client.remove_archive(&named(&client, sha256).await?).await?;
        session.print(&removed, |shown| {
            format!("removed {} ({})\n", shown.archive.sha256.hex(), shown.image)
        });
        return Ok(Exit::Done);
    }
    // clap wants one of the three.
    let image = args.image.unwrap_or_default();
    let shown = push(&client, &image).await?;
    session.print(&shown, render::archives::pushed);
    Ok(Exit::Done)
}

/// What is said of a sha256: all of it, or enough of its beginning.
async fn named(client: &Client, text: &str) -> Result<Digest, CliError> {
    let wanted = text.strip_prefix("pith://").or(text.strip_prefix("sha256:")).unwrap_or(text);
    let all = client.archives().await?;
    let of_it = all.iter().filter(|shown| shown.archive.sha256.hex().starts_with(wanted));
    match of_it.collect::<Vec<_>>().as_slice() {
        [one] if wanted.len() >= 8 => Ok(one.archive.sha256.clone()),
        [] => Err(CliError::failed(format_args!(
            "no archive `{text}` is at the coordinator; `pith push --ls` lists them"
        ))),
        _ => Err(CliError::usage(format_args!(
            "`{text}` does not name one archive; write more of its sha256"
        ))),
    }
}

async fn push(client: &Client, image: &str) -> Result<ArchiveShown, CliError> {
    let docker = Docker::local().map_err(CliError::failed)?;
    let found = docker.image(image).await.map_err(CliError::failed)?;
    if found.is_none() {
        return Err(CliError::failed(format_args!(
            "no image {image} is in the local Docker; `docker image ls` lists them"
        )));
    }
    let saved = docker.save(image).await.map_err(CliError::failed)?;
    let sent = Arc::new(Mutex::new(ring::digest::Context::new(&ring::digest::SHA256)));
    let shown = client.push(image, told(saved, Arc::clone(&sent))).await?;
    let context = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ours = hex(context.finish().as_ref());
    if ours != shown.archive.sha256.hex() {
        return Err(CliError::failed(format_args!(
            "what the coordinator has is not what was sent (sha256 {} for {ours}): remove it with `pith push --rm {}` and \
             push again",
            shown.archive.sha256.hex(),
            shown.archive.sha256.hex()
        )));
    }
    Ok(shown)
}

/// What Docker gives, counted and hashed on its way.
fn told(
    saved: reqwest::Response,
    sent: Arc<Mutex<ring::digest::Context>>,
) -> impl Stream<Item = Result<Bytes, reqwest::Error>> + Send + Sync + 'static {
    // What a future holds between two polls is not shared between threads; the channel is.
    let (pieces, taken) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        let (mut saved, mut count, mut next) = (saved, 0_u64, TELL_EVERY);
        loop {
            let piece = match saved.chunk().await {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Ok(piece) = &piece {
                count += piece.len() as u64;
                sent.lock().unwrap_or_else(PoisonError::into_inner).update(piece);
                if count >= next {
                    next += TELL_EVERY;
                    eprintln!("{} MiB sent", count / MIB);
                }
            }
            let is_end = piece.is_err();
            if pieces.send(piece).await.is_err() || is_end {
                return;
            }
        }
    });
    stream::unfold(taken, |mut taken| async move { Some((taken.recv().await?, taken)) })
}
