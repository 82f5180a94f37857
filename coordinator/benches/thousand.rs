//! A coordinator with a thousand nodes that tell their load every ten seconds, scraped by Prometheus, looked at by one page.
//!
//! The coordinator is this process; the nodes, the scraper and the page are another, so that what is measured is the coordinator alone. Run by
//! `make bench`; prints a table and checks nothing: machines differ.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

#[path = "../tests/front/board.rs"]
mod board;
#[path = "thousand/nodes.rs"]
mod nodes;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use board::Fleet;
use nodes::{Node, Place, What};

const NODES: usize = 1_000;
/// At once, while they join.
const JOINING: usize = 20;
const SETTLING: Duration = Duration::from_secs(45);
const MEASURED: Duration = Duration::from_secs(90);
/// Ticks of `/proc/self/stat` a second (`getconf CLK_TCK`, 100 on every Linux that Pith runs on).
const TICKS_PER_S: f64 = 100.0;
const MIB: f64 = 1024.0 * 1024.0;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match args.iter().position(|arg| arg == nodes::ROLE) {
        Some(at) => runtime.block_on(nodes::live(&args[at + 1])),
        None => runtime.block_on(measure()),
    }
}

async fn measure() {
    let fleet = Arc::new(Fleet::start().await);
    let began = Instant::now();
    let all = joined(&fleet).await;
    println!("{NODES} nodes joined in {:.1} s", began.elapsed().as_secs_f64());
    let own_mib = pss_mib();
    let entrance = fleet.entrance();
    let what = What {
        place: Place {
            address: entrance.address,
            ca: entrance.ca.to_vec(),
            server_name: entrance.server_name,
        },
        fleet: fleet.ca().fleet().clone(),
        socket: fleet.data.socket(),
        nodes: all,
    };
    let file = fleet.dir.path().join("nodes.json");
    fs::write(&file, serde_json::to_vec(&what).unwrap()).unwrap();
    drop(what);
    let mut child = Others(
        Command::new(std::env::current_exe().unwrap())
            .args([nodes::ROLE, &file.to_string_lossy()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut said = BufReader::new(child.0.stdout.take().unwrap()).lines();
    println!("{}", said.next().unwrap().unwrap());
    tokio::time::sleep(SETTLING).await;
    let before = cpu_s();
    tokio::time::sleep(MEASURED).await;
    let cores = (cpu_s() - before) / MEASURED.as_secs_f64();
    let mib = pss_mib();
    let heard = fleet.client.nodes(None).await.unwrap().nodes;
    let fresh = heard.iter().filter(|node| node.load.is_some()).count();
    println!(
        "coordinator, {NODES} nodes every {} s, `/metrics` every {} s, one page:",
        nodes::EVERY.as_secs(),
        nodes::SCRAPED_EVERY.as_secs()
    );
    println!("  CPU    {cores:.2} cores                 target: under 0.5");
    println!("  PSS    {mib:.0} MiB ({own_mib:.0} before they came) target: under 150 MiB");
    println!("  loads of {fresh} nodes are known");
    drop(child);
    for line in said.map_while(Result::ok) {
        println!("  {line}");
    }
}

/// Ended with the benchmark, however that ends.
struct Others(Child);

impl Drop for Others {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn joined(fleet: &Arc<Fleet>) -> Vec<Node> {
    let mut joining = JoinSet::new();
    for worker in 0..JOINING {
        let fleet = Arc::clone(fleet);
        joining.spawn(async move {
            let mut nodes = Vec::new();
            for number in (worker..NODES).step_by(JOINING) {
                let board = fleet.member(&format!("opi-{number}")).await;
                nodes.push(Node {
                    id: board.id(),
                    certificate: board.certificate.clone().unwrap(),
                    key: board.tls.serialize_pem(),
                    hello: board.hello(fleet.ca().fleet()),
                });
            }
            nodes
        });
    }
    joining.join_all().await.into_iter().flatten().collect()
}

fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS_PER_S
}

fn pss_mib() -> f64 {
    let all = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = all.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / MIB
}
