//! Against what nft, iptables, ufw and firewalld have really printed.

use super::super::testing::{Tree, check_findings};
use super::*;
use crate::ledger::{KeptAs, KeptHere};
use proptest::prelude::*;
use protocol::doctor::Severity::{Note, Ok as Well, Problem, Unknown};
use protocol::spec::Listen;

const NATIVE: &str = include_str!("captures/nft.json");
const PLAIN: &str = include_str!("captures/iptables.txt");
const OF_PLAIN: &str = include_str!("captures/nft-of-iptables.json");
const OF_UFW: &str = include_str!("captures/ufw.txt");
const FIREWALLD: &str = include_str!("captures/firewalld.json");
const ROUTE: &str = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t0101A8C0\t0003\n";

fn port(port: u16) -> Packet {
    Packet { interface: Some("eth0".to_owned()), source: None, port }
}

#[track_caller]
fn check_fates(chains: &Chains, open: &[u16], some: &[u16], closed: &[(u16, &str)]) {
    for one in open {
        assert_eq!(fate(chains, &port(*one)), Fate::In, "{one}");
    }
    for one in some {
        let fate = fate(chains, &port(*one));
        assert!(matches!(fate, Fate::Perhaps(_)), "{one}: {fate:?}");
    }
    for (one, rule) in closed {
        let Fate::Stopped(by) = fate(chains, &port(*one)) else { panic!("{one} is not stopped") };
        assert!(by.contains(rule), "{one}: {by}");
    }
}

#[test]
fn rules_of_nft_are_followed_through_sets_maps_and_rates() {
    let chains = nft::read(NATIVE, false).unwrap();
    let closed =
        [(80, "inet filter input: policy drop"), (8011, "policy drop"), (5353, "policy drop")];
    check_fates(&chains, &[22, 8000, 8010], &[9090, 9100, 5000], &closed);
}

#[test]
fn rules_of_iptables_are_followed_with_their_negations_and_comments() {
    let chains = iptables::read(PLAIN);
    let closed = [
        (8080, "-A INPUT -p tcp -m tcp --dport 8080 -j REJECT"),
        (7000, "policy drop"),
        (443, "policy drop"),
    ];
    check_fates(&chains, &[22, 8005], &[9090], &closed);
    let from_bridge = Packet { interface: Some("br-1".into()), ..port(7000) };
    assert_eq!(fate(&chains, &from_bridge), Fate::In, "`! -i eth0`");
    // The same rules as nft prints them are left to iptables-save, and say nothing twice.
    assert!(nft::read(OF_PLAIN, true).unwrap().is_empty());
}

#[test]
fn ufw_s_chains_are_followed_to_its_default() {
    let chains = iptables::read(OF_UFW);
    check_fates(&chains, &[22], &[9090], &[(80, ""), (8081, "--dport 8081 -j DROP")]);
    assert_eq!(keeper(&chains, &port(80)), Keeper::Ufw);
}

#[test]
fn firewalld_s_zones_are_followed_to_what_they_reject() {
    let chains = nft::read(FIREWALLD, false).unwrap();
    check_fates(&chains, &[22], &[], &[(80, "inet firewalld filter_IN_public: reject")]);
    assert_eq!(keeper(&chains, &port(80)), Keeper::Firewalld);
}

fn serving(tree: &Tree, listen: u16) -> Facts {
    let mut facts = tree.facts();
    let mut spec = crate::testing::spec("web");
    spec.ports[0].listen = Some(Listen { address: None, port: listen });
    let release = crate::testing::release(&spec, "v1");
    let kept = KeptHere {
        service: "web".parse().unwrap(),
        kept_as: KeptAs::Running,
        revision: 1,
        release,
    };
    facts.kept = vec![(kept, Some(true))];
    facts.subject.fleet_port = 0;
    facts
}

#[test]
fn a_port_that_is_closed_is_named_with_its_rule_and_with_what_its_keeper_is_told() {
    let cases = [
        (
            Tree::new().prints(IPTABLES, OF_UFW),
            "ufw allow 18080/tcp",
            "ufw allow from 10.213.0.0/16",
        ),
        (
            Tree::new().prints(IPTABLES, PLAIN),
            "iptables -I INPUT -p tcp --dport 18080",
            "iptables -I INPUT -s 10.213.0.0/16",
        ),
        (
            Tree::new().prints(NFT, NATIVE),
            "tcp dport 18080 accept",
            "ip saddr 10.213.0.0/16 accept",
        ),
        (
            Tree::new().prints(NFT, FIREWALLD),
            "firewall-cmd --permanent --add-port=18080/tcp",
            "--zone=trusted --add-source=10.213.0.0/16",
        ),
    ];
    for (tree, outside, inside) in cases {
        let facts = serving(&tree.file(ROUTES, ROUTE), 18080);
        let expected = [
            (OUTSIDE, Problem, "port 18080 (web) is closed: ", outside),
            (INSIDE, Problem, "do not reach web by its name (port 8080", inside),
        ];
        check_findings(&check(&facts), &expected);
    }
}

#[test]
fn open_boards_are_ok_and_boards_that_are_open_to_some_are_noted() {
    const DOCKER: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER-USER - \
        [0:0]\n-A FORWARD -j DOCKER-USER\nCOMMIT\n";
    let facts = serving(&Tree::new().prints(IPTABLES, DOCKER), 18080);
    check_findings(
        &check(&facts),
        &[(OUTSIDE, Well, "nothing keeps out 18080", ""), (INSIDE, Well, "10.213.0.0/16", "")],
    );
    let some = serving(&Tree::new().prints(IPTABLES, PLAIN).file(ROUTES, ROUTE), 9090);
    check_findings(
        &check(&some)[..1],
        &[(OUTSIDE, Note, "open to some only", "iptables -I INPUT")],
    );
    let idle = Tree::new().prints(IPTABLES, DOCKER).facts();
    check_findings(&check(&idle), &[(OUTSIDE, Well, "no service listens", "")]);
}

#[test]
fn rules_that_only_root_may_see_are_said_to_be_unknown() {
    let denied = || Ran::Failed("Operation not permitted (you must be root)".to_owned());
    let tree = Tree::new().program(NFT, denied()).program(IPTABLES, denied());
    let mut facts = serving(&tree, 18080);
    facts.as_root = false;
    check_findings(&check(&facts), &[(OUTSIDE, Unknown, "rules of firewalls are root's", "sudo")]);
    let mut facts = serving(&tree.file(UFW, "ENABLED=yes\nLOGLEVEL=low\n"), 18080);
    facts.as_root = false;
    check_findings(&check(&facts), &[(OUTSIDE, Unknown, "ufw is on", "sudo")]);
    check_findings(&check(&serving(&Tree::new(), 1)), &[(OUTSIDE, Unknown, "neither", "apt-get")]);
}

proptest! {
    /// Whatever a program prints, or however much of it: it is read or not, and judged.
    #[test]
    fn what_is_cut_or_made_up_harms_nobody(
        which in 0..4_usize,
        at in 0..30_000_usize,
        len in 0..200_usize,
        junk in "[-A-Za-z0-9 :!@{}\\[\\]\",./]{0,40}",
    ) {
        let text = [NATIVE, PLAIN, OF_UFW, FIREWALLD][which];
        let (from, to) = (at.min(text.len()), (at + len).min(text.len()));
        prop_assume!(text.is_char_boundary(from) && text.is_char_boundary(to));
        let text = format!("{}{junk}{}", &text[..from], &text[to..]);
        for chains in [nft::read(&text, false), Some(iptables::read(&text))].into_iter().flatten() {
            let _ = (fate(&chains, &port(80)), keeper(&chains, &port(80)));
        }
    }
}
