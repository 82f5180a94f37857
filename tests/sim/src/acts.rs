//! What people do, and what goes wrong: one act after another, as the seed draws them.

use coordinator::state::requests::{Scale, Steer, Undo};
use protocol::id::{ServiceId, ServiceName};
use protocol::spec::ServiceSpec;

use crate::board::Board;
use crate::random::Random;
use crate::world::World;
use crate::{fleet, scenario};
use agent::engine::fake::Daemon;

/// A service with the policy it is deployed with next.
#[derive(Debug, Clone)]
pub struct Wished {
    /// What is written in its file at the moment.
    pub spec: ServiceSpec,
    port: u16,
}

impl Wished {
    /// A service by chance.
    #[must_use]
    pub fn draw(number: usize, nodes: usize, random: &mut Random) -> Self {
        let port = 8000 + u16::try_from(number).unwrap_or(0);
        let spec = scenario::service(&World::service(number), port, nodes, random);
        Self { spec, port }
    }

    fn id(&self) -> ServiceId {
        fleet::service(&self.spec.name)
    }
}

/// One act of an operator.
///
/// # Errors
/// Names an invariant that does not hold.
pub fn operate(
    world: &mut World,
    services: &mut [Wished],
    draw: &mut Random,
) -> Result<(), String> {
    let index = usize::try_from(draw.draw() % services.len() as u64).unwrap_or(0);
    let id = services[index].id();
    let undo = |to_revision| Undo { to_revision, by: "operator".to_owned(), ..Undo::default() };
    match draw.count(0, 99) {
        0..=39 => return deploy(world, &mut services[index], draw),
        40..=49 => {
            let done = world.ask(|state, at| state.undo(&id, undo(None), at))?;
            note(world, &id.name, "undo", done);
        }
        50..=57 => steer(world, &id, Steer::Pause)?,
        58..=65 => steer(world, &id, Steer::Resume)?,
        66..=71 => steer(world, &id, Steer::Abort)?,
        72..=82 => steer(world, &id, Steer::Promote { full: draw.chance(30) })?,
        83..=88 => {
            let done = world.ask(|state, at| state.restart(&id, undo(None), at))?;
            note(world, &id.name, "restart", done);
        }
        89..=97 => {
            let count = (!draw.chance(20)).then(|| draw.count(0, 4));
            let Scale { count } = Scale { count };
            let done = world.ask(|state, at| state.scale(&id, count, at))?;
            note(world, &id.name, &format!("scale to {count:?}"), done);
        }
        _ => {
            let done = world.ask(|state, at| state.remove(&id, at))?;
            note(world, &id.name, "remove", done);
        }
    }
    Ok(())
}

fn deploy(world: &mut World, wished: &mut Wished, draw: &mut Random) -> Result<(), String> {
    let nodes = world.boards.len();
    if draw.chance(30) {
        let volumes = wished.spec.volumes.clone();
        wished.spec = scenario::service(&wished.spec.name, wished.port, nodes, draw);
        // Whether it has a writable volume hardly ever changes.
        if draw.chance(80) {
            wished.spec.volumes = volumes;
        }
    } else if draw.chance(30) {
        wished.spec.rollout = scenario::policy(nodes, draw);
    }
    let application = scenario::application(nodes, draw);
    let done = world.deploy(&wished.spec.clone(), application)?;
    note(world, &wished.spec.name, &format!("deploy {:?}", wished.spec.rollout), done);
    Ok(())
}

fn steer(world: &mut World, id: &ServiceId, steer: Steer) -> Result<(), String> {
    let done = world.ask(|state, at| state.steer(id, steer, at))?;
    note(world, &id.name, &format!("{steer:?}"), done);
    Ok(())
}

fn note<T: std::fmt::Debug, E: std::fmt::Display>(
    world: &World,
    service: &ServiceName,
    what: &str,
    done: Option<Result<T, E>>,
) {
    world.trace.note(world.now_ms, "operator", || match done {
        None => format!("{service}: {what}: nobody answers"),
        Some(Ok(_)) => format!("{service}: {what}"),
        Some(Err(refused)) => format!("{service}: {what}: {refused}"),
    });
}

/// Something goes wrong.
pub fn fail(world: &mut World, draw: &mut Random) {
    let index = usize::try_from(draw.draw() % world.boards.len() as u64).unwrap_or(0);
    let now_ms = world.now_ms;
    let for_ms = draw.between(100, 40_000);
    let board = &mut world.boards[index];
    board.hardware.now_ms = now_ms;
    match draw.count(0, 99) {
        0..=29 => board.hardware.kill_after = Some(draw.count(1, 25)),
        30..=36 => board.reboot(),
        37..=49 => world.cut_off(index, true),
        50..=56 => world.cut_off(index, false),
        57..=63 => {
            if world.control.state.is_some() {
                world.crash_control(for_ms);
            }
        }
        64..=68 => world.crash_broker(for_ms),
        69..=70 => world.broker.forget_retained(),
        71..=75 => board.hardware.registry_away_until_ms = now_ms + for_ms,
        76..=82 => {
            let bytes = *draw.pick(&[0, scenario::MEMORY_REQUEST, 100 << 20, 1 << 30]);
            told(board, format!("has {bytes} bytes of memory left"));
            board.hardware.memory_available = Some(bytes);
        }
        83..=86 => {
            let percent = *draw.pick(&[20, 95]);
            told(board, format!("its disk is {percent}% full"));
            board.hardware.disk_used_percent = Some(percent);
        }
        87..=90 => {
            let daemon = if draw.chance(60) { Daemon::Away } else { Daemon::Answers };
            told(board, format!("its engine: {daemon:?}"));
            board.hardware.docker.set_daemon(daemon);
            board.wake_at_ms = now_ms;
        }
        91..=94 => crash_container(board, draw),
        95..=97 => {
            let skew_ms = *draw.pick(&[-100_000_000, -5_000, 5_000, 100_000_000]);
            told(board, format!("its wall clock is {skew_ms} ms ahead"));
            board.hardware.skew_ms = skew_ms;
        }
        _ => {
            let skew_ms = *draw.pick(&[-100_000_000, -5_000, 5_000, 100_000_000]);
            world.trace.note(now_ms, "coordinator", || format!("clock {skew_ms} ms ahead"));
            world.control.skew_ms = skew_ms;
        }
    }
}

fn told(board: &Board, text: String) {
    let hardware = &board.hardware;
    hardware.trace.note(hardware.now_ms, &hardware.name, || text);
}

fn crash_container(board: &mut Board, draw: &mut Random) {
    let ours = board.hardware.ours();
    let containers = board.hardware.docker.containers(&ours).unwrap_or_default();
    if containers.is_empty() {
        return;
    }
    let container = draw.pick(&containers);
    told(board, format!("{} crashes", container.name));
    board.hardware.docker.crash(&container.id, 139);
    board.wake_at_ms = board.hardware.now_ms;
}

/// Everything that went wrong is mended; what is bad in releases stays bad.
pub fn mend(world: &mut World) {
    let now_ms = world.now_ms;
    world.trace.note(now_ms, "world", || "every fault is mended".to_owned());
    world.broker.set_faults(mqtt::fake::Faults { delay_max_ms: 20, ..Default::default() });
    if world.broker_starts_at_ms.is_some() {
        world.broker_starts_at_ms = Some(now_ms);
    }
    if world.control_starts_at_ms.is_some() {
        world.control_starts_at_ms = Some(now_ms);
    }
    for index in 0..world.boards.len() {
        world.cut_off(index, false);
        let board = &mut world.boards[index];
        board.hardware.now_ms = now_ms;
        board.hardware.kill_after = None;
        board.hardware.memory_available = None;
        board.hardware.disk_used_percent = Some(10);
        board.hardware.registry_away_until_ms = 0;
        board.hardware.docker.set_daemon(Daemon::Answers);
        board.wake_at_ms = now_ms;
    }
}
