//! Windows with passed time: who is ready, unready or dead after which answers.

use super::*;

const STARTED: Now = Now(1_000_000);

fn probe(period_ms: u64, failure_threshold: u32) -> Probe {
    Probe {
        check: Check::Http { path: "/".to_owned(), port: 8080 },
        initial_delay: Millis(0),
        period: Millis(period_ms),
        timeout: Millis(1_000),
        success_threshold: 1,
        failure_threshold,
    }
}

fn window(startup: Option<Probe>, readiness: Option<Probe>, liveness: Option<Probe>) -> Window {
    let health = Arc::new(Health { startup, readiness, liveness });
    Window::new(&health, &[8080], STARTED)
}

fn failed() -> Answer {
    Answer::Failed("503 Service Unavailable".to_owned())
}

/// Asks whatever is due, in time order, until `until`; `answer` gives each answer, which takes no time. Returns when
/// something was asked.
fn run(
    window: &mut Window,
    until: Now,
    mut answer: impl FnMut(Kind, Now) -> Answer,
) -> Vec<(Kind, u64)> {
    let mut asked = Vec::new();
    while let Some(now) = window.next_at().filter(|next| *next <= until) {
        for kind in window.due(now) {
            window.begin(kind, now);
            asked.push((kind, now.since(STARTED)));
            window.finish(kind, answer(kind, now), now);
        }
    }
    asked
}

#[test]
fn a_start_is_noticed_within_a_fortieth_of_its_length_and_long_ones_are_asked_seldom() {
    let mut window = window(None, Some(probe(3_000, 3)), None);
    let asked = run(&mut window, STARTED.plus(10_000), |_, _| failed());
    let times: Vec<u64> = asked.into_iter().map(|(_, at)| at).collect();
    let most = |at: u64| (at / 40).clamp(10, 250);
    assert!(times.windows(2).all(|two| two[1] - two[0] == most(two[0])), "{times:?}");
    let late = times.iter().filter(|at| **at >= 5_000).count();
    assert_eq!(late, 29, "six times a second after the first seconds");
}

#[test]
fn fast_asking_is_never_slower_than_the_period() {
    let mut window = window(None, Some(probe(100, 3)), None);
    let asked = run(&mut window, STARTED.plus(2_000), |_, _| failed());
    let times: Vec<u64> = asked.into_iter().map(|(_, at)| at).collect();
    assert!(times.windows(2).all(|two| two[1] - two[0] <= 100), "{times:?}");
}

#[test]
fn the_first_success_makes_it_ready_and_the_period_begins() {
    let mut window = window(None, Some(probe(3_000, 3)), None);
    let asked = run(&mut window, STARTED.plus(7_000), |_, now| match now.since(STARTED) {
        0..200 => failed(),
        _ => Answer::Passed,
    });
    let times: Vec<u64> = asked.into_iter().map(|(_, at)| at).collect();
    assert_eq!(times[times.len() - 3..], [200, 3_200, 6_200]);
    assert_eq!(window.probed().ready_since, Some(STARTED.plus(200)));
    assert!(window.probed().was_ready && !window.probed().dead);
}

#[test]
fn readiness_goes_after_as_many_failures_as_allowed_and_comes_back() {
    let mut window = window(None, Some(probe(1_000, 2)), None);
    assert!(window.finish(Kind::Readiness, Answer::Passed, STARTED));
    for (at, changes) in [(1_000, false), (2_000, true)] {
        window.begin(Kind::Readiness, STARTED.plus(at));
        assert_eq!(window.finish(Kind::Readiness, failed(), STARTED.plus(at)), changes);
    }
    assert_eq!(window.probed().ready_since, None);
    assert!(window.probed().was_ready);
    assert_eq!(window.probed().last_failure.as_deref(), Some("503 Service Unavailable"));
    window.begin(Kind::Readiness, STARTED.plus(3_000));
    assert!(window.finish(Kind::Readiness, Answer::Passed, STARTED.plus(3_000)));
    assert_eq!(window.probed().ready_since, Some(STARTED.plus(3_000)));
}

#[test]
fn a_success_in_between_starts_the_count_anew() {
    let mut window = window(None, Some(probe(1_000, 2)), None);
    window.finish(Kind::Readiness, Answer::Passed, STARTED);
    for (at, answer) in [(1, failed()), (2, Answer::Passed), (3, failed())] {
        window.begin(Kind::Readiness, STARTED.plus(at * 1_000));
        window.finish(Kind::Readiness, answer, STARTED.plus(at * 1_000));
    }
    assert_eq!(window.probed().ready_since, Some(STARTED));
}

#[test]
fn startup_holds_the_others_back() {
    let mut window = window(Some(probe(1_000, 30)), Some(probe(500, 1)), Some(probe(500, 1)));
    let asked = run(&mut window, STARTED.plus(200), |_, _| failed());
    assert!(asked.iter().all(|(kind, _)| *kind == Kind::Startup));
    assert!(!window.probed().dead);
    let asked = run(&mut window, STARTED.plus(1_000), |_, _| Answer::Passed);
    assert_eq!(asked[0], (Kind::Startup, 210));
    assert_eq!(asked[1..3], [(Kind::Readiness, 210), (Kind::Liveness, 210)]);
    assert_eq!(window.probed().ready_since, Some(STARTED.plus(210)));
}

#[test]
fn a_startup_that_never_passes_is_dead_after_threshold_times_period_and_not_sooner() {
    let mut window = window(Some(probe(1_000, 3)), None, None);
    run(&mut window, STARTED.plus(1_990), |_, _| failed());
    assert!(!window.probed().dead);
    run(&mut window, STARTED.plus(2_400), |_, _| failed());
    assert!(window.probed().dead);
    assert_eq!(window.next_at(), None);
}

#[test]
fn liveness_that_fails_for_good_is_dead_and_readiness_is_left_as_it_is() {
    let mut window = window(None, Some(probe(1_000, 3)), Some(probe(1_000, 3)));
    run(&mut window, STARTED.plus(10_000), |kind, now| match (kind, now.since(STARTED)) {
        (Kind::Liveness, 5_000..) => failed(),
        _ => Answer::Passed,
    });
    assert!(window.probed().dead);
    assert_eq!(window.probed().ready_since, Some(STARTED));
}

#[test]
fn what_is_not_known_counts_neither_way() {
    let mut window = window(None, Some(probe(1_000, 1)), Some(probe(1_000, 1)));
    run(&mut window, STARTED, |_, _| Answer::Passed);
    run(&mut window, STARTED.plus(20_000), |_, _| Answer::Unknown);
    assert_eq!(window.probed().ready_since, Some(STARTED));
    assert!(!window.probed().dead);
}

#[test]
fn the_initial_delay_is_waited_for() {
    let delayed = Probe { initial_delay: Millis(5_000), ..probe(1_000, 3) };
    let window = window(None, Some(delayed), None);
    assert!(window.due(STARTED.plus(4_999)).is_empty());
    assert_eq!(window.next_at(), Some(STARTED.plus(5_000)));
}

#[test]
fn without_a_check_every_port_is_connected_to() {
    let mut window = Window::new(&Arc::default(), &[80, 81], STARTED);
    assert_eq!(window.due(STARTED), [Kind::Readiness]);
    let (checks, timeout) = window.begin(Kind::Readiness, STARTED);
    assert_eq!(checks, [Check::Tcp { port: 80 }, Check::Tcp { port: 81 }]);
    assert_eq!(timeout, Millis(1_000));
}

#[test]
fn without_a_check_and_without_ports_running_is_ready() {
    let window = Window::new(&Arc::default(), &[], STARTED);
    assert_eq!(window.probed().ready_since, Some(STARTED));
    assert_eq!(window.next_at(), None);
}

#[test]
fn checks_that_are_due_soon_are_asked_together() {
    let late = Probe { initial_delay: Millis(200), ..probe(1_000, 3) };
    let mut window = window(None, Some(probe(1_000, 3)), Some(late));
    assert_eq!(window.due(STARTED), [Kind::Readiness, Kind::Liveness]);
    run(&mut window, STARTED, |_, _| Answer::Passed);
    assert_eq!(window.next_at(), Some(STARTED.plus(1_000)));
}

#[test]
fn a_slow_answer_does_not_make_two_askings() {
    let mut window = window(None, Some(probe(1_000, 3)), None);
    window.begin(Kind::Readiness, STARTED);
    assert_eq!(window.next_at(), None);
    window.finish(Kind::Readiness, Answer::Passed, STARTED.plus(2_500));
    assert_eq!(window.next_at(), Some(STARTED.plus(2_500)));
}
