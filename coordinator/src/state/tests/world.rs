//! A fleet of fake nodes that sign what they say, around a real [`State`].

mod made;
mod older;

use std::collections::{BTreeMap, BTreeSet};

use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::file::parse;
use protocol::hello::{Capacity, Hello, Load, Presence};
use protocol::id::{EnvironmentName, NodeId, ReleaseId, ServiceId, Template};
use protocol::keys::{Role, RoleName, Root, SecretKey};
use protocol::manifest::{Assignment, Manifest, Version};
use protocol::policy::PolicyState;
use protocol::reason::Reason;
use protocol::release::{Image, Release};
use protocol::report::{EngineState, Evidence, GivenUp, Phase, Report};
use protocol::spec::ServiceSpec;
use protocol::topic::Up;

use made::{image, parts, running};

use super::super::records::{Change, Kept};
use super::super::requests::{Accepted, Deploy, PlanRequest, Refused, Steer, Undo};
use super::super::shown::{PlanShown, RolloutShown, ServiceShown};
use super::super::{At, Director, State};
use planner::Now;
use planner::fleet::RolloutState;

pub(super) const FLEET: &str = "000000000000000000000000000000f1";
pub(super) const NONCE: &str = "00112233445566778899aabbccddeeff";

pub(super) struct World {
    pub(super) state: State,
    pub(super) at: At,
    pub(super) keys: BTreeMap<String, SecretKey>,
    names: BTreeMap<String, String>,
    environments: BTreeMap<String, String>,
    /// Where a board's proxy serves others, once the test has said so.
    fleet_ports: BTreeMap<String, std::net::SocketAddr>,
    boots: BTreeMap<String, String>,
    /// What a board lets containers have of it.
    policies: BTreeMap<String, PolicyState>,
    pub(super) kept: Vec<Change>,
    /// Answered in the last step.
    pub(super) times: Vec<(NodeId, Vec<u8>)>,
    counter: u64,
    sequence: u64,
}

pub(super) fn id(service: &str) -> ServiceId {
    ServiceId { environment: "default".parse().unwrap(), name: service.parse().unwrap() }
}

pub(super) fn director() -> Director {
    let key = |seed: u8| SecretKey::from_seed([seed; 32]);
    let roles = BTreeMap::from([
        (RoleName::Root, Role::single(key(1).public())),
        (RoleName::Release, Role::single(key(2).public())),
        (RoleName::Director, Role::single(key(3).public())),
        (RoleName::AgentRelease, Role::single(key(66).public())),
    ]);
    let fleet: protocol::id::FleetId = FLEET.parse().unwrap();
    let root = Root { format: FORMAT, fleet: fleet.clone(), version: 1, epoch: 1, roles };
    Director { fleet, root, chain: Default::default(), key: key(3) }
}

impl World {
    pub(super) fn with_nodes(names: &[&str]) -> Self {
        let at = At { now: Now(1_000), unix_ms: 1_700_000_000_000 };
        let mut world = Self {
            state: State::restore(director(), Kept::default(), at),
            at,
            keys: BTreeMap::new(),
            names: BTreeMap::new(),
            environments: BTreeMap::new(),
            fleet_ports: BTreeMap::new(),
            boots: BTreeMap::new(),
            policies: BTreeMap::new(),
            kept: Vec::new(),
            times: Vec::new(),
            counter: 0,
            sequence: 0,
        };
        for name in names {
            world.joins_as(name, name);
        }
        world
    }

    /// A board known to the test as `handle` says hello under `name`.
    pub(super) fn joins_as(&mut self, handle: &str, name: &str) {
        let [high, low] = (u16::try_from(self.keys.len()).unwrap() + 100).to_be_bytes();
        let mut seed = [low; 32];
        if high > 0 {
            seed[0] = high;
        }
        self.keys.insert(handle.to_owned(), SecretKey::from_seed(seed));
        self.names.insert(handle.to_owned(), name.to_owned());
        let node = self.node_id(handle);
        self.state.admit(&node, self.at).unwrap();
        let _ = self.says_hello(handle);
    }

    /// A board of another environment.
    pub(super) fn joins_in(&mut self, handle: &str, environment: &str) {
        self.environments.insert(handle.to_owned(), environment.to_owned());
        self.joins_as(handle, handle);
    }

    fn environment(&self, handle: &str) -> EnvironmentName {
        self.environments.get(handle).map_or("default", String::as_str).parse().unwrap()
    }

    pub(super) fn node_id(&self, handle: &str) -> NodeId {
        self.keys[handle].public().node_id()
    }

    /// Takes the effects as the loop would; which manifests were published.
    pub(super) fn settle(&mut self) -> BTreeSet<NodeId> {
        let effects = self.state.take_effects(self.at);
        self.kept.extend(effects.changes);
        self.times = effects.times;
        effects.publish
    }

    pub(super) fn hear(&mut self, handle: &str, up: Up, bytes: &[u8]) -> BTreeSet<NodeId> {
        let node = self.node_id(handle);
        self.state.heard(&node, up, bytes, self.at).unwrap();
        self.settle()
    }

    pub(super) fn hello_bytes(&self, handle: &str) -> Vec<u8> {
        let key = &self.keys[handle];
        let fleet_port = self.fleet_ports.get(handle);
        let hello = Hello {
            format: FORMAT,
            fleet: FLEET.parse().unwrap(),
            node: key.public().node_id(),
            public_key: key.public().to_base64(),
            name: self.names[handle].parse().unwrap(),
            environment: self.environment(handle),
            labels: BTreeMap::new(),
            formats: vec![1],
            agent_version: "0.1.0".to_owned(),
            nonce: NONCE.to_owned(),
            boot_id: self.boots.get(handle).map_or("boot", String::as_str).to_owned(),
            seen: Version::default(),
            capacity: Capacity {
                architecture: "arm64".to_owned(),
                cores: 4,
                memory_bytes: 1 << 30,
            },
            address: fleet_port.map_or("127.0.0.1".to_owned(), |at| at.ip().to_string()),
            fleet_port: fleet_port.map(std::net::SocketAddr::port),
            policy: self.policies.get(handle).cloned(),
            root_version: None,
            seal_key: Some(key.public().seal_key()),
            seen_sha256: None,
            learned: None,
            metered: false,
        };
        Envelope::sign(&hello, &[key]).to_bytes()
    }

    /// The board says that other nodes reach it at this address and port from now on.
    pub(super) fn is_reached_at(&mut self, handle: &str, address: &str) {
        self.fleet_ports.insert(handle.to_owned(), address.parse().unwrap());
        let _ = self.says_hello(handle);
    }

    /// A board speaks from this boot; a copy of it from another.
    pub(super) fn says_hello_from(&mut self, handle: &str, boot: &str) {
        self.boots.insert(handle.to_owned(), boot.to_owned());
        let _ = self.says_hello(handle);
    }

    /// The board's own policy is this from now on, and it says so.
    pub(super) fn has_policy(&mut self, handle: &str, text: &str) {
        let policy = protocol::file::parse_policy("policy.toml", text).unwrap();
        let state = PolicyState { policy, ..PolicyState::default() };
        self.policies.insert(handle.to_owned(), state);
        let _ = self.says_hello(handle);
    }

    pub(super) fn says_hello(&mut self, handle: &str) -> BTreeSet<NodeId> {
        let bytes = self.hello_bytes(handle);
        self.hear(handle, Up::Hello, &bytes)
    }

    pub(super) fn says_load(&mut self, handle: &str) {
        let seen = self.seen(handle);
        let _ = self.load(handle, seen);
    }

    /// Unsigned, as a load says it.
    pub(super) fn has_seen(&mut self, handle: &str, generation: u64) -> BTreeSet<NodeId> {
        self.load(handle, Version { epoch: 1, generation })
    }

    fn load(&mut self, handle: &str, seen: Version) -> BTreeSet<NodeId> {
        let load = Load { seen, cpu: Some(0.5), up_s: 1, ..Load::default() };
        self.hear(handle, Up::Load, &serde_json::to_vec(&load).unwrap())
    }

    pub(super) fn goes_away(&mut self, handle: &str) {
        let presence = Presence { online: false, boot_id: "boot".to_owned() };
        self.hear(handle, Up::Presence, &serde_json::to_vec(&presence).unwrap());
    }

    pub(super) fn passes(&mut self, ms: u64) {
        self.at = At { now: self.at.now.plus(ms), unix_ms: self.at.unix_ms + ms };
        self.state.tick(self.at);
        self.settle();
    }

    /// The node runs exactly what its manifest says and reports so.
    pub(super) fn runs(&mut self, handle: &str) {
        let bytes = self.report_bytes(handle, Phase::Running);
        self.hear(handle, Up::Report, &bytes);
    }

    /// Every node runs what it is told, until nothing changes any more.
    pub(super) fn all_run(&mut self) {
        for _ in 0..4 {
            for handle in self.keys.keys().cloned().collect::<Vec<_>>() {
                if self.state.nodes[&self.node_id(&handle)].record.online {
                    self.runs(&handle);
                }
            }
        }
    }

    /// The node gives the wanted release of a service up and goes back by itself.
    pub(super) fn gives_up(&mut self, handle: &str, service: &str, reason: Reason) {
        let mut report = self.report(handle, Phase::Running);
        for of_it in report.services.iter_mut().filter(|s| s.service.as_str() == service) {
            let manifest = self.state.nodes[&self.node_id(handle)].intent.clone();
            let assigned = &manifest.assigned[&of_it.service];
            of_it.phase = Phase::RolledBack;
            of_it.given_up = Some(GivenUp {
                release: assigned.release.clone(),
                template: Template::of(&assigned.release, &"default".parse().unwrap(), 0),
                attempt: assigned.attempt,
                reason,
                message: "never ready".to_owned(),
                evidence: Some(Evidence { probe: Some("503".to_owned()), ..Evidence::default() }),
            });
        }
        self.says_report(handle, &report);
    }

    /// The node went back by itself and runs this release, whatever it is told.
    pub(super) fn stays_behind(&mut self, handle: &str, release: &ReleaseId) {
        let mut report = self.report(handle, Phase::RolledBack);
        for of_it in &mut report.services {
            of_it.instances.iter_mut().for_each(|i| i.release = release.clone());
        }
        self.says_report(handle, &report);
    }

    /// The node has refused a manifest and holds none.
    pub(super) fn refuses(&mut self, handle: &str, code: &str) {
        let mut report = self.report(handle, Phase::Running);
        report.seen = Version::default();
        report.services.clear();
        report.refused.insert(code.to_owned(), 1);
        self.says_report(handle, &report);
    }

    pub(super) fn report_bytes(&mut self, handle: &str, phase: Phase) -> Vec<u8> {
        let report = self.report(handle, phase);
        Envelope::sign(&report, &[&self.keys[handle]]).to_bytes()
    }

    /// What an agent process that started at that time says.
    pub(super) fn report_since(&mut self, handle: &str, agent_started_ms: u64) -> Vec<u8> {
        let report = Report { agent_started_ms, ..self.report(handle, Phase::Running) };
        Envelope::sign(&report, &[&self.keys[handle]]).to_bytes()
    }

    pub(super) fn says_report(&mut self, handle: &str, report: &Report) {
        let bytes = Envelope::sign(report, &[&self.keys[handle]]).to_bytes();
        self.hear(handle, Up::Report, &bytes);
    }

    pub(super) fn report(&mut self, handle: &str, phase: Phase) -> Report {
        self.sequence += 1;
        let has_manifest = self.state.manifest(&self.node_id(handle)).is_some();
        let services = if has_manifest { self.manifest(handle).services } else { Vec::new() };
        Report {
            format: FORMAT,
            fleet: FLEET.parse().unwrap(),
            node: self.node_id(handle),
            environment: self.environment(handle),
            sequence: self.sequence,
            agent_started_ms: 1,
            seen: self.seen(handle),
            services: services.iter().map(|assignment| running(assignment, phase)).collect(),
            refused: BTreeMap::new(),
            engine: EngineState::Ready,
            alarms: Vec::new(),
            images: None,
            agent_update: None,
        }
    }

    /// Manifests arrive at once here.
    fn seen(&self, handle: &str) -> Version {
        self.state.nodes[&self.node_id(handle)].intent.version()
    }

    pub(super) fn generation(&self, handle: &str) -> u64 {
        self.state.nodes[&self.node_id(handle)].intent.generation
    }

    /// The published manifest, verified as a node would.
    pub(super) fn manifest(&self, handle: &str) -> Manifest {
        let bytes = self.state.manifest(&self.node_id(handle)).unwrap();
        let envelope = Envelope::from_bytes(bytes).unwrap();
        envelope.verify::<Manifest>(&self.state.director.root).unwrap().into_inner()
    }

    /// `web:2x3`: revision 2 of web, three instances.
    pub(super) fn assigned(&self, handle: &str) -> String {
        if self.state.manifest(&self.node_id(handle)).is_none() {
            return String::new();
        }
        let show = |a: &Assignment| {
            let beside = a.candidate.as_ref();
            let beside = beside.map(|c| format!("+{}x{}@{}", c.revision, c.count, c.share));
            let held = if a.paused { " held" } else { "" };
            format!("{}:{}x{}{}{held}", a.service, a.revision, a.count, beside.unwrap_or_default())
        };
        self.manifest(handle).services.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn sign(&mut self, service: &str, version: &str) -> Envelope {
        self.sign_by(service, version, 2)
    }

    pub(super) fn sign_with_foreign_key(&mut self, service: &str, version: &str) -> Envelope {
        self.sign_by(service, version, 9)
    }

    pub(super) fn sign_with(&mut self, service: &str, version: &str, seed: u8) -> Envelope {
        self.sign_by(service, version, seed)
    }

    /// A deploy whose file says this under `[rollout]`.
    pub(super) fn deploy_as(&mut self, version: &str, rollout: &str) -> Result<Accepted, Refused> {
        let (image, mut spec) = parts("web", version);
        let text = format!("name = \"web\"\n[rollout]\n{rollout}\n");
        spec.rollout = parse("test.toml", &text).unwrap().spec.rollout;
        let envelope = self.sign_parts((image, spec), 2);
        self.deploy_envelope(envelope)
    }

    /// The plan of such a deploy.
    pub(super) fn plan_as(&self, version: &str, rollout: &str) -> PlanShown {
        let (image, mut spec) = parts("web", version);
        let text = format!("name = \"web\"\n[rollout]\n{rollout}\n");
        spec.rollout = parse("test.toml", &text).unwrap().spec.rollout;
        let (environment, environments) = ("default".parse().unwrap(), BTreeMap::new());
        let spec = Box::new(spec);
        let request =
            PlanRequest { environment, image, spec, environments, sizes: BTreeMap::new() };
        self.state.plan(&request, self.at).unwrap()
    }

    pub(super) fn steer(&mut self, steer: Steer) -> Result<Accepted, Refused> {
        let accepted = self.state.steer(&id("web"), steer, self.at);
        self.settle();
        accepted
    }

    fn sign_by(&mut self, service: &str, version: &str, seed: u8) -> Envelope {
        let (image, spec) = parts(service, version);
        self.sign_parts((image, spec), seed)
    }

    fn sign_parts(&mut self, (image, spec): (Image, ServiceSpec), seed: u8) -> Envelope {
        self.counter += 1;
        let fleet = FLEET.parse().unwrap();
        let environments = BTreeMap::new();
        let (counter, base) = (self.counter, spec);
        let release = Release { format: FORMAT, fleet, counter, image, base, environments };
        Envelope::sign(&release, &[&SecretKey::from_seed([seed; 32])])
    }

    pub(super) fn deploy(&mut self, service: &str, version: &str) -> Result<Accepted, Refused> {
        let envelope = self.sign(service, version);
        self.deploy_envelope(envelope)
    }

    /// Deploys what a service file says, with its image under this version.
    pub(super) fn deploy_file(&mut self, text: &str, version: &str) {
        self.try_file(text, version).unwrap();
    }

    /// The same, where it may be refused.
    pub(super) fn try_file(&mut self, text: &str, version: &str) -> Result<Accepted, Refused> {
        let spec = parse("test.toml", text).unwrap().spec;
        let image = image(spec.name.as_str(), version);
        let envelope = self.sign_parts((image, spec), 2);
        self.deploy_envelope(envelope)
    }

    /// The plan of what a service file says.
    pub(super) fn plan_file(&self, text: &str, version: &str) -> Result<PlanShown, Refused> {
        let spec = Box::new(parse("test.toml", text).unwrap().spec);
        let image = image(spec.name.as_str(), version);
        let (environment, environments) = ("default".parse().unwrap(), BTreeMap::new());
        let request =
            PlanRequest { environment, image, spec, environments, sizes: BTreeMap::new() };
        self.state.plan(&request, self.at)
    }

    pub(super) fn deploy_envelope(&mut self, release: Envelope) -> Result<Accepted, Refused> {
        self.deploy_in("default", release)
    }

    pub(super) fn deploy_in(
        &mut self,
        environment: &str,
        release: Envelope,
    ) -> Result<Accepted, Refused> {
        let environment = environment.parse().unwrap();
        let (file, by) = (String::new(), "test".to_owned());
        let deploy = Deploy { environment, release, file, cause: None, by, if_revision: None };
        let accepted = self.state.deploy(deploy, self.at);
        self.settle();
        accepted
    }

    pub(super) fn plan(&self, service: &str, version: &str) -> Result<PlanShown, Refused> {
        let (image, spec) = parts(service, version);
        let environment = "default".parse().unwrap();
        let environments = BTreeMap::new();
        let (spec, sizes) = (Box::new(spec), [("arm64".to_owned(), 7 << 20)].into());
        let request = PlanRequest { environment, image, spec, environments, sizes };
        self.state.plan(&request, self.at)
    }

    pub(super) fn undo(&mut self, service: &str, to: Option<u64>) -> Result<Accepted, Refused> {
        let undo = Undo { to_revision: to, cause: None, by: "test".to_owned(), if_revision: None };
        let accepted = self.state.undo(&id(service), undo, self.at);
        self.settle();
        accepted
    }

    pub(super) fn scale(&mut self, service: &str, count: Option<u32>) -> Result<Accepted, Refused> {
        let accepted = self.state.scale(&id(service), count, self.at);
        self.settle();
        accepted
    }

    pub(super) fn rollout(&self, service: &str) -> RolloutShown {
        self.state.show_rollout(&id(service), None).unwrap()
    }

    pub(super) fn revision_state(&self, service: &str, number: u64) -> RolloutState {
        self.state.services[&id(service)].revisions[&number].state
    }

    pub(super) fn services(&self) -> ServiceShown {
        self.state.show_services(None, self.at.unix_ms).services.remove(0)
    }

    /// The coordinator starts again from what it stored; which manifests it publishes.
    pub(super) fn restart(&mut self) -> BTreeSet<NodeId> {
        self.restart_as(director())
    }

    /// The same, under the trust root and key that lie in its folder then.
    pub(super) fn restart_as(&mut self, director: Director) -> BTreeSet<NodeId> {
        self.state = State::restore(director, self.kept_now(), self.at);
        let mut published = self.settle();
        for handle in self.keys.keys().cloned().collect::<Vec<_>>() {
            let node = self.state.nodes.get(&self.node_id(&handle));
            if node.is_some_and(|node| node.record.online) {
                published.extend(self.says_hello(&handle));
            }
        }
        published
    }

    /// What a coordinator that starts now finds stored.
    pub(super) fn kept_now(&self) -> Kept {
        let dir = tempfile::tempdir().unwrap();
        crate::store::write_and_read(&dir.path().join("state.db"), &self.kept).unwrap()
    }
}
