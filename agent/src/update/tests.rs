//! Trials as tables and as stories: each kill between two durable writes ends confirmed or back, never without an agent.

use planner::Now;
use protocol::agent_release::{MAX_STARTS, UpdatePhase};
use protocol::id::Digest;

use super::choose::{self, Choice, package_wins};
use super::record::{self, Held, Record, Slot, Turn};
use super::trial::{BLAME_LATER_MS, BLAME_MS, STABLE_MS, Verdict, Watch};
use super::{Launched, Runs};

const BOOT: &str = "boot";

fn held(slot: Slot, version: &str, counter: u64) -> Held {
    let digit = version.chars().nth(2).unwrap_or('0').to_string();
    Held {
        slot,
        digest: digest(&digit),
        size: 4,
        version: version.parse().unwrap(),
        counter,
        package: "0.1.0".parse().unwrap(),
    }
}

fn digest(digit: &str) -> Digest {
    format!("sha256:{}", digit.repeat(64)).parse().unwrap()
}

fn choose(record: &Record, package: &str) -> Choice {
    choose::agent(record, &package.parse().unwrap(), BOOT, |_| true)
}

/// What the launcher leaves behind, and what it starts.
fn launched(record: &Record, package: &str) -> Launched {
    let Choice { runs, record: written, .. } = choose(record, package);
    let record = written.unwrap_or_else(|| record.clone());
    Launched { runs, package: package.parse().unwrap(), record }
}

fn trying() -> Record {
    Record::default().tried(held(Slot::A, "0.2.0", 1))
}

#[test]
fn without_a_record_the_package_runs() {
    let Choice { runs, record, otherwise } = choose(&Record::default(), "0.1.0");
    assert_eq!((runs, record, otherwise), (Runs::Package, None, Runs::Package));
}

#[test]
fn a_trial_is_counted_before_each_start_and_taken_back_at_the_fourth() {
    let mut record = trying();
    for start in 1..=MAX_STARTS {
        let of = launched(&record, "0.1.0");
        assert_eq!(of.runs, Runs::Slot(Slot::A), "start {start}");
        assert_eq!(of.record.trial.as_ref().unwrap().starts, start);
        record = of.record;
    }
    let back = launched(&record, "0.1.0");
    assert_eq!(back.runs, Runs::Package);
    assert_eq!(back.record.trial, None);
    assert_eq!(back.record.bad, [digest("2")]);
    let last = back.record.last.unwrap();
    assert_eq!(last.phase, UpdatePhase::Reverted);
    assert!(last.why.unwrap().contains("3 times"));
}

#[test]
fn a_start_that_ended_with_its_boot_or_because_it_was_asked_to_is_not_counted() {
    let mut record = trying();
    for boot in 0..10 {
        let boot = format!("boot-{boot}");
        let choice = choose::agent(&record, &"0.1.0".parse().unwrap(), &boot, |_| true);
        assert_eq!(choice.runs, Runs::Slot(Slot::A));
        record = choice.record.unwrap();
        assert_eq!(record.trial.as_ref().unwrap().starts, 1);
    }
    let asked = record.asked_to_end();
    assert_eq!(asked.trial.unwrap().starts, 0);
}

#[test]
fn what_cannot_be_counted_is_not_tried() {
    let confirmed = Record { held: Some(held(Slot::B, "0.1.5", 1)), ..Record::default() };
    let choice = choose(&confirmed.tried(held(Slot::A, "0.2.0", 2)), "0.1.0");
    assert_eq!((choice.runs, choice.otherwise), (Runs::Slot(Slot::A), Runs::Slot(Slot::B)));
}

#[test]
fn a_program_that_is_gone_or_not_ours_is_never_started() {
    let record = Record { held: Some(held(Slot::A, "0.2.0", 1)), ..Record::default() };
    let version = "0.1.0".parse().unwrap();
    assert_eq!(choose::agent(&record, &version, BOOT, |_| false).runs, Runs::Package);
    assert_eq!(choose::proxy(&record, &version, None, |_| false).0, Runs::Package);
    let tried = choose::agent(&trying(), &version, BOOT, |_| false);
    assert_eq!(tried.runs, Runs::Package);
    assert_eq!(tried.record.unwrap().last.unwrap().phase, UpdatePhase::Reverted);
}

#[test]
fn a_package_that_was_exchanged_for_a_newer_one_wins() {
    let of = held(Slot::A, "0.2.0", 1);
    for (package, wins) in [("0.1.0", false), ("0.1.5", false), ("0.2.0", false), ("0.3.0", true)] {
        assert_eq!(package_wins(&package.parse().unwrap(), &of), wins, "{package}");
    }
    // Going back below the package by a signed release: the package is no news.
    let back = Held { package: "0.3.0".parse().unwrap(), ..of.clone() };
    assert!(!package_wins(&"0.3.0".parse().unwrap(), &back));
    let record = Record { held: Some(of), floor: 1, ..Record::default() };
    let won = launched(&record, "0.3.0");
    assert_eq!((won.runs, won.record.held, won.record.floor), (Runs::Package, None, 1));
    let trial = launched(&trying(), "0.3.0");
    assert_eq!((trial.runs, trial.record.trial), (Runs::Package, None));
    assert_eq!(trial.record.last.unwrap().phase, UpdatePhase::Refused);
}

#[test]
fn the_proxy_runs_what_is_confirmed_and_never_what_is_tried() {
    let version = "0.1.0".parse().unwrap();
    assert_eq!(choose::proxy(&trying(), &version, None, |_| true), (Runs::Package, None));
    let confirmed = trying().confirmed();
    let mut known = None;
    for starts in 1..=MAX_STARTS {
        let (runs, counted) = choose::proxy(&confirmed, &version, known, |_| true);
        assert_eq!(runs, Runs::Slot(Slot::A));
        assert_eq!(counted.as_ref().unwrap().starts, starts);
        known = counted;
    }
    assert_eq!(choose::proxy(&confirmed, &version, known.clone(), |_| true), (Runs::Package, None));
    let proven = known.map(|known| choose::ProxyStarts { is_proven: true, ..known });
    assert_eq!(choose::proxy(&confirmed, &version, proven, |_| true), (Runs::Slot(Slot::A), None));
    assert!(confirmed.is_proxy_due);
}

#[test]
fn what_is_gone_back_to_is_never_written_over() {
    let confirmed = trying().confirmed();
    assert_eq!((Record::default().free_slot(), confirmed.free_slot()), (Slot::A, Slot::B));
    let next = confirmed.tried(held(Slot::B, "0.3.0", 2));
    assert_eq!(next.reverted("x").held, confirmed.held);
    assert_eq!(next.confirmed().free_slot(), Slot::A);
    assert_eq!((next.confirmed().floor, next.reverted("x").floor), (2, 1));
}

/// A process of a trial begins at 0.
fn watch(record: &Record) -> Watch {
    Watch::new(Some(&launched(record, "0.1.0")), Now(0))
}

#[test]
fn a_new_agent_is_confirmed_a_minute_after_hello_and_docker() {
    let mut watch = watch(&trying());
    watch.answered(Now(5_000));
    assert_eq!(watch.verdict(Now(BLAME_MS - 1)), None, "Docker is missing");
    watch.listed(Now(20_000));
    watch.answered(Now(30_000));
    assert_eq!(watch.verdict(Now(20_000 + STABLE_MS - 1)), None);
    assert_eq!(watch.verdict(Now(20_000 + STABLE_MS)), Some(Verdict::Confirm));
    let mut just_in_time = self::watch(&trying());
    just_in_time.listed(Now(0));
    just_in_time.answered(Now(BLAME_MS - 1));
    assert_eq!(just_in_time.verdict(Now(BLAME_MS)), None, "it is well, and its minute counts");
}

#[test]
fn without_a_network_nobody_is_to_blame() {
    let mut record = trying();
    for round in 0..5 {
        let blame_ms = if round == 0 { BLAME_MS } else { BLAME_LATER_MS };
        let new = watch(&record);
        assert_eq!(new.verdict(Now(blame_ms - 1)), None);
        assert_eq!(new.verdict(Now(blame_ms)), Some(Verdict::Turn(Turn::Former)));
        record = launched(&record, "0.1.0").record.turned(Turn::Former);
        assert_eq!(launched(&record, "0.1.0").runs, Runs::Package, "the former one is asked");
        let former = watch(&record);
        assert_eq!(former.verdict(Now(BLAME_MS)), Some(Verdict::Turn(Turn::New)));
        record = record.turned(Turn::New);
        let trial = record.trial.as_ref().unwrap();
        assert_eq!((trial.starts, trial.excused), (0, round + 1));
        assert!(record.bad.is_empty());
    }
}

#[test]
fn an_agent_that_cannot_where_the_former_one_can_is_tried_once_more_and_taken_back() {
    let record = trying().turned(Turn::Former);
    let mut former = watch(&record);
    former.listed(Now(1_000));
    former.answered(Now(9_000));
    assert_eq!(former.verdict(Now(9_000)), Some(Verdict::Turn(Turn::Again)));
    let again = record.turned(Turn::Again);
    assert_eq!(launched(&again, "0.1.0").runs, Runs::Slot(Slot::A));
    let mut new = watch(&again);
    new.listed(Now(1));
    let Some(Verdict::Revert(why)) = new.verdict(Now(BLAME_MS)) else { panic!("it stays") };
    assert!(why.contains("no answer of the coordinator within 10 minutes"), "{why}");
    // The network came back just then: it is well, and stays.
    let mut well = watch(&again);
    well.answered(Now(2));
    well.listed(Now(2));
    assert_eq!(well.verdict(Now(2 + STABLE_MS)), Some(Verdict::Confirm));
}

#[test]
fn a_former_agent_whose_turn_it_is_not_starts_again_and_one_without_a_trial_waits_for_nothing() {
    let of = Launched { runs: Runs::Package, ..launched(&trying(), "0.1.0") };
    assert_eq!(Watch::new(Some(&of), Now(0)).verdict(Now(BLAME_MS)), Some(Verdict::Restart));
    assert_eq!(Watch::new(None, Now(0)).wake_at(), None);
    assert_eq!(watch(&Record::default()).wake_at(), None);
}

/// A good or a bad program is tried; the process is killed after each number of durable writes, and started again.
#[test]
fn a_kill_between_any_two_writes_ends_confirmed_or_back() {
    for is_good in [true, false] {
        for kills in 0..=2 {
            let mut record = trying();
            let mut killed = 0;
            for _ in 0..10 {
                let of = launched(&record, "0.1.0");
                // Durable before it runs.
                record = of.record.clone();
                if record.trial.is_none() {
                    break;
                }
                if killed < kills || !is_good {
                    killed += 1;
                    continue;
                }
                record = record.confirmed();
            }
            assert_eq!(record.trial, None, "good: {is_good}, kills: {kills}");
            let runs = launched(&record, "0.1.0").runs;
            let expected = if is_good { Runs::Slot(Slot::A) } else { Runs::Package };
            assert_eq!(runs, expected, "good: {is_good}, kills: {kills}");
        }
    }
}

#[test]
fn the_record_is_whole_or_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(record::read(dir.path()).unwrap(), Record::default());
    let record = trying().confirmed().tried(held(Slot::B, "0.3.0", 2));
    record::write(dir.path(), &record).unwrap();
    assert_eq!(record::read(dir.path()).unwrap(), record);
    // A power cut between writing beside it and renaming.
    std::fs::write(record::folder(dir.path()).join("state.new"), b"{\"flo").unwrap();
    assert_eq!(record::read(dir.path()).unwrap(), record);
    record::write(dir.path(), &record.confirmed()).unwrap();
    assert_eq!(record::read(dir.path()).unwrap().floor, 2);
    std::fs::write(record::folder(dir.path()).join("state.json"), b"{\"flo").unwrap();
    assert!(record::read(dir.path()).is_err(), "the launcher starts the package then");
}
