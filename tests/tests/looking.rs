//! What a fleet does, as a person sees it: `pith node top` and `pith top`, as text, as JSON, and on a terminal that is given back as it
//! was, whatever ends it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use tests::fleet::{Fleet, binaries};
use tests::http::free_port;
use tests::services::Service;
use tests::skip;
use tests::wait::until;

const SOON: Duration = Duration::from_secs(40);
/// The other screen of a terminal, back from it, and the cursor (xterm, ctlseqs: DECSET 1049 and 25).
const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";
const CURSOR: &str = "\x1b[?25h";

/// `pith top` on a terminal of its own, of 24 lines and 80 columns, and what the terminal gets.
struct OnTerminal {
    script: Child,
    got: Receiver<Vec<u8>>,
    seen: String,
}

impl OnTerminal {
    /// Its process id is written to the terminal before, its exit code and the terminal's settings afterwards.
    fn start(fleet: &Fleet) -> Self {
        let pith = binaries().join("pith").display().to_string();
        let inside = format!(
            "stty rows 24 cols 80; sh -c 'echo pid=$$.; exec {pith} top'; echo code=$?.; stty -a"
        );
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &inside, "/dev/null"]);
        command.env("PITH_DATA", fleet.data()).env("TERM", "xterm-256color");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut script = command.spawn().unwrap();
        let mut out = script.stdout.take().unwrap();
        let (tell, got) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                if tell.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { script, got, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.script.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush()).unwrap();
    }

    /// Waits until the terminal gets this after what it got before, and gives what stood between. What is there already, letter by
    /// letter, is not sent again.
    #[track_caller]
    fn sees(&mut self, text: &str) -> String {
        let (between, rest) = until(&format!("{text:?} on the terminal"), SOON, || {
            while let Ok(more) = self.got.try_recv() {
                self.seen.push_str(&String::from_utf8_lossy(&more));
            }
            let (between, rest) = self.seen.split_once(text)?;
            Some((between.to_owned(), rest.to_owned()))
        });
        self.seen = rest;
        between
    }

    /// The terminal is as it was: its first screen, a cursor, lines and an echo.
    #[track_caller]
    fn gives_back(mut self, code: i32) {
        let _ = self.sees(LEFT);
        let _ = self.sees(CURSOR);
        let _ = self.sees("code=");
        assert_eq!(self.sees("."), code.to_string());
        for setting in [" icanon", " echo "] {
            let _ = self.sees(setting);
        }
        assert!(self.script.wait().unwrap().success());
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn signal(which: &str, pid: &str) {
    assert!(Command::new("kill").args([which, pid]).status().unwrap().success());
}

/// Lines that begin with the name of a node.
fn rows(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("node-")).collect()
}

#[test]
fn the_load_of_every_node_is_told_to_whoever_looks() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start(2);
    // The first load of a board has no share of its processor: that is of the time between two.
    let shown = until("both nodes tell their load in detail", SOON, || {
        let shown = fleet.json(&["node", "top"]);
        let is_told =
            |node: &Value| node["load"]["cpu"].is_f64() && node["load"]["board"].is_object();
        shown["nodes"].as_array().unwrap().iter().all(is_told).then_some(shown)
    });
    let names: Vec<&str> =
        shown["nodes"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["node-1", "node-2"]);
    for node in shown["nodes"].as_array().unwrap() {
        let used = node["load"]["mem_used"].as_u64().unwrap();
        assert!(used > 0 && used < node["load"]["mem_total"].as_u64().unwrap(), "{node}");
    }
    let table = fleet.pith(&["node", "top", "--sort", "cpu"]).expect_code(0);
    assert!(table.stdout.starts_with("NODE    CPU "), "{table:?}");
    assert_eq!(rows(&table.stdout).len(), 2, "{table:?}");
    for row in rows(&table.stdout) {
        assert!(row.matches("% of ").count() >= 2, "memory and disk: {row}");
    }
    let whole = fleet.pith(&["node", "top", "node-2"]).expect_code(0);
    assert!(whole.stdout.starts_with("node       node-2 ("), "{whole:?}");
    assert!(whole.stdout.contains("status     ready\n"), "{whole:?}");
    let _ = fleet.pith(&["node", "top", "nobody"]).expect_code(2);

    let service = Service::new("web", free_port()).image("pith-demo:v3");
    let file = fleet.file("service.toml", &service.toml());
    let _ = fleet.pith(&["deploy", "-f", &file, "--detach"]).expect_code(0);
    let frame = until("a rollout says what it waits for", SOON, || {
        let frame = fleet.pith(&["top", "--once"]).expect_code(0).stdout;
        frame.contains("waiting_for_ready").then_some(frame)
    });
    assert!(frame.starts_with("pith top  nodes 2  services 1  rollouts 1\n"), "{frame}");
    assert!(rows(&frame).iter().all(|row| row.contains("ready ") && row.contains('%')), "{frame}");
    assert_eq!(rows(&frame).len(), 2, "{frame}");
    let document = fleet.json(&["top"]);
    assert_eq!(document["services"]["services"][0]["name"], "web");
    assert_eq!(document["nodes"]["nodes"].as_array().unwrap().len(), 2);
    let piped = fleet.pith(&["top"]).expect_code(0).stdout;
    assert!(piped.starts_with("pith top  nodes 2 ") && !piped.contains('\x1b'), "{piped}");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn the_terminal_gives_back_whatever_ends_it() {
    if !skip::has("docker") || !skip::has("script") {
        return;
    }
    let fleet = Fleet::start(2);
    let mut top = OnTerminal::start(&fleet);
    let _ = top.sees(ENTERED);
    let _ = top.sees("node-2");
    top.press("\r");
    let _ = top.sees("inodes");
    top.press("\x1b");
    let _ = top.sees("NODES");

    // A coordinator that hangs is called away, and its last frame goes on when it is back.
    let coordinator = fleet.pid().to_string();
    signal("-STOP", &coordinator);
    let _ = top.sees("last seen");
    signal("-CONT", &coordinator);
    let _ = top.sees("enter whole");
    top.press("q");
    top.gives_back(0);

    let mut ended = OnTerminal::start(&fleet);
    let _ = ended.sees("pid=");
    let pid = ended.sees(".");
    let _ = ended.sees("node-2");
    signal("-TERM", &pid);
    ended.gives_back(128 + 15);

    let mut interrupted = OnTerminal::start(&fleet);
    let _ = interrupted.sees("node-2");
    interrupted.press("/no");
    interrupted.press("\x03");
    interrupted.gives_back(0);
    assert_eq!(fleet.stop(), 0);
}
