//! Invitations, logins and their end; requests that are sent again. Time is an argument.

use protocol::join::{Offer, TlsKey};

use super::super::answers::{ANSWERS_KEPT_MS, Once, Outcome, Repeatable, Secrecy};
use super::super::records::{AnswerKey, Change, Operator};
use super::super::requests::{Login, NewOperator, Refused};
use super::world::World;
use crate::ca::OperatorPass;
use crate::role::Role;

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_S: u64 = 24 * 60 * 60;

fn invite(world: &mut World, name: &str, of: u8) -> Result<Login, Refused> {
    let offer = Offer::from_random([of; 32]);
    let (name, role) = (name.parse().unwrap(), Role::Deployer);
    let wish = NewOperator { name, role, ttl_ms: HOUR_MS, addresses: Vec::new() };
    world.state.invite(&wish, &offer, world.at)?;
    let mut der = vec![
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    der.extend([of; 64]);
    let tls_key = TlsKey::from_der(&der).unwrap();
    Ok(Login { token: offer.id, secret: offer.secret, tls_key })
}

fn login(world: &mut World, login: &Login) -> Result<Operator, Refused> {
    let at = world.at;
    let sha256 = protocol::id::sha256_hex(login.tls_key.der());
    let expires_at = at.unix_ms / 1000 + 90 * DAY_S;
    let pass = OperatorPass { pem: "pem".into(), serial: "4b".into(), sha256, expires_at };
    world.state.login(login, |_| Ok(pass), at).map(|(operator, _)| operator)
}

fn role_of(world: &World, login: &Login) -> Option<Role> {
    let sha256 = protocol::id::sha256_hex(login.tls_key.der());
    world.state.operator_with(&sha256, world.at).map(|(_, role)| role)
}

fn code<T: std::fmt::Debug>(result: Result<T, Refused>) -> &'static str {
    result.unwrap_err().code()
}

fn pass(world: &mut World, ms: u64) {
    world.at.unix_ms += ms;
}

#[test]
fn an_invitation_is_good_once_and_for_its_time() {
    let mut world = World::with_nodes(&[]);
    let anna = invite(&mut world, "anna", 1).unwrap();
    assert_eq!(role_of(&world, &anna), None, "not before the login");
    let guessed = Login { secret: Offer::from_random([9; 32]).secret, ..anna.clone() };
    assert_eq!(code(login(&mut world, &guessed)), "invitation_unknown");
    login(&mut world, &anna).unwrap();
    assert_eq!(role_of(&world, &anna), Some(Role::Deployer));
    assert_eq!(code(login(&mut world, &anna)), "invitation_used");
    assert_eq!(code(invite(&mut world, "anna", 2)), "operator_exists");
    let late = invite(&mut world, "bert", 3).unwrap();
    pass(&mut world, HOUR_MS);
    assert_eq!(code(login(&mut world, &late)), "invitation_expired");
}

#[test]
fn a_newer_invitation_replaces_one_that_nobody_used() {
    let mut world = World::with_nodes(&[]);
    let first = invite(&mut world, "anna", 1).unwrap();
    let second = invite(&mut world, "anna", 2).unwrap();
    assert_eq!(code(login(&mut world, &first)), "invitation_unknown");
    login(&mut world, &second).unwrap();
}

#[test]
fn a_revoked_operator_and_one_whose_certificate_is_over_may_nothing_until_invited_again() {
    let mut world = World::with_nodes(&[]);
    let anna = invite(&mut world, "anna", 1).unwrap();
    login(&mut world, &anna).unwrap();
    let name = "anna".parse().unwrap();
    let shown = world.state.revoke_operator(&name, world.at).unwrap();
    assert_eq!((shown.status.as_str(), role_of(&world, &anna)), ("revoked", None));
    world.state.revoke_operator(&name, world.at).unwrap();
    assert_eq!(code(world.state.revoke_operator(&"eve".parse().unwrap(), world.at)), "no_operator");
    let again = invite(&mut world, "anna", 2).unwrap();
    login(&mut world, &again).unwrap();
    assert_eq!((role_of(&world, &anna), role_of(&world, &again)), (None, Some(Role::Deployer)));
    pass(&mut world, 91 * DAY_S * 1000);
    assert_eq!(role_of(&world, &again), None);
    assert_eq!(world.state.show_operators(world.at)[0].status, "expired");
    invite(&mut world, "anna", 3).unwrap();
}

/// What `of` was given, renewed over what `shown` was given.
fn renew(world: &mut World, shown: &Login, of: &Login) -> Result<Operator, Refused> {
    let at = world.at;
    let sha256 = |login: &Login| protocol::id::sha256_hex(login.tls_key.der());
    let (sha256, over) = (sha256(of), sha256(shown));
    let expires_at = at.unix_ms / 1000 + 90 * DAY_S;
    let pass = OperatorPass { pem: "pem".into(), serial: "4c".into(), sha256, expires_at };
    world.state.renew_login(&over, |_| Ok(pass), at).map(|(operator, _)| operator)
}

#[test]
fn a_renewed_login_goes_on_and_an_answer_that_was_lost_locks_nobody_out() {
    let mut world = World::with_nodes(&[]);
    let first = invite(&mut world, "anna", 1).unwrap();
    // Keys of others, for certificates that are told apart.
    let [lost, second, third] = [2, 3, 4].map(|of| invite(&mut world, "keys", of).unwrap());
    login(&mut world, &first).unwrap();
    pass(&mut world, 61 * DAY_S * 1000);
    renew(&mut world, &first, &lost).unwrap();
    assert_eq!(renew(&mut world, &first, &second).unwrap().role, Role::Deployer);
    let roles = |world: &World| [&first, &lost, &second].map(|own| role_of(world, own).is_some());
    assert_eq!(roles(&world), [true, false, true], "one that is renewed over counts to its end");
    world.settle();
    let _ = world.restart();
    assert_eq!(roles(&world), [true, false, true]);
    pass(&mut world, 29 * DAY_S * 1000);
    assert_eq!(roles(&world), [false, false, true]);
    assert_eq!(code(renew(&mut world, &first, &third)), "not_logged_in");
    pass(&mut world, 32 * DAY_S * 1000);
    renew(&mut world, &second, &third).unwrap();
    assert_eq!(world.state.show_operators(world.at)[0].status, "active");
}

#[test]
fn who_is_revoked_renews_nothing_and_has_nothing_that_was_renewed() {
    let mut world = World::with_nodes(&[]);
    let first = invite(&mut world, "anna", 1).unwrap();
    let second = invite(&mut world, "keys", 2).unwrap();
    login(&mut world, &first).unwrap();
    renew(&mut world, &first, &second).unwrap();
    world.state.revoke_operator(&"anna".parse().unwrap(), world.at).unwrap();
    assert_eq!([&first, &second].map(|own| role_of(&world, own)), [None, None]);
    assert_eq!(code(renew(&mut world, &first, &second)), "not_logged_in");
    // Whoever is invited anew shows the new certificate alone.
    let again = invite(&mut world, "anna", 5).unwrap();
    login(&mut world, &again).unwrap();
    assert_eq!([&first, &second].map(|own| role_of(&world, own)), [None, None]);
}

#[test]
fn operators_and_answers_outlive_a_restart_and_an_unused_invitation_can_be_withdrawn() {
    let mut world = World::with_nodes(&[]);
    let anna = invite(&mut world, "anna", 1).unwrap();
    login(&mut world, &anna).unwrap();
    let bert = invite(&mut world, "bert", 2).unwrap();
    world.state.revoke_operator(&"bert".parse().unwrap(), world.at).unwrap();
    let counted = once(&mut world, "key", "a", Secrecy::Open);
    world.settle();
    let _ = world.restart();
    assert_eq!(role_of(&world, &anna), Some(Role::Deployer));
    assert_eq!(code(login(&mut world, &bert)), "invitation_unknown");
    assert_eq!(once(&mut world, "key", "a", Secrecy::Open), repeated(counted));
}

fn once(world: &mut World, key: &str, request: &str, secrecy: Secrecy) -> Once {
    let of = AnswerKey { identity: "operator:anna".to_owned(), key: key.to_owned() };
    let asked = Repeatable { of, request: request.to_owned() };
    let act = |state: &mut super::super::State, at| {
        // Each time that it is done is seen.
        let offer = Offer::from_random([7; 32]);
        let name = format!("made-{}", state.show_operators(at).len()).parse().unwrap();
        let wish = NewOperator { name, role: Role::Viewer, ttl_ms: 1, addresses: Vec::new() };
        let body = state.invite(&wish, &offer, at).unwrap().name.to_string();
        Outcome { status: 200, code: None, body }
    };
    world.state.once(Some(&asked), secrecy, world.at, act)
}

fn repeated(once: Once) -> Once {
    let Once::Done(outcome) = once else { panic!("it was done: {once:?}") };
    Once::Repeated(outcome)
}

#[test]
fn a_request_under_a_key_is_done_once_a_day() {
    let mut world = World::with_nodes(&[]);
    let first = once(&mut world, "key", "a", Secrecy::Open);
    assert_eq!(once(&mut world, "key", "a", Secrecy::Open), repeated(first));
    assert_eq!(once(&mut world, "key", "b", Secrecy::Open), Once::OtherRequest);
    assert!(matches!(once(&mut world, "other", "a", Secrecy::Open), Once::Done(_)));
    assert_eq!(world.state.show_operators(world.at).len(), 2);
    pass(&mut world, ANSWERS_KEPT_MS + 1);
    assert!(matches!(once(&mut world, "key", "a", Secrecy::Open), Once::Done(_)));
    let forgotten = |change: &Change| matches!(change, Change::ForgetAnswer(_));
    let effects = world.state.take_effects(world.at);
    assert_eq!(effects.changes.iter().filter(|change| forgotten(change)).count(), 2);
}

#[test]
fn an_answer_with_a_secret_is_repeated_and_never_written() {
    let mut world = World::with_nodes(&[]);
    let first = once(&mut world, "key", "a", Secrecy::Secret);
    assert_eq!(once(&mut world, "key", "a", Secrecy::Secret), repeated(first));
    world.settle();
    let _ = world.restart();
    assert_eq!(once(&mut world, "key", "a", Secrecy::Secret), Once::SecretGone);
    assert_eq!(world.state.show_operators(world.at).len(), 1);
}
