//! The API as the command line uses it: one method per request, errors that say what to do.

use std::path::PathBuf;
use std::time::Duration;

use protocol::id::{EnvironmentName, ServiceId};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{LONG_POLL, Problem, Token};
use crate::data_dir::DataDir;
use crate::state::requests::{Accepted, Deploy, PlanRequest, Promote, Scale, Steer, Undo};
use crate::state::shown::{
    Deployed, DifferenceShown, EventsShown, FleetShown, HistoryShown, NodesShown, PlanShown,
    PsShown, RemovalShown, Removed, RolloutShown,
};

/// An answer that takes longer than this, the long poll included, will not come.
const ANSWER_TIMEOUT: Duration = LONG_POLL.saturating_add(Duration::from_secs(15));

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error(
        "no coordinator at {socket}; start one with `pith dev --data DIR` or `pith serve --data DIR`, \
         or name its folder with --data or PITH_DATA"
    )]
    Unreachable {
        /// Where it was looked for.
        socket: PathBuf,
    },
    /// It was there and broke off.
    #[error("the coordinator did not answer: {0}")]
    Broken(String),
    /// It said no.
    #[error("{}", .0.message)]
    Refused(Problem),
}

/// Speaks to the coordinator of a data folder.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    /// For the coordinator of this folder; nothing is sent yet.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(data: &DataDir) -> Result<Self, ClientError> {
        let socket = data.socket();
        let http = reqwest::Client::builder()
            .unix_socket(socket.as_path())
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|e| ClientError::Broken(chain(&e)))?;
        Ok(Self { http, socket })
    }

    /// The fleet at a glance.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all that follow.
    pub async fn fleet(&self) -> Result<FleetShown, ClientError> {
        self.get("fleet", &[]).await
    }

    /// Nodes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn nodes(
        &self,
        environment: Option<&EnvironmentName>,
    ) -> Result<NodesShown, ClientError> {
        self.get("nodes", &[("environment", environment.map(ToString::to_string))]).await
    }

    /// A broker token for a node.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn token(&self, node: &str) -> Result<Token, ClientError> {
        self.send(Method::POST, &format!("nodes/{node}/token"), &[], Some(&())).await
    }

    /// Services; waits for something newer than `after`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn services(
        &self,
        environment: Option<&EnvironmentName>,
        after: Option<u64>,
    ) -> Result<PsShown, ClientError> {
        let environment = environment.map(ToString::to_string);
        self.get("services", &[("environment", environment), ("after", number(after))]).await
    }

    /// What is deployed, with files and specs.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deployed(&self, environment: &EnvironmentName) -> Result<Deployed, ClientError> {
        self.get(&format!("environments/{environment}/deployed"), &[]).await
    }

    /// Deploys.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deploy(&self, request: &Deploy) -> Result<Accepted, ClientError> {
        self.send(Method::POST, "deploys", &[], Some(request)).await
    }

    /// What a deploy would change.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn plan(&self, request: &PlanRequest) -> Result<PlanShown, ClientError> {
        self.send(Method::POST, "plans", &[], Some(request)).await
    }

    /// A rollout; waits for something newer than `after`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rollout(
        &self,
        id: &ServiceId,
        revision: Option<u64>,
        after: Option<u64>,
    ) -> Result<RolloutShown, ClientError> {
        let path = format!("rollouts/{id}");
        self.get(&path, &[("revision", number(revision)), ("after", number(after))]).await
    }

    /// Revisions of a service.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn history(&self, id: &ServiceId) -> Result<HistoryShown, ClientError> {
        self.get(&format!("rollouts/{id}/history"), &[]).await
    }

    /// Goes back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn undo(&self, id: &ServiceId, request: &Undo) -> Result<Accepted, ClientError> {
        self.send(Method::POST, &format!("rollouts/{id}/undo"), &[], Some(request)).await
    }

    /// Starts every instance anew.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn restart(&self, id: &ServiceId, request: &Undo) -> Result<Accepted, ClientError> {
        self.send(Method::POST, &format!("rollouts/{id}/restart"), &[], Some(request)).await
    }

    /// Holds, promotes or ends a rollout under way.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn steer(&self, id: &ServiceId, request: &Steer) -> Result<Accepted, ClientError> {
        self.send(Method::POST, &format!("rollouts/{id}/steer"), &[], Some(request)).await
    }

    /// What two revisions say differently.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn difference(
        &self,
        id: &ServiceId,
        from: u64,
        to: u64,
    ) -> Result<DifferenceShown, ClientError> {
        let query = [("from", number(Some(from))), ("to", number(Some(to)))];
        self.get(&format!("rollouts/{id}/diff"), &query).await
    }

    /// Rolls one environment's release out in another.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn promote(&self, request: &Promote) -> Result<Accepted, ClientError> {
        self.send(Method::POST, "promotions", &[], Some(request)).await
    }

    /// Sets a count.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn scale(&self, id: &ServiceId, request: &Scale) -> Result<Accepted, ClientError> {
        self.send(Method::POST, &format!("services/{id}/scale"), &[], Some(request)).await
    }

    /// Removes a service.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove(&self, id: &ServiceId) -> Result<Removed, ClientError> {
        self.send::<(), _>(Method::DELETE, &format!("services/{id}"), &[], None).await
    }

    /// How far a removal is; waits for something newer than `after`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn removal(
        &self,
        id: &ServiceId,
        after: Option<u64>,
    ) -> Result<RemovalShown, ClientError> {
        self.get(&format!("removals/{id}"), &[("after", number(after))]).await
    }

    /// What happened since the event `newer_than`; waits for something newer than `after`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(
        &self,
        of: Option<&ServiceId>,
        newer_than: u64,
        after: Option<u64>,
    ) -> Result<EventsShown, ClientError> {
        let query = [
            ("environment", of.map(|id| id.environment.to_string())),
            ("service", of.map(|id| id.name.to_string())),
            ("newer_than", Some(newer_than.to_string())),
            ("after", number(after)),
        ];
        self.get("events", &query).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> Result<T, ClientError> {
        self.send::<(), T>(Method::GET, path, query, None).await
    }

    /// The parts of a query are ids and numbers: nothing in them needs escaping.
    async fn send<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, Option<String>)],
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let pairs = query.iter().filter_map(|(k, v)| Some(format!("{k}={}", v.as_ref()?)));
        let pairs: Vec<String> = pairs.collect();
        let mut url = format!("http://pith/v1/{path}");
        if !pairs.is_empty() {
            url = format!("{url}?{}", pairs.join("&"));
        }
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let broken = |e: reqwest::Error| ClientError::Broken(chain(&e));
        let answer = request.send().await.map_err(|error| match error.is_connect() {
            true => ClientError::Unreachable { socket: self.socket.clone() },
            false => broken(error),
        })?;
        if answer.status().is_success() {
            return answer.json().await.map_err(broken);
        }
        let status = answer.status();
        let text = answer.text().await.map_err(broken)?;
        let problem = serde_json::from_str(&text)
            .unwrap_or_else(|_| Problem { code: status.as_str().to_owned(), message: text });
        Err(ClientError::Refused(problem))
    }
}

fn number(value: Option<u64>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
