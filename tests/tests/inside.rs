//! Getting inside an instance: a terminal, standard input, and ports that are not published.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use tests::docker::docker;
use tests::fleet::Fleet;
use tests::http::{free_port, get};
use tests::policies::allow;
use tests::services::Service;
use tests::skip;
use tests::terminal::OnTerminal;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(30);
const SHELL: &str = "exec -it web -- /demo-app shell";

/// One node that lets people in, and `web` on it.
fn open_fleet() -> (Fleet, u16, String) {
    let (fleet, port) = (Fleet::start(1), free_port());
    let _ = fleet.deploy(&Service::new("web", port)).expect_code(0);
    allow(&fleet, "exec = true\n");
    let services = fleet.json(&["ps"])["services"].clone();
    let instance = services[0]["nodes"][0]["instances"][0]["name"].as_str().unwrap().to_owned();
    (fleet, port, instance)
}

fn forbid(fleet: &Fleet) {
    std::fs::write(fleet.data().join("nodes/node-1/policy.toml"), "").unwrap();
}

fn runs_a_shell(instance: &str) -> bool {
    docker(&["top", instance]).contains("demo-app shell")
}

#[test]
fn a_terminal_is_as_one_beside_the_board() {
    if !["docker", "script"].into_iter().all(skip::has) || !skip::can_write_policies() {
        return;
    }
    let (fleet, _, instance) = open_fleet();
    let mut terminal = OnTerminal::start(&fleet.data(), SHELL);
    let _ = terminal.sees("pid=");
    let pid = terminal.sees(".");
    let _ = terminal.sees("terminal=true\r\n");
    // An engine before 23 learns it a moment after the start.
    has_size(&mut terminal, "80x24");
    terminal.press("hello\r");
    // Once by the terminal inside, which echoes, and once by what reads it; not by the one here.
    assert_eq!(terminal.sees("said: hello\r\n"), "hello\r\n");
    // Whoever asks for a terminal gets what steers it.
    terminal.press("raw\r");
    let _ = terminal.sees("\x1b[31mred\x1b[0m");
    let tty = std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap();
    let mut resize = Command::new("stty");
    let resized = resize.arg("-F").arg(tty).args(["rows", "50", "cols", "132"]).status();
    assert!(resized.unwrap().success());
    has_size(&mut terminal, "132x50");
    // Docker's own keys are none here.
    terminal.press("\x10\x11after\r");
    let _ = terminal.sees("said: ");
    let _ = terminal.sees("after\r\n");
    terminal.press("exit 7\r");
    terminal.ends(7);
    assert!(!runs_a_shell(&instance));

    // Ctrl-C is for what runs there; nothing of it is left, nor here.
    let mut terminal = OnTerminal::start(&fleet.data(), SHELL);
    let _ = terminal.sees("terminal=true\r\n");
    terminal.press("\x03");
    terminal.ends(130);
    assert!(!runs_a_shell(&instance));

    // Ctrl-D is the end of what is typed.
    let mut terminal = OnTerminal::start(&fleet.data(), SHELL);
    let _ = terminal.sees("terminal=true\r\n");
    terminal.press("\x04");
    let _ = terminal.sees("end of input\r\n");
    terminal.ends(0);

    // Whoever is gone without a word leaves nothing behind.
    let mut terminal = OnTerminal::start(&fleet.data(), SHELL);
    let _ = terminal.sees("pid=");
    let pid: i32 = terminal.sees(".").parse().unwrap();
    let _ = terminal.sees("terminal=true\r\n");
    assert!(runs_a_shell(&instance));
    kill("-KILL", pid);
    until_true("the shell is gone", SOON, || !runs_a_shell(&instance));
    drop(terminal);
    assert_eq!(fleet.stop(), 0);
}

fn has_size(terminal: &mut OnTerminal, size: &str) {
    until_true(size, SOON, || {
        terminal.press("size\r");
        let _ = terminal.sees("size=");
        terminal.sees("\r\n") == size
    });
}

fn kill(signal: &str, pid: i32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn standard_input_arrives_whole_and_its_end_too() {
    if !skip::has("docker") || !skip::can_write_policies() {
        return;
    }
    let (fleet, _, instance) = open_fleet();
    // Bytes of all kinds, more than everything on the way could hold.
    let mut seed = digest(&SHA256, b"a file").as_ref().to_vec();
    while seed.len() < 3_000_017 {
        let next = digest(&SHA256, &seed[seed.len() - 32..]);
        seed.extend_from_slice(next.as_ref());
    }
    let hex = digest(&SHA256, &seed).as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let mut sum = fleet.command(&["exec", "-i", "web", "--", "/demo-app", "sum"]);
    let mut sum = sum.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(&seed).unwrap();
    let output = sum.wait_with_output().unwrap();
    let expected = format!("bytes={} sha256={hex}\n", seed.len());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert!(output.status.success());

    // Without -i there is nothing to read, and without -t no terminal.
    let none = fleet.pith(&["exec", "web", "--", "/demo-app", "shell"]).expect_code(0);
    assert_eq!(none.stdout, "terminal=false\nend of input\n");
    // A command that reads nothing ends as it does, whatever is typed at it.
    let mut idle = fleet.command(&["exec", "-i", "web", "--", "/demo-app", "probe", "/ready"]);
    let mut idle = idle.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = idle.stdin.take().unwrap();
    // It may be gone before all of it is written.
    let _ = stdin.write_all(&seed);
    drop(stdin);
    assert!(idle.wait().unwrap().success());

    // Whoever is gone closes what a command reads.
    let mut shell = fleet.command(&["exec", "-i", "web", "--", "/demo-app", "shell"]);
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!([lines.next().unwrap(), lines.next().unwrap()], ["terminal=false", "said: hello"]);
    assert!(runs_a_shell(&instance));
    shell.kill().unwrap();
    let _ = shell.wait();
    until_true("the shell is gone", SOON, || !runs_a_shell(&instance));

    // Asked for a terminal where there is none, and for documents of one.
    let refused = fleet.pith(&["exec", "-it", "web", "--", "/demo-app", "shell"]).expect_code(2);
    assert!(refused.stderr.contains("-t wants a terminal on both sides"), "{refused:?}");
    let refused =
        fleet.pith(&["exec", "-t", "web", "-o", "json", "--", "/demo-app"]).expect_code(2);
    assert!(refused.stderr.contains("leave one of them out"), "{refused:?}");
    assert_eq!(fleet.stop(), 0);
}

/// `pith port-forward` under way.
struct Forward {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    errors: std::io::Lines<BufReader<ChildStderr>>,
}

impl Forward {
    fn start(fleet: &Fleet, args: &[&str]) -> Self {
        let mut command = fleet.command(&[&["port-forward"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let errors = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, errors }
    }

    /// Where it listens.
    fn address(&mut self, to: &str) -> SocketAddr {
        let line = self.lines.next().unwrap().unwrap();
        let (address, rest) = line.split_once(" -> ").unwrap();
        assert_eq!(rest, to);
        address.parse().unwrap()
    }

    fn end(mut self) -> Option<i32> {
        kill("-INT", self.child.id().try_into().unwrap());
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_port_of_an_instance_is_reached_from_here_where_the_policy_allows_it() {
    if !skip::has("docker") || !skip::can_write_policies() {
        return;
    }
    let (fleet, port) = (Fleet::start(1), free_port());
    let _ = fleet.deploy(&Service::new("web", port)).expect_code(0);
    let mut forward = Forward::start(&fleet, &["web", ":8080"]);
    let address = forward.address("web port 8080");
    assert!(get(address, "/").is_err());
    let said = forward.errors.next().unwrap().unwrap();
    assert!(said.contains("command_forward_not_allowed") && said.contains("exec = true"), "{said}");
    assert_eq!(forward.child.wait().unwrap().code(), Some(5));

    allow(&fleet, "exec = true\n");
    let mut forward = Forward::start(&fleet, &["web", ":8080", ":9"]);
    let (address, nobody) = (forward.address("web port 8080"), forward.address("web port 9"));
    let published = get(fleet.address(1, port), "/").unwrap();
    assert_eq!(get(address, "/").unwrap(), published);
    // More at once than a node has places: the others wait for theirs.
    let all: Vec<_> = (0..40).map(|_| thread::spawn(move || get(address, "/"))).collect();
    for one in all {
        assert_eq!(one.join().unwrap().unwrap(), published);
    }
    // Nobody listens there: the connection is reset, and why is said.
    let mut stream = TcpStream::connect(nobody).unwrap();
    assert!(stream.read_to_end(&mut Vec::new()).is_err());
    let said = forward.errors.next().unwrap().unwrap();
    assert!(said.starts_with("node-1: ") && said.contains("port 9 inside the instance"), "{said}");

    // One that is open goes on to its end; the next is to the instance that took the place of the one before.
    let _ = fleet.deploy(&Service::new("web", port).image("pith-demo:v2")).expect_code(0);
    let after = get(address, "/").unwrap();
    assert!(after != published && after == get(fleet.address(1, port), "/").unwrap(), "{after:?}");

    let taken = fleet.pith(&["port-forward", "web", &format!("{}:8080", address.port())]);
    assert!(taken.expect_code(1).stderr.contains("choose another port here"));
    let unknown = fleet.pith(&["port-forward", "nobody", "8080"]).expect_code(2);
    assert!(unknown.stderr.contains("no service `default/nobody`"), "{unknown:?}");
    let bad = fleet.pith(&["port-forward", "web", "http"]).expect_code(2);
    assert!(bad.stderr.contains("is no port; write 8080, 18080:8080 or :8080"), "{bad:?}");
    // What the board's owner does not allow any more ends, and what is asked for next is refused.
    let mut open = TcpStream::connect(address).unwrap();
    open.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").unwrap();
    assert!(open.read(&mut [0; 1024]).unwrap() > 0);
    forbid(&fleet);
    assert!(open.read_to_end(&mut Vec::new()).is_err(), "it is reset");
    let said = forward.errors.next().unwrap().unwrap();
    assert!(said.contains("does not allow it any more"), "{said}");
    let audit = fleet.pith(&["audit"]).expect_code(0).stdout;
    assert!(audit.contains("default/web to port 8080"), "{audit}");
    assert_eq!(forward.end(), Some(0));
    assert_eq!(fleet.stop(), 0);
}
