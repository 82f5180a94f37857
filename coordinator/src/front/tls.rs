//! TLS of the coordinator's port: 1.3 with ring, a client certificate where the client has one.

use std::sync::Arc;

use protocol::id::{FleetId, NodeId};
use protocol::join::{ALPN_HTTP, ALPN_MQTT, node_dns_name};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::ca::{Ca, CaError};

/// Why the port has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Our certificate.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// TLS refuses it.
    #[error("the fleet's CA cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// TLS refuses the CA.
    #[error("the fleet's CA cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// With a new certificate of our own, good from `now_s` (Unix seconds).
///
/// # Errors
/// Where none can be made.
pub fn acceptor(ca: &Ca, now_s: u64) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let own = ca.server(now_s)?;
    ca.serves_from(now_s);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(own.chain, own.key)?;
    config.alpn_protocols = vec![ALPN_HTTP.to_vec(), ALPN_MQTT.to_vec()];
    // A resumed session would bring its certificate along unchecked: each one shows it anew.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whether this certificate, which the handshake has verified under the CA, is that node's.
#[must_use]
pub fn is_of_node(certificate: &CertificateDer<'_>, fleet: &FleetId, node: &NodeId) -> bool {
    let Ok(certificate) = ParsedCertificate::try_from(certificate) else { return false };
    let Ok(name) = ServerName::try_from(node_dns_name(fleet, node)) else { return false };
    verify_server_name(&certificate, &name).is_ok()
}
