//! The fleet as people are shown it. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use planner::fleet::NodeState;
use protocol::id::{EnvironmentName, NodeName, ReleaseId, ServiceId, ServiceName};
use protocol::reason::Reason;
use protocol::report::{
    EngineState, HeldReport, InstanceReport, InstanceState, Phase, ServiceReport,
};

use super::conflict::Conflict;
use super::heard::printable;
use super::records::{Happened, Line, Revision};
use super::requests::Refused;
use super::shown::{
    Deployed, EventsShown, FleetShown, HistoryShown, MemberShown, NodeProgressShown, NodeShown,
    NodesShown, PsShown, RemovalShown, RevisionShown, RolloutShown, ServiceOnNode, ServiceShown,
    StoredService,
};
use super::{At, Node, Service, State, natural};

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Newer than this id.
    pub after: u64,
    /// Of this service.
    pub service: Option<ServiceId>,
    /// On this node.
    pub node: Option<NodeName>,
    /// Not older than this, Unix milliseconds.
    pub since_ms: u64,
    /// At most so many, the newest.
    pub limit: usize,
}

/// Of a node that gets nothing new yet.
const UNHEARD: &str =
    "it has not said since the coordinator's start what it has seen; it is told when it does";

impl State {
    /// The fleet at a glance.
    #[must_use]
    pub fn show_fleet(&self) -> FleetShown {
        let of_nodes = self.nodes.values().map(|node| node.record.environment.clone());
        let of_services = self.services.keys().map(|id| id.environment.clone());
        FleetShown {
            fleet: self.director.fleet.clone(),
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            environments: of_nodes.chain(of_services).collect::<BTreeSet<_>>(),
            nodes: self.nodes.len(),
            ignored: self.ignored,
        }
    }

    /// The rollout of a revision; the newest without a number.
    ///
    /// # Errors
    /// Where there is no such service or revision.
    pub fn show_rollout(
        &self,
        id: &ServiceId,
        number: Option<u64>,
    ) -> Result<RolloutShown, Refused> {
        let service = self.services.get(id).ok_or_else(|| Refused::NoService(id.clone()))?;
        let revision = match number {
            Some(number) => service.revisions.get(&number),
            None => service.revisions.values().next_back(),
        };
        let revision = revision.ok_or_else(|| Refused::NoRevision {
            service: id.clone(),
            revision: number.unwrap_or(0),
        })?;
        let (image, pinned) = self.image_of(&revision.release);
        let nodes: Vec<NodeProgressShown> =
            revision.order.iter().map(|name| self.show_progress(id, revision, name)).collect();
        let away = nodes.iter().filter(|node| is_put_off(node) || !self.is_online(&node.name));
        Ok(RolloutShown {
            version: self.version,
            service: id.name.clone(),
            environment: id.environment.clone(),
            revision: revision.number,
            from_revision: revision.from,
            state: revision.state.as_str().to_owned(),
            reason: revision.reason,
            message: revision.message.clone(),
            image,
            pinned,
            release: revision.release.clone(),
            counter: self.counter_of(&revision.release).unwrap_or(0),
            cause: revision.cause.clone(),
            by: revision.by.clone(),
            started_ms: revision.started_ms,
            ended_ms: revision.ended_ms,
            pending: away.map(|node| node.name.clone()).collect(),
            nodes,
            unplaced: revision.unplaced,
            failures: revision.failures.clone(),
        })
    }

    fn show_progress(
        &self,
        id: &ServiceId,
        revision: &Revision,
        name: &NodeName,
    ) -> NodeProgressShown {
        let progress = revision.nodes.get(name);
        let report = self.node_named(name).and_then(|node| node.report_on(id));
        let of_this = report.filter(|report| report.revision == revision.number);
        // A node that went back runs well again; why it did is what is asked for.
        let failure = revision.failures.iter().find(|failure| failure.node == *name);
        let node = self.node_named(name);
        let refusal =
            node.and_then(Node::refusal).map(|refusal| (Reason::ManifestRefused, refusal));
        let conflict = node.and_then(Node::conflict);
        let unheard = node.filter(|node| !node.is_heard() && node.intent.is_unsigned);
        let unheard = unheard.map(|_| (Reason::NodeOffline, UNHEARD.to_owned()));
        let missed = || node.and_then(|node| node.alarms().into_iter().next());
        let hindered = conflict
            .map(|of_it| (Reason::Conflict, of_it.with_mend()))
            .or(unheard)
            .or(refusal)
            .or_else(|| missed().map(|alarm| (alarm.reason, alarm.message)));
        let hindrance = hindered.as_ref().map(|(reason, _)| *reason);
        let state = progress.and_then(|p| NodeState::parse(&p.state));
        let state = state.unwrap_or(NodeState::Waiting);
        let since = of_this.and_then(|report| state_since(state, report));
        let (state, progress) = match since {
            // What it says now is about what it does now.
            Some(since) => (since, None),
            None => (state, progress),
        };
        let of_hold = of_this.and_then(|report| report.detail.as_ref());
        let of_hold = of_hold.filter(|d| since.is_some() && d.reason == Reason::HeldLocally);
        let state = state.as_str();
        let reason = progress.and_then(|p| p.reason).or(failure.map(|f| f.reason));
        let reason = of_hold.map(|detail| detail.reason).or(reason);
        let message = progress.and_then(|p| p.message.clone());
        let message = of_hold.map(|detail| printable(&detail.message)).or(message);
        NodeProgressShown {
            name: name.clone(),
            state: if conflict.is_some() { "conflict" } else { state }.to_owned(),
            reason: hindrance.or(reason),
            message: hindered
                .map(|(_, why)| why)
                .or(message)
                .or_else(|| failure.map(|f| f.message.clone())),
            updated: report.map_or(0, |report| revision.updated_in(report)),
            ready: report.map_or(0, |report| report.ready),
            desired: revision.placement.get(name).copied().unwrap_or(0),
        }
    }

    /// Every revision that is remembered.
    ///
    /// # Errors
    /// Where there is no such service.
    pub fn show_history(&self, id: &ServiceId) -> Result<HistoryShown, Refused> {
        let service = self.services.get(id).ok_or_else(|| Refused::NoService(id.clone()))?;
        let show = |revision: &Revision| RevisionShown {
            revision: revision.number,
            state: revision.state.as_str().to_owned(),
            image: self.image_of(&revision.release).0,
            release: revision.release.clone(),
            counter: self.counter_of(&revision.release).unwrap_or(0),
            retired: self.is_retired(&revision.release),
            file: revision.file.clone(),
            kind: revision.kind,
            undo_to: revision.undo_to,
            cause: revision.cause.clone(),
            by: revision.by.clone(),
            started_ms: revision.started_ms,
            ended_ms: revision.ended_ms,
            reason: revision.reason,
            message: revision.message.clone(),
            on_board: self.on_board(revision),
        };
        Ok(HistoryShown {
            service: id.name.clone(),
            environment: id.environment.clone(),
            current: service.record.stable,
            revisions: service.revisions.values().map(show).collect(),
        })
    }

    /// Services and their instances, of one environment or of all.
    #[must_use]
    pub fn show_services(&self, environment: Option<&EnvironmentName>, unix_ms: u64) -> PsShown {
        let wanted =
            |id: &ServiceId| environment.is_none_or(|environment| *environment == id.environment);
        let services = self.services.iter().filter(|(id, _)| wanted(id));
        PsShown {
            version: self.version,
            services: services
                .filter_map(|(id, service)| self.show_service(id, service, unix_ms))
                .collect(),
        }
    }

    fn show_service(
        &self,
        id: &ServiceId,
        service: &Service,
        unix_ms: u64,
    ) -> Option<ServiceShown> {
        let current = service.current()?;
        let newest = service.revisions.values().next_back()?;
        let mut nodes: Vec<ServiceOnNode> =
            self.nodes.values().filter_map(|node| node.show_service(id)).collect();
        nodes.sort_by_key(|on| natural(on.node.as_str()));
        let assigned: u32 = nodes.iter().map(|on| on.desired).sum();
        let planned: u32 = current.placement.values().sum();
        let ready = nodes.iter().filter(|on| on.online).map(|on| on.ready).sum();
        Some(ServiceShown {
            environment: id.environment.clone(),
            name: id.name.clone(),
            revision: current.number,
            image: self.image_of(&current.release).0,
            rollout: newest.state.as_str().to_owned(),
            desired: assigned.max(planned) + current.unplaced,
            ready,
            count_override: service.record.count_override,
            settled: service.active().is_none()
                && nodes.iter().all(|on| on.settled || !on.online || on.held.is_some()),
            why: why_short(current.unplaced, &nodes, unix_ms),
            nodes,
        })
    }

    fn show_node(&self, node: &Node, at: At) -> NodeShown {
        let id = &node.record.id;
        let shown = node.show(&self.show_member(id), self.is_cloned(id, at.unix_ms));
        NodeShown { agent_target: self.agent_target(id), ..shown }
    }

    /// Nodes, of one environment or of all, and those in the lobby.
    #[must_use]
    pub fn show_nodes(&self, environment: Option<&EnvironmentName>, at: At) -> NodesShown {
        let mut nodes: Vec<NodeShown> = self
            .nodes
            .values()
            .filter(|node| environment.is_none_or(|e| *e == node.record.environment))
            .map(|node| self.show_node(node, at))
            .collect();
        nodes.sort_by_key(|node| natural(node.name.as_str()));
        let mut lobby = self.show_unheard(environment);
        lobby.sort_by_key(|member| natural(&member.name));
        NodesShown { nodes, lobby, absent: self.show_absent() }
    }

    /// What is deployed in an environment, as the command line needs it to deploy again.
    #[must_use]
    pub fn show_deployed(&self, environment: &EnvironmentName) -> Deployed {
        let of_it = self.services.iter().filter(|(id, _)| id.environment == *environment);
        let stored = |(id, service): (&ServiceId, &Service)| {
            let current = service.current()?;
            let release = &self.releases.get(&current.release)?.release;
            let stored = StoredService {
                file: current.file.clone(),
                image: release.image.reference.clone(),
                revision: current.number,
                spec: release.spec(environment).clone(),
            };
            Some((id.name.clone(), stored))
        };
        let counted = |(name, line): (&ServiceName, &Line)| {
            (name.clone(), line.counter.max(line.floor().saturating_sub(1)))
        };
        Deployed {
            services: of_it.filter_map(stored).collect(),
            counters: self.lines.iter().map(counted).collect(),
        }
    }

    /// How far a removal is.
    #[must_use]
    pub fn show_removal(&self, id: &ServiceId) -> RemovalShown {
        let (online, offline): (Vec<_>, Vec<_>) =
            self.removal_pending(id).into_iter().partition(|(_, online)| *online);
        let is_held = |name: &NodeName| {
            let report = self.node_named(name).and_then(|node| node.report_on(id));
            report.is_some_and(|report| report.held.is_some())
        };
        let names = |nodes: Vec<(NodeName, bool)>| nodes.into_iter().map(|(name, _)| name);
        let (held, waiting) = names(online).partition(is_held);
        RemovalShown { version: self.version, waiting, offline: names(offline).collect(), held }
    }

    /// What happened.
    #[must_use]
    pub fn show_events(&self, filter: &EventFilter) -> EventsShown {
        let wanted = |event: &&Happened| {
            let of_service = filter.service.as_ref().is_none_or(|id| {
                event.service.as_ref() == Some(&id.name)
                    && event.environment.as_ref() == Some(&id.environment)
            });
            let of_node = filter.node.as_ref().is_none_or(|name| event.node.as_ref() == Some(name));
            event.id > filter.after && event.at_ms >= filter.since_ms && of_service && of_node
        };
        let mut events: Vec<Happened> =
            self.events.iter().rev().filter(wanted).take(filter.limit).cloned().collect();
        events.reverse();
        EventsShown { version: self.version, events }
    }

    /// The image as written and as pinned.
    pub(super) fn image_of(&self, release: &ReleaseId) -> (String, String) {
        self.releases.get(release).map_or_else(
            || ("?".to_owned(), "?".to_owned()),
            |stored| {
                let image = &stored.release.image;
                (image.reference.clone(), image.pinned_reference())
            },
        )
    }

    fn is_online(&self, name: &NodeName) -> bool {
        self.node_named(name).is_some_and(|node| node.record.online)
    }
}

impl Revision {
    /// Instances of it that a node says it has: ready beside another release, or its own.
    pub(super) fn updated_in(&self, report: &ServiceReport) -> u32 {
        let beside = report.candidate.as_ref().filter(|beside| beside.revision == self.number);
        let own = (report.revision == self.number).then_some(report.updated);
        beside.map(|beside| beside.ready).or(own).unwrap_or(0)
    }
}

impl Node {
    pub(super) fn report_on(&self, id: &ServiceId) -> Option<&ServiceReport> {
        if self.record.environment != id.environment {
            return None;
        }
        let report = self.record.report.as_ref()?;
        report.services.iter().find(|of_it| of_it.service == id.name)
    }

    pub(super) fn show_service(&self, id: &ServiceId) -> Option<ServiceOnNode> {
        if self.record.environment != id.environment {
            return None;
        }
        let assigned = self.intent.assigned.get(&id.name)?;
        let report = self.report_on(id);
        let holds_newest =
            self.record.report.as_ref().is_some_and(|report| report.seen >= self.intent.version());
        // Not more than wanted either: scaling down is done when the last one too many is gone.
        let complete = report.is_some_and(|report| {
            let rests =
                |i: &InstanceReport| matches!(i.state, InstanceState::Kept | InstanceState::Warm);
            let there = report.instances.iter().filter(|i| !rests(i)).count();
            report.phase == Phase::Running
                && report.ready == assigned.count
                && u32::try_from(there).is_ok_and(|there| there == assigned.count)
        });
        let empty = assigned.count == 0 && report.is_none_or(|r| r.instances.is_empty());
        let conflict = self.conflict();
        let detail = report.and_then(|report| report.detail.as_ref());
        Some(ServiceOnNode {
            node: self.record.name.clone(),
            online: self.record.online,
            heard_ms: self.record.heard_ms,
            desired: assigned.count,
            ready: report.map_or(0, |report| report.ready),
            phase: report.map(|report| report.phase),
            reason: conflict.map(|_| Reason::Conflict).or(detail.map(|detail| detail.reason)),
            message: conflict
                .map(Conflict::with_mend)
                .or_else(|| detail.map(|detail| printable(&detail.message))),
            settled: conflict.is_none()
                && !self.intent.is_unsigned
                && holds_newest
                && (complete || empty),
            holds_newest: holds_newest && !self.intent.is_unsigned,
            instances: report.map(|report| report.instances.clone()).unwrap_or_default(),
            held: report.and_then(|report| report.held.clone()).map(shown_safely),
            alarms: self.alarms(),
        })
    }

    /// Services that root of the node holds.
    fn held(&self) -> BTreeMap<ServiceName, HeldReport> {
        let said = self.record.report.iter().flat_map(|report| &report.services);
        let held = said.filter_map(|s| Some((s.service.clone(), shown_safely(s.held.clone()?))));
        held.collect()
    }

    /// Why a node may not have taken its newest manifest: what it refused since its agent's start.
    fn refusal(&self) -> Option<String> {
        let report = self.record.report.as_ref()?;
        if report.seen >= self.intent.version() || report.refused.is_empty() {
            return None;
        }
        let refused = report.refused.iter().map(|(code, count)| format!("{code} ×{count}"));
        let refused: Vec<String> = refused.collect();
        let (newest, seen) = (self.intent.generation, report.seen.generation);
        Some(format!(
            "holds manifest {seen} and not {newest}; refused so far: {}",
            printable(&refused.join(", "))
        ))
    }

    fn show(&self, member: &MemberShown, cloned: bool) -> NodeShown {
        let record = &self.record;
        let engine_gone =
            record.report.as_ref().is_some_and(|r| r.engine == EngineState::Unavailable);
        let status = match (record.online, engine_gone) {
            _ if member.status != "admitted" => member.status.as_str(),
            _ if cloned => "cloned",
            _ if self.conflict().is_some() => "conflict",
            (false, _) => "offline",
            (true, true) => "engine unavailable",
            (true, false) => "ready",
        };
        NodeShown {
            id: record.id.clone(),
            name: record.name.clone(),
            environment: record.environment.clone(),
            status: status.to_owned(),
            labels: record.labels.clone(),
            address: record.address.clone(),
            policy: record.policy.clone(),
            agent_version: record.agent_version.clone(),
            agent_target: None,
            capacity: record.capacity.clone(),
            load: self.load.clone(),
            heard_ms: record.heard_ms,
            seen: record.seen,
            generation: self.intent.generation,
            refused: record.report.as_ref().map(|r| r.refused.clone()).unwrap_or_default(),
            services: self.intent.assigned.keys().cloned().collect(),
            held: self.held(),
            alarms: self.alarms(),
            cloned,
            conflict: self.conflict().map(ToString::to_string),
            certificate_expires_at: member.certificate_expires_at,
        }
    }
}

/// Where a node stands that has moved on since its rollout ended, as it reports it: nothing follows a rollout that is over.
fn state_since(state: NodeState, report: &ServiceReport) -> Option<NodeState> {
    match (state, report.phase) {
        (NodeState::Away | NodeState::Held, Phase::Running) => Some(NodeState::Done),
        (NodeState::Away | NodeState::Done, Phase::Held) => Some(NodeState::Held),
        _ => None,
    }
}

/// Whether a node takes a rollout later than the others.
fn is_put_off(node: &NodeProgressShown) -> bool {
    [NodeState::Away, NodeState::Held].iter().any(|state| node.state == state.as_str())
}

/// What a person wrote on a board, safe on another's terminal.
fn shown_safely(held: HeldReport) -> HeldReport {
    let (by, reason) = (printable(&held.by), held.reason.as_deref().map(printable));
    HeldReport { by, reason, ..held }
}

/// `1 lost with node-2 (4 min), not moved; node-1: waiting for a ready instance`.
fn why_short(unplaced: u32, nodes: &[ServiceOnNode], unix_ms: u64) -> String {
    let mut parts = Vec::new();
    for on in nodes.iter().filter(|on| !on.online && on.desired > 0) {
        let age = age(unix_ms.saturating_sub(on.heard_ms));
        parts.push(format!("{} lost with {} ({age}), not moved", on.desired, on.node));
    }
    for on in nodes.iter().filter(|on| on.online) {
        let alarms = on.alarms.iter().map(|a| format!("{}: {}: {}", on.node, a.reason, a.message));
        parts.extend(alarms);
    }
    // What runs against a policy that was narrowed is at rest, and will not be once it ends.
    let is_told = |on: &&ServiceOnNode| {
        let is_lasting = matches!(on.reason, Some(Reason::PolicyDenied | Reason::HeldLocally));
        !on.settled || is_lasting
    };
    for on in nodes.iter().filter(|on| on.online && is_told(on)) {
        if let Some(message) = &on.message {
            parts.push(format!("{}: {message}", on.node));
        }
    }
    if unplaced > 0 {
        parts.push(format!("{unplaced} found no node"));
    }
    parts.join("; ")
}

/// `12 s`, `4 min`, `3 h`, `2 d`.
#[must_use]
pub fn age(ms: u64) -> String {
    match ms / 1000 {
        secs @ 0..60 => format!("{secs} s"),
        secs @ 60..3600 => format!("{} min", secs / 60),
        secs @ 3600..86_400 => format!("{} h", secs / 3600),
        secs => format!("{} d", secs / 86_400),
    }
}
