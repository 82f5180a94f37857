//! What applications may do to those who read their logs: lines without an end, bytes that steer a terminal, more than anybody can read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use tests::by_hand::ByHand;
use tests::fleet::Fleet;
use tests::http::free_port;
use tests::services::Service;
use tests::skip;

const LONG_LINE_BYTES: usize = 10_000_000;
/// The longest piece of a line, with the name of its instance before it.
const PIECE_BYTES: usize = 66 * 1024;
/// A line takes this long at the most, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_line_of_ten_megabytes_and_bytes_that_are_no_text_are_read_whole_and_steer_nothing() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(1);
    let service = Service::new("web", free_port())
        .env("LOG_LINE_BYTES", &LONG_LINE_BYTES.to_string())
        .env("LOG_RAW", "1");
    let _ = fleet.deploy(&service).expect_code(0);

    let shown = fleet.pith(&["logs", "web", "-n", "10000"]).expect_code(0).stdout;
    let longest = shown.lines().map(str::len).max().unwrap();
    assert!(longest <= PIECE_BYTES, "{longest}");
    let of_line = |line: &str| {
        let text = line.split_once(" | ").unwrap().1;
        if text.bytes().all(|byte| byte == b'x') { text.len() } else { 0 }
    };
    assert_eq!(shown.lines().map(of_line).sum::<usize>(), LONG_LINE_BYTES);
    let steers =
        |c: char| (c.is_control() && c != '\n' && c != '\t') || "\u{202e}\u{200b}".contains(c);
    assert_eq!(shown.chars().find(|c| steers(*c)), None);
    let raw = shown.lines().find(|line| line.ends_with(" raw")).unwrap();
    assert!(raw.contains("red") && raw.contains("back"), "{raw:?}");
    assert!(shown.contains("event=raw"), "what comes after is read");

    let json = fleet.pith(&["logs", "web", "-n", "20", "-o", "json"]).expect_code(0).stdout;
    assert_eq!(json.chars().find(|c| c.is_control() && *c != '\n'), None);
    for line in json.lines() {
        let _: serde_json::Value = serde_json::from_str(line).unwrap();
    }
    assert_eq!(fleet.stop(), 0);
}

/// A thousand lines a second, and one who reads none of them for a while.
#[test]
fn a_slow_reader_of_ten_loud_instances_misses_nothing_and_holds_up_nobody() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    let service =
        Service::new("web", free_port()).scheduling("per_node = 5").env("LOG_PER_S", "100");
    let _ = fleet.deploy(&service).expect_code(0);

    let mut slow = fleet.command(&["logs", "web", "-f", "-n", "0"]);
    let mut slow = slow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(slow.stdout.take().unwrap()).lines();
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    let mut read = |wanted: usize| {
        let began = Instant::now();
        for _ in 0..wanted {
            let line = lines.next().unwrap().unwrap();
            let Some((instance, number)) = numbered(&line) else { continue };
            if let Some(before) = numbers.insert(instance, number) {
                assert_eq!(number, before + 1, "{line}");
            }
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    };
    read(1_000);
    // Meanwhile it reads nothing: the fleet answers, and whoever else reads does so without waiting for it.
    let until = Instant::now() + Duration::from_secs(10);
    let mut others = 0;
    while Instant::now() < until {
        let _ = fleet.json(&["ps"]);
        let other = fleet.pith(&["logs", "web", "-n", "50"]).expect_code(0);
        assert_eq!(other.stdout.lines().count(), 500, "fifty of each");
        others += 1;
    }
    assert!(others > 0);
    // More than anything in between could have kept: what was written meanwhile is read late, and whole.
    read(12_000);
    assert_eq!(numbers.len(), 10);
    slow.kill().unwrap();
    let _ = slow.wait();

    // Whoever goes leaves nothing running: the places of the board are free again.
    for _ in 0..6 {
        let mut one = fleet.command(&["logs", "web", "-f", "-n", "1"]);
        let mut one = one.stdout(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 64];
        one.stdout.take().unwrap().read_exact(&mut first).unwrap();
        one.kill().unwrap();
        let _ = one.wait();
    }
    let _ = fleet.pith(&["logs", "web", "-n", "1"]).expect_code(0);
    assert_eq!(fleet.stop(), 0);
}

/// What is written while node and coordinator cannot reach each other may be missed; what is said then is that it was, and the reading goes on.
#[test]
fn following_survives_a_broker_that_is_gone_for_a_while() {
    if !["docker", "mosquitto_passwd"].into_iter().all(skip::has) {
        return;
    }
    let mut fleet = ByHand::start(1);
    let service = Service::new("web", free_port()).env("LOG_PER_S", "20");
    let file = fleet.file("web.toml", &service.toml());
    let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(0);
    let mut follower = Follower::start(&fleet);
    let before = (0..40).map(|_| follower.next()).last().unwrap();
    fleet.kill_broker();
    std::thread::sleep(Duration::from_secs(4));
    fleet.start_broker();
    let (mut known, mut missed) = (before, 0);
    while known < before + 400 {
        let number = follower.next();
        assert!(number > known, "{number} after {known}: nothing comes twice");
        missed += number - known - 1;
        known = number;
    }
    let said = follower.end();
    assert!(missed == 0 || said.contains("lost on their way"), "{missed} missed: {said}");
}

/// A node that is gone in the middle: who waits for a command hears that nobody knows what became of it, who reads goes on once it is back.
#[test]
fn a_node_that_vanishes_ends_a_command_that_is_waited_for_and_interrupts_a_reading() {
    if !["docker", "mosquitto_passwd"].into_iter().all(skip::has) || !skip::can_write_policies() {
        return;
    }
    let mut fleet = ByHand::start_allowing(1, "exec = true\n");
    let service =
        Service::new("web", free_port()).env("LOG_PER_S", "20").env("EXIT_AFTER_S", "300");
    let file = fleet.file("web.toml", &service.toml());
    let _ = fleet.pith(&["deploy", "-f", &file]).expect_code(0);

    let mut follower = Follower::start(&fleet);
    let before = follower.next();
    let mut waiting = fleet.command(&["exec", "web", "--", "/demo-app", "once"]);
    let mut waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(waiting.stdout.take().unwrap()).lines();
    assert!(out.next().unwrap().unwrap().contains("event=once"), "it runs");

    fleet.kill_agent(1);
    let began = Instant::now();
    let ended = waiting.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("board-1: ") && said.contains("whether it ran is unknown"), "{said}");

    fleet.start_agent(1);
    while follower.next() < before + 600 {}
    // One that starts anew at once knows as little of it, whichever the coordinator hears of first.
    for _ in 0..5 {
        let seen = follower.next();
        fleet.restart_agent(1);
        while follower.next() < seen + 60 {}
    }
    let said = follower.end();
    assert!(said.contains("board-1: "), "that lines may be missing is said: {said}");
}

/// `pith logs web -f`, and the number of each line of the demo application as it comes.
struct Follower {
    pith: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(fleet: &ByHand) -> Self {
        let mut command = fleet.command(&["logs", "web", "-f", "-n", "0"]);
        let mut pith = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(pith.stdout.take().unwrap()).lines();
        Self { pith, lines }
    }

    fn next(&mut self) -> u64 {
        loop {
            if let Some((_, number)) = numbered(&self.lines.next().unwrap().unwrap()) {
                return number;
            }
        }
    }

    /// Ends it; what it said besides.
    fn end(mut self) -> String {
        self.pith.kill().unwrap();
        let said = self.pith.wait_with_output().unwrap().stderr;
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// The instance and number of a line of the demo application.
fn numbered(line: &str) -> Option<(String, u64)> {
    let (instance, text) = line.split_once(" | ")?;
    let number = text.split_once(" n=")?.1.parse().ok()?;
    Some((instance.to_owned(), number))
}
