//! What must hold once nothing goes wrong any more and time has passed: each service is all old, all new or in a state that
//! says why, and the coordinator's word of it is what the nodes do.

use std::collections::BTreeSet;

use agent::engine::ContainerState;
use coordinator::state::records::Revision;
use planner::fleet::RolloutState;
use planner::node::{Decision, Verdict};
use protocol::id::{ServiceId, ServiceName, Template};
use protocol::report::Phase;

use crate::board::Board;
use crate::fleet;
use crate::world::World;

/// Whether nothing will change any more without an operator.
#[must_use]
pub fn is_at_rest(world: &World) -> bool {
    let is_final = |revision: &Revision| {
        let stands =
            matches!(revision.state, RolloutState::AwaitingPromotion | RolloutState::Paused);
        revision.state.is_final() || stands
    };
    let newest = |id: &ServiceId| world.control.store.newest(id);
    world.control.state.is_some()
        && world.control.store.services.keys().filter_map(newest).all(is_final)
        && world.boards.iter().all(|board| is_board_at_rest(world, board))
}

fn is_board_at_rest(world: &World, board: &Board) -> bool {
    let Some(process) = &board.process else { return false };
    let intent = world.control.store.intents.get(&board.hardware.identity.node);
    let seen = board.hardware.disk.seen().map_or(0, |seen| seen.version.generation);
    let settled = |verdict: &Verdict| match (&verdict.decision, verdict.phase) {
        (Decision::Settled | Decision::GaveUp(_), _) => true,
        (Decision::Wait { .. } | Decision::Do(_), _) => false,
    };
    board.is_idle()
        && intent.is_none_or(|intent| intent.generation == seen)
        && process.agent.verdicts().values().all(settled)
}

/// Looks at a fleet that had time enough.
///
/// # Errors
/// Names who stands where without a reason, or who disagrees.
pub fn check(world: &World) -> Result<(), String> {
    for board in &world.boards {
        check_board(world, board)?;
    }
    for id in world.control.store.services.keys() {
        if let Some(newest) = world.control.store.newest(id) {
            check_rollout(world, id, newest)?;
        }
    }
    Ok(())
}

fn check_board(world: &World, board: &Board) -> Result<(), String> {
    let name = &board.hardware.name;
    let Some(process) = &board.process else { return Err(format!("{name} is down")) };
    let intent = world.control.store.intents.get(&board.hardware.identity.node);
    let seen = board.hardware.disk.seen().map_or(0, |seen| seen.version.generation);
    if intent.is_some_and(|intent| intent.generation != seen) {
        return Err(format!("{name} has seen {seen}, its newest manifest is another"));
    }
    for (service, verdict) in process.agent.verdicts() {
        let is_end = matches!(verdict.phase, Phase::Running | Phase::RolledBack);
        let is_healing = matches!(verdict.decision, Decision::Do(_));
        // What cannot stay ready is started again for ever, and may be looked at in the middle of it.
        let is_started_again = is_healing && runs_bad(board, service);
        if !is_end && verdict.waiting.is_none() && !is_started_again {
            let (phase, decision) = (verdict.phase, &verdict.decision);
            return Err(format!("{name}: {service} is {phase:?} without a reason: {decision:?}"));
        }
        if is_end && !is_healing {
            check_containers(board, service)?;
        }
    }
    check_explained(board)
}

/// What is complete runs as often as it should, and nothing else of the service does but what the planner keeps warm.
fn check_containers(board: &Board, service: &ServiceName) -> Result<(), String> {
    let Some(process) = &board.process else { return Ok(()) };
    let Some(history) = process.agent.histories().get(service) else { return Ok(()) };
    let Some(running) = &history.running else { return Ok(()) };
    let Some(assignment) = process.agent.wanted().and_then(|w| w.assignments.get(service)) else {
        return Ok(());
    };
    let Some(known) = board.hardware.known(&running.release) else { return Ok(()) };
    if !known.application.on(board.hardware.number).is_lasting() {
        return Ok(());
    }
    let count = if known.spec.is_exclusive() { assignment.count.min(1) } else { assignment.count };
    let facts = process.agent.observed().services.get(service);
    let instances = facts.map(|facts| facts.instances.as_slice()).unwrap_or_default();
    let up = |of: &Template| {
        let is_up = |i: &&planner::node::Instance| {
            i.template == *of && board.hardware.is_running(&i.container)
        };
        instances.iter().filter(is_up).count()
    };
    let found = up(&running.template);
    if found != count as usize {
        let name = &board.hardware.name;
        return Err(format!("{name}: {found} of {count} instances of {service} run"));
    }
    Ok(())
}

/// Every container belongs to what is wanted or remembered.
fn check_explained(board: &Board) -> Result<(), String> {
    let Some(process) = &board.process else { return Ok(()) };
    let Some(facts) = board.process.as_ref().map(|p| p.agent.observed()) else { return Ok(()) };
    let mut explained: BTreeSet<Template> = BTreeSet::new();
    let environment = &board.hardware.identity.environment;
    for assignment in process.agent.wanted().into_iter().flat_map(|w| w.assignments.values()) {
        explained.insert(assignment.template(environment));
        if let Some(candidate) = &assignment.candidate {
            explained.insert(candidate.template(environment));
        }
    }
    for history in process.agent.histories().values() {
        explained.extend(history.kept().map(|kept| kept.template.clone()));
    }
    // What is being replaced still stands, by its old template.
    let is_over = |service: &&ServiceName| {
        let verdict = process.agent.verdicts().get(*service);
        let is_frozen = verdict.is_some_and(|v| v.phase == Phase::Failed);
        let is_still = |v: &Verdict| matches!(v.decision, Decision::Settled | Decision::GaveUp(_));
        !is_frozen && verdict.is_none_or(is_still)
    };
    for (service, of_it) in facts.services.iter().filter(|(service, _)| is_over(service)) {
        for instance in &of_it.instances {
            if !explained.contains(&instance.template) {
                let name = &board.hardware.name;
                return Err(format!("{name}: nothing explains {} of {service}", instance.name));
            }
        }
    }
    check_images(board)
}

/// The images of what runs and of what to go back to are there.
fn check_images(board: &Board) -> Result<(), String> {
    let Some(process) = &board.process else { return Ok(()) };
    for (service, history) in process.agent.histories() {
        let kept = history.running.iter().filter(|_| history.completed).chain(&history.last_good);
        for kept in kept {
            let Some(known) = board.hardware.known(&kept.release) else { continue };
            let state = process.agent.observed().images.get(&known.image.pin);
            if !matches!(state, Some(planner::node::ImageState::Present)) {
                let (name, image) = (&board.hardware.name, &known.image.reference);
                return Err(format!("{name}: {service} may need {image}, which is {state:?}"));
            }
        }
    }
    Ok(())
}

fn check_rollout(world: &World, id: &ServiceId, newest: &Revision) -> Result<(), String> {
    let (name, number, state) = (&id.name, newest.number, newest.state);
    // A rollout that waits for a node says what that node waits for.
    let of_a_node = newest.nodes.values().any(|progress| progress.reason.is_some());
    let says_why = !newest.message.is_empty() && (newest.reason.is_some() || of_a_node);
    match state {
        RolloutState::Succeeded => {
            let allowed = |board: &Board| {
                let given_up = board.process.as_ref().and_then(|p| p.agent.histories().get(name));
                given_up.is_some_and(|h| !h.failures.is_empty())
            };
            check_nodes(world, id, newest, allowed)
        }
        RolloutState::RolledBack | RolloutState::Aborted => {
            let from =
                newest.from.and_then(|n| world.control.store.revisions.get(&(id.clone(), n)));
            from.map_or(Ok(()), |from| check_nodes(world, id, from, |_| false))
        }
        // What is gone back to may be bad itself by now.
        RolloutState::RollingBack if says_why && runs_something_bad(world, &id.name) => Ok(()),
        RolloutState::Paused
        | RolloutState::AwaitingPromotion
        | RolloutState::InProgress
        | RolloutState::Failed
            if says_why =>
        {
            Ok(())
        }
        RolloutState::InProgress
        | RolloutState::Failed
        | RolloutState::Paused
        | RolloutState::AwaitingPromotion
        | RolloutState::Pending
        | RolloutState::RollingBack
        | RolloutState::Superseded => {
            let why = &newest.message;
            let nodes: Vec<String> =
                newest.nodes.iter().map(|(node, p)| format!("{node} {}", p.state)).collect();
            Err(format!("{name} r{number} stays {state} ({why}): {}", nodes.join(", ")))
        }
    }
}

/// Every node that a revision places runs that revision's template, and no other node runs the service.
fn check_nodes(
    world: &World,
    id: &ServiceId,
    revision: &Revision,
    may_differ: impl Fn(&Board) -> bool,
) -> Result<(), String> {
    let Revision { release, restarts, secrets, .. } = revision;
    let template = Template::with_secrets(release, &fleet::environment(), *restarts, secrets);
    for board in &world.boards {
        let node = fleet::name(board.hardware.number);
        let Some(process) = &board.process else { continue };
        let history = process.agent.histories().get(&id.name);
        let runs = history.and_then(|h| h.running.as_ref());
        let is_placed = revision.placement.contains_key(&node);
        let is_right = match runs {
            Some(kept) => is_placed && kept.template == template,
            None => !is_placed,
        };
        if !is_right && !may_differ(board) && !has_given_up(history, &template) {
            let runs = runs.map_or_else(|| "nothing".to_owned(), |k| format!("r{}", k.revision));
            let (name, number) = (&id.name, revision.number);
            return Err(format!("{node} runs {runs} of {name}, the coordinator says r{number}"));
        }
        if is_running_without_word(board, &id.name, is_placed) {
            return Err(format!("{node} still has containers of {}", id.name));
        }
    }
    Ok(())
}

/// Whether any node runs a release of the service that cannot stay ready.
fn runs_something_bad(world: &World, service: &ServiceName) -> bool {
    world.boards.iter().any(|board| runs_bad(board, service))
}

fn runs_bad(board: &Board, service: &ServiceName) -> bool {
    let history = board.process.as_ref().and_then(|p| p.agent.histories().get(service));
    let running = history.and_then(|h| h.running.as_ref());
    let known = running.and_then(|kept| board.hardware.known(&kept.release));
    known.is_some_and(|of_it| !of_it.application.on(board.hardware.number).is_lasting())
}

/// A node that found the wanted template bad says so, and runs the best it knows, which may be nothing.
fn has_given_up(history: Option<&planner::node::History>, template: &Template) -> bool {
    let mut failures = history.into_iter().flat_map(|history| &history.failures);
    failures.any(|failure| failure.template == *template)
}

fn is_running_without_word(board: &Board, service: &ServiceName, is_placed: bool) -> bool {
    let Some(process) = board.process.as_ref().filter(|_| !is_placed) else { return false };
    let facts = process.agent.observed().services.get(service);
    facts.is_some_and(|facts| !facts.instances.is_empty())
}

/// Containers that run, for people.
#[must_use]
pub fn told(world: &mut World) -> Vec<String> {
    let mut lines = Vec::new();
    for board in &mut world.boards {
        let ours = board.hardware.ours();
        for container in board.hardware.docker.containers(&ours).unwrap_or_default() {
            let is_up = matches!(container.state, ContainerState::Running { .. });
            lines.push(format!("{} up: {is_up}", container.name));
        }
        for (service, verdict) in board.process.iter().flat_map(|p| p.agent.verdicts()) {
            let why = verdict.waiting.as_ref().map_or("", |w| w.message.as_str());
            let name = &board.hardware.name;
            lines.push(format!(
                "{name} {service}: {:?} {:?} {why}",
                verdict.phase, verdict.decision
            ));
        }
    }
    for ((id, number), revision) in &world.control.store.revisions {
        let (state, message) = (revision.state, &revision.message);
        lines.push(format!("{} r{number}: {state} {message}", id.name));
    }
    lines
}
