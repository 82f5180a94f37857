//! Whether the disk has room for an archive, before a byte of it is asked for.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// What stays free beside everything.
const RESERVE_BYTES: u64 = 32 << 20;
/// The engine unpacks the archive beside its layers, and then keeps these.
const UNPACKED_TIMES: u64 = 2;
/// Files that an image may have.
const INODES: u64 = 10_000;
const MIB: u64 = 1 << 20;

/// What there is where something is to be written.
struct Free {
    device: u64,
    bytes: u64,
    /// None: this kind of disk has no bound of its own.
    inodes: Option<u64>,
}

/// Looks for `missing` bytes in `folder` and room for an image of `bytes` in `docker`.
///
/// # Errors
/// For a person: what is needed and what is there. A disk that cannot be looked at is not refused.
pub(super) fn look(
    folder: &Path,
    missing: u64,
    docker: Option<&Path>,
    bytes: u64,
) -> Result<(), String> {
    let (own, engine) = (free(folder), docker.and_then(free));
    let unpacked = bytes.saturating_mul(UNPACKED_TIMES);
    let is_one = match (&own, &engine) {
        (Some(own), Some(engine)) => own.device == engine.device,
        (Some(_) | None, None) | (None, Some(_)) => false,
    };
    if let Some(own) = &own {
        let needed = if is_one { missing.saturating_add(unpacked) } else { missing };
        enough(folder, own, needed, is_one)?;
    }
    match (engine, docker) {
        (Some(engine), Some(docker)) if !is_one => enough(docker, &engine, unpacked, true),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// Looks for room for `missing` compressed bytes of layers in `docker`.
///
/// # Errors
/// As [`look`].
pub(crate) fn for_layers(docker: &Path, missing: u64) -> Result<(), String> {
    match free(docker) {
        Some(free) => enough(docker, &free, missing.saturating_mul(UNPACKED_TIMES), true),
        None => Ok(()),
    }
}

fn enough(at: &Path, free: &Free, needed: u64, is_for_image: bool) -> Result<(), String> {
    let needed = needed.saturating_add(RESERVE_BYTES);
    if free.bytes < needed {
        return Err(format!(
            "the disk of {} has {} MiB free, and {} MiB are needed; nothing was stopped",
            at.display(),
            free.bytes / MIB,
            needed.div_ceil(MIB)
        ));
    }
    match free.inodes {
        Some(inodes) if is_for_image && inodes < INODES => Err(format!(
            "the disk of {} has {inodes} inodes free, and an image may need {INODES}; nothing was stopped",
            at.display()
        )),
        Some(_) | None => Ok(()),
    }
}

fn free(at: &Path) -> Option<Free> {
    let device = std::fs::metadata(at).ok()?.dev();
    let disk = statvfs(at).ok()?;
    let bytes = disk.blocks_available().saturating_mul(disk.fragment_size());
    let inodes = (disk.files() > 0).then(|| disk.files_available());
    Some(Free { device, bytes, inodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_figures() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(look(folder.path(), 1, Some(folder.path()), 1), Ok(()));
        let error = look(folder.path(), 1 << 60, None, 1 << 60).unwrap_err();
        assert!(error.contains("MiB free") && error.contains("1099511627808 MiB"), "{error}");
        let error = look(folder.path(), 1, Some(folder.path()), 1 << 59).unwrap_err();
        assert!(error.contains("are needed"), "{error}");
        let nowhere = Path::new("/does/not/exist");
        assert_eq!(look(nowhere, 1 << 60, Some(nowhere), 1), Ok(()));
    }
}
