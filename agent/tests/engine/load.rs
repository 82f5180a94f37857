//! What a node tells of an instance, against what Docker itself says of it, by a user who may as little as the agent's.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use agent::clock;
use agent::load::{Detail, Root};
use agent::sampler::Sampler;
use planner::Now;
use planner::node::{Finding, Instance, Life, Probed, Routing};
use protocol::hello::Load;
use protocol::manifest::Version;

use super::stage::{on_stage, run};

/// Says the container and its address to the process of this test that reads as another user.
const OF: &str = "PITH_TEST_LOAD_OF";
/// Before what that process tells, among what the test harness prints.
const TOLD: &str = "told: ";
const NOBODY: u32 = 65_534;
const HELD_MB: u64 = 48;

#[test]
fn a_user_who_may_nothing_reads_what_docker_says_of_an_instance() {
    if let Ok(of) = std::env::var(OF) {
        return tell(&of);
    }
    on_stage(|stage| async move {
        let held = HELD_MB.to_string();
        let id = stage.running(&[("BURN", "1"), ("HOLD_MEMORY_MB", &held)]).await;
        let address = stage.container(&id).await.unwrap().address.unwrap();
        speak_to((address, 8080).into());
        let mut reader = Command::new("/proc/self/exe");
        reader
            .args([
                "--exact",
                "engine::load::a_user_who_may_nothing_reads_what_docker_says_of_an_instance",
            ])
            .args(["--nocapture", "--test-threads=1"])
            .env(OF, format!("{id} {address}"))
            .stdout(Stdio::piped());
        // Who is not root may as little already.
        if nix::unistd::geteuid().is_root() {
            reader.uid(NOBODY).gid(NOBODY);
        }
        let reader = reader.spawn().unwrap();
        // Docker looks for a second or two too.
        let stats = ["stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemUsage}}", &id];
        let docker = run("docker", &stats);
        let output = reader.wait_with_output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let told = output.split_once(TOLD).and_then(|(_, told)| told.lines().next());
        let told: Load = serde_json::from_str(told.expect(&output)).unwrap();

        let (cpu, memory) = docker.split_once("% ").unwrap();
        let (cpu, one) = (cpu.parse::<f32>().unwrap() / 100.0, &told.instances[0]);
        // A whole core where the machine has one to spare; idle, the same service takes less than a hundredth of one. Both look at
        // different seconds of a machine that does other things too.
        let ours = one.cpu.unwrap();
        assert!(ours > 0.03 && (ours - cpu).abs() < 0.4, "{docker}: {one:?}");
        let (used_mb, docker_mb) = (one.mem_used.unwrap() >> 20, mebibytes(memory));
        assert!(used_mb.abs_diff(docker_mb) <= 4, "{docker}: {one:?}");
        assert!((HELD_MB..HELD_MB + 32).contains(&used_mb), "{docker}: {one:?}");
        assert_eq!((one.mem_max, one.ooms, one.restarts), (None, Some(0), 2), "{one:?}");
        // A handshake's packets at least.
        assert!(one.net_in.unwrap() > 100 && one.net_out.unwrap() > 100, "{one:?}");
        let board = told.board.unwrap();
        let busy: f32 = board.cores.iter().sum();
        assert!(busy >= ours * 0.6, "the board's cores do it: {board:?}, {one:?}");
        assert!(board.disk_written.unwrap() > 0 && board.kernel.is_some(), "{board:?}");
    });
}

/// Some bytes there and back, so that the bridge knows where it is.
fn speak_to(address: std::net::SocketAddr) {
    for _ in 0..200 {
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n").unwrap();
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
            return;
        }
        // The demo service fills its memory before it listens.
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{address} does not listen");
}

/// In the process of the other user: two samples, with a second of work between them.
fn tell(of: &str) {
    let (id, address) = of.split_once(' ').unwrap();
    let instance = Instance {
        container: id.to_owned(),
        name: "web-0".to_owned(),
        slot: 0,
        release: "c".repeat(64).parse().unwrap(),
        template: "d".repeat(64).parse().unwrap(),
        address: Some(address.parse().unwrap()),
        life: Life::Running { since: Now(1) },
        probed: Probed::default(),
        routing: Routing::Active,
        in_flight: 0,
        exits: 2,
        finding: Finding::Nothing,
    };
    let service = "web".parse().unwrap();
    let mut sampler = Sampler::new(Root::new("/"), "/".into()).unwrap();
    let mut sample = || {
        let detail = Detail { engine: "20.10.24", instances: vec![(&service, &instance)] };
        sampler.sample(Version::default(), Some(detail), clock::now())
    };
    assert_eq!(sample().instances[0].cpu, None, "nothing to compare with");
    std::thread::sleep(Duration::from_millis(1_500));
    println!("{TOLD}{}", serde_json::to_string(&sample()).unwrap());
}

/// `51.2MiB / 7.6GiB`.
fn mebibytes(text: &str) -> u64 {
    let (used, _) = text.split_once("MiB").expect(text);
    used.parse::<f64>().expect(text) as u64
}
