//! Releases of the agent, and bringing nodes to one: in batches, as `planner::fleet::agents` says.
//!
//! A release is signed where its key is; here it is verified, kept, and told to nodes as it is. They verify it again: this coordinator
//! can only choose among those that were signed, and no node goes below what it confirmed.

use std::collections::{BTreeMap, BTreeSet};

use planner::fleet::agents::{self, AgentNode, Next, Standing};
use protocol::agent_release::{self, AgentUpdate, Program, UpdatePhase};
use protocol::id::NodeId;
use serde::{Deserialize, Serialize};

use super::heard::printable;
use super::notices::NoticeKind;
use super::records::{AgentReleaseRecord, AgentRollout, AgentRolloutState, Change};
use super::requests::{AddAgentRelease, AgentSteer, Refused, RollAgent};
use super::shown::{AgentNodeShown, AgentReleaseShown, AgentRolloutShown, AgentsShown};
use super::{At, Node, State, natural};

/// Releases that are kept.
const MAX_RELEASES: usize = 10;

/// What became of a node's agent, as `pith node ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentTarget {
    /// The version that it is brought to.
    pub version: String,
    /// `waiting`, `told`, or as the node says it: `downloading`, `trying`, `reverted`, `refused`.
    pub phase: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl State {
    /// Keeps a release of the agent whose programs are here.
    ///
    /// # Errors
    /// [`Refused::AgentRelease`], [`Refused::OldAgentCounter`], [`Refused::NoAgentProgram`].
    pub fn add_agent_release(
        &mut self,
        asked: AddAgentRelease,
        is_here: impl Fn(&Program) -> bool,
        at: At,
    ) -> Result<AgentsShown, Refused> {
        let bytes = asked.release.to_bytes();
        let release = agent_release::accept(&bytes, &self.director.root);
        let release = release.map_err(Refused::AgentRelease)?.into_inner();
        let newest = self.agents.releases.last().map_or(0, |known| known.release.counter);
        if release.counter <= newest {
            return Err(Refused::OldAgentCounter { found: release.counter, newest });
        }
        if let Some((platform, _)) = release.platforms.iter().find(|(_, one)| !is_here(one)) {
            return Err(Refused::NoAgentProgram(platform.clone()));
        }
        let platforms: Vec<&str> = release.platforms.keys().map(String::as_str).collect();
        let (version, by) = (&release.version, printable(&asked.by));
        self.note_fleet(
            format!("agent {version} for {} was released by {by}", platforms.join(", ")),
            at,
        );
        self.agents.releases.push(AgentReleaseRecord {
            envelope: asked.release,
            release,
            added_ms: at.unix_ms,
            by,
            confirmed: false,
        });
        let needed = self.agents.rollout.as_ref().map(|rollout| rollout.counter);
        while self.agents.releases.len() > MAX_RELEASES {
            let oldest =
                self.agents.releases.iter().position(|of| Some(of.release.counter) != needed);
            self.agents.releases.remove(oldest.unwrap_or(0));
        }
        self.keep_agents();
        Ok(self.show_agents(at))
    }

    /// Brings nodes to a release from now on.
    ///
    /// # Errors
    /// [`Refused::NoAgentRelease`], [`Refused::OlderAgent`].
    pub fn roll_agent(&mut self, asked: RollAgent, at: At) -> Result<AgentsShown, Refused> {
        let releases = &self.agents.releases;
        let meant = match &asked.version {
            Some(version) => releases.iter().rfind(|of| of.release.version.to_string() == *version),
            None => releases.last(),
        };
        let Some(meant) = meant else {
            let known = releases.iter().map(|of| of.release.version.to_string());
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(Refused::NoAgentRelease {
                version: asked.version.unwrap_or_default(),
                known,
            });
        };
        let (counter, version) = (meant.release.counter, meant.release.version.clone());
        let before = self.agents.rollout.as_ref().map_or(0, |rollout| rollout.counter);
        if counter < before {
            return Err(Refused::OlderAgent(version.to_string()));
        }
        let (told, let_go) = match self.agents.rollout.take() {
            Some(before) if before.counter == counter => (before.told, before.let_go),
            Some(_) | None => (BTreeMap::new(), BTreeSet::new()),
        };
        let by = printable(&asked.by);
        self.note_fleet(format!("nodes are brought to agent {version}, as {by} asked"), at);
        self.agents.rollout = Some(AgentRollout {
            counter,
            batch: asked.batch.max(1),
            state: AgentRolloutState::Active,
            why: None,
            told,
            let_go,
            started_ms: at.unix_ms,
            by,
        });
        self.go_on_with_agents(at);
        self.keep_agents();
        Ok(self.show_agents(at))
    }

    /// Holds, or lets go on: then also past a node that took it back.
    ///
    /// # Errors
    /// [`Refused::NoAgentRollout`].
    pub fn steer_agents(&mut self, asked: AgentSteer, at: At) -> Result<AgentsShown, Refused> {
        let rollout = self.agents.rollout.as_mut().ok_or(Refused::NoAgentRollout)?;
        let (state, text) = match asked {
            AgentSteer::Pause => (AgentRolloutState::Paused, "no more nodes are told of it"),
            AgentSteer::Resume => (AgentRolloutState::Active, "more nodes are told of it"),
        };
        (rollout.state, rollout.why) = (state, None);
        self.note_fleet(format!("rollout of the agent: {text}"), at);
        if asked == AgentSteer::Resume {
            self.forgive_agents();
            self.go_on_with_agents(at);
        }
        self.keep_agents();
        Ok(self.show_agents(at))
    }

    /// The signed release that a node is to have; none where it is not its turn.
    #[must_use]
    pub fn agent_release_for(&self, node: &NodeId) -> Option<Vec<u8>> {
        let rollout = self.agents.rollout.as_ref()?;
        rollout.told.get(node)?;
        Some(self.agent_release(rollout.counter)?.envelope.to_bytes())
    }

    /// Time has passed, or a node was heard: who is told next.
    pub(super) fn go_on_with_agents(&mut self, at: At) {
        let Some(rollout) = self.agents.rollout.clone() else { return };
        if rollout.state != AgentRolloutState::Active {
            return;
        }
        let nodes = self.agent_nodes(&rollout, at);
        match agents::next(&nodes, rollout.batch as usize) {
            Next::Wait | Next::Done { .. } => {}
            Next::Tell(names) => {
                let ids: Vec<NodeId> = names.iter().filter_map(|name| self.id_of(name)).collect();
                if let Some(rollout) = &mut self.agents.rollout {
                    rollout.told.extend(ids.iter().map(|id| (id.clone(), at.unix_ms)));
                }
                self.effects.publish_agents.extend(ids);
                self.keep_agents();
            }
            Next::Stop { node, why } => {
                let why = format!("{node}: {why}");
                if let Some(rollout) = &mut self.agents.rollout {
                    (rollout.state, rollout.why) = (AgentRolloutState::Failed, Some(why.clone()));
                }
                let text = format!(
                    "the rollout of the agent stops: {why}; `pith agent resume` goes on without that node"
                );
                self.note_fleet(text, at);
                self.keep_agents();
            }
        }
    }

    /// A node that has said hello and is not done with what it was told.
    pub(super) fn remind_of_agent(&mut self, id: &NodeId) {
        let Some(rollout) = &self.agents.rollout else { return };
        let update = self.nodes.get(id).and_then(|node| node.agent_update(rollout.counter));
        let is_done = update.is_some_and(|update| update.phase.is_final());
        if rollout.told.contains_key(id) && !is_done {
            self.effects.publish_agents.insert(id.clone());
        }
    }

    /// A report that says something new of an agent is an event.
    pub(super) fn note_agent_update(
        &mut self,
        id: &NodeId,
        before: Option<&AgentUpdate>,
        now: Option<&AgentUpdate>,
        at: At,
    ) {
        let Some(now) = now else { return };
        let is_same =
            |before: &AgentUpdate| (before.counter, before.phase) == (now.counter, now.phase);
        if !before.is_some_and(is_same) {
            let why =
                now.why.as_deref().map_or(String::new(), |why| format!(": {}", printable(why)));
            let message = format!("agent {} {}{why}", now.version, now.phase.as_str());
            if now.phase == UpdatePhase::Reverted {
                self.notice_node(id, NoticeKind::AgentReverted, (None, &message), at);
            }
            self.note_node(id, message, at);
        }
        if now.phase == UpdatePhase::Confirmed {
            self.note_confirmed(now.counter);
        }
        self.go_on_with_agents(at);
    }

    fn note_confirmed(&mut self, counter: u64) {
        let release = self.agents.releases.iter_mut().find(|of| of.release.counter == counter);
        if let Some(release) = release.filter(|of| !of.confirmed) {
            release.confirmed = true;
            self.keep_agents();
        }
    }

    /// What people see of a node's agent; none: it is where it should be.
    pub(super) fn agent_target(&self, id: &NodeId) -> Option<AgentTarget> {
        let rollout = self.agents.rollout.as_ref()?;
        let release = &self.agent_release(rollout.counter)?.release;
        let node = self.nodes.get(id)?;
        let update = node.agent_update(rollout.counter);
        if update.is_some_and(|update| update.phase == UpdatePhase::Confirmed) {
            return None;
        }
        let phase = match update {
            Some(update) => update.phase.as_str(),
            None if rollout.told.contains_key(id) => "told",
            None if !release.platforms.contains_key(&node.record.capacity.architecture) => {
                return None;
            }
            None => "waiting",
        };
        let why = update.and_then(|update| update.why.as_deref()).map(printable);
        Some(AgentTarget { version: release.version.to_string(), phase: phase.to_owned(), why })
    }

    /// Releases, and where the rollout stands.
    #[must_use]
    pub fn show_agents(&self, at: At) -> AgentsShown {
        let releases = self.agents.releases.iter().rev().map(|of| AgentReleaseShown {
            version: of.release.version.to_string(),
            counter: of.release.counter,
            platforms: of.release.platforms.keys().cloned().collect(),
            added_ms: of.added_ms,
            by: of.by.clone(),
            confirmed: of.confirmed,
            release: of.release.clone(),
        });
        let rollout =
            self.agents.rollout.as_ref().and_then(|rollout| self.show_agent_rollout(rollout, at));
        AgentsShown { version: self.version, releases: releases.collect(), rollout }
    }

    fn show_agent_rollout(&self, rollout: &AgentRollout, at: At) -> Option<AgentRolloutShown> {
        let release = &self.agent_release(rollout.counter)?.release;
        let standings = self.agent_nodes(rollout, at);
        let nodes: Vec<AgentNodeShown> = standings
            .iter()
            .filter_map(|of| {
                let node = self.node_named(&of.name)?;
                let target = self.agent_target(&node.record.id);
                let phase = match (&target, &of.standing) {
                    (_, Standing::NotForIt) => "no program for it".to_owned(),
                    (Some(target), Standing::LetGo) => format!("{}, let go", target.phase),
                    (Some(target), _) => target.phase.clone(),
                    (None, _) => "confirmed".to_owned(),
                };
                Some(AgentNodeShown {
                    node: of.name.to_string(),
                    online: of.is_online,
                    agent_version: printable(&node.record.agent_version),
                    phase,
                    why: target.and_then(|target| target.why),
                })
            })
            .collect();
        let state = match (rollout.state, agents::next(&standings, 1)) {
            (AgentRolloutState::Paused, _) => "paused",
            (AgentRolloutState::Failed, _) => "failed",
            (AgentRolloutState::Active, Next::Done { pending: 0 }) => "succeeded",
            (AgentRolloutState::Active, Next::Done { .. }) => "pending",
            (AgentRolloutState::Active, Next::Tell(_) | Next::Wait | Next::Stop { .. }) => {
                "in_progress"
            }
        };
        Some(AgentRolloutShown {
            version: release.version.to_string(),
            counter: rollout.counter,
            batch: rollout.batch,
            state: state.to_owned(),
            why: rollout.why.clone(),
            by: rollout.by.clone(),
            started_ms: rollout.started_ms,
            nodes,
        })
    }

    /// Every admitted node that was heard, in the order in which they move.
    fn agent_nodes(&self, rollout: &AgentRollout, at: At) -> Vec<AgentNode> {
        let release = self.agent_release(rollout.counter).map(|of| &of.release);
        let admitted = self.nodes.values().filter(|node| self.is_admitted(&node.record.id));
        let of_node = |node: &Node| {
            let record = &node.record;
            let has_program = release.is_some_and(|release| {
                release.platforms.contains_key(&record.capacity.architecture)
            });
            let told = rollout.told.get(&record.id);
            let update = node.agent_update(rollout.counter);
            let told_since =
                |told: u64| Standing::Told { since_ms: at.unix_ms.saturating_sub(told) };
            let standing = match (update, told) {
                (Some(update), told) => match update.phase {
                    UpdatePhase::Confirmed => Standing::Confirmed,
                    UpdatePhase::Reverted | UpdatePhase::Refused
                        if rollout.let_go.contains(&record.id) =>
                    {
                        Standing::LetGo
                    }
                    UpdatePhase::Reverted | UpdatePhase::Refused => {
                        let why = update.why.as_deref().map_or_else(String::new, printable);
                        Standing::Failed(format!("{} ({why})", update.phase.as_str()))
                    }
                    UpdatePhase::Downloading | UpdatePhase::Trying => {
                        told_since(told.copied().unwrap_or(at.unix_ms))
                    }
                },
                (None, _) if !has_program => Standing::NotForIt,
                (None, Some(told)) => told_since(*told),
                (None, None) => Standing::Behind,
            };
            AgentNode { name: record.name.clone(), is_online: record.online, standing }
        };
        let mut nodes: Vec<AgentNode> = admitted.map(of_node).collect();
        nodes.sort_by_key(|node| natural(node.name.as_str()));
        nodes
    }

    /// Nodes that took it back stop it no more.
    fn forgive_agents(&mut self) {
        let Some(rollout) = self.agents.rollout.as_mut() else { return };
        for (id, node) in &self.nodes {
            let update = node.agent_update(rollout.counter);
            let is_failed = update.is_some_and(|update| match update.phase {
                UpdatePhase::Reverted | UpdatePhase::Refused => true,
                UpdatePhase::Downloading | UpdatePhase::Trying | UpdatePhase::Confirmed => false,
            });
            if is_failed {
                rollout.let_go.insert(id.clone());
            }
        }
    }

    fn agent_release(&self, counter: u64) -> Option<&AgentReleaseRecord> {
        self.agents.releases.iter().find(|of| of.release.counter == counter)
    }

    fn keep_agents(&mut self) {
        self.effects.changes.push(Change::Agents(Box::new(self.agents.clone())));
    }

    /// Digests of the programs that releases name: no other needs to be kept.
    #[must_use]
    pub fn agent_programs(&self) -> Vec<protocol::id::Digest> {
        let releases = self.agents.releases.iter();
        releases
            .flat_map(|of| of.release.platforms.values().map(|one| one.digest.clone()))
            .collect()
    }
}

impl Node {
    /// What the node says of the release with this counter.
    fn agent_update(&self, counter: u64) -> Option<&AgentUpdate> {
        let update = self.record.report.as_ref()?.agent_update.as_ref()?;
        (update.counter == counter).then_some(update)
    }
}
