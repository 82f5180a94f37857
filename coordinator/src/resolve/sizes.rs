//! How large an image is to pull: what its manifests say of configuration and layers, compressed, per architecture
//! (OCI image specification 1.1, "Image Index" and "Image Manifest"). Layers that a node has already are not known here:
//! the sizes are what is pulled at most.

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::Digest;
use serde::Deserialize;

use super::reference::Reference;
use super::registries::Access;
use super::registry::{Registry, RegistryError};

/// An index or a manifest, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Variant>,
    config: Option<Part>,
    #[serde(default)]
    layers: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Variant {
    digest: Digest,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Debug, Deserialize)]
struct Part {
    size: u64,
}

/// Bytes for each architecture that the image serves; one that it does not serve is left out.
pub(super) async fn of(
    reference: &Reference,
    digest: &Digest,
    access: &Access,
    architectures: &BTreeSet<String>,
) -> Result<BTreeMap<String, u64>, RegistryError> {
    let registry = Registry::new(reference.registry(), access)?;
    let top: Document = registry.manifest(reference, digest).await?;
    let mut sizes = BTreeMap::new();
    for architecture in architectures {
        let bytes = if top.manifests.is_empty() {
            top.bytes()
        } else {
            let Some(variant) = top.variant(architecture) else { continue };
            registry.manifest::<Document>(reference, variant).await?.bytes()
        };
        if let Some(bytes) = bytes {
            sizes.insert(architecture.clone(), bytes);
        }
    }
    Ok(sizes)
}

impl Document {
    /// None where it is no image.
    fn bytes(&self) -> Option<u64> {
        let config = self.config.as_ref()?;
        let parts = self.layers.iter().chain([config]);
        Some(parts.fold(0, |sum: u64, part| sum.saturating_add(part.size)))
    }

    /// The variant that a node of this architecture takes: its own, else the 32-bit one that it runs as well.
    fn variant(&self, architecture: &str) -> Option<&Digest> {
        let narrower = match architecture {
            "arm64" => "arm",
            "amd64" => "386",
            other => other,
        };
        let of = |wanted: &str| {
            self.manifests.iter().find(|variant| {
                variant.platform.as_ref().is_some_and(|platform| {
                    platform.architecture == wanted && matches!(platform.os.as_str(), "linux" | "")
                })
            })
        };
        of(architecture).or_else(|| of(narrower)).map(|variant| &variant.digest)
    }
}
