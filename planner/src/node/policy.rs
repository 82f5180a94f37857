//! What the node's policy keeps from being started. It is asked whenever something of a template has to be created or
//! started, and never about what runs: a policy that was narrowed stops nothing, and nothing it denies starts again.

use protocol::reason::Reason;
use protocol::spec::ServiceSpec;

use super::facts::Instance;
use super::history::Kept;
use super::step::Waiting;
use super::view::View;

/// Why the node does not start what this spec asks for; none: it does.
pub(super) fn refusal(view: &View<'_>, spec: &ServiceSpec) -> Option<String> {
    view.observed.policy.refusal(view.name, &spec.host)
}

/// The same, where fewer than `count` instances of the template are up.
pub(super) fn keeps_back(
    view: &View<'_>,
    kept: &Kept,
    spec: &ServiceSpec,
    count: u32,
) -> Option<String> {
    let is_up = |i: &&Instance| i.template == kept.template && i.slot < count && i.is_up();
    let up = view.facts.instances.iter().filter(is_up).count();
    if up >= count as usize { None } else { refusal(view, spec) }
}

/// Why something that was begun or is healed does not go on.
pub(super) fn start_wait(view: &View<'_>, spec: &ServiceSpec) -> Option<Waiting> {
    let message = refusal(view, spec)?;
    Some(Waiting { reason: Reason::PolicyDenied, message, until: None })
}

/// What is said of a service at rest that would not be started any more.
pub(super) fn rest_wait(view: &View<'_>, spec: &ServiceSpec) -> Option<Waiting> {
    let refusal = refusal(view, spec)?;
    let message = format!("runs on until it ends, and is not started again: {refusal}");
    Some(Waiting { reason: Reason::PolicyDenied, message, until: None })
}
