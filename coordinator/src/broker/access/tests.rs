//! Access rules, each with who is refused and why.

use super::*;

const FLEET: &str = "000000000000000000000000000000f1";
const NODE: &str = "00000000000000000000000000000001";
const OTHER: &str = "00000000000000000000000000000002";
const TOKEN: &str = "token-of-the-first-node";

fn node(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn credentials() -> Credentials {
    let credentials = Credentials::new(FLEET.parse().unwrap(), "token-of-the-coordinator").unwrap();
    credentials.admit(&node(NODE), TOKEN).unwrap();
    credentials.admit(&node(OTHER), "token-of-the-other-node").unwrap();
    credentials
}

fn check_publish(who: &Identity, topic: &str, retain: Retain, expected: bool) {
    let topic = topic.replace("FLEET", FLEET).replace("NODE", NODE).replace("OTHER", OTHER);
    assert_eq!(credentials().may_publish(who, &topic, retain), expected, "{who:?} {topic}");
}

fn check_subscribe(who: &Identity, filter: &str, expected: bool) {
    let filter = filter.replace("FLEET", FLEET).replace("NODE", NODE).replace("OTHER", OTHER);
    assert_eq!(credentials().may_subscribe(who, &filter), expected, "{who:?} {filter}");
}

#[test]
fn a_client_is_who_its_id_name_and_token_agree_on() {
    let check = |client_id: &str, username: Option<&str>, password: Option<&str>| {
        credentials().authenticate(client_id, username, password.map(str::as_bytes))
    };
    assert_eq!(check(NODE, Some(NODE), Some(TOKEN)), Ok(Identity::Node(node(NODE))));
    assert_eq!(
        check("coordinator", Some("coordinator"), Some("token-of-the-coordinator")),
        Ok(Identity::Coordinator)
    );
    assert_eq!(check(NODE, Some(NODE), Some("guess")), Err(Refusal::WrongToken));
    assert_eq!(check(NODE, Some(NODE), None), Err(Refusal::WrongToken));
    assert_eq!(check(NODE, None, Some(TOKEN)), Err(Refusal::UsernameDiffers));
    assert_eq!(check(OTHER, Some(NODE), Some(TOKEN)), Err(Refusal::UsernameDiffers));
    assert_eq!(check(OTHER, Some(OTHER), Some(TOKEN)), Err(Refusal::WrongToken));
    assert_eq!(check("", Some(""), Some(TOKEN)), Err(Refusal::UnknownClient));
    assert_eq!(check("anyone", Some("anyone"), Some(TOKEN)), Err(Refusal::UnknownClient));
}

#[test]
fn a_revoked_node_is_nobody_even_in_a_standing_session() {
    let credentials = credentials();
    assert!(credentials.holder(NODE).is_some());
    credentials.revoke(&node(NODE));
    assert_eq!(credentials.holder(NODE), None);
    assert_eq!(
        credentials.authenticate(NODE, Some(NODE), Some(TOKEN.as_bytes())),
        Err(Refusal::UnknownClient)
    );
}

#[test]
fn a_short_token_is_refused() {
    assert_eq!(credentials().admit(&node(NODE), "short"), Err(InvalidToken));
}

#[test]
fn a_node_writes_its_own_up_and_retains_only_what_the_table_keeps() {
    let who = Identity::Node(node(NODE));
    for topic in ["report", "load", "hello", "stream/7"] {
        check_publish(&who, &format!("pith/v1/FLEET/n/NODE/up/{topic}"), Retain::Passing, true);
    }
    check_publish(&who, "pith/v1/FLEET/n/NODE/up/report", Retain::Kept, true);
    check_publish(&who, "pith/v1/FLEET/n/NODE/up/load", Retain::Kept, false);
    check_publish(&who, "pith/v1/FLEET/n/NODE/up/anything", Retain::Kept, false);
    check_publish(&who, "pith/v1/FLEET/n/NODE/down/manifest", Retain::Passing, false);
    check_publish(&who, "pith/v1/FLEET/n/OTHER/up/report", Retain::Passing, false);
    check_publish(&who, "pith/v1/FLEET/n/NODE/up", Retain::Passing, false);
    check_publish(&who, "pith/v1/NODE/n/NODE/up/report", Retain::Passing, false);
    check_publish(&who, "$SYS/anything", Retain::Passing, false);
}

#[test]
fn a_node_reads_its_own_down_only() {
    let who = Identity::Node(node(NODE));
    check_subscribe(&who, "pith/v1/FLEET/n/NODE/down/#", true);
    check_subscribe(&who, "pith/v1/FLEET/n/NODE/down/manifest", true);
    for filter in [
        "#",
        "+/#",
        "pith/v1/FLEET/n/+/down/#",
        "pith/v1/FLEET/n/OTHER/down/manifest",
        "pith/v1/FLEET/n/NODE/#",
        "pith/v1/FLEET/n/NODE/up/#",
        "$share/group/pith/v1/FLEET/n/OTHER/down/#",
        "$SYS/#",
    ] {
        check_subscribe(&who, filter, false);
    }
}

#[test]
fn the_coordinator_reads_up_and_writes_down() {
    let who = Identity::Coordinator;
    check_publish(&who, "pith/v1/FLEET/n/NODE/down/manifest", Retain::Kept, true);
    check_publish(&who, "pith/v1/FLEET/n/NODE/up/report", Retain::Passing, false);
    check_publish(&who, "pith/v1/FLEET/n/+/down/manifest", Retain::Passing, false);
    check_subscribe(&who, "pith/v1/FLEET/n/+/up/hello", true);
    check_subscribe(&who, "pith/v1/FLEET/n/NODE/up/#", true);
    check_subscribe(&who, "pith/v1/FLEET/n/+/down/#", false);
    check_subscribe(&who, "pith/v1/FLEET/n/#", false);
}
