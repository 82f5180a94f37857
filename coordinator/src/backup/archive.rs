//! What is in a backup: files of the fleet's folder by their names there, one after another.
//!
//! ```text
//! [{"name":"fleet.json","bytes":45}, …]
//! the bytes of each, in this order
//! ```
//! It is sealed as a whole, so it has no checksums of its own. Names are checked on the way back: nothing is written
//! outside the folder, or to a place that a backup does not fill.

use std::fs;
use std::path::Path;

use protocol::envelope::Envelope;
use protocol::keys::{RoleName, Root};
use protocol::succession;
use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDir, DataDirError};
use crate::{audit, ca};

pub(super) const FLEET: &str = "fleet.json";
pub(super) const ROOT: &str = "root.json";
pub(super) const DATABASE: &str = "state.db";
const ROOTS: &str = "roots.json";
const KEYS: &str = "keys/";
/// Those that the folder need not have. `root.json` stands before `roots.json`, as that is written first: the chain that is
/// read leads to the root that was read, or further.
const OPTIONAL: [&str; 3] = [ROOTS, "registries.toml", "coordinator.toml"];
/// A list of the files that a folder can have is far shorter.
const MAX_LIST_BYTES: usize = 64 * 1024;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the folder.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    bytes: u64,
}

/// What was sealed is not the files of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Not of this form.
    #[error("what is in it is no backup of a coordinator: {0}")]
    Form(&'static str),
    /// A file that has no place.
    #[error("it holds a file `{0}`, which this pith does not know; use the newer pith")]
    Name(String),
}

/// The files of a fleet's folder that a coordinator needs, with a copy of its database.
///
/// # Errors
/// Where one cannot be read.
pub fn gather(data: &DataDir, root: &Root, database: Vec<u8>) -> Result<Vec<Entry>, DataDirError> {
    let mut entries = vec![Entry { name: DATABASE.to_owned(), bytes: database }];
    let take = |name: &str| {
        let bytes = data.read(name)?;
        Ok::<Entry, DataDirError>(Entry { name: name.to_owned(), bytes })
    };
    for name in [FLEET, ROOT, ca::CERTIFICATE, ca::KEY] {
        entries.push(take(name)?);
    }
    for name in OPTIONAL.into_iter().filter(|name| data.path().join(name).exists()) {
        entries.push(take(name)?);
    }
    let log = data.path().join(audit::FILE);
    let newest = audit::for_backup(&log);
    let newest = newest.map_err(|source| DataDirError::Io { path: log, source })?;
    entries.extend(newest.into_iter().map(|(name, bytes)| Entry { name, bytes }));
    let waiting = data.unsigned_root(root.version + 1);
    let next = fs::read(&waiting).ok().and_then(|bytes| Envelope::from_bytes(&bytes).ok());
    let next = next.and_then(|envelope| succession::unproven(&envelope).ok());
    if next.is_some() {
        entries.push(take(&format!("root-{}.json", root.version + 1))?);
    }
    // A new director's key lies here before the root that names it has its signatures.
    let of_director = [Some(root), next.as_ref()];
    let of_director: Vec<_> = of_director
        .into_iter()
        .filter_map(|root| root?.roles.get(&RoleName::Director))
        .flat_map(|role| &role.keys)
        .collect();
    // Their names mean nothing, and some have no place in an archive.
    for key in data.keys()?.iter().filter(|key| key.signs() && of_director.contains(&&key.public()))
    {
        let path = Path::new(&key.name);
        let bytes =
            fs::read(path).map_err(|source| DataDirError::Io { path: path.to_owned(), source })?;
        entries.push(Entry { name: format!("{KEYS}director-{}.key", key.public().id()), bytes });
    }
    Ok(entries)
}

/// The files as one.
#[must_use]
pub fn pack(entries: &[Entry]) -> Vec<u8> {
    let list = entries
        .iter()
        .map(|Entry { name, bytes }| Listed { name: name.clone(), bytes: bytes.len() as u64 });
    let list: Vec<Listed> = list.collect();
    let mut packed = serde_json::to_vec(&list).expect("plain data serialises");
    packed.push(b'\n');
    for entry in entries {
        packed.extend_from_slice(&entry.bytes);
    }
    packed
}

/// The files again.
///
/// # Errors
/// Where it is not of that form, or names a place that a backup does not fill.
pub fn unpack(packed: &[u8]) -> Result<Vec<Entry>, ArchiveError> {
    let line = packed.iter().take(MAX_LIST_BYTES).position(|byte| *byte == b'\n');
    let line = line.ok_or(ArchiveError::Form("it lists no files"))?;
    let list: Vec<Listed> = serde_json::from_slice(&packed[..line])
        .map_err(|_| ArchiveError::Form("its list of files is no JSON"))?;
    let mut rest = &packed[line + 1..];
    let mut entries: Vec<Entry> = Vec::new();
    for Listed { name, bytes } in list {
        if !has_place(&name) {
            return Err(ArchiveError::Name(name.chars().flat_map(char::escape_default).collect()));
        }
        if entries.iter().any(|entry| entry.name == name) {
            return Err(ArchiveError::Form("it holds one file twice"));
        }
        let length = usize::try_from(bytes).ok().filter(|length| *length <= rest.len());
        let length = length.ok_or(ArchiveError::Form("a file in it is cut off"))?;
        let (bytes, after) = rest.split_at(length);
        entries.push(Entry { name, bytes: bytes.to_vec() });
        rest = after;
    }
    if rest.is_empty() {
        Ok(entries)
    } else {
        Err(ArchiveError::Form("more is in it than it lists"))
    }
}

fn has_place(name: &str) -> bool {
    let is_plain = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(fits)
    };
    let is_key = name.strip_prefix(KEYS).is_some_and(|key| is_plain(key) && key.ends_with(".key"));
    let is_unsigned = name
        .strip_prefix("root-")
        .and_then(|rest| rest.strip_suffix(".json"))
        .is_some_and(|version| version.parse::<u64>().is_ok());
    [FLEET, ROOT, DATABASE, ca::CERTIFICATE, ca::KEY].contains(&name)
        || OPTIONAL.contains(&name)
        || name == audit::FILE
        || audit::is_full(name)
        || is_key
        || is_unsigned
}
