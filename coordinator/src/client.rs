//! The API as the command line uses it: one method per request, errors that say what to do.

mod agents;
mod archives;
mod asking;
mod people;
mod replacing;
mod secrets;
mod streams;
mod way;
mod whereabouts;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::envelope::Envelope;
use protocol::id::{EnvironmentName, NodeName, ServiceId};
use protocol::join::Token;
use reqwest::Method;
use serde::de::DeserializeOwned;

use crate::api::{LONG_POLL, NotifyShown, Problem};
use crate::backup::BackupShown;
use crate::data_dir::DataDir;
use crate::login::Credentials;
use crate::state::reconcile::Reconcile;
use crate::state::requests::{
    Accepted, Deploy, NewToken, PlanRequest, Promote, RestartOn, Retire, Scale, SteerRequest, Undo,
};
use crate::state::shown::{
    Deployed, DifferenceShown, EventsShown, FleetShown, HistoryShown, MemberShown, NodesShown,
    PlanShown, PsShown, ReconcileShown, RemovalShown, Removed, RetiredShown, RevokedCertificates,
    RevokedShown, RolloutShown, RootShown, TokenShown,
};
use crate::state::views::EventFilter;
pub use streams::{ALIVE_EVERY, Events, Keys, Lines};
use way::Way;

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
    /// The socket is not for this user.
    #[error(
        "you may not use {socket}: it is for root, the user that runs the coordinator, and, where coordinator.toml names one, \
         the members of [api] group on a socket of their own (--socket or PITH_SOCKET)"
    )]
    Denied {
        /// Which.
        socket: PathBuf,
    },
    /// Nobody answers from afar.
    #[error("no coordinator answers at {addresses}: {problem}")]
    Away {
        /// Where it was looked for.
        addresses: String,
        /// What happened there.
        problem: String,
    },
    /// Somebody else answers.
    #[error(
        "what answers at {addresses} is not the coordinator of this fleet ({problem}); nothing was sent to it: check the \
         address, and who answers there"
    )]
    Distrust {
        /// Where.
        addresses: String,
        /// What is wrong with its certificate.
        problem: String,
    },
    /// It was there and broke off.
    #[error("the coordinator did not answer: {0}")]
    Broken(String),
    /// It said no.
    #[error("{}", .0.message)]
    Refused(Problem),
}

/// Speaks to one coordinator.
#[derive(Debug, Clone)]
pub struct Client {
    way: Arc<Way>,
}

impl Client {
    /// For the coordinator of this folder; nothing is sent yet.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(data: &DataDir) -> Result<Self, ClientError> {
        Self::at_socket(&data.socket())
    }

    /// For the coordinator behind this socket.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn at_socket(socket: &Path) -> Result<Self, ClientError> {
        Ok(Self { way: Arc::new(Way::socket(socket)?) })
    }

    /// For a coordinator elsewhere, as somebody who has logged in.
    ///
    /// # Errors
    /// Where what the login left is damaged.
    pub fn operator(own: &Credentials) -> Result<Self, ClientError> {
        Ok(Self { way: Arc::new(Way::operator(own)?) })
    }

    /// For a coordinator elsewhere, as somebody who is invited.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn stranger(token: &Token) -> Result<Self, ClientError> {
        Ok(Self { way: Arc::new(Way::stranger(token)?) })
    }

    /// The fleet at a glance.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all that follow.
    pub async fn fleet(&self) -> Result<FleetShown, ClientError> {
        self.get("fleet", &[]).await
    }

    /// The trust root in effect.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn root(&self) -> Result<RootShown, ClientError> {
        self.get("root", &[]).await
    }

    /// Puts the next trust root in effect.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn succeed(&self, root: &Envelope) -> Result<RootShown, ClientError> {
        self.send(Method::POST, "root", &[], Some(root)).await
    }

    /// What nodes in conflict would be told.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reconciliation(&self) -> Result<ReconcileShown, ClientError> {
        self.get("reconciliation", &[]).await
    }

    /// Lets nodes drop services that only they know of.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reconcile(&self, confirmed: &Reconcile) -> Result<ReconcileShown, ClientError> {
        self.send(Method::POST, "reconciliation", &[], Some(confirmed)).await
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

    /// Nodes with their load in detail: they are told that somebody looks. Waits for something newer than `after`, for a while.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn watched_nodes(
        &self,
        environment: Option<&EnvironmentName>,
        after: Option<u64>,
    ) -> Result<NodesShown, ClientError> {
        let environment = environment.map(ToString::to_string);
        let after = after.map(|version| version.to_string());
        let query =
            [("environment", environment), ("watch", Some("true".to_owned())), ("after", after)];
        self.get("nodes", &query).await
    }

    /// Who is told what happens.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn notify_targets(&self) -> Result<NotifyShown, ClientError> {
        self.get("notifications", &[]).await
    }

    /// Tells all of them that nothing happened.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn notify_test(&self) -> Result<NotifyShown, ClientError> {
        self.send(Method::POST, "notifications/test", &[], Some(&())).await
    }

    /// What the API answers to a request that looks, as it came.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn document(&self, path: &str) -> Result<serde_json::Value, ClientError> {
        self.get(path, &[]).await
    }

    /// A token to join with.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn token(&self, wish: &NewToken) -> Result<TokenShown, ClientError> {
        self.send(Method::POST, "tokens", &[], Some(wish)).await
    }

    /// Lets a node in.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn approve(&self, who: &str) -> Result<MemberShown, ClientError> {
        self.send(Method::POST, &format!("nodes/{}/approve", named(who)?), &[], Some(&())).await
    }

    /// Refuses a node for ever.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke(&self, who: &str) -> Result<RevokedShown, ClientError> {
        self.send(Method::POST, &format!("nodes/{}/revoke", named(who)?), &[], Some(&())).await
    }

    /// Certificates that an external broker must refuse.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoked_certificates(&self) -> Result<RevokedCertificates, ClientError> {
        self.get("revoked-certificates", &[]).await
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

    /// Starts every instance on one node anew.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn restart_on(&self, id: &ServiceId, node: &NodeName) -> Result<(), ClientError> {
        let request = RestartOn { node: node.clone() };
        self.send(Method::POST, &format!("services/{id}/restart"), &[], Some(&request)).await
    }

    /// Holds, promotes or ends a rollout under way.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn steer(
        &self,
        id: &ServiceId,
        request: &SteerRequest,
    ) -> Result<Accepted, ClientError> {
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

    /// Raises the security floor of a service.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn retire(&self, request: &Retire) -> Result<RetiredShown, ClientError> {
        self.send(Method::POST, "retirements", &[], Some(request)).await
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

    /// What happened, oldest first, the newest of it where there is more than is wanted; waits for something newer than `after`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(
        &self,
        filter: &EventFilter,
        after: Option<u64>,
    ) -> Result<EventsShown, ClientError> {
        let service = filter.service.as_ref();
        let query = [
            ("environment", service.map(|id| id.environment.to_string())),
            ("service", service.map(|id| id.name.to_string())),
            ("node", filter.node.as_ref().map(ToString::to_string)),
            ("since_ms", number(Some(filter.since_ms))),
            ("limit", (filter.limit > 0).then(|| filter.limit.to_string())),
            ("newer_than", number(Some(filter.after))),
            ("after", number(after)),
        ];
        self.get("events", &query).await
    }

    /// A backup: the bytes of the sealed file.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn backup(&self) -> Result<Vec<u8>, ClientError> {
        self.bytes(Method::GET, "backup".to_owned(), None).await
    }

    /// One backup more, in the coordinator's folder of backups.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn keep_backup(&self) -> Result<BackupShown, ClientError> {
        self.send(Method::POST, "backups", &[], Some(&())).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> Result<T, ClientError> {
        self.send::<(), T>(Method::GET, path, query, None).await
    }
}

/// What a person typed as a node's name, fit for a path: nothing else can be one.
fn named(who: &str) -> Result<&str, ClientError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !who.is_empty() && who.chars().all(fits) {
        return Ok(who);
    }
    let shown: String = who.chars().take(64).flat_map(char::escape_default).collect();
    let message = format!("`{shown}` is not a node's name or id; `pith node ls` lists them");
    Err(ClientError::Refused(Problem { code: "no_node".to_owned(), message }))
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
