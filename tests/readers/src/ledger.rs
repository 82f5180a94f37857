//! The bytes of a slot file: whatever they are, what the other slot remembers is not lost.

use std::sync::LazyLock;

use agent::ledger::{Contents, Found};
use planner::Now;
use protocol::acceptance::{Acceptance, Known, accept};
use protocol::envelope::Envelope;
use sha2::{Digest as _, Sha256};

use crate::envelopes::same;
use crate::world::{GOLDEN_ENVELOPE, WORLD};

const MAGIC: &[u8; 8] = b"PITHLDG1";
const HEAD_BYTES: usize = 8 + 8 + 4 + 32;
/// The order of the slot that is whole.
const BEFORE: u64 = 5;

/// What the whole slot holds, and its bytes.
static KNOWN: LazyLock<(Contents, Vec<u8>)> = LazyLock::new(|| {
    let accepted = accept(GOLDEN_ENVELOPE, &WORLD.trust, &WORLD.node, Known::NOTHING);
    let Ok(Acceptance::New(accepted)) = accepted else { panic!("the golden manifest is good") };
    let envelope = Envelope::from_bytes(GOLDEN_ENVELOPE).expect("it is an envelope");
    let contents = Contents::default().accept(&accepted, envelope, None);
    let bytes = slot(BEFORE, &json(&contents));
    (contents, bytes)
});

/// A slot file, and the payload of one that is whole.
pub(crate) fn ledger(bytes: &[u8]) {
    let (known, before) = &*KNOWN;
    let found = Found::in_slots([Some(before), Some(bytes)]);
    match sequence_of(bytes) {
        Some(sequence) if sequence > BEFORE => after(&found, payload_of(bytes), known),
        Some(_) => assert_eq!(found.contents, *known),
        None => assert_eq!((&found.contents, found.damage.len()), (known, 1)),
    }
    if sequence_of(bytes).is_none() {
        let alone = Found::in_slots([None, Some(bytes)]);
        assert_eq!((alone.contents, alone.damage.len()), (Contents::default(), 1));
    }
    let newer = slot(BEFORE + 1, bytes);
    after(&Found::in_slots([Some(&newer), Some(before)]), bytes, known);
}

/// The newer slot counts where its payload can be understood, else the one before it.
fn after(found: &Found, payload: &[u8], known: &Contents) {
    let Ok(contents) = serde_json::from_slice::<Contents>(payload) else {
        assert_eq!((&found.contents, found.damage.len()), (known, 1));
        return;
    };
    assert_eq!((&found.contents, found.damage.len()), (&contents, 0));
    used(&contents);
}

/// What the agent does with what it remembers.
fn used(contents: &Contents) {
    same(&serde_json::from_slice::<Contents>(&json(contents)));
    let _ = contents.histories("boot", Now(1));
    let trust = contents.trust(&WORLD.root);
    assert!(trust.root.version >= WORLD.root.version, "a root never goes back");
    let mut next = trust.root.clone();
    next.version = next.version.saturating_add(1);
    let _ = contents.succeed(&next, &trust.root);
    let accepted = accept(
        GOLDEN_ENVELOPE,
        &trust,
        &WORLD.node,
        Known { floors: contents.floors(), seen: contents.seen().as_ref(), ..Known::NOTHING },
    );
    if let Ok(Acceptance::New(accepted)) = accepted {
        let envelope = Envelope::from_bytes(GOLDEN_ENVELOPE).expect("it is an envelope");
        let after = contents.accept(&accepted, envelope, None);
        assert_eq!(after.seen(), Some(accepted.seen()));
        for (service, floor) in contents.floors() {
            assert!(after.floors().get(service) >= Some(floor), "a floor never falls");
        }
    }
}

/// As it stands on disk.
pub(crate) fn json(contents: &Contents) -> Vec<u8> {
    serde_json::to_vec(contents).expect("a ledger serialises")
}

/// A slot as the agent writes it, by its description alone.
fn slot(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small input");
    [
        &MAGIC[..],
        &sequence.to_le_bytes(),
        &length.to_le_bytes(),
        &checksum(sequence, payload),
        payload,
    ]
    .concat()
}

fn checksum(sequence: u64, payload: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(sequence.to_le_bytes()).chain_update(payload).finalize().into()
}

fn payload_of(bytes: &[u8]) -> &[u8] {
    bytes.get(HEAD_BYTES..).unwrap_or_default()
}

/// The order of a slot that is whole.
fn sequence_of(bytes: &[u8]) -> Option<u64> {
    let sequence = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (bytes == slot(sequence, payload_of(bytes))).then_some(sequence)
}
