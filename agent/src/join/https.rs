//! A question to the coordinator over HTTPS, believed only as far as its certificate goes.
//!
//! Before the node has joined, the token's hash says which CA is the fleet's: it must stand in the chain that the
//! coordinator shows, and nothing is sent before that was seen. Afterwards the node has the CA itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use mqtt::{Ca, OneCa, VerifyAt};
use protocol::id::FleetId;
use protocol::join::{ALPN_HTTP, Answer, Token, server_name};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use crate::engine::pull::AbortOnDrop;
use crate::resolve;
use crate::wire::{self, Sent, Wire};

/// From the first packet to the end of the handshake, and from the question to the end of the answer.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// An answer carries a chain of trust roots.
const ANSWER_MAX_BYTES: usize = 2 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// Nothing listens there, or no name.
    #[error("{address} cannot be reached: {source}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// It took the connection and said nothing in time.
    #[error("{address} did not answer in time")]
    TimedOut {
        /// Where.
        address: String,
    },
    /// Somebody else answers.
    #[error(
        "what answers at {address} is not the coordinator of this fleet ({source}); nothing secret was sent to it: \
         check the address, and who answers there"
    )]
    Distrust {
        /// Where.
        address: String,
        /// What is wrong with its certificate.
        source: rustls::Error,
    },
    /// It speaks something else, or broke off.
    #[error("{address} broke off: {problem}")]
    Broken {
        /// Where.
        address: String,
        /// How.
        problem: String,
    },
    /// An answer in other words.
    #[error(
        "{address} answered {status}, and not as a coordinator does; is a proxy in between, or its version another?"
    )]
    Strange {
        /// Where.
        address: String,
        /// Of HTTP.
        status: u16,
    },
}

impl HttpsError {
    /// Whether the certificate of what answers is of another CA: a stranger, or a coordinator that was made anew.
    #[must_use]
    pub fn is_of_another_ca(&self) -> bool {
        use rustls::CertificateError::{BadSignature, UnknownIssuer};
        matches!(
            self,
            Self::Distrust {
                source: rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature),
                ..
            }
        )
    }

    /// Whether asking again, unchanged, may help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Broken { .. } => true,
            Self::Distrust { .. } => false,
            Self::Strange { status, .. } => *status >= 500 || *status == 429,
        }
    }
}

/// Asks the coordinator of one fleet.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    host: String,
    verifier: Arc<OneCa>,
    patience: Duration,
}

impl Client {
    /// Of a node that has a token.
    #[must_use]
    pub fn with_token(token: &Token, floor: &VerifyAt) -> Self {
        Self::new(Ca::Sha256(token.ca_sha256.clone()), &token.fleet, floor)
    }

    /// Of a node that has joined.
    ///
    /// # Errors
    /// When the CA (PEM) is none.
    pub fn with_ca(ca: &[u8], fleet: &FleetId, floor: &VerifyAt) -> io::Result<Self> {
        let ca = CertificateDer::from_pem_slice(ca).map_err(io::Error::other)?;
        Ok(Self::new(Ca::Known(ca), fleet, floor))
    }

    fn new(ca: Ca, fleet: &FleetId, floor: &VerifyAt) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = OneCa::new(ca, Arc::clone(&provider));
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(floor.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring has TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
        let host = server_name(fleet);
        let name = ServerName::try_from(host.clone()).expect("a fleet's id makes a DNS name");
        Self { config: Arc::new(config), name, host, verifier, patience: PATIENCE }
    }

    /// Waits this long instead of [`PATIENCE`].
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The CA that the coordinator showed and that was believed; none before the first answer.
    #[must_use]
    pub fn ca(&self) -> Option<CertificateDer<'static>> {
        self.verifier.believed()
    }

    /// Posts `body` to the first address that can be talked to.
    ///
    /// # Errors
    /// The last address' reason, or the first that is a reason for distrust.
    pub async fn post(
        &self,
        addresses: &[String],
        path: &str,
        body: &[u8],
    ) -> Result<Answer, HttpsError> {
        let mut last = None;
        for address in addresses {
            match self.post_to(address, path, body).await {
                Ok(answer) => return Ok(answer),
                Err(error @ HttpsError::Distrust { .. }) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        let none = || io::Error::new(io::ErrorKind::NotFound, "no address of it is known");
        Err(last.unwrap_or_else(|| HttpsError::Unreachable {
            address: "the coordinator".to_owned(),
            source: none(),
        }))
    }

    async fn post_to(&self, at: &str, path: &str, body: &[u8]) -> Result<Answer, HttpsError> {
        let late = || HttpsError::TimedOut { address: at.to_owned() };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let opening = connect(at, &connector, self.name.clone());
        let connecting = tokio::time::timeout(self.patience, opening);
        let stream = connecting.await.map_err(|_| late())??;
        let asking = self.ask(at, stream, path, body);
        tokio::time::timeout(self.patience, asking).await.map_err(|_| late())?
    }

    async fn ask(
        &self,
        at: &str,
        stream: impl Wire + 'static,
        path: &str,
        body: &[u8],
    ) -> Result<Answer, HttpsError> {
        let request = hyper::Request::post(path)
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(wire::whole(Bytes::copy_from_slice(body)))
            .map_err(|error| broken(at, &error))?;
        let (status, body) = exchange(at, stream, request, ANSWER_MAX_BYTES).await?;
        let strange = |_| HttpsError::Strange { address: at.to_owned(), status };
        serde_json::from_slice(&body).map_err(strange)
    }
}

fn broken(at: &str, error: &dyn std::fmt::Display) -> HttpsError {
    HttpsError::Broken { address: at.to_owned(), problem: error.to_string() }
}

/// TLS with `name` at an address.
pub(crate) async fn connect(
    at: &str,
    connector: &TlsConnector,
    name: ServerName<'static>,
) -> Result<impl Wire + use<>, HttpsError> {
    let address = at.to_owned();
    let stream = match resolve::connect(at).await {
        Ok(stream) => stream,
        Err(source) => return Err(HttpsError::Unreachable { address, source }),
    };
    connector.connect(name, stream).await.map_err(|error| {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(source @ rustls::Error::InvalidCertificate(_)) => {
                HttpsError::Distrust { address, source: source.clone() }
            }
            _ => HttpsError::Broken { address, problem: error.to_string() },
        }
    })
}

/// One question and its answer, read no further than `max_bytes`: the status of HTTP, and the body.
pub(crate) async fn exchange(
    at: &str,
    stream: impl Wire + 'static,
    request: hyper::Request<Sent>,
    max_bytes: usize,
) -> Result<(u16, Bytes), HttpsError> {
    let opening = wire::open(Box::new(stream)).await;
    let (mut sender, connection) = opening.map_err(|error| broken(at, &error))?;
    let _connection = AbortOnDrop(connection);
    let response = sender.send_request(request).await.map_err(|error| broken(at, &error))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), max_bytes).collect().await;
    Ok((status, body.map_err(|error| broken(at, &error))?.to_bytes()))
}
