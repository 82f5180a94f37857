//! A node with fixed keys, and manifests for it.

use std::collections::{BTreeMap, BTreeSet};

use protocol::acceptance::NodeIdentity;
use protocol::envelope::Envelope;
use protocol::id::{Digest, FleetId, ReleaseId, sha256_hex};
use protocol::keys::{Role, RoleName, Root, SecretKey};
use protocol::manifest::{Assignment, Manifest, Version};
use protocol::release::{Image, Pin, Release};
use protocol::retirement::Retirement;
use protocol::spec::ServiceSpec;

pub(crate) const EPOCH: u64 = 1;

pub(crate) fn root_key() -> SecretKey {
    SecretKey::from_seed([1; 32])
}
pub(crate) fn release_key() -> SecretKey {
    SecretKey::from_seed([2; 32])
}
pub(crate) fn director_key() -> SecretKey {
    SecretKey::from_seed([3; 32])
}
pub(crate) fn node_key() -> SecretKey {
    SecretKey::from_seed([4; 32])
}

pub(crate) fn fleet() -> FleetId {
    FleetId::from_random([0xf1; 16])
}

pub(crate) fn identity() -> NodeIdentity {
    let environment = "default".parse().unwrap();
    NodeIdentity { fleet: fleet(), node: node_key().public().node_id(), environment }
}

pub(crate) fn root() -> Root {
    let roles = BTreeMap::from([
        (RoleName::Root, Role::single(root_key().public())),
        (RoleName::Release, Role::single(release_key().public())),
        (RoleName::Director, Role::single(director_key().public())),
    ]);
    Root { format: 1, fleet: fleet(), version: 1, epoch: EPOCH, roles }
}

/// A later root, in which the director has the key of this seed.
pub(crate) fn root_with(version: u64, director: u8) -> Root {
    let mut root = Root { version, ..root() };
    let key = SecretKey::from_seed([director; 32]).public();
    root.roles.insert(RoleName::Director, Role::single(key));
    root
}

/// A service that listens on 8080 inside and on 18080 outside, and is ready when it accepts.
pub(crate) fn spec(name: &str) -> ServiceSpec {
    let text = format!(
        "name = \"{name}\"\nimage = \"{name}:v1\"\nper_node = 1\n[[ports]]\nname = \"http\"\n\
         listen = 18080\ntarget = 8080\n[rollout]\nprogress_deadline = \"5s\"\ndrain = \"1s\"\n"
    );
    protocol::file::parse("web.toml", &text).unwrap_or_else(|error| panic!("{error}")).spec
}

pub(crate) fn pin(reference: &str) -> Pin {
    let digest: Digest = format!("sha256:{}", sha256_hex(reference.as_bytes())).parse().unwrap();
    Pin::Digest(digest)
}

/// The release of a service with an image of this tag.
pub(crate) fn release(spec: &ServiceSpec, tag: &str) -> Release {
    let reference = format!("{}:{tag}", spec.name);
    let image = Image { pin: pin(&reference), reference };
    Release {
        format: 1,
        fleet: fleet(),
        counter: 1,
        image,
        base: spec.clone(),
        environments: BTreeMap::new(),
    }
}

pub(crate) fn release_id(release: &Release) -> ReleaseId {
    ReleaseId::of_payload(&serde_json::to_vec(release).unwrap())
}

/// The floor of a service, signed by this key.
pub(crate) fn retirement(name: &str, below: u64, key: &SecretKey) -> Envelope {
    let (fleet, service) = (fleet(), name.parse().unwrap());
    Envelope::sign(&Retirement { format: 1, fleet, service, below }, &[key])
}

/// A manifest in the making.
#[derive(Debug, Clone)]
pub(crate) struct ManifestBuilder {
    pub(crate) manifest: Manifest,
}

impl ManifestBuilder {
    pub(crate) fn new(generation: u64) -> Self {
        let manifest = Manifest {
            format: 1,
            fleet: fleet(),
            node: identity().node,
            environment: identity().environment,
            version: Version { epoch: EPOCH, generation },
            issued_at: 1_790_000_000,
            services: Vec::new(),
            removed: BTreeSet::new(),
            hooks: Vec::new(),
            releases: Vec::new(),
            retirements: Vec::new(),
            peers: Default::default(),
            secrets: Vec::new(),
        };
        Self { manifest }
    }

    /// One instance of the default spec under this tag.
    pub(crate) fn service(self, name: &str, tag: &str) -> Self {
        let spec = spec(name);
        self.of(&spec, tag, 1, 1)
    }

    pub(crate) fn of(self, spec: &ServiceSpec, tag: &str, count: u32, attempt: u32) -> Self {
        let image = release(spec, tag).image;
        self.with_image(spec, image, count, attempt)
    }

    /// The same with an image of one's own.
    pub(crate) fn with_image(
        mut self,
        spec: &ServiceSpec,
        image: Image,
        count: u32,
        attempt: u32,
    ) -> Self {
        let release = Release { image, ..release(spec, "v1") };
        self.manifest.services.push(Assignment {
            paused: false,
            candidate: None,
            service: spec.name.clone(),
            revision: self.manifest.version.generation,
            release: release_id(&release),
            count,
            attempt,
            restarts: 0,
            secrets: std::collections::BTreeMap::new(),
        });
        self.manifest.releases.push(Envelope::sign(&release, &[&release_key()]));
        self
    }

    pub(crate) fn removed(mut self, name: &str) -> Self {
        self.manifest.removed.insert(name.parse().unwrap());
        self
    }

    /// With the floor of a service.
    pub(crate) fn retired(mut self, name: &str, below: u64) -> Self {
        self.manifest.retirements.push(retirement(name, below, &release_key()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.signed_by(&director_key())
    }

    pub(crate) fn signed_by(&self, key: &SecretKey) -> Vec<u8> {
        Envelope::sign(&self.manifest, &[key]).to_bytes()
    }
}

/// Opens what is sealed to the node.
pub(crate) fn opening_key() -> protocol::secret::OpeningKey {
    protocol::secret::OpeningKey::from_bytes([21; 32])
}

/// Who runs the tests.
pub(crate) fn uid() -> u32 {
    nix::unistd::getuid().as_raw()
}
