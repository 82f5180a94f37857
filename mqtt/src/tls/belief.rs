//! Whom TLS believes where no store of roots can say it: one CA, known itself or by its hash alone.
//!
//! A token and an invitation carry the hash; the coordinator sends its CA in the chain, and nothing is sent to it before
//! that was seen.

use std::sync::{Arc, Mutex, PoisonError};

use protocol::id::sha256_hex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The one CA.
#[derive(Debug, Clone)]
pub enum Ca {
    /// This one.
    Known(CertificateDer<'static>),
    /// The one whose DER has this SHA-256 (lower-case hex), once it was shown.
    Sha256(String),
}

impl Ca {
    fn among(
        &self,
        shown: &[CertificateDer<'_>],
    ) -> Result<CertificateDer<'static>, rustls::Error> {
        match self {
            Self::Known(ca) => Ok(ca.clone()),
            Self::Sha256(sha256) => shown
                .iter()
                .find(|one| sha256_hex(one) == *sha256)
                .map(|one| one.clone().into_owned())
                .ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }
}

/// The usual verification of a server, under one CA; TLS 1.3 alone.
#[derive(Debug)]
pub struct OneCa {
    ca: Ca,
    provider: Arc<CryptoProvider>,
    believed: Mutex<Option<CertificateDer<'static>>>,
}

impl OneCa {
    /// Believes `ca` and what it signed.
    #[must_use]
    pub fn new(ca: Ca, provider: Arc<CryptoProvider>) -> Arc<Self> {
        Arc::new(Self { ca, provider, believed: Mutex::new(None) })
    }

    /// The CA that was shown and believed; none before the first handshake.
    #[must_use]
    pub fn believed(&self) -> Option<CertificateDer<'static>> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for OneCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = self.ca.among(intermediates)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        let provider = Arc::clone(&self.provider);
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verified =
            usual.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)?;
        *self.believed.lock().unwrap_or_else(PoisonError::into_inner) = Some(ca);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
