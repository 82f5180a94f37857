//! Whom TLS believes: a CA by its hash, as it stood in the invitation, and the coordinator's name under it. Nothing is sent
//! before that was seen.

use std::sync::Arc;

use mqtt::{Ca, OneCa};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Credentials;

/// TLS 1.3 towards the coordinator whose CA has this hash, with the certificate of a login where there is one.
///
/// # Errors
/// In words, where the files of the login are damaged.
pub(crate) fn tls(ca_sha256: &str, own: Option<&Credentials>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = OneCa::new(Ca::Sha256(ca_sha256.to_owned()), Arc::clone(&provider));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes());
            let certificate = certificate.map_err(|error| format!("operator.crt: {error}"))?;
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes());
            let key = key.map_err(|error| format!("operator.key: {error}"))?;
            let own = builder.with_client_auth_cert(vec![certificate], key);
            own.map_err(|error| format!("operator.crt: {error}"))?
        }
    };
    config.alpn_protocols = vec![protocol::join::ALPN_HTTP.to_vec()];
    // The coordinator resumes nothing.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
