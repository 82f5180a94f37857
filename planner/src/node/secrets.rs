//! What waits for a secret: a copy that this node does not have, or cannot open, keeps back what would be started with it.
//! What runs has its secrets already.

use protocol::reason::Reason;
use protocol::spec::ServiceSpec;

use super::history::Kept;
use super::step::Waiting;
use super::view::View;

/// Why something made of `kept` cannot be started yet; none: every secret of it is here.
pub(super) fn wait(view: &View<'_>, kept: &Kept, spec: &ServiceSpec) -> Option<Waiting> {
    let environment = &view.wanted.environment;
    let missing = spec.secret_names().find_map(|name| match kept.secrets.get(name) {
        None => Some(format!("secret `{name}` has no value in {environment}")),
        Some(version) => {
            let is_here = view.observed.secrets.contains(&(name.clone(), *version));
            (!is_here)
                .then(|| format!("secret `{name}` version {version} is not sealed to this node"))
        }
    })?;
    let message = format!("{missing}: `pith secret sync --env {environment}`");
    Some(Waiting { reason: Reason::WaitingForSecret, message, until: None })
}
