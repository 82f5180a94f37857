//! Does what `planner::fleet` asks for and keeps where each rollout stands; decides nothing about it.

use std::collections::BTreeMap;

use planner::fleet::{
    CandidateProgress, CandidateSize, FleetAction, FleetEvent, HookProgress, NodeReport, Rollout,
    RolloutState, candidate_count,
};
use protocol::id::{NodeId, NodeName, ServiceId};
use protocol::manifest::HookKind;
use protocol::reason::Reason;
use protocol::report::{Detail, Phase, ServiceReport};
use protocol::spec::Strategy;
use protocol::units::Millis;

use super::heard::printable;
use super::records::{Assigned, AssignedCandidate, AssignedHook, Failure, Progress, Revision};
use super::{At, State};

/// A node tells what it counts so many times within one measurement.
const SAMPLES_PER_MEASUREMENT: u64 = 3;

impl State {
    /// Starts the rollout of a revision that is stored already; one under way is superseded.
    pub(super) fn start_rollout(&mut self, id: &ServiceId, number: u64, at: At) {
        self.supersede(id, number, at);
        let Some(order) = self.order_of(id, number) else { return };
        let online = self.online_of(&order);
        let (rollout, actions) = Rollout::start(order, online, at.now);
        if let Some(service) = self.services.get_mut(id) {
            service.rollout = Some(rollout);
        }
        self.apply(id, number, actions, at);
    }

    /// Rollouts that had not ended, or still soaked, when the coordinator did go on where they were.
    pub(super) fn resume_rollouts(&mut self, at: At) {
        let newest = |service: &super::Service| service.revisions.values().next_back().cloned();
        let newest: Vec<(ServiceId, Revision)> = self
            .services
            .iter()
            .filter_map(|(id, service)| Some((id.clone(), newest(service)?)))
            .collect();
        for (id, revision) in newest {
            let Some(order) = self.order_of(&id, revision.number) else { continue };
            let left_ms = revision
                .ended_ms
                .map(|ended_ms| ended_ms.saturating_add(order.soak_ms).saturating_sub(at.unix_ms));
            let soaks = revision.state == RolloutState::Succeeded
                && left_ms.is_some_and(|ms| ms > 0)
                && !self.goes_back_to_retired(&id, &revision);
            if revision.state.is_final() && !soaks {
                continue;
            }
            let online = self.online_of(&order);
            let nodes =
                revision.nodes.iter().map(|(name, p)| (name.clone(), p.to_planner())).collect();
            let stands = (revision.state, revision.stage.clone());
            let rollout = Rollout::resume(order, stands, nodes, online);
            let rollout = match left_ms.filter(|_| soaks) {
                Some(left_ms) => rollout.soaking(at.now.plus(left_ms)),
                None => rollout,
            };
            if let Some(service) = self.services.get_mut(&id) {
                service.rollout = Some(rollout);
            }
        }
    }

    /// Tells the rollout of a service that something happened.
    pub(super) fn tell_rollout(&mut self, id: &ServiceId, event: FleetEvent, at: At) {
        let Some(rollout) = self.services.get_mut(id).and_then(|s| s.rollout.as_mut()) else {
            return;
        };
        let number = rollout.order().revision;
        let actions = rollout.handle(event, at.now);
        self.apply(id, number, actions, at);
    }

    /// Tells every rollout.
    pub(super) fn tell_rollouts(&mut self, event: &FleetEvent, at: At) {
        for id in self.rolling() {
            self.tell_rollout(&id, event.clone(), at);
        }
    }

    /// Rollouts whose time has come.
    pub(super) fn wake_rollouts(&mut self, at: At) {
        for id in self.rolling() {
            let rollout = self.services.get(&id).and_then(|service| service.rollout.as_ref());
            let wakeup = rollout.and_then(Rollout::next_wakeup);
            if wakeup.is_some_and(|wakeup| wakeup <= at.now) {
                self.tell_rollout(&id, FleetEvent::Tick, at);
            }
        }
    }

    /// What a node's report means to the rollout of a service.
    pub(super) fn tell_report(
        &mut self,
        id: &ServiceId,
        node: &NodeName,
        of_it: &ServiceReport,
        at: At,
    ) {
        let failed = of_it.given_up.as_ref();
        let failing = matches!(of_it.phase, Phase::RollingBack | Phase::RolledBack | Phase::Failed);
        let blame = failed.filter(|_| failing);
        let detail = of_it.detail.as_ref();
        let reason = blame.map(|b| b.reason).or_else(|| detail.map(|d| d.reason));
        let message =
            blame.map(|b| printable(&b.message)).or_else(|| detail.map(|d| shown(d, at.unix_ms)));
        self.keep_failure(id, node, of_it);
        let candidate = of_it.candidate.as_ref().map(|candidate| {
            let blame = failed.filter(|_| candidate.phase == Phase::Failed);
            let detail = candidate.detail.as_ref();
            CandidateProgress {
                revision: candidate.revision,
                share: candidate.share,
                phase: candidate.phase,
                reason: blame.map(|b| b.reason).or_else(|| detail.map(|d| d.reason)),
                message: blame
                    .map(|b| printable(&b.message))
                    .or_else(|| detail.map(|d| shown(d, at.unix_ms))),
            }
        });
        let hook = of_it.hook.as_ref().map(|hook| HookProgress {
            kind: hook.kind,
            revision: hook.revision,
            outcome: hook.outcome,
            reason: hook.detail.as_ref().map(|detail| detail.reason),
            message: hook.detail.as_ref().map(|detail| shown(detail, at.unix_ms)),
        });
        let (revision, phase) = (of_it.revision, of_it.phase);
        let is_held = of_it.held.is_some();
        let report = NodeReport { revision, phase, reason, message, candidate, hook, is_held };
        let event = FleetEvent::Report { node: node.clone(), report };
        self.tell_rollout(id, event, at);
    }

    /// The evidence is kept with the revision: the node forgets it with its next success.
    fn keep_failure(&mut self, id: &ServiceId, node: &NodeName, of_it: &ServiceReport) {
        let Some(given_up) = &of_it.given_up else { return };
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(active) = service.watched() else { return };
        let Some(revision) = service.revisions.get_mut(&active) else { return };
        let concerns = revision.release == given_up.release && revision.attempt == given_up.attempt;
        if !concerns {
            return;
        }
        let failure = Failure {
            node: node.clone(),
            reason: given_up.reason,
            message: printable(&given_up.message),
            evidence: given_up.evidence.clone(),
        };
        match revision.failures.iter_mut().find(|known| known.node == *node) {
            Some(known) if *known == failure => return,
            // Evidence is collected while the node goes back already: a later report may carry more.
            Some(known) => *known = failure,
            None => revision.failures.push(failure),
        }
        self.keep_revision(id, active);
    }

    fn rolling(&self) -> Vec<ServiceId> {
        let rolling = self.services.iter().filter(|(_, service)| service.rollout.is_some());
        rolling.map(|(id, _)| id.clone()).collect()
    }

    fn online_of(&self, order: &planner::fleet::Order) -> BTreeMap<NodeName, bool> {
        let online = |name: &NodeName| self.node_named(name).is_some_and(|node| node.record.online);
        order.nodes().map(|name| (name.clone(), online(name))).collect()
    }

    fn supersede(&mut self, id: &ServiceId, by: u64, at: At) {
        let Some(service) = self.services.get_mut(id) else { return };
        let open: Vec<u64> = service
            .revisions
            .values()
            .filter(|revision| revision.number != by && !revision.state.is_final())
            .map(|revision| revision.number)
            .collect();
        service.rollout = None;
        self.drop_candidates(id);
        for number in open {
            let message = format!("revision {by} took its place");
            self.enter(id, number, RolloutState::Superseded, Some(Reason::Superseded), message, at);
        }
    }

    /// What a rollout that is over had beside the stable release, or held, is so no more.
    fn drop_candidates(&mut self, id: &ServiceId) {
        let with_hook = self.nodes.values().filter(|node| {
            node.record.environment == id.environment && node.intent.hooks.contains_key(&id.name)
        });
        let with_hook: Vec<NodeId> = with_hook.map(|node| node.record.id.clone()).collect();
        for node in with_hook {
            self.end_hook(&node, &id.name);
        }
        self.reassign(id, |assigned| {
            assigned.candidate = None;
            assigned.paused = false;
        });
    }

    /// Changes what every node that has the service has of it.
    fn reassign(&mut self, id: &ServiceId, change: impl Fn(&mut Assigned)) {
        let holders: Vec<(NodeId, Assigned)> = self
            .nodes
            .values()
            .filter(|node| node.record.environment == id.environment)
            .filter_map(|node| {
                let assigned = node.intent.assigned.get(&id.name)?;
                Some((node.record.id.clone(), assigned.clone()))
            })
            .collect();
        for (node, mut assigned) in holders {
            change(&mut assigned);
            self.assign(&node, &id.name, assigned);
        }
    }

    fn apply(&mut self, id: &ServiceId, number: u64, actions: Vec<FleetAction>, at: At) {
        for action in actions {
            match action {
                FleetAction::Try { node, share, size } => {
                    self.put_beside(id, number, &node, (share, size));
                }
                FleetAction::RunHook { node, kind } => self.begin_hook(id, number, &node, kind),
                FleetAction::EndHook(node) => {
                    if let Some(node) = self.id_of(&node) {
                        self.end_hook(&node, &id.name);
                    }
                }
                FleetAction::Hold { node, paused } => self.hold(id, &node, paused),
                FleetAction::Note { reason, message } => self.say(id, number, reason, message, at),
                FleetAction::Assign(node) => self.put_on(id, number, &node),
                FleetAction::Revert(node) => self.put_back(id, number, &node),
                FleetAction::Enter { state, reason, message } => {
                    self.enter(id, number, state, reason, message, at);
                }
            }
        }
        self.keep_progress(id, number, at);
    }

    /// A node gets the new revision beside what it has.
    fn put_beside(
        &mut self,
        id: &ServiceId,
        number: u64,
        node: &NodeName,
        (share, size): (u32, CandidateSize),
    ) {
        let Some(node_id) = self.id_of(node) else { return };
        let Some(new) = self.assignment(id, number, node) else { return };
        let from = self.services.get(id).and_then(|s| s.revisions.get(&number)?.from);
        let Some(from) = from.and_then(|from| self.assignment(id, from, node)) else { return };
        let candidate = AssignedCandidate {
            revision: number,
            count: match size {
                CandidateSize::Whole => new.count,
                CandidateSize::ByShare => candidate_count(new.count, share),
            },
            release: new.release,
            attempt: new.attempt,
            restarts: new.restarts,
            secrets: new.secrets,
            share,
            sample_every: self.sample_every(id, number),
        };
        self.assign(&node_id, &id.name, Assigned { candidate: Some(candidate), ..from });
    }

    fn begin_hook(&mut self, id: &ServiceId, number: u64, node: &NodeName, kind: HookKind) {
        let Some(node) = self.id_of(node) else { return };
        let revision = self.services.get(id).and_then(|s| s.revisions.get(&number));
        let Some(revision) = revision else { return };
        let (release, attempt) = (revision.release.clone(), revision.attempt);
        let secrets = revision.secrets.clone();
        let hook = AssignedHook { kind, revision: number, release, attempt, secrets };
        self.run_hook(&node, &id.name, hook);
    }

    fn sample_every(&self, id: &ServiceId, number: u64) -> Millis {
        let interval = self.spec_of(id, number).and_then(|spec| match &spec.rollout.strategy {
            Strategy::Canary(canary) => Some(canary.analysis.interval),
            Strategy::Rolling | Strategy::Recreate | Strategy::BlueGreen(_) => None,
        });
        Millis(interval.map_or(10_000, |interval| interval.0 / SAMPLES_PER_MEASUREMENT))
    }

    fn hold(&mut self, id: &ServiceId, node: &NodeName, paused: bool) {
        let Some(node_id) = self.id_of(node) else { return };
        let assigned = self.nodes.get(&node_id).and_then(|n| n.intent.assigned.get(&id.name));
        if let Some(assigned) = assigned.cloned() {
            self.assign(&node_id, &id.name, Assigned { paused, ..assigned });
        }
    }

    /// Why a rollout stands where it stands.
    fn say(
        &mut self,
        id: &ServiceId,
        number: u64,
        reason: Option<Reason>,
        message: String,
        at: At,
    ) {
        let revision = self.services.get_mut(id).and_then(|s| s.revisions.get_mut(&number));
        let Some(revision) = revision else { return };
        revision.reason = reason;
        revision.message.clone_from(&message);
        self.keep_revision(id, number);
        self.note_service(id, reason, format!("revision {number}: {message}"), at);
    }

    /// Where the planner says that nodes stand, kept and shown where it has changed.
    fn keep_progress(&mut self, id: &ServiceId, number: u64, at: At) {
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(rollout) = &service.rollout else { return };
        let nodes: BTreeMap<NodeName, Progress> =
            rollout.nodes().iter().map(|(name, p)| (name.clone(), Progress::of(p))).collect();
        let stage = rollout.stage().clone();
        let Some(revision) = service.revisions.get_mut(&number) else { return };
        if revision.nodes != nodes || revision.stage != stage {
            (revision.nodes, revision.stage) = (nodes, stage);
            self.keep_revision(id, number);
        }
        let ended = self.services.get(id).is_some_and(|service| {
            service.rollout.as_ref().is_some_and(|rollout| rollout.is_over(at.now))
        });
        if let Some(service) = self.services.get_mut(id).filter(|_| ended) {
            service.rollout = None;
        }
    }

    /// The assignment of a revision on a node; none where it has no instances there.
    pub(super) fn assignment(
        &self,
        id: &ServiceId,
        number: u64,
        node: &NodeName,
    ) -> Option<Assigned> {
        let revision = self.services.get(id)?.revisions.get(&number)?;
        let count = *revision.placement.get(node)?;
        Some(Assigned {
            revision: number,
            release: revision.release.clone(),
            count,
            attempt: revision.attempt,
            restarts: revision.restarts,
            secrets: revision.secrets.clone(),
            paused: false,
            candidate: None,
        })
    }

    /// Gives a node what a revision says for it, which may be nothing.
    pub(super) fn put_on(&mut self, id: &ServiceId, number: u64, node: &NodeName) {
        let Some(node_id) = self.id_of(node) else { return };
        match self.assignment(id, number, node) {
            Some(assigned) => self.assign(&node_id, &id.name, assigned),
            None => self.take_off(&node_id, &id.name),
        }
    }

    fn put_back(&mut self, id: &ServiceId, number: u64, node: &NodeName) {
        let from = self.services.get(id).and_then(|s| s.revisions.get(&number)?.from);
        if let Some(from) = from {
            self.put_on(id, from, node);
        }
    }

    fn enter(
        &mut self,
        id: &ServiceId,
        number: u64,
        state: RolloutState,
        reason: Option<Reason>,
        message: String,
        at: At,
    ) {
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(revision) = service.revisions.get_mut(&number) else { return };
        revision.state = state;
        // The reason of going back stays the reason of having gone back.
        let goes_back = matches!(
            state,
            RolloutState::RollingBack | RolloutState::RolledBack | RolloutState::Aborted
        );
        revision.reason = reason.or(revision.reason.filter(|_| goes_back));
        let keeps_message = reason.is_none() && revision.reason.is_some();
        if !keeps_message {
            revision.message.clone_from(&message);
        }
        revision.ended_ms = state.is_final().then_some(at.unix_ms);
        tracing::info!(service = %id, revision = number, %state, "rollout");
        self.note_service(id, reason, format!("revision {number} {state}: {message}"), at);
        self.notice_rollout(id, (number, state), at);
        if state.is_final() {
            *self.rollouts_ended.entry(state.as_str()).or_default() += 1;
        }
        match state {
            RolloutState::Succeeded => self.settle(id, number),
            RolloutState::RollingBack | RolloutState::RolledBack | RolloutState::Aborted => {
                self.unsettle(id, number);
                self.name_old_release_everywhere(id, number);
            }
            RolloutState::Pending
            | RolloutState::InProgress
            | RolloutState::Paused
            | RolloutState::AwaitingPromotion
            | RolloutState::Superseded
            | RolloutState::Failed => {}
        }
        self.keep_revision(id, number);
        self.forget_old_revisions(id);
    }

    /// The new revision stands for the service; nodes that are not in its placement lose the service.
    fn settle(&mut self, id: &ServiceId, number: u64) {
        let Some(service) = self.services.get_mut(id) else { return };
        service.record.stable = Some(number);
        self.keep_service(id);
        self.take_off_where_not_placed(id, number);
    }

    /// What stood and failed while it soaked stands no more: the revision before it does, wherever that one was.
    fn unsettle(&mut self, id: &ServiceId, number: u64) {
        let Some(service) = self.services.get_mut(id) else { return };
        if service.record.stable != Some(number) {
            return;
        }
        let from = service.revisions.get(&number).and_then(|revision| revision.from);
        service.record.stable = from;
        self.keep_service(id);
        let before = from.and_then(|from| self.services.get(id)?.revisions.get(&from));
        let Some(placement) = before.map(|before| before.placement.clone()) else { return };
        for node in placement.keys() {
            self.put_back(id, number, node);
        }
    }

    /// Removes a service from every node that a revision does not place it on.
    pub(super) fn take_off_where_not_placed(&mut self, id: &ServiceId, number: u64) {
        let Some(revision) = self.services.get(id).and_then(|s| s.revisions.get(&number)) else {
            return;
        };
        let placed = &revision.placement;
        let left_over: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|node| node.record.environment == id.environment)
            .filter(|node| node.intent.assigned.contains_key(&id.name))
            .filter(|node| !placed.contains_key(&node.record.name))
            .map(|node| node.record.id.clone())
            .collect();
        for node in left_over {
            self.take_off(&node, &id.name);
        }
    }

    /// DESIGN §3: once a rollback is known, manifests name the old release on every node of the rollout, also where a
    /// superseded revision had been.
    fn name_old_release_everywhere(&mut self, id: &ServiceId, number: u64) {
        let Some(revision) = self.services.get(id).and_then(|s| s.revisions.get(&number)) else {
            return;
        };
        let Some(from) = revision.from else { return };
        let holders: Vec<NodeName> = self
            .nodes
            .values()
            .filter(|node| node.record.environment == id.environment)
            .filter(|node| {
                let assigned = node.intent.assigned.get(&id.name);
                assigned.is_some_and(|a| a.revision != from || a.candidate.is_some() || a.paused)
            })
            .map(|node| node.record.name.clone())
            .collect();
        for node in holders {
            self.put_on(id, from, &node);
        }
    }
}

/// A node's sentence, with the time of day (UTC) until which it waits.
fn shown(detail: &Detail, unix_ms: u64) -> String {
    let message = printable(&detail.message);
    let Some(again_in_ms) = detail.again_in_ms else { return message };
    let until = crate::render::clock(unix_ms.saturating_add(again_in_ms));
    format!("{message} until {}", until.get(11..).unwrap_or_default())
}
