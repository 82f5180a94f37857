//! Releases of the agent.

use protocol::id::Digest;
use reqwest::Method;

use super::{Client, ClientError, number};
use crate::state::requests::{AddAgentRelease, AgentSteer, RollAgent};
use crate::state::shown::AgentsShown;

impl Client {
    /// Releases of the agent, and where the rollout stands; waits for something newer than `after`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn agents(&self, after: Option<u64>) -> Result<AgentsShown, ClientError> {
        self.get("agent/releases", &[("after", number(after))]).await
    }

    /// Sends a program, before the release that names it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send_program(&self, digest: &Digest, bytes: Vec<u8>) -> Result<(), ClientError> {
        let path = format!("agent/programs/{}", digest.hex());
        self.bytes(Method::POST, path, Some(bytes)).await.map(|_| ())
    }

    /// Keeps a signed release.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_agent_release(
        &self,
        asked: &AddAgentRelease,
    ) -> Result<AgentsShown, ClientError> {
        self.send(Method::POST, "agent/releases", &[], Some(asked)).await
    }

    /// Brings nodes to a release.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn roll_agent(&self, asked: &RollAgent) -> Result<AgentsShown, ClientError> {
        self.send(Method::POST, "agent/rollout", &[], Some(asked)).await
    }

    /// Holds the rollout, or lets it go on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn steer_agents(&self, asked: AgentSteer) -> Result<AgentsShown, ClientError> {
        self.send(Method::POST, "agent/rollout/steer", &[], Some(&asked)).await
    }
}
