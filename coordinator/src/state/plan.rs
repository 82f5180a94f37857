//! What a deploy would change, in the file's own words and per node.

use std::collections::{BTreeMap, BTreeSet};

use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::id::{NodeName, ReleaseId, ServiceId};
use protocol::policy::NodePolicy;
use protocol::release::{Image, Pin, Release};
use protocol::report::InstanceReport;
use protocol::spec::{ServiceSpec, Strategy};
use serde_json::Value;

use super::records::Assigned;
use super::requests::{PlanRequest, Refused};
use super::shown::{ChangeShown, DifferenceShown, NodePlanShown, PlanShown, PullShown};
use super::{At, State};

impl State {
    /// Compares a service with what runs.
    ///
    /// # Errors
    /// Where it fits nowhere, a port is taken by another service, or a manifest would be too large.
    pub fn plan(&self, request: &PlanRequest, at: At) -> Result<PlanShown, Refused> {
        let id =
            ServiceId { environment: request.environment.clone(), name: request.spec.name.clone() };
        let current = self.services.get(&id).and_then(|service| service.current());
        let runs = current.and_then(|revision| self.releases.get(&revision.release));
        let before =
            runs.map(|stored| flat(&stored.release.image, stored.release.spec(&id.environment)));
        let after = flat(&request.image, &request.spec);
        let changes = differences(&before.unwrap_or_default(), &after);
        self.secret_versions(&id.environment, &request.spec)?;
        let placed = self.place_service(&id, &request.spec)?;
        for (name, count) in &placed.counts {
            let Some(node) = self.node_named(name) else { continue };
            self.check_ports(&id, &request.spec, node)?;
            let (release, envelope) = self.as_large_as_signed(request);
            let assigned = Assigned {
                revision: u64::MAX,
                release,
                count: *count,
                attempt: 1,
                restarts: 0,
                secrets: self.secret_versions(&id.environment, &request.spec)?,
                paused: false,
                candidate: None,
            };
            self.check_manifest_fits(&node.record.id, &id.name, &assigned, &envelope, at)?;
        }
        let nodes = self.plan_nodes(&id, &placed.counts, !changes.is_empty());
        let moves = nodes.iter().any(|node| node.action != "keep");
        let steps = match changes.is_empty() {
            true => Vec::new(),
            false => self.explain(&id, &request.spec, &placed),
        };
        Ok(PlanShown {
            service: id.name,
            environment: id.environment,
            from_revision: current.map(|revision| revision.number),
            anything: moves || !changes.is_empty(),
            changes,
            image_is_local: matches!(request.image.pin, Pin::ImageId(_)),
            pulls: self.pulls(request, &nodes),
            nodes,
            steps,
            unplaced: placed.unplaced,
            needs_policy: needs_policy(&request.spec),
            left_out: placed.left_out,
            notes: notes(&request.spec),
        })
    }

    /// What two revisions of a service say differently.
    ///
    /// # Errors
    /// Where there is no such service or revision.
    pub fn difference(
        &self,
        id: &ServiceId,
        from: u64,
        to: u64,
    ) -> Result<DifferenceShown, Refused> {
        let leaves = |number: u64| {
            let missing = || Refused::NoRevision { service: id.clone(), revision: number };
            let service = self.services.get(id).ok_or_else(|| Refused::NoService(id.clone()))?;
            let revision = service.revisions.get(&number).ok_or_else(missing)?;
            let stored = self.releases.get(&revision.release).ok_or_else(missing)?;
            let mut leaves = flat(&stored.release.image, stored.release.spec(&id.environment));
            if revision.restarts > 0 {
                leaves.insert("restarts".to_owned(), revision.restarts.to_string());
            }
            for (name, version) in &revision.secrets {
                leaves.insert(format!("secrets.{name}.version"), version.to_string());
            }
            Ok::<_, Refused>(leaves)
        };
        let changes = differences(&leaves(from)?, &leaves(to)?);
        let (service, environment) = (id.name.clone(), id.environment.clone());
        Ok(DifferenceShown { service, environment, from, to, changes })
    }

    /// The release as it would be signed, by a key that no node trusts for it: only its size counts.
    fn as_large_as_signed(&self, request: &PlanRequest) -> (ReleaseId, Envelope) {
        let release = Release {
            format: FORMAT,
            fleet: self.director.fleet.clone(),
            counter: u64::MAX,
            image: request.image.clone(),
            base: (*request.spec).clone(),
            environments: request.environments.clone(),
        };
        let envelope = Envelope::sign(&release, &[&self.director.key]);
        (ReleaseId::of_payload(envelope.payload.as_bytes()), envelope)
    }

    /// Who pulls the image, as far as reports tell who has it.
    fn pulls(&self, request: &PlanRequest, nodes: &[NodePlanShown]) -> Vec<PullShown> {
        let image = &request.image;
        if matches!(image.pin, Pin::ImageId(_)) {
            return Vec::new();
        }
        let is_of_it = |instance: &InstanceReport| {
            let stored = self.releases.get(&instance.release);
            stored.is_some_and(|stored| stored.release.image.pin == image.pin)
        };
        let takes_it = nodes.iter().filter(|node| node.after > 0);
        let pulls = takes_it.filter_map(|planned| {
            let record = &self.node_named(&planned.node)?.record;
            let services = record.report.iter().flat_map(|report| &report.services);
            let has_it = services.flat_map(|of_it| &of_it.instances).any(is_of_it);
            let architecture = record.capacity.architecture.clone();
            let bytes = request.sizes.get(&architecture).copied();
            (!has_it).then(|| PullShown { node: planned.node.clone(), architecture, bytes })
        });
        pulls.collect()
    }

    fn plan_nodes(
        &self,
        id: &ServiceId,
        wanted: &BTreeMap<NodeName, u32>,
        replaces: bool,
    ) -> Vec<NodePlanShown> {
        let counts = self.counts_of(id);
        let facts = self.node_facts(&id.environment).into_iter();
        let plan = facts.filter_map(|node| {
            let before = counts.get(&node.name).copied().unwrap_or(0);
            let after = wanted.get(&node.name).copied().unwrap_or(0);
            let action = match (before, after) {
                (0, 0) => return None,
                (0, _) => "create",
                (_, 0) => "remove",
                (_, _) if replaces => "replace",
                (before, after) if before != after => "scale",
                (_, _) => "keep",
            };
            let action = action.to_owned();
            Some(NodePlanShown { node: node.name, online: node.online, before, after, action })
        });
        plan.collect()
    }
}

/// The lines that would allow what the spec asks for, to itself alone.
fn needs_policy(spec: &ServiceSpec) -> Vec<String> {
    let denied = NodePolicy::default().denied(&spec.name, &spec.host);
    denied.into_iter().map(|one| one.line).collect()
}

/// What the file implies without saying it.
fn notes(spec: &ServiceSpec) -> Vec<String> {
    let mut notes = Vec::new();
    let targets: Vec<String> = spec.ports.iter().map(|port| port.target.to_string()).collect();
    if spec.health.readiness.is_none() && !targets.is_empty() {
        let targets = targets.join(", ");
        notes.push(format!(
            "no [health.readiness]: ready means that port {targets} accepts a connection"
        ));
    }
    if spec.health.readiness.is_none() && targets.is_empty() {
        notes.push("no [health.readiness] and no ports: ready means that it runs".to_owned());
    }
    for (variable, name) in &spec.container.secret_env {
        notes.push(format!(
            "secret `{name}` is the variable {variable}: everyone who may inspect the container reads it; `[[secrets]]` gives it \
             as a file in memory"
        ));
    }
    if spec.host.network {
        notes.push(
            "in the node's network: it opens its ports itself, one instance per node, and nothing holds requests while \
             the old instance stops before the new one starts"
                .to_owned(),
        );
    } else if spec.is_exclusive() {
        notes.push(
            "a writable volume has one writer: the old instance stops before the new one starts, requests wait meanwhile"
                .to_owned(),
        );
    } else if spec.rollout.strategy == Strategy::Recreate {
        notes.push(
            "recreate: every old instance stops before a new one starts, requests wait meanwhile"
                .to_owned(),
        );
    }
    notes
}

/// Every leaf of a service by its dotted path. Defaults that say nothing are left out.
fn flat(image: &Image, spec: &ServiceSpec) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    leaves.insert("image".to_owned(), image.reference.clone());
    leaves.insert("image.pinned".to_owned(), image.pinned_reference());
    let value = serde_json::to_value(spec).unwrap_or_default();
    collect(String::new(), &value, &mut leaves);
    leaves
}

fn collect(path: String, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let below = |key: &str| {
        if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
    };
    match value {
        Value::Null => {}
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| collect(below(key), value, leaves));
        }
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            if !items.is_empty() {
                leaves.insert(path, items.join(" "));
            }
        }
        Value::Array(items) => {
            let name = |index: usize, item: &Value| {
                let name = item.get("name").and_then(Value::as_str);
                name.map_or_else(|| index.to_string(), str::to_owned)
            };
            for (index, item) in items.iter().enumerate() {
                collect(below(&name(index, item)), item, leaves);
            }
        }
        Value::String(text) => {
            leaves.insert(path, text.clone());
        }
        Value::Bool(_) | Value::Number(_) => {
            leaves.insert(path, value.to_string());
        }
    }
}

fn differences(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<ChangeShown> {
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| ChangeShown {
            path: path.clone(),
            before: before.get(path).cloned(),
            after: after.get(path).cloned(),
        })
        .collect()
}
