//! A release: one service, complete and immutable, with its image pinned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::id::{Digest, EnvironmentName, FleetId, ServiceName};
use crate::payload::{Payload, PayloadType};
use crate::spec::ServiceSpec;

/// The document that the release key signs. Its id is [`crate::id::ReleaseId::of_payload`] of the signed bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// [`crate::FORMAT`] at the time of writing.
    pub format: u32,
    /// The fleet it is for.
    pub fleet: FleetId,
    /// Higher for each release of the service, whatever the environment; a security floor compares it
    /// ([`crate::retirement`]).
    pub counter: u64,
    /// The pinned image.
    pub image: Image,
    /// The service where no overlay says otherwise; [`Release::spec`] is what runs.
    pub base: ServiceSpec,
    /// The service, whole, in each environment that has an overlay.
    pub environments: BTreeMap<EnvironmentName, ServiceSpec>,
}

impl Release {
    /// The service as it runs in an environment: the one place where overlays are resolved, for the command line, the
    /// coordinator and the node.
    #[must_use]
    pub fn spec(&self, environment: &EnvironmentName) -> &ServiceSpec {
        self.environments.get(environment).unwrap_or(&self.base)
    }

    /// The service's name, the same in every environment.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.base.name
    }

    /// Whether every environment's service carries the one name.
    #[must_use]
    pub fn has_one_name(&self) -> bool {
        self.environments.values().all(|spec| spec.name == self.base.name)
    }
}

/// An image as people call it, and what it is pinned to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// `registry.local:5000/web:v2`, as written by a person; of an archive, where it is.
    pub reference: String,
    /// What decides.
    pub pin: Pin,
}

/// What an image is pinned to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pin {
    /// The digest of the index (or manifest) in its registry; nodes pull `name@digest`.
    Digest(Digest),
    /// The id of an image that exists in the local Docker only; never pulled.
    ImageId(Digest),
    /// A file that is downloaded, checked and given to Docker; [`Image::reference`] says where it is ([`crate::archive::Location`]).
    Archive(Archive),
}

impl Pin {
    /// The first digits of it, for telling the images of one fleet apart where nothing is decided by it.
    #[must_use]
    pub fn short(&self) -> &str {
        let (Self::Digest(digest)
        | Self::ImageId(digest)
        | Self::Archive(Archive { image_id: digest, .. })) = self;
        digest.hex().get(..SHORT_DIGITS).unwrap_or(digest.hex())
    }
}

/// Hexadecimal digits of [`Pin::short`].
const SHORT_DIGITS: usize = 16;

impl Image {
    /// What Docker is asked for: `name@digest` for a pinned one, else the image id.
    #[must_use]
    pub fn pinned_reference(&self) -> String {
        match &self.pin {
            Pin::Digest(digest) => format!("{}@{digest}", self.repository()),
            Pin::ImageId(id) => id.to_string(),
            Pin::Archive(archive) => archive.image_id.to_string(),
        }
    }

    /// The reference without tag and digest.
    #[must_use]
    pub fn repository(&self) -> &str {
        let name = self.reference.split_once('@').map_or(self.reference.as_str(), |(name, _)| name);
        let last_part = name.rfind('/').map_or(0, |slash| slash + 1);
        name[last_part..].find(':').map_or(name, |colon| &name[..last_part + colon])
    }
}

/// Whether a processor runs images of this architecture, both as images name them; 64-bit ones run the 32-bit ones of their kind.
#[must_use]
pub fn runs_on(host: &str, image: &str) -> bool {
    // Images made by `docker import` on old engines may say nothing.
    image.is_empty()
        || host == image
        || matches!((host, image), ("arm64", "arm") | ("amd64", "386"))
}

impl Payload for Release {
    const TYPE: PayloadType = PayloadType::Release;
}
