//! A coordinator in this process: broker, store, loop and API, started in order and ended in the reverse.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::api::{self, Api, Serving};
use crate::broker::{self, Broker, BrokerConfig, Credentials};
use crate::data_dir::{DataDir, DataDirError, Key};
use crate::event_loop::{EventLoop, Fleet, at};
use crate::link::{self, LinkConfig};
use crate::state::{Director, Policy, State};
use crate::store::{Store, StoreError};

/// Manifests still on their way get this long at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Which broker.
#[derive(Debug, Clone)]
pub enum BrokerChoice {
    /// Ours, in this process.
    Embedded {
        /// Where it listens.
        listen: SocketAddr,
    },
    /// Somebody else's.
    External(LinkConfig),
}

/// Why the coordinator did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The folder.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The embedded broker.
    #[error(transparent)]
    Broker(#[from] broker::BrokerError),
    /// The token is too short.
    #[error(transparent)]
    Token(#[from] broker::InvalidToken),
    /// The socket.
    #[error(transparent)]
    Api(#[from] api::ServeError),
    /// The loop ended by itself.
    #[error("the coordinator's loop ended unexpectedly")]
    Ended,
}

/// A coordinator that runs.
#[derive(Debug)]
pub struct Coordinator {
    fleet: Fleet,
    credentials: Option<Credentials>,
    broker: Option<Broker>,
    session: mqtt::Handle,
    serving: Serving,
    running: JoinHandle<Result<(), StoreError>>,
}

impl Coordinator {
    /// Starts the coordinator of a data folder; the API accepts requests when this returns.
    ///
    /// # Errors
    /// Names the part that did not start.
    pub async fn start(
        data: &DataDir,
        choice: BrokerChoice,
        policy: Policy,
    ) -> Result<Self, LocalError> {
        let fleet = data.open()?;
        let (store, kept) = Store::open(&data.database())?;
        let director =
            Director { fleet: fleet.id.clone(), root: fleet.root, key: data.key(Key::Director)? };
        let state = State::restore(director, kept, at()).with_policy(policy);
        let (broker, credentials, link) = match choice {
            BrokerChoice::External(link) => (None, None, link),
            BrokerChoice::Embedded { listen } => {
                let token = data.token(broker::COORDINATOR_CLIENT_ID)?;
                let credentials = Credentials::new(fleet.id.clone(), &token)?;
                admit_all(data, &credentials)?;
                let config = BrokerConfig::new(listen, credentials.clone());
                let broker = broker::start(config).await?;
                let address = broker.local_addr();
                let user = broker::COORDINATOR_CLIENT_ID.to_owned();
                let link = LinkConfig {
                    host: address.ip().to_string(),
                    port: address.port(),
                    credentials: Some((user, token)),
                };
                (Some(broker), Some(credentials), link)
            }
        };
        let session = mqtt::Session::start(link::session_config(&link, &fleet.id), at().unix_ms);
        let handle = session.0.clone();
        let (event_loop, asking) = EventLoop::new(state, store, fleet.id, session);
        let running = tokio::spawn(event_loop.run());
        let api =
            Api { fleet: asking.clone(), data: data.clone(), credentials: credentials.clone() };
        let serving = api::serve(api, &data.socket())?;
        Ok(Self { fleet: asking, credentials, broker, session: handle, serving, running })
    }

    /// Asks the loop.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Of the embedded broker.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Where the embedded broker listens.
    #[must_use]
    pub fn broker_address(&self) -> Option<SocketAddr> {
        self.broker.as_ref().map(Broker::local_addr)
    }

    /// Waits until the loop ends by itself, which only a failure makes it do.
    pub async fn failed(&mut self) -> LocalError {
        match (&mut self.running).await {
            Ok(Err(error)) => LocalError::Store(error),
            Ok(Ok(())) | Err(_) => LocalError::Ended,
        }
    }

    /// Ends API, session and broker.
    pub async fn stop(self) {
        drop(self.serving);
        let _ = self.session.close(CLOSE_PATIENCE).await;
        // The loop ends with the session's events.
        if !self.running.is_finished() {
            let _ = self.running.await;
        }
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
    }
}

/// Whoever has a token in the folder may connect.
fn admit_all(data: &DataDir, credentials: &Credentials) -> Result<(), LocalError> {
    for holder in data.token_holders() {
        let Ok(node) = holder.parse() else { continue };
        credentials.admit(&node, &data.token(&holder)?)?;
    }
    Ok(())
}
