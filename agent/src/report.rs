//! What the node says of itself: the report, built from the last verdicts and what was seen.

use std::collections::{BTreeMap, BTreeSet};

use planner::Now;
use planner::node::{History, Instance, Life, Observed, Routing, Verdict, Waiting, Wanted};
use protocol::FORMAT;
use protocol::acceptance::NodeIdentity;
use protocol::agent_release::AgentUpdate;
use protocol::id::{ServiceName, Template};
use protocol::manifest::{Assignment, HookRun, Version};
use protocol::reason::Reason;
use protocol::release::Pin;
use protocol::report::{
    CandidateReport, Detail, EngineState, HeldReport, HookOutcome, HookReport, InstanceReport,
    InstanceState, Phase, Report, ServiceReport,
};

use crate::engine::ImageFacts;
use crate::event_loop::told;
use crate::ledger::Hold;
use crate::observe::memory::Memory;

/// Images that a report names; each is 20 bytes of it.
const MAX_IMAGES: usize = 128;

/// Everything that a report is made from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Who speaks.
    pub node: &'a NodeIdentity,
    /// Unix milliseconds at the agent's start.
    pub agent_started_ms: u64,
    /// The newest manifest accepted and durable.
    pub seen: Version,
    /// What it wants; none: no manifest yet.
    pub wanted: Option<&'a Wanted>,
    /// What was seen last.
    pub observed: &'a Observed,
    /// What was decided last.
    pub verdicts: &'a BTreeMap<ServiceName, Verdict>,
    /// What the ledger remembers.
    pub histories: &'a BTreeMap<ServiceName, History>,
    /// What root of the node holds.
    pub holds: &'a BTreeMap<ServiceName, Hold>,
    /// What this process remembers.
    pub memory: &'a Memory,
    /// Refusals by code.
    pub refused: &'a BTreeMap<String, u64>,
    /// Whether Docker answers.
    pub engine: EngineState,
    /// What keeps the node from moving at all.
    pub obstacle: Option<&'a Obstacle>,
    /// What is wrong with the node as a whole.
    pub alarms: &'a [Detail],
    /// Images that are on the node; none: not looked for yet.
    pub images: Option<&'a BTreeMap<Pin, Option<ImageFacts>>>,
    /// What became of the newest release of the agent.
    pub agent_update: Option<&'a AgentUpdate>,
}

/// Why nothing moves, whatever the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The stable code.
    pub reason: Reason,
    /// One sentence for a person.
    pub message: String,
}

/// The report of this moment, as number `sequence`. A service that is wanted and not decided yet is `Updating`.
#[must_use]
pub fn build(sources: Sources<'_>, sequence: u64, now: Now) -> Report {
    let undecided = sources.wanted.iter().flat_map(|wanted| wanted.assignments.keys());
    let decided = sources.verdicts.keys().filter(|name| is_of_this_node(&sources, name));
    let names: BTreeSet<&ServiceName> = decided.chain(undecided).collect();
    Report {
        format: FORMAT,
        fleet: sources.node.fleet.clone(),
        node: sources.node.node.clone(),
        environment: sources.node.environment.clone(),
        sequence,
        agent_started_ms: sources.agent_started_ms,
        seen: sources.seen,
        services: names.into_iter().map(|name| service(&sources, name, now)).collect(),
        refused: sources.refused.clone(),
        engine: sources.engine,
        alarms: sources.alarms.to_vec(),
        images: sources.images.map(here),
        agent_update: sources.agent_update.cloned(),
    }
}

/// Those that are here, at most [`MAX_IMAGES`].
fn here(images: &BTreeMap<Pin, Option<ImageFacts>>) -> Vec<String> {
    let here = images.iter().filter(|(_, image)| image.is_some()).map(|(pin, _)| pin.short());
    let here: BTreeSet<&str> = here.take(MAX_IMAGES).collect();
    here.into_iter().map(str::to_owned).collect()
}

/// What was decided of a service that runs elsewhere, and has no more here than a network, is no news of this node.
fn is_of_this_node(sources: &Sources<'_>, name: &ServiceName) -> bool {
    let facts = sources.observed.services.get(name);
    sources.histories.contains_key(name) || facts.is_some_and(|facts| !facts.instances.is_empty())
}

/// Whether two reports say the same; when something is looked at again is not news.
#[must_use]
pub fn says_the_same(a: &Report, b: &Report) -> bool {
    let timeless = |report: &Report| {
        let mut report = Report { sequence: 0, ..report.clone() };
        let details = report.services.iter_mut().filter_map(|service| service.detail.as_mut());
        details.for_each(|detail| detail.again_in_ms = None);
        let candidates = report.services.iter_mut().filter_map(|s| s.candidate.as_mut());
        let details = candidates.filter_map(|candidate| candidate.detail.as_mut());
        details.for_each(|detail| detail.again_in_ms = None);
        let hooks = report.services.iter_mut().filter_map(|s| s.hook.as_mut());
        let details = hooks.filter_map(|hook| hook.detail.as_mut());
        details.for_each(|detail| detail.again_in_ms = None);
        report
    };
    timeless(a) == timeless(b)
}

fn service(sources: &Sources<'_>, name: &ServiceName, now: Now) -> ServiceReport {
    let assignment = sources.wanted.and_then(|wanted| wanted.assignments.get(name));
    let target = assignment.map(|a| a.template(&sources.node.environment));
    let verdict = sources.verdicts.get(name);
    let hold = sources.holds.get(name);
    let history = sources.histories.get(name);
    let running = history.and_then(|history| history.running.as_ref());
    let template = running.map(|running| &running.template);
    let instances = sources.observed.services.get(name).map(|f| f.instances.as_slice());
    let run = sources.wanted.and_then(|wanted| wanted.hooks.get(name));
    let of_hook = run.map(|run| run.template(&sources.node.environment));
    let instances: Vec<&Instance> = instances
        .unwrap_or_default()
        .iter()
        .filter(|i| Some(&i.template) != of_hook.as_ref())
        .collect();
    let is_updated = |i: &&Instance| Some(&i.template) == target.as_ref() && is_up(i);
    let has_route = verdict.is_some_and(|verdict| verdict.route.is_some());
    let beside = assignment.and_then(|a| a.candidate.as_ref());
    let beside = beside.map(|c| c.template(&sources.node.environment));
    let is_ready = |i: &&Instance| {
        let is_routed = !has_route || i.routing == Routing::Active;
        let is_beside = Some(&i.template) == beside.as_ref() && Some(&i.template) != template;
        is_routed && !is_beside && state(i, template) == InstanceState::Ready
    };
    let report = |i: &Instance| InstanceReport {
        name: i.name.clone(),
        slot: i.slot,
        release: i.release.clone(),
        template: i.template.clone(),
        state: state(i, template),
        restarts: i.exits,
    };
    ServiceReport {
        service: name.clone(),
        revision: assignment.map(|a| a.revision).or(running.map(|r| r.revision)).unwrap_or(0),
        attempt: assignment.map(|a| a.attempt).or(running.map(|r| r.attempt)).unwrap_or(0),
        phase: match is_held_back(sources, hold) {
            true => Phase::Held,
            false => verdict.map_or(Phase::Updating, |verdict| verdict.phase),
        },
        detail: detail(sources, name, verdict, now),
        desired: hold.map(|hold| &hold.held.assignment).or(assignment).map_or(0, |a| a.count),
        updated: count(instances.iter().copied().filter(is_updated)),
        ready: count(instances.iter().copied().filter(is_ready)),
        instances: instances.iter().copied().map(report).collect(),
        given_up: history.and_then(|history| history.failures.first().cloned()),
        candidate: assignment
            .filter(|_| hold.is_none())
            .and_then(|a| candidate(sources, a, verdict, &instances, now)),
        hook: run
            .filter(|_| hold.is_none() || verdict.is_some_and(|verdict| verdict.hook.is_some()))
            .map(|run| hook(run, verdict, now)),
        held: hold.map(held),
    }
}

/// Whether the manifest names something else than a service is held at.
fn is_held_back(sources: &Sources<'_>, hold: Option<&Hold>) -> bool {
    let wanted = sources.wanted;
    hold.is_some_and(|hold| wanted.is_some_and(|wanted| !hold.held.is_as_wanted(wanted)))
}

fn held(hold: &Hold) -> HeldReport {
    HeldReport {
        by: hold.by.clone(),
        since_s: hold.since_s,
        reason: hold.reason.clone(),
        revision: hold.held.kept.revision,
        release: hold.held.kept.release.clone(),
    }
}

/// The one-shot container that is asked for.
fn hook(run: &HookRun, verdict: Option<&Verdict>, now: Now) -> HookReport {
    let standing = verdict.and_then(|verdict| verdict.hook.as_ref());
    HookReport {
        kind: run.kind,
        revision: run.revision,
        attempt: run.attempt,
        outcome: standing.map_or(HookOutcome::Underway, |standing| standing.outcome),
        detail: standing.and_then(|s| s.waiting.as_ref()).map(|waiting| said(waiting, now)),
    }
}

fn said(waiting: &Waiting, now: Now) -> Detail {
    let again_in_ms = waiting.until.map(|until| until.since(now));
    Detail { reason: waiting.reason, message: waiting.message.clone(), again_in_ms }
}

/// What runs beside the wanted release; nothing once it is that itself.
fn candidate(
    sources: &Sources<'_>,
    assignment: &Assignment,
    verdict: Option<&Verdict>,
    instances: &[&Instance],
    now: Now,
) -> Option<CandidateReport> {
    let candidate = assignment.candidate.as_ref()?;
    let environment = &sources.node.environment;
    let template = candidate.template(environment);
    let is_ready =
        |i: &&Instance| i.template == template && state(i, Some(&template)) == InstanceState::Ready;
    let standing = verdict.and_then(|verdict| verdict.candidate.as_ref());
    let waiting = standing.and_then(|standing| standing.waiting.as_ref());
    Some(CandidateReport {
        revision: candidate.revision,
        attempt: candidate.attempt,
        share: candidate.share,
        phase: standing.map_or(Phase::Updating, |standing| standing.phase),
        detail: waiting.map(|waiting| said(waiting, now)),
        desired: candidate.count,
        ready: count(instances.iter().copied().filter(is_ready)),
    })
}

fn count<'a>(instances: impl Iterator<Item = &'a Instance>) -> u32 {
    u32::try_from(instances.count()).unwrap_or(u32::MAX)
}

fn is_up(instance: &Instance) -> bool {
    matches!(instance.life, Life::Running { .. } | Life::Stopping { .. })
}

/// What keeps everything from moving comes before what one service waits for: it concerns those at rest too.
fn detail(
    sources: &Sources<'_>,
    name: &ServiceName,
    verdict: Option<&Verdict>,
    now: Now,
) -> Option<Detail> {
    if let Some(Obstacle { reason, message }) = sources.obstacle {
        let (reason, message) = (*reason, message.clone());
        return Some(Detail { reason, message, again_in_ms: None });
    }
    let hold = sources.holds.get(name);
    let of_hold = hold.map(|hold| {
        let message = format!("{}; `pith-agent release {name}` on the board lets go", told(hold));
        Detail { reason: Reason::HeldLocally, message, again_in_ms: None }
    });
    if is_held_back(sources, hold) {
        return of_hold;
    }
    if let Some(waiting) = verdict.and_then(|verdict| verdict.waiting.as_ref()) {
        return Some(said(waiting, now));
    }
    if of_hold.is_some() {
        return of_hold;
    }
    let inside = sources.memory.services.get(name)?.unreachable_inside.as_ref()?;
    let message = format!("not reachable by its name from other containers: {}", inside.message);
    Some(Detail { reason: inside.reason, message, again_in_ms: None })
}

fn state(instance: &Instance, running: Option<&Template>) -> InstanceState {
    let is_draining = matches!(instance.routing, Routing::Draining { .. });
    let is_warm = instance.routing == Routing::Suspended
        && instance.probed.ready_since.is_some()
        && Some(&instance.template) != running;
    match &instance.life {
        Life::Created => InstanceState::Created,
        Life::Stopping { .. } => InstanceState::Stopping,
        Life::Running { .. } if is_draining => InstanceState::Draining,
        Life::Running { .. } if is_warm => InstanceState::Warm,
        Life::Running { .. } if instance.probed.ready_since.is_some() => InstanceState::Ready,
        Life::Running { .. } if instance.probed.was_ready => InstanceState::Unready,
        Life::Running { .. } => InstanceState::Starting,
        Life::Exited(_) if Some(&instance.template) == running && instance.exits > 0 => {
            InstanceState::Crashed
        }
        Life::Exited(_) => InstanceState::Kept,
    }
}

#[cfg(test)]
mod tests;
