//! TLS for a session: whom it believes, what it shows, and at which time certificates are looked at.
//!
//! TLS 1.3 with ring, over the library's own seam for sockets, so that none of the library's TLS is built. Must not
//! read files or a clock: the owner gives both.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::event::{DownReason, Refusal};

mod belief;

pub use belief::{Ca, OneCa};

/// Seconds since 1970 at which certificates are verified; clones are one and the same. It never goes back.
///
/// A node gives its floor, never its clock: a board without a battery believes that it is 1970, or 2099, and would
/// refuse the very broker that could tell it the time.
#[derive(Debug, Clone, Default)]
pub struct VerifyAt(Arc<AtomicU64>);

impl VerifyAt {
    /// At this time.
    #[must_use]
    pub fn new(unix_s: u64) -> Self {
        Self(Arc::new(AtomicU64::new(unix_s)))
    }

    /// At this time from now on, if it is later.
    pub fn raise(&self, unix_s: u64) {
        self.0.fetch_max(unix_s, Relaxed);
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn unix_s(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl TimeProvider for VerifyAt {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.unix_s())))
    }
}

/// What a side shows of itself, PEM.
#[derive(Clone, Copy)]
pub struct Own<'a> {
    /// Its certificate, then those between it and the CA.
    pub chain: &'a [u8],
    /// The key, PKCS#8.
    pub key: &'a [u8],
}

impl fmt::Debug for Own<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

/// A checked setting for sessions; cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server", &self.server).finish_non_exhaustive()
    }
}

/// The same setting, not an equal one.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.server == other.server
    }
}

impl Eq for Tls {}

/// Why there is no setting.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTls {
    /// No certificate stands in the CA's PEM.
    #[error("the CA is not a certificate in PEM")]
    Ca(#[source] rustls::pki_types::pem::Error),
    /// No certificate stands in the chain's PEM.
    #[error("the certificate is not PEM")]
    Chain(#[source] rustls::pki_types::pem::Error),
    /// No key stands in the key's PEM.
    #[error("the key is not a private key in PEM")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// Not a DNS name or an address.
    #[error("`{0}` is not a name that a certificate could carry")]
    Name(String),
    /// The parts do not fit each other.
    #[error("CA, certificate and key cannot be used together")]
    Unusable(#[source] rustls::Error),
}

impl Tls {
    /// Believes what `ca` (PEM) signed for the name `server`, and shows `own` to a broker that asks for it.
    ///
    /// # Errors
    /// The part that cannot be used.
    pub fn new(
        ca: &[u8],
        own: Option<Own<'_>>,
        server: &str,
        verify_at: VerifyAt,
    ) -> Result<Self, InvalidTls> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca).map_err(InvalidTls::Ca)? {
            roots.add(certificate).map_err(InvalidTls::Unusable)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(verify_at))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(InvalidTls::Unusable)?
            .with_root_certificates(roots);
        let mut config = match own {
            Some(own) => {
                let chain = certificates(own.chain).map_err(InvalidTls::Chain)?;
                let key = PrivateKeyDer::from_pem_slice(own.key).map_err(InvalidTls::Key)?;
                builder.with_client_auth_cert(chain, key).map_err(InvalidTls::Unusable)?
            }
            None => builder.with_no_client_auth(),
        };
        // A session stands for days, and a broker must look at the certificate each time.
        config.resumption = Resumption::disabled();
        let server = ServerName::try_from(server.to_owned())
            .map_err(|_| InvalidTls::Name(server.chars().take(NAME_CHARS_MAX).collect()))?;
        Ok(Self { config: Arc::new(config), server })
    }

    /// The same for a connection that speaks `alpn` instead, and the name to ask for.
    #[must_use]
    pub fn speaking(&self, alpn: &[u8]) -> (Arc<ClientConfig>, ServerName<'static>) {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![alpn.to_vec()];
        (Arc::new(config), self.server.clone())
    }

    pub(crate) async fn connect<S>(&self, stream: S) -> io::Result<impl Stream + use<S>>
    where
        S: Stream + 'static,
    {
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        connector.connect(self.server.clone(), stream).await
    }
}

/// Of a wrong name this much is shown.
const NAME_CHARS_MAX: usize = 80;

/// What the client library takes for a connection.
pub(crate) trait Stream:
    tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Sync + Unpin
{
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// At least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() {
        return Err(rustls::pki_types::pem::Error::NoItemsFound);
    }
    Ok(all)
}

/// What a failed connection says about certificates, if it was TLS that ended it.
pub(crate) fn refusal(error: &io::Error) -> Option<Result<Refusal, DownReason>> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors are open-ended")]
    Some(match error {
        rustls::Error::InvalidCertificate(wrong) => Ok(of_certificate(wrong)),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(_) => Ok(Refusal::NotTls),
        other => Err(DownReason::Closed(format!("TLS: {other}"))),
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors are open-ended")]
fn of_certificate(wrong: &CertificateError) -> Refusal {
    match wrong {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::ForeignBroker,
        CertificateError::NotValidForNameContext { expected, .. } => {
            Refusal::BrokerName { expected: expected.to_str().into_owned() }
        }
        CertificateError::ExpiredContext { time, not_after } => {
            Refusal::BrokerExpired { by_s: time.as_secs().saturating_sub(not_after.as_secs()) }
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            Refusal::BrokerTooNew { by_s: not_before.as_secs().saturating_sub(time.as_secs()) }
        }
        other => Refusal::BrokerCertificate { problem: other.to_string() },
    }
}

/// Alerts by which a broker says what it thinks of our certificate (RFC 8446 §6.2).
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's alerts are open-ended")]
fn of_alert(alert: AlertDescription) -> Result<Refusal, DownReason> {
    match alert {
        AlertDescription::CertificateRequired => Ok(Refusal::NoCertificate),
        AlertDescription::CertificateExpired => Ok(Refusal::CertificateExpired),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => Ok(Refusal::Certificate),
        other => Err(DownReason::Closed(format!("the broker ended TLS with {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_verification_never_goes_back() {
        let at = VerifyAt::new(1_000);
        let same = at.clone();
        same.raise(2_000);
        at.raise(1_500);
        assert_eq!((at.unix_s(), same.unix_s()), (2_000, 2_000));
    }

    #[test]
    fn what_is_no_pem_is_named() {
        let text = Tls::new(b"x", None, "a.pith", VerifyAt::default()).unwrap_err().to_string();
        assert!(text.contains("CA"), "{text}");
    }
}
