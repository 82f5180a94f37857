//! What a manifest may ask of the simulated node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::id::{Digest, FleetId, ReleaseId, ServiceName};
use protocol::manifest::{Assignment, Candidate, HookKind, HookRun};
use protocol::release::{Image, Pin, Release};
use protocol::spec::{
    Container, Health, Hooks, HostAccess, Listen, OnFailure, Placement, Port, PortProtocol,
    Resources, RolloutPolicy, Scheduling, ServiceSpec, Share, Strategy, Volume,
};
use protocol::units::Millis;

use super::world::{App, World};

pub(super) fn name(text: &str) -> ServiceName {
    text.parse().expect("a valid name")
}

pub(super) fn spec(service: &str) -> ServiceSpec {
    ServiceSpec {
        name: name(service),
        scheduling: Scheduling::PerNode(1),
        container: Container::default(),
        stop_grace: Millis::from_secs(10),
        depends_on: BTreeSet::new(),
        uses: BTreeSet::new(),
        ports: vec![Port {
            name: "http".parse().expect("a valid name"),
            listen: Some(Listen { address: None, port: 8080 }),
            target: 8080,
            protocol: PortProtocol::Http,
            proxy_protocol: false,
        }],
        health: Health::default(),
        resources: Resources::default(),
        rollout: RolloutPolicy {
            strategy: Strategy::Rolling,
            max_surge: Share::Count(1),
            max_unavailable: Share::Count(0),
            batches: Vec::new(),
            batch: Share::Count(1),
            success_threshold: Share::Percent(100),
            error_threshold: Share::Count(0),
            min_ready: Millis(0),
            progress_deadline: Millis::from_secs(60),
            on_failure: OnFailure::Rollback,
            soak: Millis(0),
            revision_history_limit: 10,
            drain: Millis::from_secs(30),
            hold_requests: Millis::from_secs(30),
        },
        placement: Placement::default(),
        volumes: Vec::new(),
        secrets: Vec::new(),
        host: HostAccess::default(),
        hooks: Hooks::default(),
    }
}

pub(super) fn exclusive(mut spec: ServiceSpec) -> ServiceSpec {
    let volume = "data".parse().expect("a valid name");
    spec.volumes.push(Volume {
        name: volume,
        path: "/data".into(),
        read_only: false,
        shared: false,
    });
    spec
}

impl World {
    /// The manifest now wants `version` of the spec's service, `count` instances, under `attempt`.
    pub(super) fn want(
        &mut self,
        spec: &ServiceSpec,
        version: u8,
        app: App,
        count: u32,
        attempt: u32,
    ) {
        let release = self.release(spec, version, app);
        let assignment = Assignment {
            service: spec.name.clone(),
            revision: version.into(),
            release,
            count,
            attempt,
            restarts: 0,
            secrets: BTreeMap::new(),
            paused: false,
            candidate: None,
        };
        self.wanted.assignments.insert(spec.name.clone(), assignment);
    }

    /// The manifest now wants `version` beside what it wants, with a share of ten thousand requests.
    pub(super) fn beside(
        &mut self,
        spec: &ServiceSpec,
        version: u8,
        app: App,
        count: u32,
        share: u32,
    ) {
        let release = self.release(spec, version, app);
        let candidate = Candidate {
            revision: version.into(),
            release,
            count,
            attempt: 1,
            restarts: 0,
            secrets: BTreeMap::new(),
            share,
            sample_every: Millis::from_secs(10),
        };
        let now = self.now;
        let facts = self.observed.services.entry(spec.name.clone()).or_default();
        facts.candidate_progress_at = Some(now);
        let assignment = self.wanted.assignments.get_mut(&spec.name).expect("wanted");
        assignment.candidate = Some(candidate);
    }

    /// The manifest now asks for a hook of `version`, which behaves as `app` does: it ends with 0 unless that exits.
    pub(super) fn run_hook(&mut self, spec: &ServiceSpec, version: u8, app: App, kind: HookKind) {
        let release = self.release(spec, version, app);
        let (service, revision) = (spec.name.clone(), version.into());
        let secrets = BTreeMap::new();
        let run = HookRun { service, kind, revision, release, attempt: 1, secrets };
        self.wanted.hooks.insert(spec.name.clone(), run);
    }

    /// The operator holds the rollout, or lets it go on.
    pub(super) fn hold(&mut self, service: &str, paused: bool) {
        let now = self.now;
        let service = name(service);
        self.wanted.assignments.get_mut(&service).expect("wanted").paused = paused;
        if let Some(facts) = self.observed.services.get_mut(&service) {
            facts.progress_at = Some(now);
        }
    }

    fn release(&mut self, spec: &ServiceSpec, version: u8, app: App) -> ReleaseId {
        let release = release_id(&spec.name, version);
        let digest: Digest = format!("sha256:{release}").parse().expect("64 digits");
        let image = Image { reference: format!("web:v{version}"), pin: Pin::Digest(digest) };
        let fleet = FleetId::from_random([7; 16]);
        let document = Release {
            format: 1,
            fleet,
            counter: version.into(),
            image,
            base: spec.clone(),
            environments: BTreeMap::new(),
        };
        self.wanted.releases.insert(release.clone(), Arc::new(document));
        self.apps.insert(release.clone(), app);
        release
    }
}

pub(super) fn release_id(service: &ServiceName, version: u8) -> ReleaseId {
    ReleaseId::of_payload(format!("{service} {version}").as_bytes())
}
