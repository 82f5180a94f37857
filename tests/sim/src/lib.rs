//! Seeded fleets of the real planners: what a fleet does when everything goes wrong, thousands of times, in virtual time.
//!
//! Real here: `coordinator::state::State` and the manifests it signs, acceptance with its signatures, the ledger's rules,
//! the agent's event loop with its inbox, memory, probe windows, routes and reports, `planner::node` and `planner::fleet`, the
//! sessions' outbox and backoff. Fakes: the engine, the broker's network, a model of the proxy, and the shell around the
//! agent's loop ([`board::process`]). Nothing here decides.
//!
//! ```text
//! seed -> scenario -> acts (people, faults) -> world: boards <-> broker <-> coordinator, safety after each act
//!                                              -> faults mended, time passes -> rest: all old, all new, or named
//! ```

pub mod acts;
pub mod application;
pub mod board;
pub mod control;
pub mod fleet;
pub mod random;
pub mod rest;
pub mod safety;
pub mod scenario;
pub mod trace;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use acts::Wished;
use random::Random;
use trace::Trace;
use world::World;

/// Once nothing goes wrong any more, a fleet comes to rest within this time, or says what it waits for.
const LONGEST_REST_MS: u64 = 20 * 60_000;
/// A crash whose hint was lost is seen with the next full look at the engine, which comes within this time.
const UNSEEN_MS: u64 = 20_000;
/// Rest is looked for this often.
const LOOK_MS: u64 = 5_000;
/// What is not as it should be is looked at again so often: a step may be under way, and what a lost hint was about is seen
/// with the agent's next full look, 15 seconds later at most.
const MORE_LOOKS: u32 = 4;
/// Lines that a failure shows.
const SHOWN_LINES: usize = 60;

/// Seeds that found something once, each with what it was.
const SEEDS: &str = include_str!("../seeds.txt");

/// Seeds that found something once; they run first.
#[must_use]
pub fn kept_seeds() -> Vec<u64> {
    let seed = |line: &str| line.split_whitespace().next()?.parse().ok();
    SEEDS.lines().filter_map(seed).collect()
}

/// A seed that found something.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What does not hold.
    pub what: String,
    /// The last acts, oldest first.
    pub acts: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for act in &self.acts {
            writeln!(f, "{act}")?;
        }
        write!(f, "seed {}: {}\nreplay with PITH_SEED={}", self.seed, self.what, self.seed)
    }
}

/// Runs one seed; one that fails is run once more to see its acts.
///
/// # Errors
/// What it found.
pub fn run(seed: u64) -> Result<(), Box<Failure>> {
    attempt(seed, &Trace::default()).map_err(|what| {
        let trace = Trace::on();
        let again = attempt(seed, &trace).err();
        let what =
            again.unwrap_or_else(|| format!("{what} (not again: the simulation is not pure)"));
        Box::new(Failure { seed, what, acts: trace.last(SHOWN_LINES) })
    })
}

/// Runs one seed and tells everything.
pub fn replay(seed: u64) -> (Vec<String>, Result<(), String>) {
    let trace = Trace::on();
    let result = attempt(seed, &trace);
    (trace.last(usize::MAX), result)
}

fn attempt(seed: u64, trace: &Trace) -> Result<(), String> {
    let run = || story(seed, trace);
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// A fleet, people who change their minds, and whatever goes wrong meanwhile.
fn story(seed: u64, trace: &Trace) -> Result<(), String> {
    let mut draw = Random::new(seed);
    let nodes =
        usize::try_from(draw.between(2, 6)).unwrap_or(2).min(usize::from(draw.chance(50)) * 3 + 3);
    let count = *draw.pick(&[1, 1, 1, 2, 3]);
    let mut services: Vec<Wished> =
        (0..count).map(|number| Wished::draw(number, nodes, &mut draw)).collect();
    let faults = scenario::faults(&mut draw);
    let mut world = World::new(draw.draw(), nodes, faults, trace.clone());
    for board in &mut world.boards {
        board.hardware.proxy.lingers_ms = *draw.pick(&[0, 500, 5_000]);
    }
    world.run(3_000)?;
    for service in &services {
        world.deploy(&service.spec, application::Application::good())?;
    }
    world.run(draw.between(5_000, 30_000))?;
    for _ in 0..draw.between(2, 9) {
        match draw.chance(55) {
            true => acts::operate(&mut world, &mut services, &mut draw)?,
            false => acts::fail(&mut world, &mut draw),
        }
        let longest_ms = *draw.pick(&[50, 1_000, 8_000, 40_000]);
        world.run(draw.between(0, longest_ms))?;
    }
    acts::mend(&mut world);
    come_to_rest(&mut world)
}

/// Time passes until nothing changes any more, and what is left is looked at.
///
/// # Errors
/// Names what does not hold.
pub fn come_to_rest(world: &mut World) -> Result<(), String> {
    let until_ms = world.now_ms + LONGEST_REST_MS;
    world.run(UNSEEN_MS)?;
    while world.now_ms < until_ms {
        world.run(LOOK_MS)?;
        if rest::is_at_rest(world) {
            break;
        }
    }
    for _ in 0..MORE_LOOKS {
        if rest::check(world).is_ok() {
            return Ok(());
        }
        world.run(LOOK_MS)?;
    }
    rest::check(world).inspect_err(|_| {
        for line in rest::told(world) {
            world.trace.note(world.now_ms, "at the end", || line);
        }
    })
}
