//! The log across restarts, torn writes, full disks and flipped bytes.

use std::fs;

use super::*;

fn fleet() -> FleetId {
    FleetId::from_random([7; 16])
}

fn draft(verb: &str) -> Draft {
    Draft {
        at_ms: 1_700_000_000_000,
        event: Event::Asked,
        of: None,
        who: "operator:anna".to_owned(),
        role: Some(crate::role::Role::Deployer),
        verb: verb.to_owned(),
        target: "default/web".to_owned(),
        request: Some("ab".repeat(32)),
        key: Some("k".to_owned()),
        status: None,
        code: None,
    }
}

fn written(verbs: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let mut log = Log::open(&path, &fleet()).unwrap();
    for verb in verbs {
        log.append(vec![draft(verb)]).unwrap();
    }
    (dir, path)
}

#[tokio::test]
async fn entries_are_on_disk_in_order_and_go_on_after_a_restart() {
    let (_dir, path) = written(&["deploy"]);
    let audit = Audit::open(&path, &fleet()).unwrap();
    let asked = audit.write(draft("undo")).await.unwrap();
    assert_eq!(asked.n, 2);
    let seen = verify(&path, &fleet(), None).unwrap();
    assert_eq!((seen.entries, seen.broken), (2, None));
    assert_eq!(seen.head, asked.sha256);
    let verbs: Vec<String> =
        read_newest(&path, 0, 1).unwrap().into_iter().map(|entry| entry.verb).collect();
    assert_eq!(verbs, ["undo"], "the newest");
    assert!(read_newest(&path, 1_800_000_000_000, 9).unwrap().is_empty());
}

#[test]
fn every_flipped_byte_is_named_with_its_line() {
    let (_dir, path) = written(&["one", "two", "three"]);
    let whole = fs::read(&path).unwrap();
    let line_of = |at: usize| whole[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let broken = verify(&path, &fleet(), None).unwrap().broken.map(|broken| broken.line);
        assert_eq!(broken, Some(line_of(at)), "byte {at}");
    }
}

#[test]
fn an_entry_that_was_removed_exchanged_or_made_anew_breaks_the_chain() {
    let (_dir, path) = written(&["one", "two", "three"]);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let check = |lines: &[&str], expected: Option<u64>| {
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        assert_eq!(
            verify(&path, &fleet(), None).unwrap().broken.map(|broken| broken.line),
            expected
        );
    };
    check(&[lines[0], lines[2]], Some(2));
    check(&[lines[1], lines[0], lines[2]], Some(1));
    check(&lines[1..], Some(1));
    // Its own hash is right, and what was written after it knows another one.
    let (forged, _) = Head::of_nothing(&fleet()).next(draft("other"));
    check(&[&forged, lines[1], lines[2]], Some(2));
    check(&lines, None);
    let foreign = verify(&path, &FleetId::from_random([8; 16]), None).unwrap().broken.unwrap();
    assert!(foreign.reason.contains("of this fleet"), "{foreign:?}");
}

#[tokio::test]
async fn an_end_that_is_missing_is_seen_by_the_coordinator_that_wrote_it() {
    let (_dir, path) = written(&["one", "two", "three"]);
    let audit = Audit::open(&path, &fleet()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let cut = text.lines().take(2).fold(String::new(), |all, line| all + line + "\n");
    fs::write(&path, cut).unwrap();
    let seen = verify(&path, &fleet(), audit.written().as_ref()).unwrap();
    assert_eq!((seen.entries, seen.broken.map(|broken| broken.line)), (2, Some(3)));
}

#[test]
fn an_end_that_a_stop_cut_off_is_mended_and_said() {
    let (_dir, path) = written(&["one", "two"]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let log = Log::open(&path, &fleet()).unwrap();
    drop(log);
    let seen = verify(&path, &fleet(), None).unwrap();
    assert_eq!((seen.entries, seen.broken), (2, None));
    assert_eq!(read_newest(&path, 0, 9).unwrap()[1].event, Event::Mended);
}

#[tokio::test]
async fn a_damaged_last_entry_refuses_every_other_and_says_what_to_do() {
    let (_dir, path) = written(&["one"]);
    let text = fs::read_to_string(&path).unwrap().replace("\"one\"", "\"two\"");
    fs::write(&path, &text).unwrap();
    let audit = Audit::open(&path, &fleet()).unwrap();
    let error = audit.write(draft("deploy")).await.unwrap_err().to_string();
    assert!(error.contains("nothing is done") && error.contains("Keep the file"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is left as it is");
}

#[test]
fn what_comes_from_outside_is_bounded_and_cannot_break_a_line() {
    let (_dir, path) = written(&[]);
    let mut log = Log::open(&path, &fleet()).unwrap();
    let target = format!("\n\"}}{}", "x".repeat(100_000));
    log.append(vec![Draft { target, ..draft("revoke") }]).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 2_000);
    assert_eq!(verify(&path, &fleet(), None).unwrap().entries, 1);
}
