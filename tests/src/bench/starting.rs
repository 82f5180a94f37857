//! How long until something is there: the agent at its broker, a new service at its first answer.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::bench::sample::{Line, RUNS, Samples};
use crate::fleet::{Fleet, binaries};
use crate::http::{free_port, get};
use crate::services::Service;
use crate::wait::until_true;

const SOON: Duration = Duration::from_secs(10);

/// Measures both.
#[must_use]
pub fn measure() -> Vec<Line> {
    vec![exec_to_subscribed(), published_to_answer()]
}

/// From starting the program to its SUBSCRIBE, as a broker logs it.
fn exec_to_subscribed() -> Line {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name);
    let init =
        Command::new(binaries().join("pith")).arg("init").arg("--data").arg(path("fleet")).output();
    assert!(init.is_ok_and(|output| output.status.success()), "pith init");
    let port = free_port();
    fs::write(path("mosquitto.conf"), format!("listener {port} 127.0.0.1\nallow_anonymous true\n"))
        .expect("a file");
    fs::write(path("token"), "sixteen characters").expect("a file");
    let folder = dir.path().display();
    let config = format!(
        "name = \"bench\"\nstate_dir = \"{folder}/state\"\nruntime_dir = \"{folder}/run\"\ntrust_root = \"{folder}/fleet/root.json\"\n[broker]\naddress = \"127.0.0.1:{port}\"\ntoken_file = \"{folder}/token\"\n"
    );
    fs::write(path("agent.toml"), config).expect("a file");
    fs::create_dir_all(path("run")).expect("a folder");
    let mut command = Command::new("mosquitto");
    command.arg("-v").arg("-c").arg(path("mosquitto.conf"));
    let mut broker = broker_with_log(&mut command);
    let subscribed = lines_with(&mut broker, "Received SUBSCRIBE");
    until_true("the broker listens", SOON, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let times = (0..RUNS).map(|_| {
        let begun = Instant::now();
        let agent = Command::new(binaries().join("pith-agent"))
            .arg("--config")
            .arg(path("agent.toml"))
            .stderr(Stdio::null())
            .spawn();
        let mut agent = agent.expect("pith-agent can be run");
        subscribed.recv_timeout(SOON).expect("the agent subscribes");
        let took = begun.elapsed();
        let _ = agent.kill();
        let _ = agent.wait();
        took.as_secs_f64() * 1000.0
    });
    let times = Samples::new(times.collect());
    let _ = broker.kill();
    let _ = broker.wait();
    Line::checked(
        "exec to subscribed, ms",
        times.to_string(),
        "at most 100",
        times.median() <= 100.0,
    )
}

fn broker_with_log(command: &mut Command) -> Child {
    command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("mosquitto can be run")
}

fn lines_with(child: &mut Child, word: &'static str) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    let log = child.stderr.take().expect("stderr is piped");
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if line.contains(word) && sender.send(()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// From the manifest of a new service to its first answer, with the image on the node. What the engine takes alone for the
/// service's network, its container there and its start is the floor.
fn published_to_answer() -> Line {
    let fleet = Fleet::start(1);
    let floor_ms = engine_alone_s() * 1000.0;
    let times = (0..RUNS).map(|n| {
        let port = free_port();
        let name = format!("bench-{n}");
        let file = fleet.file("bench.toml", &Service::new(&name, port).toml());
        let _ = fleet.pith(&["deploy", "-f", &file, "--detach"]).expect_code(0);
        until_true("it answers", SOON, || {
            get(fleet.address(1, port), "/").is_ok_and(|(status, _)| status == 200)
        });
        let answered = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The revision is numbered and its manifest published in one step.
        let published_ms = fleet.rollout(&name)["started_ms"].as_u64().unwrap_or_default();
        answered.as_secs_f64() * 1000.0 - published_ms as f64
    });
    let times = Samples::new(times.collect());
    let _ = fleet.stop();
    let most = floor_ms + 100.0;
    let target = format!("at most c + 100 = {most:.0}");
    let is_met = times.median() <= most;
    Line::checked("manifest published to first answer, ms", times.to_string(), &target, is_met)
}

/// Seconds that the engine takes for a network, and for a container with an address of its own on it to be created and
/// started, median; the command line's own start is taken off.
fn engine_alone_s() -> f64 {
    let timed = |args: &[&str]| {
        let begun = Instant::now();
        let output = Command::new("docker").args(args).output().expect("docker can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        begun.elapsed().as_secs_f64()
    };
    let once = |n| {
        let name = format!("pith-bench-{n}");
        let (subnet, address) =
            (format!("10.223.255.{}/28", n * 16), format!("10.223.255.{}", n * 16 + 3));
        let label = ["--label", "io.pith.fixture=1"];
        let network = ["network", "create", "--subnet", &subnet, &name];
        let create = ["create", "--init", "--name", &name, "--network", &name, "--ip", &address];
        let nothing = timed(&["version"]);
        let network = timed(&[&network[..2], &label, &network[2..]].concat());
        let create = timed(&[&create[..], &label, &["pith-demo:v1"]].concat());
        let start = timed(&["start", &name]);
        let _ = timed(&["rm", "-f", &name]);
        let _ = timed(&["network", "rm", &name]);
        (network + create + start - 3.0 * nothing).max(0.0)
    };
    Samples::new((0..RUNS).map(once).collect()).median()
}
