//! From a revision and its release's policy to what `planner::fleet` is asked to roll out.

use planner::fleet::{Hooks, Member, Order, Trial, Wave, canaries, waves};
use protocol::id::{NodeName, ServiceId};
use protocol::spec::{ServiceSpec, Strategy};

use super::records::{Kind, Revision};
use super::{Service, State};

impl State {
    /// The spec of a revision's release in the service's environment.
    pub(super) fn spec_of(&self, id: &ServiceId, number: u64) -> Option<&ServiceSpec> {
        let revision = self.services.get(id)?.revisions.get(&number)?;
        Some(self.releases.get(&revision.release)?.release.spec(&id.environment))
    }

    pub(super) fn order_of(&self, id: &ServiceId, number: u64) -> Option<Order> {
        let service = self.services.get(id)?;
        let revision = service.revisions.get(&number)?;
        let spec = self.spec_of(id, number)?;
        let policy = &spec.rollout;
        let members = self.members(&revision.order);
        let trial = trial(service, revision, spec, &members);
        let at_once = revision.kind == Kind::Undo || matches!(trial, Some(Trial::Green { .. }));
        let waves = if at_once {
            vec![Wave { nodes: revision.order.clone(), at_once: usize::MAX, gate: None }]
        } else {
            let first = match &trial {
                Some(Trial::Canary { nodes, .. }) => nodes.as_slice(),
                Some(Trial::Green { .. }) | None => &[],
            };
            waves(&members, first, policy)
        };
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        Some(Order {
            revision: number,
            from_revision: revision.from,
            waves,
            trial,
            success_threshold: policy.success_threshold,
            errors_allowed: policy.error_threshold.floor_of(count),
            on_failure: policy.on_failure,
            soak_ms: policy.soak.0,
            hooks: Hooks {
                pre_deploy: is_new(revision) && spec.hooks.pre_deploy.is_some(),
                post_deploy: is_new(revision) && spec.hooks.post_deploy.is_some(),
            },
        })
    }

    pub(super) fn members(&self, names: &[NodeName]) -> Vec<Member> {
        let member = |name: &NodeName| {
            let labels = self.node_named(name).map(|node| node.record.labels.clone());
            Member { name: name.clone(), labels: labels.unwrap_or_default() }
        };
        names.iter().map(member).collect()
    }
}

/// Whether this environment sees the release for the first time.
fn is_new(revision: &Revision) -> bool {
    matches!(revision.kind, Kind::Deploy | Kind::Promote)
}

/// What the release shows beside the one that runs. An old release was shown already, a restart has nothing to show, and
/// one writer cannot have another beside it.
fn trial(
    service: &Service,
    revision: &Revision,
    spec: &ServiceSpec,
    members: &[Member],
) -> Option<Trial> {
    let before = service.revisions.get(&revision.from?)?;
    if !is_new(revision) || spec.is_exclusive() || before.release == revision.release {
        return None;
    }
    let runs_there = |member: &&Member| {
        before.placement.get(&member.name).is_some_and(|count| *count > 0)
            && revision.placement.get(&member.name).is_some_and(|count| *count > 0)
    };
    match &spec.rollout.strategy {
        Strategy::Rolling | Strategy::Recreate => None,
        Strategy::BlueGreen(blue_green) => {
            let nodes = members.iter().filter(runs_there).map(|member| member.name.clone());
            let (nodes, auto_promote) = (nodes.collect::<Vec<_>>(), blue_green.auto_promote);
            (!nodes.is_empty()).then_some(Trial::Green { nodes, auto_promote })
        }
        Strategy::Canary(canary) => {
            let members: Vec<Member> = members.iter().filter(runs_there).cloned().collect();
            let nodes = canaries(&members, &canary.nodes);
            (!nodes.is_empty()).then(|| Trial::Canary {
                nodes,
                steps: canary.steps.clone(),
                analysis: canary.analysis,
            })
        }
    }
}
