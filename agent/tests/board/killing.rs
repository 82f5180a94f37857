//! SIGKILL before and after every single step of a rolling replacement, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::report::Phase;

use super::node::{Node, demo, free_port, load, missing};

/// A rolling replacement of two takes about a dozen.
const MAX_STEPS: u32 = 40;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_replacement_survives_a_kill_before_and_after_each_step() {
    if missing().is_some() {
        return;
    }
    let mut node = Node::start("127.0.0.72", "");
    let port = free_port(node.listen);
    node.publish(&demo(1, "v1", port, &[]));
    node.until_service("web", "v1 runs", |s| s.phase == Phase::Running && s.ready == 2);
    let ends = Arc::new(AtomicBool::new(false));
    let clients = load(node.listen, port, Arc::clone(&ends));
    let mut generation = 1;
    let mut killed = 0;
    'steps: for step in 1..MAX_STEPS {
        for side in ["before", "after"] {
            generation += 1;
            let tag = if generation % 2 == 0 { "v2" } else { "v1" };
            let died = replace(&mut node, generation, (tag, port), &format!("step:{step}:{side}"));
            let said = node.get(port).unwrap().1;
            assert!(said.starts_with(tag), "{said}");
            let running = node.containers().iter().filter(|c| c.ends_with("running")).count();
            assert_eq!(running, 2, "step {step} {side}: {:#?}", node.containers());
            if !died {
                break 'steps;
            }
            killed += 1;
        }
    }
    ends.store(true, Ordering::Relaxed);
    let (asked, lost) = clients.join().unwrap();
    eprintln!("{killed} kills, {asked} requests, {lost} lost");
    assert_eq!(lost, 0, "of {asked}\n{}", node.log());
    assert!(killed >= 20, "only {killed} kills");
}

/// One replacement by an agent that dies at `failpoint`; a supervisor starts it again. Says whether it died.
fn replace(node: &mut Node, generation: u64, (tag, port): (&str, u16), failpoint: &str) -> bool {
    node.kill_agent();
    let count = node.dir().join("count").display().to_string();
    let _ = std::fs::remove_file(&count);
    node.env =
        vec![("PITH_FAILPOINT".into(), failpoint.into()), ("PITH_FAILPOINT_COUNT".into(), count)];
    node.start_agent();
    // Another release each time, so that containers are created and removed too.
    let marker = generation.to_string();
    node.publish(&demo(generation, tag, port, &[("GENERATION", &marker)]));
    let (began, mut died) = (Instant::now(), false);
    loop {
        if node.agent_ended() {
            died = true;
            node.env.clear();
            node.start_agent();
        }
        let report = node.report();
        let web = report.as_ref().and_then(|report| report.services.first());
        let is_there = web.is_some_and(|web| {
            let is_done = web.phase == Phase::Running && web.ready == 2 && web.updated == 2;
            web.revision == generation && is_done && web.detail.is_none()
        });
        if is_there && !node.agent_ended() {
            return died;
        }
        assert!(began.elapsed() < PATIENCE, "{failpoint}: {report:#?}\n{}", node.log());
    }
}
