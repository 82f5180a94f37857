//! What the coordinator's yes must hold before a byte of it is kept.

use std::path::Path;
use std::sync::Arc;

use protocol::envelope::Rejected;
use protocol::id::{FleetId, NodeId};
use protocol::join::{Approved, node_dns_name};
use protocol::keys::Root;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;

use crate::trust;

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadAnswer {
    /// A certificate is no PEM.
    #[error("its {part} is not PEM: {source}")]
    Pem {
        /// Which.
        part: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// The CA is not the one that the connection was believed under.
    #[error("its CA is another than the one that vouched for the connection")]
    OtherCa,
    /// The certificate is for somebody else.
    #[error("its certificate is not for this node")]
    OtherNode,
    /// The certificate does not go with the node's key, or was not made by the CA.
    #[error("its certificate does not fit this node's key: {0}")]
    Unfit(rustls::Error),
    /// No trust root.
    #[error("it carries no trust root")]
    NoRoot,
    /// A root of another fleet.
    #[error("its trust root is of fleet {0}")]
    OtherFleet(FleetId),
    /// A root that does not follow from the one before.
    #[error("its trust root is refused: {0}")]
    Root(Rejected),
}

/// An answer that may be kept.
#[derive(Debug)]
pub struct Checked {
    /// The answer.
    pub approved: Approved,
    /// The newest trust root of it; none where it brought no newer one.
    pub root: Option<Root>,
    /// The fleet's CA.
    pub ca: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
}

/// Checks an answer. `ca` is the one that the connection was believed under, `held` the trust root that the node has.
///
/// # Errors
/// What is wrong with it.
pub fn check(
    approved: Approved,
    ca: Option<&[u8]>,
    fleet: &FleetId,
    node: &NodeId,
    held: Option<&Root>,
) -> Result<Checked, BadAnswer> {
    let pem = |part| move |source| BadAnswer::Pem { part, source };
    let own_ca = CertificateDer::from_pem_slice(approved.ca.as_bytes()).map_err(pem("CA"))?;
    if ca != Some(&own_ca[..]) {
        return Err(BadAnswer::OtherCa);
    }
    let chain = CertificateDer::pem_slice_iter(approved.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem("certificate"))?;
    let name =
        ServerName::try_from(node_dns_name(fleet, node)).map_err(|_| BadAnswer::OtherNode)?;
    let is_for_us = chain.first().is_some_and(|first| {
        ParsedCertificate::try_from(first)
            .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
    });
    if !is_for_us {
        return Err(BadAnswer::OtherNode);
    }
    let root = trust::follow(&approved.roots, held).map_err(BadAnswer::Root)?;
    match (&root, held) {
        (None, None) => return Err(BadAnswer::NoRoot),
        (Some(root), _) if root.fleet != *fleet => {
            return Err(BadAnswer::OtherFleet(root.fleet.clone()));
        }
        (Some(_) | None, _) => (),
    }
    Ok(Checked { approved, root, ca: own_ca, chain })
}

impl Checked {
    /// Whether the certificate is for the key in this file, PEM.
    ///
    /// # Errors
    /// [`BadAnswer::Unfit`].
    pub fn fits(&self, key: &Path) -> Result<(), BadAnswer> {
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|source| BadAnswer::Pem { part: "key", source })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(BadAnswer::Unfit)?
            .with_root_certificates(RootCertStore::empty())
            .with_client_auth_cert(self.chain.clone(), key)
            .map_err(BadAnswer::Unfit)?;
        drop(config);
        Ok(())
    }
}
