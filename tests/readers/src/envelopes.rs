//! What a node and the coordinator read from the wire: nothing is accepted that was not signed, and a signature makes no
//! bytes harmless.

use agent::ledger::Contents;
use protocol::acceptance::{
    Acceptance, Known, accept, reread, verify_hello, verify_node_message, verify_release,
    verify_retirement,
};
use protocol::agent_release;
use protocol::command::{self, MAX_PART_BYTES, Part, What};
use protocol::envelope::{Envelope, Rejected, Verified};
use protocol::join::{Answer, Coordinators, JoinBody, RenewBody, verify_join, verify_renew};
use protocol::payload::{Payload, PayloadType};
use protocol::recovery::{self, Recovery, RecoveryBody};
use protocol::report::Report;
use protocol::succession::{Chain, first, succeed, unproven, walk};
use protocol::time;
use protocol::whereabouts::{self, is_address};

use crate::kind_and_rest;
use crate::world::{GOLDEN_MANIFESTS, WORLD, sign};

/// Bytes as they come.
pub(crate) fn envelope(bytes: &[u8]) {
    let (trust, node, root) = (&WORLD.trust, &WORLD.node, &WORLD.root);
    if let Ok(Acceptance::New(accepted)) = accept(bytes, trust, node, Known::NOTHING) {
        assert!(GOLDEN_MANIFESTS.contains(&accepted.manifest.payload()), "nobody signed this");
    }
    if let Ok(chain) = Chain::from_bytes(bytes) {
        let _ = walk(root, &chain);
    }
    if let Ok(envelope) = Envelope::from_bytes(bytes) {
        let _ = unproven(&envelope);
        let _ = first(&envelope);
        let read = Envelope::from_bytes(&envelope.to_bytes());
        assert!(matches!(read, Ok(_) | Err(Rejected::TooLarge { .. })), "it is written and read");
    }
    let _ = verify_hello(bytes, &node.fleet);
    let _ = verify_node_message::<Report>(bytes, &node.fleet, &WORLD.key);
    let _ = verify_join(bytes, &node.fleet);
    let _ = verify_renew(bytes, &node.fleet);
}

/// A purpose, and a body under a signature that holds.
pub(crate) fn payloads(bytes: &[u8]) {
    let Some((kind, body)) = kind_and_rest(bytes) else { return };
    match kind {
        "join-body" => return same(&serde_json::from_slice::<JoinBody>(body)),
        "renew-body" => return same(&serde_json::from_slice::<RenewBody>(body)),
        "recovery-body" => {
            let body = serde_json::from_slice::<RecoveryBody>(body);
            let followed = body.as_ref().map(|body| recovery::accept(body, &WORLD.root));
            assert!(!matches!(followed, Ok(Ok(_))), "nobody here signs a second root");
            return same(&body);
        }
        "answer" => return same(&serde_json::from_slice::<Answer>(body)),
        _ => {}
    }
    let media_type = format!("application/vnd.pith.{kind}.v1+json");
    let purpose = PayloadType::ALL.into_iter().find(|purpose| purpose.as_str() == media_type);
    if let Some(purpose) = purpose {
        signed(purpose, &sign(purpose, body));
    }
}

/// A purpose that begins to be said gets its reader here.
fn signed(purpose: PayloadType, bytes: &[u8]) {
    let (root, fleet) = (&WORLD.root, &WORLD.node.fleet);
    match purpose {
        PayloadType::Manifest => manifest(bytes),
        PayloadType::Root => with_envelope(bytes, |envelope| {
            let _ = kept(first(envelope));
            if let Ok(next) = kept(succeed(root, envelope)) {
                assert_eq!((next.version, &next.fleet), (root.version + 1, fleet));
                assert!(next.epoch >= root.epoch);
            }
        }),
        PayloadType::Release => with_envelope(bytes, |envelope| {
            if let Ok(release) = kept(verify_release(envelope, root, fleet)) {
                let _ = release.has_one_name();
            }
        }),
        PayloadType::Retirement => with_envelope(bytes, |envelope| {
            let _ = kept(verify_retirement(envelope, root, fleet));
        }),
        PayloadType::Hello => {
            let _ = kept(verify_hello(bytes, fleet).map(|(hello, _)| hello));
        }
        PayloadType::Report => {
            let _ = kept(verify_node_message::<Report>(bytes, fleet, &WORLD.key));
        }
        PayloadType::Join => {
            let _ = kept(verify_join(bytes, fleet).map(|(join, _)| join));
        }
        PayloadType::Renew => {
            let _ = kept(verify_renew(bytes, fleet).map(|(renew, _)| renew));
        }
        PayloadType::Time => {
            // Of the golden time.
            const NONCE: &str = "00112233445566778899aabbccddeeff";
            if let Ok(time) = time::accept(bytes, root, &WORLD.node, Some(NONCE)) {
                assert_eq!(time.nonce, NONCE);
            }
            assert!(time::accept(bytes, root, &WORLD.node, None).is_err());
        }
        PayloadType::Whereabouts => {
            if let Ok(said) = kept(whereabouts::accept(bytes, root)) {
                let known = Coordinators::default().learn(&said).expect("nothing was known");
                assert!(known.addresses.iter().all(|address| is_address(address)));
                assert_eq!(known.learn(&said), None, "it is no news twice");
            }
        }
        PayloadType::Recovery => with_envelope(bytes, |envelope| {
            let _ = kept(envelope.verify::<Recovery>(root));
        }),
        PayloadType::Command => {
            if let Ok(command) = kept(command::accept(bytes, root, &WORLD.node)) {
                let node = (&WORLD.node.fleet, &WORLD.node.node);
                assert_eq!((&command.fleet, &command.node), node);
            }
        }
        PayloadType::Stream => {
            if let Ok(part) = kept(verify_node_message::<Part>(bytes, fleet, &WORLD.key))
                && let What::Output(output) = &part.what
            {
                assert!(output.bytes().is_none_or(|bytes| bytes.len() <= MAX_PART_BYTES));
            }
        }
        PayloadType::AgentRelease => {
            if let Ok(release) = kept(agent_release::accept(bytes, root)) {
                assert_eq!(release.fleet, *fleet);
                let older = release.program_for("arm64", release.counter.saturating_add(1));
                assert!(older.is_err() || release.counter == u64::MAX);
                let _ = release.program_for("arm64", 0).map(|program| program.size);
            }
        }
    }
}

fn manifest(bytes: &[u8]) {
    let (trust, node) = (&WORLD.trust, &WORLD.node);
    let Ok(Acceptance::New(accepted)) = accept(bytes, trust, node, Known::NOTHING) else { return };
    assert_eq!(reread(bytes, trust, node).as_ref(), Ok(&*accepted));
    for assignment in &accepted.manifest.services {
        let release = &accepted.releases[&assignment.release];
        let floor = accepted.floors.get(&assignment.service);
        assert!(floor.is_none_or(|floor| release.counter >= *floor), "it is retired");
    }
    with_envelope(bytes, |envelope| {
        let contents = Contents::default().accept(&accepted, envelope.clone(), None);
        same(&serde_json::from_slice::<Contents>(&crate::ledger::json(&contents)));
        assert_eq!(contents.seen(), Some(accepted.seen()));
    });
    let seen = accepted.seen();
    let again = Known { seen: Some(&seen), ..Known::NOTHING };
    assert!(matches!(accept(bytes, trust, node, again), Ok(Acceptance::Same)));
}

fn with_envelope(bytes: &[u8], read: impl FnOnce(&Envelope)) {
    if let Ok(envelope) = Envelope::from_bytes(bytes) {
        read(&envelope);
    }
}

/// What was accepted is written and read as the same; why the rest is refused can be said.
fn kept<T: Payload + PartialEq + std::fmt::Debug>(
    read: Result<Verified<T>, Rejected>,
) -> Result<Verified<T>, Rejected> {
    match &read {
        Ok(value) => {
            let text = serde_json::to_vec(&**value).expect("a payload serialises");
            let again: T = serde_json::from_slice(&text).expect("and reads");
            assert_eq!(again, **value);
        }
        Err(reason) => assert!(!reason.code().is_empty() && !reason.to_string().is_empty()),
    }
    read
}

/// A document that is read is written and read as the same.
pub(crate) fn same<T>(read: &serde_json::Result<T>)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let Ok(value) = read else { return };
    let text = serde_json::to_vec(value).expect("what was read serialises");
    let again: T = serde_json::from_slice(&text).expect("and reads");
    assert_eq!(again, *value);
}
