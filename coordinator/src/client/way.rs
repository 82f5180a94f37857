//! How the coordinator is reached: a socket of this machine, or TLS with the certificate of a login.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::id::FleetId;
use protocol::join::{Token, server_name};
use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;

use super::{ANSWER_TIMEOUT, ClientError, chain};
use crate::login::{self, Credentials};

/// An address that does not take a connection within this is passed over.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The coordinator closes a connection that rests for 30 s; ours is not used again after less.
const IDLE: Duration = Duration::from_secs(15);

/// How, and with what.
#[derive(Debug)]
pub(super) enum Way {
    Socket { http: reqwest::Client, socket: PathBuf },
    Remote(Box<Remote>),
}

/// A coordinator on another machine.
#[derive(Debug)]
pub(super) struct Remote {
    /// The name in its certificate, whatever its address.
    host: String,
    addresses: Vec<String>,
    tls: ClientConfig,
    /// At the first address that took a connection.
    found: OnceCell<(reqwest::Client, String)>,
}

impl Way {
    pub(super) fn socket(socket: &Path) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            // Nobody shows a certificate on a socket file, and reading the machine's authorities takes tens of milliseconds.
            .tls_certs_only([])
            .timeout(ANSWER_TIMEOUT)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|e| ClientError::Broken(chain(&e)))?;
        Ok(Self::Socket { http, socket: socket.to_owned() })
    }

    /// As somebody who has an invitation and nothing else.
    pub(super) fn stranger(token: &Token) -> Result<Self, ClientError> {
        let tls = login::tls(&token.ca_sha256, None).map_err(ClientError::Broken)?;
        Ok(Self::remote(&token.fleet, token.addresses.clone(), tls))
    }

    /// As somebody who has logged in.
    pub(super) fn operator(own: &Credentials) -> Result<Self, ClientError> {
        let profile = &own.profile;
        let tls = login::tls(&profile.ca_sha256, Some(own)).map_err(ClientError::Broken)?;
        Ok(Self::remote(&profile.fleet, profile.addresses.clone(), tls))
    }

    fn remote(fleet: &FleetId, addresses: Vec<String>, tls: ClientConfig) -> Self {
        let (host, found) = (server_name(fleet), OnceCell::new());
        Self::Remote(Box::new(Remote { host, addresses, tls, found }))
    }

    /// What to ask, and what every address begins with.
    pub(super) async fn http(&self) -> Result<(reqwest::Client, String), ClientError> {
        match self {
            Self::Socket { http, .. } => Ok((http.clone(), "http://pith/v1/".to_owned())),
            Self::Remote(remote) => remote.found.get_or_try_init(|| remote.find()).await.cloned(),
        }
    }

    /// Why nothing was sent.
    pub(super) fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        match self {
            Self::Socket { socket, .. } => {
                let socket = socket.clone();
                match io_kind(error) {
                    Some(io::ErrorKind::PermissionDenied) => ClientError::Denied { socket },
                    Some(_) | None => ClientError::Unreachable { socket },
                }
            }
            Self::Remote(remote) => {
                let addresses = remote.addresses.join(", ");
                let problem = chain(error);
                match problem.contains("invalid peer certificate") {
                    true => ClientError::Distrust { addresses, problem },
                    false => ClientError::Away { addresses, problem },
                }
            }
        }
    }
}

impl Remote {
    async fn find(&self) -> Result<(reqwest::Client, String), ClientError> {
        let mut problems = Vec::new();
        for address in &self.addresses {
            match first_of(address).await {
                Ok(found) => return self.at(found),
                Err(problem) => problems.push(format!("{address}: {problem}")),
            }
        }
        let (addresses, problem) = (self.addresses.join(", "), problems.join("; "));
        Err(ClientError::Away { addresses, problem })
    }

    fn at(&self, address: SocketAddr) -> Result<(reqwest::Client, String), ClientError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .http1_only()
            // It is on the operator's own network, under a name that no proxy knows.
            .no_proxy()
            .resolve(&self.host, address)
            .timeout(ANSWER_TIMEOUT)
            .connect_timeout(CONNECT_WITHIN)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|e| ClientError::Broken(chain(&e)))?;
        Ok((http, format!("https://{}:{}/v1/", self.host, address.port())))
    }
}

/// The first of the addresses of a name that takes a connection.
async fn first_of(address: &str) -> Result<SocketAddr, String> {
    let found: Vec<SocketAddr> =
        lookup_host(address).await.map_err(|error| error.to_string())?.collect();
    let mut last = "no address".to_owned();
    for one in found {
        match tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(one)).await {
            Ok(Ok(_)) => return Ok(one),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("no answer within {} s", CONNECT_WITHIN.as_secs()),
        }
    }
    Err(last)
}

fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}
