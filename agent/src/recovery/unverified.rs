//! One question to whoever answers, over TLS that looks at no certificate. Only for bytes that prove themselves.
//!
//! Nothing is sent but a GET and the fleet's name, no certificate is shown, and the answer is worth what its signatures are. Must not be used for
//! anything else: `join::https` is for that.

use std::sync::Arc;

use bytes::Bytes;
use protocol::id::FleetId;
use protocol::join::{ALPN_HTTP, server_name};
use protocol::recovery::{MAX_RECOVERY_BYTES, RECOVERY_PATH, RecoveryBody};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::time::Duration;
use tokio_rustls::TlsConnector;

use crate::join::https::{self, HttpsError};
use crate::wire;

/// What it says about a recovery, unchecked.
///
/// # Errors
/// Where it cannot be reached, or says nothing of the kind.
pub(crate) async fn ask_anyone(
    at: &str,
    fleet: &FleetId,
    patience: Duration,
) -> Result<RecoveryBody, HttpsError> {
    let asking = ask(at, fleet);
    let late = |_| HttpsError::TimedOut { address: at.to_owned() };
    tokio::time::timeout(patience, asking).await.map_err(late)?
}

async fn ask(at: &str, fleet: &FleetId) -> Result<RecoveryBody, HttpsError> {
    let host = server_name(fleet);
    let name = ServerName::try_from(host.clone()).expect("a fleet's id makes a DNS name");
    let stream = https::connect(at, &TlsConnector::from(Arc::new(config())), name).await?;
    let request = hyper::Request::get(RECOVERY_PATH)
        .header("host", host)
        .body(wire::whole(Bytes::new()))
        .expect("a path and a name make a request");
    let (status, body) = https::exchange(at, stream, request, MAX_RECOVERY_BYTES).await?;
    let strange = |_| HttpsError::Strange { address: at.to_owned(), status };
    serde_json::from_slice(&body).map_err(strange)
}

fn config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(VerifiesNothing(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    config
}

/// Believes whoever answers.
#[derive(Debug)]
struct VerifiesNothing(Arc<CryptoProvider>);

impl ServerCertVerifier for VerifiesNothing {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
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
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
