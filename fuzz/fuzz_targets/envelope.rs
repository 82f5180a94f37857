//! What a node and the coordinator read from the wire: no bytes panic, and nothing is accepted that was not signed.
//!
//! The keys are those of the golden messages in `protocol/tests/golden`, which serve as seeds: their envelopes reach
//! the readers as they are, their payloads through a signature made here, which no fuzzer would find.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use libfuzzer_sys::fuzz_target;
use protocol::acceptance::{Acceptance, NodeIdentity, accept, verify_hello, verify_node_message};
use protocol::acceptance::{reread, verify_release};
use protocol::envelope::Envelope;
use protocol::id::FleetId;
use protocol::keys::{PublicKey, Role, RoleName, Root, SecretKey};
use protocol::report::Report;

const RELEASE_SEED: [u8; 32] = [2; 32];
const DIRECTOR_SEED: [u8; 32] = [3; 32];
const NODE_SEED: [u8; 32] = [4; 32];

/// The only manifest that the director has signed.
const GOLDEN: &[u8] = include_bytes!("../../protocol/tests/golden/manifest.v1.payload.json");

static FLEET: LazyLock<(Root, NodeIdentity, PublicKey)> = LazyLock::new(|| {
    let fleet = FleetId::from_random([0xf1; 16]);
    let role = |seed| Role::single(SecretKey::from_seed(seed).public());
    let roles = BTreeMap::from([
        (RoleName::Director, role(DIRECTOR_SEED)),
        (RoleName::Release, role(RELEASE_SEED)),
    ]);
    let root = Root { format: 1, fleet: fleet.clone(), version: 1, epoch: 7, roles };
    let environment = "default".parse().expect("a name");
    let key = SecretKey::from_seed(NODE_SEED).public();
    (root, NodeIdentity { fleet, node: key.node_id(), environment }, key)
});

fuzz_target!(|data: &[u8]| {
    let (root, node, key) = &*FLEET;

    if let Ok(Acceptance::New(accepted)) = accept(data, root, node, None, &BTreeSet::new()) {
        assert_eq!(accepted.manifest.payload(), GOLDEN, "nobody signed this");
    }
    _ = verify_hello(data, &node.fleet);
    _ = verify_node_message::<Report>(data, &node.fleet, key);

    let manifest = sign("application/vnd.pith.manifest.v1+json", data, DIRECTOR_SEED);
    if let Ok(Acceptance::New(accepted)) = accept(&manifest, root, node, None, &BTreeSet::new()) {
        assert_eq!(reread(&manifest, root, node).as_ref(), Ok(&*accepted));
        for assignment in &accepted.manifest.services {
            assert!(accepted.releases.contains_key(&assignment.release));
        }
    }
    let release = sign("application/vnd.pith.release.v1+json", data, RELEASE_SEED);
    if let Ok(envelope) = Envelope::from_bytes(&release) {
        _ = verify_release(&envelope, root, &node.fleet);
    }
    _ = verify_hello(&sign("application/vnd.pith.hello.v1+json", data, NODE_SEED), &node.fleet);
    let report = sign("application/vnd.pith.report.v1+json", data, NODE_SEED);
    _ = verify_node_message::<Report>(&report, &node.fleet, key);
});

/// An envelope around bytes that need not be a document, with a signature that holds.
fn sign(kind: &str, body: &[u8], seed: [u8; 32]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    message.extend_from_slice(body);
    let signature = SigningKey::from_bytes(&seed).sign(&message).to_bytes();
    let (body, signature) = (BASE64.encode(body), BASE64.encode(signature));
    let signature = format!(r#"{{"keyid":"0000000000000000","sig":"{signature}"}}"#);
    format!(r#"{{"payloadType":"{kind}","payload":"{body}","signatures":[{signature}]}}"#)
        .into_bytes()
}
