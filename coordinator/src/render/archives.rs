//! Archives, for people.

use super::{clock, table};
use crate::archives::ArchiveShown;

const MIB: u64 = 1 << 20;

/// `pith push --ls`
#[must_use]
pub fn list(all: &[ArchiveShown]) -> String {
    if all.is_empty() {
        return "nothing was pushed; `pith push IMAGE` sends an image of the local Docker\n"
            .to_owned();
    }
    let mut rows = vec![["SHA256", "IMAGE", "ARCHITECTURE", "SIZE", "PUSHED"].map(str::to_owned)];
    for shown in all {
        rows.push([
            shown.archive.sha256.hex().to_owned(),
            shown.image.clone(),
            shown.architecture.clone(),
            size(shown.archive.bytes),
            clock(shown.pushed_ms),
        ]);
    }
    table(&rows)
}

/// `pith push IMAGE`
#[must_use]
pub fn pushed(shown: &ArchiveShown) -> String {
    let ArchiveShown { image, archive, architecture, .. } = shown;
    format!(
        "pushed {image} ({}, {architecture}); in the service file, in place of `image`:\n\n[source]\narchive = \"pith://{}\"\n",
        size(archive.bytes),
        archive.sha256.hex()
    )
}

fn size(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(MIB))
}
