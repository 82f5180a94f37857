//! Which CAs a node believes, and what it shows to other boards, while the fleet comes under another CA (see
//! `protocol::recovery`). Deciding alone; [`crate::recovery`], `join` and `renew` read and write the files.
//!
//! ```text
//! joined             ca.crt [A]     node.crt of A
//! follows            ca.crt [B, A]  node.crt of A    fleet.crt: its copy  the coordinator is believed under B alone, boards under both
//! approved           ca.crt [B, A]  node.crt of B    fleet.crt of A       boards are shown fleet.crt, the coordinator node.crt
//! renewed            ca.crt [B, A]  node.crt of B                         boards are shown node.crt
//! renewed once more  ca.crt [B]     node.crt of B
//! ```
//! So a board that has followed and one that has not call each other, until each had two months to follow.

use std::sync::Arc;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};

use protocol::join::{CERTIFICATE_DAYS, RENEW_AFTER_DAYS};

use crate::join::keys;

/// Before its end a copy of an ended CA's certificate is shown no longer: boards look at it at times of their own.
const ENDING_S: u64 = 2 * 86_400;

/// The CAs of `ca.crt`, at least one: the coordinator's first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle(Vec<CertificateDer<'static>>);

/// What becomes of the files at a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRenewal {
    /// Nothing: there is one CA, or this was the first certificate of a new one.
    Stay,
    /// Boards are shown the node's own certificate from now on.
    ShowOwn,
    /// The CA before is believed no longer.
    ForgetBefore,
}

impl Bundle {
    /// Reads PEM.
    ///
    /// # Errors
    /// Where no certificate stands in it, or something that is none.
    pub fn read(text: &[u8]) -> Result<Self, pem::Error> {
        let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(Self(all)) }
    }

    /// The coordinator's.
    #[must_use]
    pub fn first(&self) -> &CertificateDer<'static> {
        &self.0[0]
    }

    /// Whether there is one of before.
    #[must_use]
    pub fn has_before(&self) -> bool {
        self.0.len() > 1
    }

    /// The first alone.
    #[must_use]
    pub fn without_before(&self) -> Self {
        Self(vec![self.first().clone()])
    }

    /// Under `new` from now on. Beside it stays the one that other boards know this one by: the issuer of what they are `shown`, which is
    /// not the first where a node follows once more before it was approved.
    #[must_use]
    pub fn follow(&self, new: CertificateDer<'static>, shown: Option<&CertificateDer<'_>>) -> Self {
        let issued = |ca: &&CertificateDer<'_>| shown.is_some_and(|shown| is_of(ca, shown));
        let issuer = self.0.iter().find(issued).into_iter();
        let before = issuer.chain(&self.0).find(|ca| **ca != new).cloned();
        Self(std::iter::once(new).chain(before).collect())
    }

    /// As it stands in the file.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.iter().map(|ca| keys::pem("CERTIFICATE", ca)).collect()
    }
}

/// The node's own certificate, the first in the file.
#[must_use]
pub fn leaf(text: &[u8]) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(text).ok()
}

/// Whether the node follows the first CA and has no certificate of it yet: then it asks for one and says who it is.
#[must_use]
pub fn is_awaiting(bundle: &Bundle, own: Option<&CertificateDer<'_>>) -> bool {
    bundle.has_before() && !own.is_some_and(|own| is_of(bundle.first(), own))
}

/// What a renewal changes, from what the files were before it. Only one that was due counts: a clock that is far ahead renews each day.
#[must_use]
pub fn after_renewal(
    bundle: &Bundle,
    own: Option<&CertificateDer<'_>>,
    has_shown: bool,
    now_s: u64,
) -> AfterRenewal {
    const LEFT_S: u64 = (CERTIFICATE_DAYS - RENEW_AFTER_DAYS) * 86_400;
    let is_due = |own: &CertificateDer<'_>| {
        ends_s(own).is_some_and(|ends_s| now_s.saturating_add(LEFT_S) >= ends_s)
    };
    let was_of_first = own.is_some_and(|own| is_of(bundle.first(), own) && is_due(own));
    match (was_of_first, has_shown, bundle.has_before()) {
        (true, true, _) => AfterRenewal::ShowOwn,
        (true, false, true) => AfterRenewal::ForgetBefore,
        (true, false, false) | (false, ..) => AfterRenewal::Stay,
    }
}

/// Whether what boards are shown in the place of the node's own certificate has ended, or is about to, while the own one is good: nobody can
/// believe it any more, so that they are shown a copy of the own one.
#[must_use]
pub fn is_worn(
    bundle: &Bundle,
    own: &CertificateDer<'_>,
    shown: &CertificateDer<'_>,
    now_s: u64,
) -> bool {
    own != shown
        && is_of(bundle.first(), own)
        && ends_s(shown).is_some_and(|ends_s| now_s.saturating_add(ENDING_S) >= ends_s)
}

/// Whether `ca` signed the certificate, whenever it is good.
fn is_of(ca: &CertificateDer<'_>, certificate: &CertificateDer<'_>) -> bool {
    // Its end is a moment at which it is good.
    ends_s(certificate).is_some_and(|at_s| verify(Some(ca), certificate, at_s).is_ok())
}

/// Seconds since 1970. Of a certificate that has ended by then the library says when.
fn ends_s(certificate: &CertificateDer<'_>) -> Option<u64> {
    /// The year 10000, which no certificate reaches (RFC 5280 §4.1.2.5).
    const BEYOND_S: u64 = 253_402_300_800;
    match verify(None, certificate, BEYOND_S) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
            not_after,
            ..
        })) => Some(not_after.as_secs()),
        Ok(()) | Err(_) => None,
    }
}

fn verify(
    ca: Option<&CertificateDer<'_>>,
    certificate: &CertificateDer<'_>,
    at_s: u64,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    // Times are looked at before issuers.
    if let Some(ca) = ca {
        roots.add(ca.clone().into_owned())?;
    }
    let parsed = ParsedCertificate::try_from(certificate)?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at_s));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], at, algorithms)
}

#[cfg(test)]
mod tests;
