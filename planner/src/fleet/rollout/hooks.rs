//! One-shot containers around a rollout: one node runs each, once, and the others wait for it.

use protocol::id::NodeName;
use protocol::manifest::HookKind;
use protocol::reason::Reason;
use protocol::report::HookOutcome;

use super::Rollout;
use crate::fleet::event::{FleetAction, HookProgress};
use crate::fleet::state::NodeState;

impl Rollout {
    /// Whether the hook before the rollout has run well; it is begun where it was not.
    pub(super) fn is_prepared(&mut self, actions: &mut Vec<FleetAction>) -> bool {
        if self.order.hooks.pre_deploy && !self.stage.pre_done {
            let fits = |node: &&NodeName| self.is_online(node) && !self.is_held(node);
            let node = self.order.nodes().find(fits).cloned();
            self.run_hook(HookKind::PreDeploy, node, actions);
            return false;
        }
        true
    }

    /// Whether the hook after the rollout has run well; it is begun where it was not.
    pub(super) fn is_proven(&mut self, actions: &mut Vec<FleetAction>) -> bool {
        if self.order.hooks.post_deploy && !self.stage.post_done {
            let fits = |node: &&NodeName| {
                self.is(node, NodeState::Done) && self.is_online(node) && !self.is_held(node)
            };
            let node = self.order.nodes().find(fits).cloned();
            self.run_hook(HookKind::PostDeploy, node, actions);
            return false;
        }
        true
    }

    /// A node that was asked is waited for, also while it is away: another would run it a second time.
    fn run_hook(&mut self, kind: HookKind, node: Option<NodeName>, actions: &mut Vec<FleetAction>) {
        if self.stage.hook_on.is_some() {
            return;
        }
        let Some(node) = node else {
            let (reason, what) = match self.held.is_empty() {
                true => (Reason::NodeOffline, "to be heard of"),
                false => (Reason::HeldLocally, "that is heard of and not held locally"),
            };
            let message = format!("{} waits for a node {what}", kind.as_str());
            return self.note(Some(reason), message, actions);
        };
        let message = format!("{} runs on {node}", kind.as_str());
        self.stage.hook_on = Some(node.clone());
        actions.push(FleetAction::RunHook { node, kind });
        self.note(Some(Reason::WaitingForHook), message, actions);
    }

    /// What the node that runs a hook says of it.
    pub(super) fn hook_reported(
        &mut self,
        node: &NodeName,
        hook: &HookProgress,
        actions: &mut Vec<FleetAction>,
    ) {
        let is_awaited = match hook.kind {
            HookKind::PreDeploy => !self.stage.pre_done,
            HookKind::PostDeploy => self.stage.pre_done || !self.order.hooks.pre_deploy,
        };
        let is_ours =
            hook.revision == self.order.revision && self.stage.hook_on.as_ref() == Some(node);
        if !is_ours || !is_awaited {
            return;
        }
        match hook.outcome {
            HookOutcome::Underway => {}
            HookOutcome::Succeeded => {
                match hook.kind {
                    HookKind::PreDeploy => self.stage.pre_done = true,
                    HookKind::PostDeploy => self.stage.post_done = true,
                }
                self.end_hook(actions);
            }
            HookOutcome::Failed => {
                self.end_hook(actions);
                let why = hook.message.as_deref().unwrap_or("it failed");
                let message = format!("{node}: {why}");
                self.fail(hook.reason.or(Some(Reason::HookFailed)), &message, actions);
            }
        }
    }

    pub(super) fn end_hook(&mut self, actions: &mut Vec<FleetAction>) {
        if let Some(node) = self.stage.hook_on.take() {
            actions.push(FleetAction::EndHook(node));
        }
    }
}
