//! What an archive says that it holds: `docker save` of any version, or an OCI layout. Reads once from front to end and keeps little.
//!
//! Whoever made the archive is believed in nothing: an image's id is the sha256 of its configuration, and that is computed here.

use std::collections::BTreeMap;
use std::io::{self, Read};

use protocol::id::{Digest, sha256_hex};
use serde::Deserialize;

/// Entries of one archive: a layer has one to three, an image at most 127 layers.
const MAX_ENTRIES: usize = 4_096;
/// Of a document that is read; layers are larger and are passed over.
const MAX_DOCUMENT_BYTES: u64 = 1 << 20;
/// Of all documents that are kept while it is read.
const MAX_KEPT_BYTES: usize = 16 << 20;
/// Indexes within indexes.
const MAX_DEPTH: u32 = 3;

/// One image in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// sha256 of its configuration: its id in Docker.
    pub image_id: Digest,
    /// What the archive's index names: its id where Docker keeps images in containerd.
    pub manifest: Option<Digest>,
    /// `arm64`; empty where the image does not say.
    pub architecture: String,
}

/// Why no image is seen in it.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not a tar.
    #[error("it is no archive of an image: {0}")]
    Unreadable(#[from] io::Error),
    /// One that is compressed.
    #[error(
        "it is compressed; unpack it (gunzip, unzstd, unxz) and name the .tar: its sha256 is another one then"
    )]
    Compressed,
    /// Nothing of an image in it.
    #[error(
        "it holds neither manifest.json nor index.json: `docker save -o app.tar IMAGE` makes one that does"
    )]
    NoIndex,
    /// More than one, or none.
    #[error("it holds {0} images, and one is wanted: save one image, for one platform")]
    Several(usize),
    /// A document contradicts another, or is none.
    #[error("its {name} {problem}")]
    Damaged {
        /// Which.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Too much of it.
    #[error("it has more entries or documents than an image has")]
    TooMuch,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    config: Option<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    architecture: String,
}

/// Reads an archive to its end.
///
/// # Errors
/// See [`ArchiveError`].
pub fn read(mut from: impl Read) -> Result<Inside, ArchiveError> {
    let mut start = [0; 4];
    let count = fill(&mut from, &mut start)?;
    match start {
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0xfd, b'7', b'z', b'X'] => {
            return Err(ArchiveError::Compressed);
        }
        _ => {}
    }
    let whole = (&start[..count]).chain(from);
    let mut archive = tar::Archive::new(whole);
    let documents = documents(&mut archive)?;
    // What follows the archive belongs to the file.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    inside(&documents)
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

type Documents = BTreeMap<String, Vec<u8>>;

/// Every small file whose name could matter.
fn documents(archive: &mut tar::Archive<impl Read>) -> Result<Documents, ArchiveError> {
    let (mut documents, mut kept) = (Documents::new(), 0);
    for (number, entry) in archive.entries()?.enumerate() {
        let entry = entry?;
        if number >= MAX_ENTRIES {
            return Err(ArchiveError::TooMuch);
        }
        let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        let is_document = name.ends_with(".json") || name.starts_with("blobs/sha256/");
        if !entry.header().entry_type().is_file()
            || !is_document
            || entry.size() > MAX_DOCUMENT_BYTES
        {
            continue;
        }
        let mut bytes = Vec::new();
        entry.take(MAX_DOCUMENT_BYTES).read_to_end(&mut bytes)?;
        kept += bytes.len();
        if kept > MAX_KEPT_BYTES {
            return Err(ArchiveError::TooMuch);
        }
        documents.insert(name, bytes);
    }
    Ok(documents)
}

fn inside(documents: &Documents) -> Result<Inside, ArchiveError> {
    let index = documents.get("index.json").map(|bytes| json::<Index>("index.json", bytes));
    let index = index.transpose()?;
    let named = index.as_ref().map(|index| only(&index.manifests)).transpose()?;
    let config = match (documents.get("manifest.json"), &named) {
        (Some(bytes), _) => {
            let saved: Vec<Saved> = json("manifest.json", bytes)?;
            match saved.as_slice() {
                [one] => one.config.clone(),
                other => return Err(ArchiveError::Several(other.len())),
            }
        }
        (None, Some(named)) => blob_of(&configuration(documents, named, 0)?),
        (None, None) => return Err(ArchiveError::NoIndex),
    };
    let damaged =
        |problem: &str| ArchiveError::Damaged { name: config.clone(), problem: problem.to_owned() };
    let bytes = documents.get(&config).ok_or_else(|| damaged("is missing"))?;
    let image_id = digest(&format!("sha256:{}", sha256_hex(bytes)))?;
    let said = config.rsplit('/').next().unwrap_or_default();
    if said.trim_end_matches(".json") != image_id.hex() {
        return Err(damaged("has another sha256 than its name says"));
    }
    let Configuration { architecture } = json(&config, bytes)?;
    let manifest = named.map(|named| digest(&named.digest)).transpose()?;
    Ok(Inside { image_id, manifest, architecture })
}

/// The digest of the configuration that a manifest names, or the one manifest of an index.
fn configuration(
    documents: &Documents,
    named: &Descriptor,
    depth: u32,
) -> Result<String, ArchiveError> {
    let name = blob_of(&named.digest);
    let damaged =
        |problem: &str| ArchiveError::Damaged { name: name.clone(), problem: problem.to_owned() };
    if depth >= MAX_DEPTH {
        return Err(damaged("is an index of an index of an index"));
    }
    let bytes = documents.get(&name).ok_or_else(|| damaged("is missing"))?;
    if format!("sha256:{}", sha256_hex(bytes)) != named.digest {
        return Err(damaged("has another sha256 than its name says"));
    }
    let index: Index = json(&name, bytes)?;
    match index.config {
        Some(config) => Ok(config.digest),
        None => configuration(documents, &only(&index.manifests)?, depth + 1),
    }
}

/// The one image among what is named; what only attests is none (its platform is `unknown`).
fn only(named: &[Descriptor]) -> Result<Descriptor, ArchiveError> {
    let is_image = |one: &&Descriptor| one.platform.as_ref().is_none_or(|p| p.os != "unknown");
    let images: Vec<&Descriptor> = named.iter().filter(is_image).collect();
    match images.as_slice() {
        [one] => Ok((*one).clone()),
        other => Err(ArchiveError::Several(other.len())),
    }
}

fn blob_of(digest: &str) -> String {
    format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap_or(digest))
}

fn digest(text: &str) -> Result<Digest, ArchiveError> {
    text.parse().map_err(|_| ArchiveError::Damaged {
        name: "index.json".to_owned(),
        problem: "names no sha256".to_owned(),
    })
}

fn json<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|error| ArchiveError::Damaged {
        name: name.chars().take(100).collect(),
        problem: format!("is not what is expected there: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    const CONFIG: &[u8] = br#"{"architecture":"arm64","os":"linux"}"#;

    fn saved(config: &str) -> Vec<u8> {
        format!(r#"[{{"Config":"{config}","RepoTags":["web:v1"],"Layers":["x/layer.tar"]}}]"#)
            .into()
    }

    #[test]
    fn what_docker_saved_of_old_is_read_whatever_the_order() {
        let id = sha256_hex(CONFIG);
        let name = format!("{id}.json");
        let manifest = saved(&name);
        let files: [(&str, &[u8]); 3] =
            [("x/layer.tar", b"layer"), (&name, CONFIG), ("manifest.json", &manifest)];
        let backwards: Vec<_> = files.iter().rev().copied().collect();
        for files in [&files[..], &backwards] {
            let inside = read(tar_of(files).as_slice()).unwrap();
            assert_eq!(inside.image_id.as_str(), format!("sha256:{id}"));
            assert_eq!((inside.manifest, inside.architecture.as_str()), (None, "arm64"));
        }
    }

    #[test]
    fn an_oci_layout_is_read_without_what_only_attests() {
        let config = format!("blobs/sha256/{}", sha256_hex(CONFIG));
        let manifest =
            format!(r#"{{"config":{{"digest":"sha256:{}"}},"layers":[]}}"#, sha256_hex(CONFIG));
        let manifest_name = format!("blobs/sha256/{}", sha256_hex(manifest.as_bytes()));
        let digest = format!("sha256:{}", sha256_hex(manifest.as_bytes()));
        let inner = format!(
            r#"{{"manifests":[{{"digest":"{digest}","platform":{{"os":"linux"}}}},{{"digest":"sha256:00","platform":{{"os":"unknown"}}}}]}}"#
        );
        let inner_digest = format!("sha256:{}", sha256_hex(inner.as_bytes()));
        let inner_name = format!("blobs/sha256/{}", sha256_hex(inner.as_bytes()));
        let index = format!(r#"{{"manifests":[{{"digest":"{inner_digest}"}}]}}"#);
        let tar = tar_of(&[
            (&config, CONFIG),
            (&manifest_name, manifest.as_bytes()),
            (&inner_name, inner.as_bytes()),
            ("index.json", index.as_bytes()),
        ]);
        let inside = read(tar.as_slice()).unwrap();
        assert_eq!(inside.image_id.as_str(), format!("sha256:{}", sha256_hex(CONFIG)));
        assert_eq!(inside.manifest.unwrap().as_str(), inner_digest);
    }

    #[track_caller]
    fn check(bytes: &[u8], says: &str) {
        let error = read(bytes).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn what_holds_no_single_image_is_refused_with_the_mend() {
        check(b"\x1f\x8b\x08\x00more", "gunzip");
        check(b"not a tar at all, but a page of a hotel's network", "no archive of an image");
        check(&tar_of(&[("hello.txt", b"x")]), "docker save");
        check(&tar_of(&[("manifest.json", b"[]")]), "0 images");
        check(&tar_of(&[("manifest.json", b"{}")]), "manifest.json is not");
        check(&tar_of(&[("manifest.json", &saved("abc.json"))]), "abc.json is missing");
        let lies = tar_of(&[("manifest.json", &saved("abc.json")), ("abc.json", CONFIG)]);
        check(&lies, "another sha256");
        check(
            &tar_of(&[("index.json", br#"{"manifests":[{"digest":"a"},{"digest":"b"}]}"#)]),
            "2 images",
        );
    }
}
