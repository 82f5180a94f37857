//! The node's policy file: looked at with each gathering, before it, so that nothing is decided under an older one.

use planner::Now;
use protocol::policy::PolicyState;
use protocol::reason::Reason;
use tracing::{info, warn};

use super::agent::Agent;
use crate::policy::Looked;

impl Agent {
    /// What runs goes on, but for people inside; what is to be started is decided anew, and the coordinator hears of it.
    pub(super) fn policy_changed(&mut self, looked: Looked, now: Now) {
        let before = self.policy.as_ref().map(|before| before.state.clone()).unwrap_or_default();
        let state = looked.state.clone();
        let is_first = self.policy.is_none();
        self.policy = Some(looked);
        self.decide_by(now);
        if state == before {
            return;
        }
        self.show_out(now);
        self.voice.hello_is_due_at(now);
        if let Some(trouble) = &state.trouble {
            warn!(trouble, "the policy file counts as absent: nothing of the node is allowed");
            let message = format!("policy.toml counts as absent: {trouble}");
            self.tell(None, Some(Reason::PolicyDenied), &message);
        } else if state.policy != before.policy {
            info!(policy = ?state.policy, "policy");
            if !is_first {
                self.tell(None, None, "the node's policy was changed");
            }
        }
    }

    /// What the node says of its policy; none: it allows nothing.
    pub(super) fn policy_state(&self) -> Option<PolicyState> {
        let state = self.policy.as_ref().map(|looked| looked.state.clone());
        state.filter(|state| *state != PolicyState::default())
    }
}
