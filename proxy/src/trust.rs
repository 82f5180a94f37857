//! How the proxies of two nodes know each other: the node's certificate, whom it believes, and the handshakes.
//!
//! ```text
//! asking:  connect -> the other must show a certificate of a CA of ours for the very name that the table gives
//! serving: the caller must show one of a CA of ours, and it must be for one of the callers that the table names
//! ```
//! TLS 1.3 with ring, certificates looked at at the time that the table says, never by the machine's clock. A session
//! that is taken up again costs no signatures; whether its caller is still one is asked every time.
//!
//! Must not know routes; `fleet` speaks over what this opens.

use crate::limits::{
    HANDSHAKES_MAX, TLS_SESSIONS_MAX, TLS_TICKETS_PER_CONNECTION, TRUST_WARNING_PAUSE,
};
use crate::stream::Stream;
use crate::table::{Shown, Trust};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What connections between nodes are made with at this moment. They keep what they were made with.
#[derive(Debug)]
pub(crate) struct Between {
    inner: Mutex<Inner>,
    handshakes: Semaphore,
}

#[derive(Debug, Default)]
struct Inner {
    wanted: Option<Trust>,
    way: Way,
    /// Of the files that `way` was made from.
    stamps: Vec<Stamp>,
    verify_at: VerifyAt,
    warned: Option<Instant>,
}

/// How to talk to other nodes.
#[derive(Debug, Clone, Default)]
pub(crate) enum Way {
    /// Not at all: the table does not say how, or the certificate cannot be used.
    #[default]
    Closed,
    /// As the table says, in clear.
    Clear,
    /// Over TLS.
    Secure(Arc<Secure>),
}

/// Both sides of TLS with one certificate.
pub(crate) struct Secure {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").finish_non_exhaustive()
    }
}

/// Tells whether a file is another than it was.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Option<(SystemTime, u64)>);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("certificate, key and CA of this node do not fit each other: {0}")]
    Unusable(rustls::Error),
    #[error("the CA of this node cannot be used: {0}")]
    Ca(rustls::server::VerifierBuilderError),
}

/// Seconds since 1970, shared with the settings of TLS; never goes back.
#[derive(Debug, Clone, Default)]
struct VerifyAt(Arc<AtomicU64>);

impl TimeProvider for VerifyAt {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Relaxed))))
    }
}

impl Default for Between {
    fn default() -> Self {
        Self { inner: Mutex::default(), handshakes: Semaphore::new(HANDSHAKES_MAX) }
    }
}

impl Between {
    /// Follows the table. What cannot be used is told; then other nodes are neither served nor asked.
    pub(crate) fn set(&self, wanted: Option<&Trust>) -> Result<(), TrustError> {
        let mut inner = self.lock();
        if let Some(Trust::Certificates { verify_at_s, .. }) = wanted {
            inner.verify_at.0.fetch_max(*verify_at_s, Relaxed);
        }
        let is_same = same_files(inner.wanted.as_ref(), wanted);
        inner.wanted = wanted.cloned();
        let is_usable = !matches!(inner.way, Way::Closed) || inner.wanted.is_none();
        if is_same && is_usable && !inner.are_files_new() {
            return Ok(());
        }
        inner.load(if is_same { Else::Keep } else { Else::Close })
    }

    /// Takes a renewed certificate; one that cannot be used leaves the one before in place.
    pub(crate) fn refresh(&self) {
        let mut inner = self.lock();
        if inner.are_files_new()
            && let Err(error) = inner.load(Else::Keep)
        {
            tracing::warn!(%error, "the renewed certificate cannot be used");
        }
    }

    /// The way at this moment.
    pub(crate) fn way(&self) -> Way {
        self.lock().way.clone()
    }

    /// Serves `client` if it shows a certificate for one of `callers`; which of them.
    pub(crate) async fn admit(
        &self,
        secure: &Secure,
        client: TcpStream,
        callers: &[String],
    ) -> io::Result<(Stream, String)> {
        // Never closed.
        let _permit = self.handshakes.acquire().await.map_err(io::Error::other)?;
        let stream = secure.acceptor.accept(client).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let Some(caller) = shown.and_then(|shown| caller(shown, callers)) else {
            let what = "a certificate of the fleet for none of the callers";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        };
        Ok((Stream::Secure(Box::new(stream.into())), caller))
    }

    /// Says that a handshake failed, which is worth a person's look, but not for every connection.
    pub(crate) fn warn(&self, whom: &dyn fmt::Display, error: &io::Error) {
        let now = Instant::now();
        let mut inner = self.lock();
        let is_due = inner.warned.is_none_or(|before| now - before >= TRUST_WARNING_PAUSE);
        if is_due {
            inner.warned = Some(now);
            tracing::warn!(%whom, %error, "no TLS with another node's proxy");
        } else {
            tracing::debug!(%whom, %error, "no TLS with another node's proxy");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Secure {
    /// TLS over a connection, with the node whose certificate is for `name`.
    pub(crate) async fn ask(&self, stream: TcpStream, name: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let stream = self.connector.connect(name, stream).await?;
        Ok(Stream::Secure(Box::new(stream.into())))
    }
}

/// Whether it was TLS, and neither network nor time, that ended a connection.
pub(crate) fn is_distrust(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
        || error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// The one of `callers` that the certificate is for.
fn caller(shown: &CertificateDer<'_>, callers: &[String]) -> Option<String> {
    let certificate = ParsedCertificate::try_from(shown).ok()?;
    let is_for = |name: &&String| {
        let name = ServerName::try_from(name.as_str());
        name.is_ok_and(|name| rustls::client::verify_server_name(&certificate, &name).is_ok())
    };
    callers.iter().find(is_for).cloned()
}

/// What becomes of the way when the files cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Else {
    Keep,
    Close,
}

impl Inner {
    fn load(&mut self, or: Else) -> Result<(), TrustError> {
        self.stamps = self.stamps_now();
        let way = match &self.wanted {
            None => Ok(Way::Closed),
            Some(Trust::Clear) => Ok(Way::Clear),
            Some(Trust::Certificates { chain, key, ca, instead, .. }) => {
                let both = |shown: &&Shown| shown.chain.exists() && shown.key.exists();
                let (chain, key) = match instead.as_deref().filter(both) {
                    Some(shown) => (&shown.chain, &shown.key),
                    None => (chain, key),
                };
                Secure::load(chain, key, ca, &self.verify_at)
                    .map(|secure| Way::Secure(Arc::new(secure)))
            }
        };
        match way {
            Ok(way) => self.way = way,
            Err(error) => {
                if or == Else::Close {
                    self.way = Way::Closed;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn stamps_now(&self) -> Vec<Stamp> {
        self.wanted.iter().flat_map(Trust::files).map(Stamp::of).collect()
    }

    fn are_files_new(&self) -> bool {
        self.stamps != self.stamps_now()
    }
}

impl Stamp {
    fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(path).ok();
        Self(metadata.and_then(|file| Some((file.modified().ok()?, file.ino()))))
    }
}

fn same_files(one: Option<&Trust>, other: Option<&Trust>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            one.files().eq(other.files())
                && std::mem::discriminant(one) == std::mem::discriminant(other)
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

impl Secure {
    fn load(chain: &Path, key: &Path, ca: &Path, at: &VerifyAt) -> Result<Self, TrustError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| TrustError::File { path, source }
        };
        let read = |path: &Path| -> Result<Vec<CertificateDer<'static>>, TrustError> {
            let all = CertificateDer::pem_file_iter(path).map_err(file(path))?;
            let all = all.collect::<Result<Vec<_>, _>>().map_err(file(path))?;
            match all.is_empty() {
                true => Err(file(path)(rustls::pki_types::pem::Error::NoItemsFound)),
                false => Ok(all),
            }
        };
        let own = read(chain)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
        let mut roots = RootCertStore::empty();
        for certificate in read(ca)? {
            roots.add(certificate).map_err(TrustError::Unusable)?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = &[&rustls::version::TLS13];
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(TrustError::Ca)?;
        let time = Arc::new(at.clone());
        let mut server = ServerConfig::builder_with_details(Arc::clone(&provider), time.clone())
            .with_protocol_versions(versions)
            .map_err(TrustError::Unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(own.clone(), key.clone_key())
            .map_err(TrustError::Unusable)?;
        server.session_storage = ServerSessionMemoryCache::new(TLS_SESSIONS_MAX);
        server.send_tls13_tickets = TLS_TICKETS_PER_CONNECTION;
        let mut client = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(versions)
            .map_err(TrustError::Unusable)?
            .with_root_certificates(roots)
            .with_client_auth_cert(own, key)
            .map_err(TrustError::Unusable)?;
        client.resumption = Resumption::in_memory_sessions(TLS_SESSIONS_MAX);
        Ok(Self { connector: Arc::new(client).into(), acceptor: Arc::new(server).into() })
    }
}
