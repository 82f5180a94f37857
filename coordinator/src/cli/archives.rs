//! `[source]` of a service file: what the archive is, seen once here, so that the release pins the file and the image in it.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use protocol::archive::{Archive, Location, MAX_ARCHIVE_BYTES};
use protocol::file::ArchiveSource;
use protocol::id::hex;
use protocol::release::{Image, Pin, runs_on};
use tokio::sync::mpsc;

use super::CliError;
use crate::archive_file::{self, ArchiveError, Inside};
use crate::client::{Client, chain};

const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// Without a byte for this long it is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// Pieces on their way to the reader.
const MAX_PIECES: usize = 16;
const TELL_EVERY: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

/// The image of an archive, pinned; refused where no node of the environment could run it.
pub(super) async fn resolve(
    client: &Client,
    source: &ArchiveSource,
    architectures: &BTreeSet<String>,
) -> Result<Image, CliError> {
    let named = &source.archive;
    let location: Location = named.parse().map_err(CliError::usage)?;
    let (archive, architecture) = match &location {
        Location::Coordinator(sha256) => {
            let all = client.archives().await?;
            let shown = all.into_iter().find(|shown| shown.archive.sha256 == *sha256);
            let shown = shown.ok_or_else(|| {
                CliError::failed(format_args!(
                    "{named} is not at the coordinator: push the image again (`pith push IMAGE`); `pith push --ls` lists \
                     what is there"
                ))
            })?;
            (shown.archive, shown.architecture)
        }
        Location::Web { .. } => look(source).await?,
    };
    check_architecture(named, &architecture, architectures)?;
    Ok(Image { reference: named.clone(), pin: Pin::Archive(archive) })
}

fn check_architecture(named: &str, image: &str, nodes: &BTreeSet<String>) -> Result<(), CliError> {
    let cannot: Vec<&str> =
        nodes.iter().map(String::as_str).filter(|node| !runs_on(node, image)).collect();
    if cannot.is_empty() {
        return Ok(());
    }
    let processors = cannot.join(", ");
    if cannot.len() == nodes.len() {
        return Err(CliError::failed(format_args!(
            "{named} is built for {image}, and the nodes' processors are {processors}; build it for those: \
             `docker build --platform linux/{}`",
            cannot[0]
        )));
    }
    eprintln!("warning: {named} is built for {image}: nodes with {processors} cannot run it");
    Ok(())
}

/// Downloads the archive, checks it, and keeps nothing but what is in it.
async fn look(source: &ArchiveSource) -> Result<(Archive, String), CliError> {
    let named = &source.archive;
    let failed = |problem: String| CliError::failed(format_args!("{named}: {problem}"));
    let http = reqwest::Client::builder().connect_timeout(CONNECT_WITHIN).build();
    let http = http.map_err(|error| failed(chain(&error)))?;
    let answer = http.get(named).header("accept-encoding", "identity").send().await;
    let mut answer = answer.map_err(|error| failed(chain(&error)))?;
    if !answer.status().is_success() {
        return Err(failed(format!("the server answered {}", answer.status())));
    }
    let (pieces, taken) = mpsc::channel(MAX_PIECES);
    let reading = tokio::task::spawn_blocking(move || archive_file::read(Pieces::of(taken)));
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut bytes, mut next) = (0_u64, TELL_EVERY);
    // Where the reader has ended, the rest is still hashed: a wrong sha256 says more than what it made of it.
    let mut pieces = Some(pieces);
    loop {
        let piece = tokio::time::timeout(SILENCE, answer.chunk()).await;
        let piece = piece.map_err(|_| failed(format!("no byte for {} s", SILENCE.as_secs())))?;
        let Some(piece) = piece.map_err(|error| failed(chain(&error)))? else { break };
        bytes += piece.len() as u64;
        if bytes > MAX_ARCHIVE_BYTES {
            return Err(failed(format!("an archive has at most {} MiB", MAX_ARCHIVE_BYTES / MIB)));
        }
        context.update(&piece);
        if bytes >= next {
            next += TELL_EVERY;
            eprintln!("{named}: {} MiB looked at", bytes / MIB);
        }
        if let Some(to) = &pieces
            && to.send(piece).await.is_err()
        {
            pieces = None;
        }
    }
    drop(pieces);
    let found = hex(context.finish().as_ref());
    if found != source.sha256.hex() {
        return Err(failed(format!(
            "its sha256 is {found}, and the service file says {}; it changed, or the line is old",
            source.sha256.hex()
        )));
    }
    let inside = reading.await.map_err(|error| failed(error.to_string()))?;
    let Inside { image_id, manifest, architecture } =
        inside.map_err(|error: ArchiveError| failed(error.to_string()))?;
    let sha256 = source.sha256.clone();
    Ok((Archive { sha256, bytes, image_id, manifest }, architecture))
}

/// What comes through a channel, as a file.
struct Pieces {
    taken: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Pieces {
    fn of(taken: mpsc::Receiver<Bytes>) -> Self {
        Self { taken, piece: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.taken.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_no_node_can_run_is_refused_with_both_processors() {
        let nodes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let check = |image: &str, names: &[&str]| {
            check_architecture("http://x/a.tar", image, &nodes(names)).map_err(|e| e.to_string())
        };
        let error = check("amd64", &["arm64"]).unwrap_err();
        assert!(error.contains("built for amd64") && error.contains("arm64"), "{error}");
        assert_eq!(check("amd64", &["arm64", "amd64"]), Ok(()));
        assert_eq!(check("arm", &["arm64"]), Ok(()));
        assert_eq!(check("arm64", &[]), Ok(()));
        assert_eq!(check("", &["arm64"]), Ok(()));
    }
}
