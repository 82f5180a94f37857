//! The log across restarts, torn writes, full disks and flipped bytes.

use std::collections::BTreeSet;
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
    let mut log = Log::open(&path, &fleet(), MAX_FILE_BYTES).unwrap();
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
    let log = Log::open(&path, &fleet(), MAX_FILE_BYTES).unwrap();
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
    let mut log = Log::open(&path, &fleet(), MAX_FILE_BYTES).unwrap();
    let target = format!("\n\"}}{}", "x".repeat(100_000));
    log.append(vec![Draft { target, ..draft("revoke") }]).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 2_000);
    assert_eq!(verify(&path, &fleet(), None).unwrap().entries, 1);
}

/// A log in files of two entries each.
fn rotated(entries: usize) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    for number in 0..entries {
        // Each by a coordinator of its own.
        let mut log = Log::open(&path, &fleet(), 500).unwrap();
        log.append(vec![draft(&number.to_string())]).unwrap();
    }
    (dir, path)
}

fn names(dir: &tempfile::TempDir) -> BTreeSet<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_full_file_is_followed_by_another_and_the_chain_goes_through_them() {
    let (dir, path) = rotated(5);
    let expected = [FILE, "audit-000000000001.jsonl", "audit-000000000003.jsonl"];
    assert_eq!(names(&dir), expected.map(str::to_owned).into());
    let seen = verify(&path, &fleet(), None).unwrap();
    assert_eq!((seen.first, seen.entries, seen.broken), (1, 5, None));
    let verbs = |limit| -> Vec<String> {
        let newest = read_newest(&path, 0, limit).unwrap();
        newest.into_iter().map(|entry| entry.verb).collect()
    };
    assert_eq!(verbs(2), ["3", "4"], "over the border of two files");
    assert_eq!(verbs(9), ["0", "1", "2", "3", "4"]);
    let entry_3 = dir.path().join("audit-000000000003.jsonl");
    let text = fs::read_to_string(&entry_3).unwrap();
    fs::write(&entry_3, text.replace("\"verb\":\"3\"", "\"verb\":\"9\"")).unwrap();
    let broken = verify(&path, &fleet(), None).unwrap().broken.unwrap();
    assert_eq!(broken.line, 4);
    fs::remove_file(entry_3).unwrap();
    let broken = verify(&path, &fleet(), None).unwrap().broken.unwrap();
    assert_eq!(broken.line, 3, "a file in the middle is missing");
}

#[test]
fn only_the_newest_files_are_kept_and_the_oldest_of_them_begins_the_chain() {
    let (dir, path) = rotated(2 * files::MAX_FILES + 3);
    assert_eq!(names(&dir).len(), files::MAX_FILES);
    let seen = verify(&path, &fleet(), None).unwrap();
    assert_eq!((seen.first, seen.entries, seen.broken), (5, 15, None));
    // Its first line gone, the file begins otherwise than its name says.
    let oldest = dir.path().join("audit-000000000005.jsonl");
    let text = fs::read_to_string(&oldest).unwrap();
    fs::write(&oldest, text.split_once('\n').unwrap().1).unwrap();
    assert!(verify(&path, &fleet(), None).unwrap().broken.is_some());
}

#[test]
fn a_stop_between_two_files_loses_nothing() {
    let (dir, path) = rotated(2);
    fs::rename(&path, dir.path().join("audit-000000000001.jsonl")).unwrap();
    let mut log = Log::open(&path, &fleet(), 500).unwrap();
    let written = log.written();
    assert_eq!(log.append(vec![draft("next")]).unwrap()[0].n, 3);
    assert_eq!(verify(&path, &fleet(), None).unwrap().entries, 3);
    // What was known to be written before is what is walked.
    let seen = verify(&path, &fleet(), Some(&written)).unwrap();
    assert_eq!((seen.entries, seen.broken), (2, None));
}

#[test]
fn what_became_full_while_it_was_looked_at_is_walked_as_far_as_it_was_written() {
    let (_dir, path) = rotated(1);
    let mut log = Log::open(&path, &fleet(), 500).unwrap();
    let written = log.written();
    for verb in ["two", "three", "four"] {
        log.append(vec![draft(verb)]).unwrap();
    }
    let seen = verify(&path, &fleet(), Some(&written)).unwrap();
    assert_eq!((seen.entries, seen.broken), (1, None));
    let seen = verify(&path, &fleet(), Some(&log.written())).unwrap();
    assert_eq!((seen.entries, seen.broken), (4, None));
}

#[test]
fn a_backup_takes_whole_lines_of_the_newest_two_files() {
    let (dir, path) = rotated(5);
    let torn = [&fs::read(&path).unwrap()[..], b"{\"n\":6"].concat();
    fs::write(&path, &torn).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for (name, bytes) in for_backup(&path).unwrap() {
        fs::write(elsewhere.path().join(name), bytes).unwrap();
    }
    assert_eq!(names(&elsewhere), [FILE, "audit-000000000003.jsonl"].map(str::to_owned).into());
    let seen = verify(&elsewhere.path().join(FILE), &fleet(), None).unwrap();
    assert_eq!((seen.first, seen.entries, seen.broken), (3, 3, None));
    assert!(for_backup(&dir.path().join("no/such")).unwrap().is_empty());
}
