//! The CAs that a node believes, from one recovery to the next.

use super::*;
use authority::{Authority, ENDS_S};

fn bundle(all: &[&Authority]) -> Bundle {
    let text: String = all.iter().map(|one| one.ca.as_str()).collect();
    Bundle::read(text.as_bytes()).unwrap()
}

fn of(authority: &Authority) -> CertificateDer<'static> {
    until(authority, ENDS_S)
}

fn until(authority: &Authority, ends_s: u64) -> CertificateDer<'static> {
    leaf(authority.issue_until("node", &["node.pith"], ends_s).chain.as_bytes()).unwrap()
}

fn der(authority: &Authority) -> CertificateDer<'static> {
    authority::der(&authority.ca).remove(0)
}

#[test]
fn a_certificate_is_known_by_its_issuer_whenever_it_is_good() {
    // Both are called the same.
    let (ours, other) = (Authority::new(), Authority::new());
    for ends_s in [ENDS_S, authority::BEGINS_S + 1] {
        let certificate = until(&ours, ends_s);
        assert_eq!(super::ends_s(&certificate), Some(ends_s));
        assert!(is_of(&der(&ours), &certificate) && !is_of(&der(&other), &certificate));
    }
}

#[test]
fn the_new_ca_stands_first_and_beside_it_the_one_that_boards_know_the_node_by() {
    let (a, b, c) = (Authority::new(), Authority::new(), Authority::new());
    let once = bundle(&[&a]).follow(der(&b), Some(&of(&a)));
    assert_eq!(once, bundle(&[&b, &a]));
    assert_eq!(Bundle::read(once.to_pem().as_bytes()).unwrap(), once);
    // Recovered a second time: before the node was approved, and after boards are shown its certificate of B.
    assert_eq!(once.follow(der(&c), Some(&of(&a))), bundle(&[&c, &a]));
    assert_eq!(once.follow(der(&c), Some(&of(&b))), bundle(&[&c, &b]));
    assert_eq!(once.follow(der(&a), Some(&of(&a))), bundle(&[&a, &b]), "back to what was");
    assert_eq!(bundle(&[&a]).follow(der(&b), None), bundle(&[&b, &a]));
    assert!(Bundle::read(b"").is_err());
}

#[test]
fn a_node_waits_for_a_certificate_as_long_as_its_own_is_of_the_ca_before() {
    let (a, b) = (Authority::new(), Authority::new());
    let both = bundle(&[&b, &a]);
    assert!(is_awaiting(&both, Some(&of(&a))) && is_awaiting(&both, None));
    assert!(!is_awaiting(&both, Some(&of(&b))));
    assert!(!is_awaiting(&bundle(&[&a]), Some(&of(&a))), "nobody was lost");
    assert!(
        !is_awaiting(&bundle(&[&b]), Some(&of(&a))),
        "never asked for by a node that has not followed"
    );
}

#[test]
fn the_first_renewal_after_a_recovery_shows_the_own_certificate_and_the_second_forgets_the_ca_before()
 {
    let (a, b) = (Authority::new(), Authority::new());
    let both = bundle(&[&b, &a]);
    let (old, new) = (of(&a), of(&b));
    let due = ends_s(&new).unwrap() - 30 * 86_400;
    let early = after_renewal(&both, Some(&new), true, due - 1);
    assert_eq!(early, AfterRenewal::Stay, "a clock that is ahead renews each day");
    assert_eq!(after_renewal(&both, Some(&old), true, due), AfterRenewal::Stay, "approved");
    assert_eq!(after_renewal(&both, Some(&new), true, due), AfterRenewal::ShowOwn);
    assert_eq!(after_renewal(&both, Some(&new), false, due), AfterRenewal::ForgetBefore);
    assert_eq!(both.without_before(), bundle(&[&b]));
    assert_eq!(after_renewal(&bundle(&[&b]), Some(&new), false, due), AfterRenewal::Stay);
    // What a power cut left of a recovery that was never followed.
    assert_eq!(after_renewal(&bundle(&[&a]), Some(&old), true, due), AfterRenewal::ShowOwn);
}

#[test]
fn a_copy_that_is_about_to_end_is_worn_once_there_is_a_certificate_of_the_new_ca() {
    const NOW_S: u64 = 1_893_456_000;
    let (a, b) = (Authority::new(), Authority::new());
    let both = bundle(&[&b, &a]);
    let (new, ending) = (of(&b), until(&a, NOW_S + ENDING_S));
    assert!(is_worn(&both, &new, &ending, NOW_S));
    assert!(!is_worn(&both, &new, &ending, NOW_S - 1));
    assert!(!is_worn(&both, &ending, &ending, NOW_S), "there is no better one yet");
    assert!(!is_worn(&both, &of(&a), &ending, NOW_S), "nor of the new CA");
}
