//! What people are told of without asking: made where it happens, given away with the effects of a step, kept nowhere.

use std::collections::BTreeSet;

use protocol::id::{EnvironmentName, NodeId, NodeName, ServiceId, ServiceName};
use protocol::reason::Reason;
use serde::{Deserialize, Serialize};

use planner::fleet::RolloutState;

use super::{At, Node, State};

/// A node that went longer ago than this, before the coordinator started, is not told as lost.
const ABSENCE_IS_NEWS_MS: u64 = 24 * 60 * 60 * 1000;

/// Something that somebody may want to be woken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What happened.
    pub kind: NoticeKind,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Where; none: it concerns the coordinator.
    pub environment: Option<EnvironmentName>,
    /// Of this service.
    pub service: Option<ServiceName>,
    /// Of this revision of it.
    pub revision: Option<u64>,
    /// On this node.
    pub node: Option<NodeName>,
    /// Why, as a stable code.
    pub reason: Option<Reason>,
    /// One sentence for a person.
    pub message: String,
}

/// Kinds of notices; `on` of a target in coordinator.toml names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A rollout stopped, or a person aborted it.
    RolloutFailed,
    /// A rollout went back by itself.
    RolledBack,
    /// A rollout waits for `pith rollout promote`.
    AwaitingPromotion,
    /// A rollout succeeded. Only where it is asked for.
    RolloutSucceeded,
    /// A node is gone; told once it has been for a while.
    NodeLost,
    /// A node is heard of, again or for the first time; told of those alone that were told to be lost.
    NodeBack,
    /// A node says that something is wrong with it as a whole.
    NodeAlarm,
    /// A node took back a version of the agent.
    AgentReverted,
    /// A board found a problem in its daily look at itself that it had not before.
    DoctorFinding,
    /// The nightly backup was not made.
    BackupFailed,
    /// `pith notify test`.
    Test,
}

impl NoticeKind {
    /// Whether targets get it that name no kinds.
    #[must_use]
    pub const fn is_told_unasked(self) -> bool {
        match self {
            Self::RolloutSucceeded => false,
            Self::RolloutFailed
            | Self::RolledBack
            | Self::AwaitingPromotion
            | Self::NodeLost
            | Self::NodeBack
            | Self::NodeAlarm
            | Self::AgentReverted
            | Self::DoctorFinding
            | Self::BackupFailed
            | Self::Test => true,
        }
    }

    /// What a rollout that enters this state is to people; none: nothing to be woken for.
    #[must_use]
    pub const fn of_rollout(state: RolloutState) -> Option<Self> {
        match state {
            RolloutState::Failed | RolloutState::Aborted => Some(Self::RolloutFailed),
            RolloutState::RolledBack => Some(Self::RolledBack),
            RolloutState::AwaitingPromotion => Some(Self::AwaitingPromotion),
            RolloutState::Succeeded => Some(Self::RolloutSucceeded),
            RolloutState::Pending
            | RolloutState::InProgress
            | RolloutState::Paused
            | RolloutState::RollingBack
            | RolloutState::Superseded => None,
        }
    }
}

impl State {
    pub(super) fn notice_rollout(
        &mut self,
        id: &ServiceId,
        (number, state): (u64, RolloutState),
        at: At,
    ) {
        let Some(kind) = NoticeKind::of_rollout(state) else { return };
        let revision = self.services.get(id).and_then(|service| service.revisions.get(&number));
        let Some(revision) = revision else { return };
        self.effects.notices.push(Notice {
            kind,
            at_ms: at.unix_ms,
            environment: Some(id.environment.clone()),
            service: Some(id.name.clone()),
            revision: Some(number),
            node: None,
            reason: revision.reason,
            message: revision.message.clone(),
        });
    }

    pub(super) fn notice_node(
        &mut self,
        id: &NodeId,
        kind: NoticeKind,
        (reason, message): (Option<Reason>, &str),
        at: At,
    ) {
        let Some(node) = self.nodes.get(id) else { return };
        let notice = Notice {
            kind,
            at_ms: at.unix_ms,
            environment: Some(node.record.environment.clone()),
            service: None,
            revision: None,
            node: Some(node.record.name.clone()),
            reason,
            message: message.to_owned(),
        };
        self.effects.notices.push(notice);
    }

    /// After a start: which nodes are away that may have gone shortly before it, untold. One that has been away for long is no news.
    pub(super) fn notice_absent(&mut self, at: At) {
        let is_recent = |heard_ms: u64| at.unix_ms.saturating_sub(heard_ms) < ABSENCE_IS_NEWS_MS;
        let absent = self.nodes.values().map(|node| &node.record).filter(|record| {
            !record.online && is_recent(record.heard_ms) && self.is_admitted(&record.id)
        });
        let absent: Vec<NodeId> = absent.map(|record| record.id.clone()).collect();
        let why = (Some(Reason::NodeOffline), "it was away when the coordinator started");
        for id in &absent {
            self.notice_node(id, NoticeKind::NodeLost, why, at);
        }
    }

    /// Nodes that may be asked to look at themselves: those that are heard of and pay nothing for each byte.
    #[must_use]
    pub fn to_examine(&self) -> Vec<NodeId> {
        let may = |node: &&Node| node.record.online && !node.record.metered;
        let ids = self.nodes.values().filter(may).map(|node| node.record.id.clone());
        ids.filter(|id| self.is_admitted(id)).collect()
    }

    /// All of which something is known.
    #[must_use]
    pub fn known_nodes(&self) -> BTreeSet<NodeId> {
        self.nodes.keys().cloned().collect()
    }

    /// A board has found problems that it did not have before, in one sentence.
    pub fn found_problems(&mut self, id: &NodeId, what: &str, at: At) {
        self.note_node(id, format!("doctor: {what}"), at);
        self.notice_node(id, NoticeKind::DoctorFinding, (None, what), at);
    }

    /// Tells people something of the coordinator itself.
    pub fn notice_fleet(&mut self, kind: NoticeKind, message: &str, at: At) {
        self.effects.notices.push(Notice {
            kind,
            at_ms: at.unix_ms,
            environment: None,
            service: None,
            revision: None,
            node: None,
            reason: None,
            message: message.to_owned(),
        });
    }
}
