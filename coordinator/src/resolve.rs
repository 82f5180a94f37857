//! From what a person writes to what is pinned: a tag to its digest in the registry, or a local image to its id.
//!
//! A reference that names a host is asked for there first; any other is looked for in the local Docker first, as
//! `docker run` does, then on Docker Hub. Everything that was tried is in the error.

pub mod reference;
pub mod registries;
mod registry;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::id::Digest;
use protocol::release::{Image, Pin};

use crate::docker::{Docker, DockerError, LocalImage};
use reference::{InvalidReference, Reference};
use registries::{Registries, is_loopback};
pub use registry::RegistryError;

/// A plan does not wait longer for what is only good to know.
const SIZES_TIMEOUT: Duration = Duration::from_secs(10);

/// Where images are looked for.
#[derive(Debug)]
pub struct Sources {
    /// Credentials, authorities and plain HTTP.
    pub registries: Registries,
    /// The local Docker, where there is one.
    pub docker: Option<Docker>,
}

/// A pinned image and what its owner should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// As written and as pinned.
    pub image: Image,
    /// Sentences for a person.
    pub warnings: Vec<String>,
}

/// Why an image could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Not a reference.
    #[error(transparent)]
    Invalid(#[from] InvalidReference),
    /// Nobody has it.
    #[error("image {reference} was not found\n{}", .tried.iter().map(|t| format!("  tried {t}")).collect::<Vec<_>>().join("\n"))]
    NotFound {
        /// As written.
        reference: String,
        /// Each place and what it said.
        tried: Vec<String>,
    },
}

impl Sources {
    /// Pins what `text` names.
    ///
    /// # Errors
    /// Where it is no reference or nobody has it.
    pub async fn resolve(&self, text: &str) -> Result<Resolved, ResolveError> {
        let reference: Reference = text.parse()?;
        if let Some(digest) = reference.digest.clone() {
            return Ok(self.pinned(text, &reference, Pin::Digest(digest)).await);
        }
        let mut tried = Vec::new();
        let registry_first = reference.host.is_some();
        for ask_registry in [registry_first, !registry_first] {
            let found = if ask_registry {
                self.ask_registry(&reference, &mut tried).await
            } else {
                self.ask_docker(&reference, &mut tried).await
            };
            if let Some(pin) = found {
                return Ok(self.pinned(text, &reference, pin).await);
            }
        }
        Err(ResolveError::NotFound { reference: text.to_owned(), tried })
    }

    /// How many compressed bytes a node pulls at most, by its architecture. What cannot be learned is left out: a registry
    /// that is away is no mistake here.
    pub async fn sizes(
        &self,
        image: &Image,
        architectures: &BTreeSet<String>,
    ) -> BTreeMap<String, u64> {
        let Pin::Digest(digest) = &image.pin else { return BTreeMap::new() };
        let Ok(reference) = image.reference.parse::<Reference>() else { return BTreeMap::new() };
        let access = self.registries.access(reference.registry());
        let asked = sizes::of(&reference, digest, &access, architectures);
        match tokio::time::timeout(SIZES_TIMEOUT, asked).await {
            Ok(Ok(sizes)) => sizes,
            Ok(Err(_)) | Err(_) => BTreeMap::new(),
        }
    }

    async fn ask_registry(&self, reference: &Reference, tried: &mut Vec<String>) -> Option<Pin> {
        let host = reference.registry();
        let access = self.registries.access(host);
        match registry::digest(reference, &access).await {
            Ok(digest) => Some(Pin::Digest(digest)),
            Err(error) => {
                tried.push(format!("registry {host}: {error}"));
                None
            }
        }
    }

    async fn ask_docker(&self, reference: &Reference, tried: &mut Vec<String>) -> Option<Pin> {
        let Some(docker) = &self.docker else {
            tried.push("local Docker: there is none".to_owned());
            return None;
        };
        match docker.image(&reference.to_string()).await {
            Ok(Some(image)) => pin_of(reference, &image).or_else(|| {
                tried.push(format!("local Docker: the image has the unreadable id {}", image.id));
                None
            }),
            Ok(None) => {
                tried.push(format!("local Docker: no image {reference}"));
                None
            }
            Err(DockerError::Unreachable { reason, .. }) => {
                tried.push(format!("local Docker: {reason}"));
                None
            }
            Err(error @ (DockerError::Refused { .. } | DockerError::NotLocal(_))) => {
                tried.push(format!("local Docker: {error}"));
                None
            }
        }
    }

    async fn pinned(&self, text: &str, reference: &Reference, pin: Pin) -> Resolved {
        let warnings = match &pin {
            Pin::ImageId(_) | Pin::Archive(_) => None,
            Pin::Digest(_) => self.plain_http_warning(reference.registry()).await,
        };
        let warnings = warnings.into_iter().collect();
        Resolved { image: Image { reference: text.to_owned(), pin }, warnings }
    }

    /// dockerd pulls over TLS unless its own configuration says otherwise.
    async fn plain_http_warning(&self, host: &str) -> Option<String> {
        if !self.registries.access(host).http || is_loopback(host) {
            return None;
        }
        let info = self.docker.as_ref()?.info().await.ok()?;
        if info.allows_http(host) {
            return None;
        }
        Some(format!(
            "{host} speaks plain HTTP and dockerd here will refuse to pull from it; add to /etc/docker/daemon.json on every \
             node: {{\"insecure-registries\": [\"{host}\"]}} and reload dockerd"
        ))
    }
}

/// An image that came from the registry named is pinned by that digest, so that other nodes can pull it; one that was
/// built here, by its id.
fn pin_of(reference: &Reference, image: &LocalImage) -> Option<Pin> {
    let name = reference.name();
    let from_registry = image.repo_digests.iter().flatten().find_map(|entry| {
        let (of, digest) = entry.split_once('@')?;
        (of == name).then(|| digest.parse::<Digest>().ok())?
    });
    match from_registry {
        Some(digest) => Some(Pin::Digest(digest)),
        None => image.id.parse().ok().map(Pin::ImageId),
    }
}

#[cfg(test)]
mod tests;
