//! How long until something is there: the agent at its broker, a deploy at its first answer.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::bench::rolling::create_and_start_s;
use crate::bench::sample::{Line, RUNS, Samples};
use crate::fleet::{Fleet, binaries};
use crate::http::{free_port, get};
use crate::services::Service;
use crate::wait::until_true;

const SOON: Duration = Duration::from_secs(10);

/// Measures both.
#[must_use]
pub fn measure() -> Vec<Line> {
    vec![exec_to_subscribed(), deploy_to_answer()]
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

/// From typing a deploy of a new service to its first answer, with the image on the node.
fn deploy_to_answer() -> Line {
    let fleet = Fleet::start(1);
    let create_ms = create_and_start_s() * 1000.0;
    let times = (0..RUNS).map(|n| {
        let port = free_port();
        let service = Service::new(&format!("bench-{n}"), port);
        let file = fleet.file("bench.toml", &service.toml());
        let begun = Instant::now();
        let _ = fleet.pith(&["deploy", "-f", &file, "--detach"]).expect_code(0);
        until_true("it answers", SOON, || {
            get(fleet.address(1, port), "/").is_ok_and(|(status, _)| status == 200)
        });
        begun.elapsed().as_secs_f64() * 1000.0
    });
    let times = Samples::new(times.collect());
    let _ = fleet.stop();
    let most = create_ms + 100.0;
    let target = format!("at most c + 100 = {most:.0}");
    Line::checked(
        "deploy typed to first answer, ms (command line and resolving included)",
        times.to_string(),
        &target,
        times.median() <= most,
    )
}
