//! A coordinator in this process: broker, store, loop, API and the nodes' port, started in order and ended in the reverse.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::join::server_name;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::{self, Api, Joining, Serving};
use crate::audit::{self, Audit};
use crate::broker::{self, Broker, BrokerConfig};
use crate::ca::{Ca, CaError};
use crate::data_dir::{DataDir, DataDirError};
use crate::event_loop::{EventLoop, Fleet, at};
use crate::front::blobs;
use crate::front::joining::{self, Desk};
use crate::front::{Bound, Door, DoorError, Front, FrontConfig, FrontError, Limits};
use crate::link::{self, LinkConfig};
use crate::programs::Programs;
use crate::state::notices::Notice;
use crate::state::{Director, Policy, State};
use crate::store::{Store, StoreError};

/// Manifests still on their way get this long at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Which broker.
#[derive(Debug, Clone)]
pub enum BrokerChoice {
    /// Ours, in this process, behind the coordinator's TLS port.
    Embedded {
        /// Where that port listens.
        listen: SocketAddr,
    },
    /// Somebody else's.
    External(External),
}

/// Somebody else's broker.
#[derive(Debug, Clone)]
pub struct External {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password; none where the broker takes anyone, or certificates only.
    pub credentials: Option<(String, String)>,
    /// Over TLS, with the certificate `coordinator` of the fleet's CA.
    pub tls: bool,
    /// Where nodes join; none: they are admitted by their ids alone.
    pub listen: Option<SocketAddr>,
}

/// Who may use the API beside root and this user, and how much.
#[derive(Debug, Clone, Default)]
pub struct ApiSettings {
    /// A group of this machine, and the socket for it.
    pub group: Option<(api::Group, PathBuf)>,
    /// How much one identity may ask.
    pub limits: api::Limits,
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
    /// The fleet's CA.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Internal tokens.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The nodes' port.
    #[error(transparent)]
    Front(#[from] FrontError),
    /// TLS to an external broker.
    #[error("TLS to the external broker cannot be set up")]
    Tls(#[from] mqtt::InvalidTls),
    /// The audit log's thread.
    #[error("the audit log's thread could not be started")]
    Audit(#[source] std::io::Error),
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
    notices: Option<mpsc::Receiver<Notice>>,
    desk: Desk,
    front: Option<Front>,
    broker: Option<Broker>,
    session: mqtt::Handle,
    serving: Vec<Serving>,
    running: JoinHandle<Result<(), StoreError>>,
}

impl Coordinator {
    /// Starts the coordinator of a data folder; API and port accept requests when this returns.
    ///
    /// # Errors
    /// Names the part that did not start.
    pub async fn start(
        data: &DataDir,
        choice: BrokerChoice,
        policy: Policy,
    ) -> Result<Self, LocalError> {
        Self::start_with(data, choice, policy, ApiSettings::default()).await
    }

    /// The same, with an API that others may use too.
    ///
    /// # Errors
    /// Names the part that did not start.
    pub async fn start_with(
        data: &DataDir,
        choice: BrokerChoice,
        policy: Policy,
        settings: ApiSettings,
    ) -> Result<Self, LocalError> {
        let fleet = data.open()?;
        let (store, kept) = Store::open(&data.database())?;
        let key = data.director_key(&fleet.root)?;
        let ca = Arc::new(Ca::open(data, &fleet.id)?);
        let director =
            Director { fleet: fleet.id.clone(), root: fleet.root, chain: fleet.chain, key };
        let state = State::restore(director, kept, at()).with_policy(policy);
        let door = Door::new(fleet.id.clone())?;
        for node in state.admitted() {
            door.admit(node);
        }
        let (broker, link, listen, external) = match choice {
            BrokerChoice::Embedded { listen } => {
                let broker = start_embedded(&door).await?;
                let link = link_to_embedded(&broker, &door);
                (Some(broker), link, Some(listen), None)
            }
            BrokerChoice::External(external) => {
                let link = link_to_external(&external, &ca)?;
                let host = mqtt::BrokerAddress { host: external.host, port: external.port };
                (None, link, external.listen, Some(host.to_string()))
            }
        };
        let session = mqtt::Session::start(link::session_config(&link, &fleet.id), at().unix_ms);
        let handle = session.0.clone();
        let kept = (store, data.clone());
        let (event_loop, asking, notices) =
            EventLoop::new(state, kept, fleet.id.clone(), door.clone(), session);
        let running = tokio::spawn(event_loop.run());
        let desk = Desk { ca: Arc::clone(&ca), data: data.clone(), broker: external };
        let audit =
            Audit::open(&data.path().join(audit::FILE), &fleet.id).map_err(LocalError::Audit)?;
        let bound = match listen {
            Some(listen) => Some(Bound::to(listen).await?),
            None => None,
        };
        let joining = bound.as_ref().map(|bound| Joining {
            fleet: fleet.id,
            ca_sha256: ca.sha256(),
            port: bound.local_addr(),
        });
        let asked = (asking.clone(), data.clone());
        let api = Api::new(asked, Arc::clone(&ca), audit, joining, (settings.limits, at));
        let router = api::router(&api);
        let front = match bound {
            Some(bound) => {
                let kept = blobs::Kept {
                    archives: Arc::clone(&api.archives),
                    programs: Programs::of(data),
                };
                let router = joining::router(asking.clone(), desk.clone()).merge(router.clone());
                let router = router.merge(blobs::router(kept, door.clone()));
                let (limits, ca) = (Limits::default(), Arc::clone(&ca));
                let broker = broker.as_ref().map(Broker::local_addr);
                Some(Front::start(bound, FrontConfig { limits, ca, door, broker, router })?)
            }
            None => None,
        };
        let mut serving = vec![api::serve(router.clone(), &data.socket())?];
        if let Some((group, socket)) = &settings.group {
            serving.push(api::serve_group(router, socket, group)?);
        }
        let notices = Some(notices);
        Ok(Self { fleet: asking, notices, desk, front, broker, session: handle, serving, running })
    }

    /// Asks the loop.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// What people are told of, from the start on, to whoever takes it first; none: it is taken.
    #[must_use]
    pub fn take_notices(&mut self) -> Option<mpsc::Receiver<Notice>> {
        self.notices.take()
    }

    /// The fleet's CA.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.desk.ca
    }

    /// Hands out certificates that the state has granted.
    #[must_use]
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Where nodes reach this coordinator.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.front.as_ref().map(Front::local_addr)
    }

    /// Where the embedded broker listens for internal tokens.
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

    /// Ends API, session, port and broker.
    pub async fn stop(self) {
        self.serving.iter().for_each(Serving::close);
        let _ = self.session.close(CLOSE_PATIENCE).await;
        // The loop ends with the session's events.
        if !self.running.is_finished() {
            let _ = self.running.await;
        }
        // Nobody waits for news of a loop that has ended.
        for serving in self.serving {
            serving.end().await;
        }
        drop(self.front);
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
    }
}

/// Reachable from this process alone: whoever else is on this machine has none of its tokens.
async fn start_embedded(door: &Door) -> Result<Broker, LocalError> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(broker::start(BrokerConfig::new(listen, door.credentials().clone())).await?)
}

fn link_to_embedded(broker: &Broker, door: &Door) -> LinkConfig {
    let address = broker.local_addr();
    LinkConfig {
        host: address.ip().to_string(),
        port: address.port(),
        credentials: Some((broker::COORDINATOR_CLIENT_ID.to_owned(), door.own_token())),
        tls: None,
    }
}

fn link_to_external(external: &External, ca: &Ca) -> Result<LinkConfig, LocalError> {
    let tls = match external.tls {
        false => None,
        true => {
            let now_s = at().unix_ms / 1000;
            let own = ca.coordinator(now_s)?;
            let pem = (own.certificate_pem, own.key_pem);
            let own = mqtt::Own { chain: pem.0.as_bytes(), key: pem.1.as_bytes() };
            let (authority, name) = (ca.pem().as_bytes(), server_name(ca.fleet()));
            let verify_at = mqtt::VerifyAt::new(now_s);
            Some(mqtt::Tls::new(authority, Some(own), &name, verify_at)?)
        }
    };
    let (host, port) = (external.host.clone(), external.port);
    Ok(LinkConfig { host, port, credentials: external.credentials.clone(), tls })
}
