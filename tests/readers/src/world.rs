//! The fleet of the golden messages in `protocol/tests/golden`: its keys are known, so that what no fuzzer would find, a
//! signature that holds, is made here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use protocol::acceptance::{NodeIdentity, Trust};
use protocol::id::FleetId;
use protocol::keys::{PublicKey, Role, RoleName, Root, SecretKey};
use protocol::payload::PayloadType;

const ROOT_SEED: [u8; 32] = [1; 32];
const RELEASE_SEED: [u8; 32] = [2; 32];
const DIRECTOR_SEED: [u8; 32] = [3; 32];
const NODE_SEED: [u8; 32] = [4; 32];
const AGENT_RELEASE_SEED: [u8; 32] = [12; 32];

/// The only manifests that the director has signed.
pub(crate) const GOLDEN_MANIFESTS: [&[u8]; 2] = [
    include_bytes!("../../../protocol/tests/golden/manifest.v1.payload.json"),
    include_bytes!("../../../protocol/tests/golden/retiring-manifest.v1.payload.json"),
];
/// One of them as it travelled.
pub(crate) const GOLDEN_ENVELOPE: &[u8] =
    include_bytes!("../../../protocol/tests/golden/manifest.v1.envelope.json");

/// Who trusts whom there.
pub(crate) struct World {
    pub(crate) root: Root,
    pub(crate) trust: Trust,
    pub(crate) node: NodeIdentity,
    pub(crate) key: PublicKey,
}

/// The one fleet.
pub(crate) static WORLD: LazyLock<World> = LazyLock::new(|| {
    let fleet = FleetId::from_random([0xf1; 16]);
    let role = |seed| Role::single(SecretKey::from_seed(seed).public());
    let roles = BTreeMap::from([
        (RoleName::Root, role(ROOT_SEED)),
        (RoleName::Release, role(RELEASE_SEED)),
        (RoleName::Director, role(DIRECTOR_SEED)),
        (RoleName::AgentRelease, role(AGENT_RELEASE_SEED)),
    ]);
    let root = Root { format: 1, fleet: fleet.clone(), version: 1, epoch: 7, roles };
    let environment = "default".parse().expect("a name");
    let key = SecretKey::from_seed(NODE_SEED).public();
    let node = NodeIdentity { fleet, node: key.node_id(), environment };
    World { trust: Trust::from(root.clone()), root, node, key }
});

/// Whose signature a purpose takes.
fn seed(purpose: PayloadType) -> [u8; 32] {
    match purpose {
        PayloadType::Root => ROOT_SEED,
        PayloadType::Release | PayloadType::Retirement => RELEASE_SEED,
        PayloadType::AgentRelease => AGENT_RELEASE_SEED,
        PayloadType::Manifest
        | PayloadType::Time
        | PayloadType::Whereabouts
        | PayloadType::Recovery
        | PayloadType::Command => DIRECTOR_SEED,
        PayloadType::Hello
        | PayloadType::Report
        | PayloadType::Stream
        | PayloadType::Join
        | PayloadType::Renew => NODE_SEED,
    }
}

/// An envelope around bytes that need not be a document, with a signature that holds.
pub(crate) fn sign(purpose: PayloadType, body: &[u8]) -> Vec<u8> {
    let kind = purpose.as_str();
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    message.extend_from_slice(body);
    let signature = SigningKey::from_bytes(&seed(purpose)).sign(&message).to_bytes();
    let (body, signature) = (BASE64.encode(body), BASE64.encode(signature));
    let signature = format!(r#"{{"keyid":"0000000000000000","sig":"{signature}"}}"#);
    format!(r#"{{"payloadType":"{kind}","payload":"{body}","signatures":[{signature}]}}"#)
        .into_bytes()
}
