//! The fleet's certificate authority: `DIR/tls/ca.{crt,key}`. Makes itself and every certificate; decides for nobody.
//!
//! ECDSA P-256. Everything begins on [`FIRST_DAY`], the CA's own, so that no clock that is behind refuses a certificate. What
//! a certificate proves is the transport only: what a node runs is decided by signatures that know nothing of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::id::{FleetId, NodeId, OperatorName, hex, sha256_hex};
use protocol::join::{
    CERTIFICATE_DAYS, COORDINATOR_NAME, RENEW_AFTER_DAYS, Times, TlsKey, node_dns_name,
    operator_dns_name, server_name,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, RevokedCertParams, SanType, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;

use crate::data_dir::{DataDir, DataDirError, random};

/// Its certificate, below the fleet's folder.
pub(crate) const CERTIFICATE: &str = "tls/ca.crt";
/// Its key.
pub(crate) const KEY: &str = "tls/ca.key";
/// The first day of every certificate of every fleet: year, month, day.
const FIRST_DAY: (i32, u8, u8) = (2020, 1, 1);
const DAY_SECS: u64 = 24 * 60 * 60;
/// The coordinator's certificate on its own port lives in memory only, and is made anew long before.
const SERVER_DAYS: u64 = 90;
/// An operator's certificate is good for this long; who uses it in the last third renews it.
pub(crate) const OPERATOR_DAYS: u64 = 90;
/// What lies in the files of somebody else's broker must not end by surprise.
const LONG_DAYS: u64 = 3650;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Its files.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// Half of it is missing.
    #[error(
        "{0} is missing and its counterpart is there; restore it from a backup, or remove both, and \
         every node joins anew"
    )]
    Half(&'static str),
    /// Not what it should be.
    #[error("{path} is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// Which file.
        path: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Signing failed.
    #[error("no certificate can be made: {0}")]
    Signing(#[from] rcgen::Error),
}

/// The CA of one fleet.
pub struct Ca {
    fleet: FleetId,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    /// Unix seconds; 0: nothing is served with a certificate of it.
    served_until: AtomicU64,
}

/// A certificate with the secret half of its key.
#[derive(Debug)]
pub struct Pair {
    /// Leaf, then CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: PrivateKeyDer<'static>,
    /// The leaf, PEM.
    pub certificate_pem: String,
    /// The key, PEM.
    pub key_pem: String,
}

/// A node's certificate; its key is the node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    /// PEM.
    pub pem: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// When it ends.
    pub times: Times,
}

/// An operator's certificate; its key is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorPass {
    /// PEM.
    pub pem: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// sha256 of its DER, hexadecimal.
    pub sha256: String,
    /// Unix seconds.
    pub expires_at: u64,
}

impl Ca {
    /// The CA of a data folder; made there where none is, as in folders of an older version.
    ///
    /// # Errors
    /// Where half of it is missing, or a file is damaged or cannot be written.
    pub fn open(data: &DataDir, fleet: &FleetId) -> Result<Self, CaError> {
        let (certificate, key) = (data.path().join(CERTIFICATE), data.path().join(KEY));
        match (certificate.exists(), key.exists()) {
            (true, true) => Self::read(data, fleet),
            (false, false) => Self::make(data, fleet),
            (true, false) => Err(CaError::Half(KEY)),
            // The key is written first: a start that was cut off between the two leaves this.
            (false, true) => Err(CaError::Half(CERTIFICATE)),
        }
    }

    fn make(data: &DataDir, fleet: &FleetId) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = ca_params(fleet).self_signed(&key)?;
        data.create_folder("tls")?;
        data.write(KEY, key.serialize_pem().as_bytes())?;
        data.write(CERTIFICATE, certificate.pem().as_bytes())?;
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Ok(Self::of(fleet, key, der, pem))
    }

    fn read(data: &DataDir, fleet: &FleetId) -> Result<Self, CaError> {
        let damaged =
            |path, reason: &dyn fmt::Display| CaError::Damaged { path, reason: reason.to_string() };
        let pem = data.read_text(CERTIFICATE)?;
        let key = data.read_text(KEY)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| damaged(CERTIFICATE, &error))?;
        let key = KeyPair::from_pem(&key).map_err(|error| damaged(KEY, &error))?;
        let ca = Self::of(fleet, key, der, pem);
        if !ca.is_of_one_pair()? {
            return Err(damaged(CERTIFICATE, &"it does not belong to tls/ca.key"));
        }
        Ok(ca)
    }

    fn of(fleet: &FleetId, key: KeyPair, der: CertificateDer<'static>, pem: String) -> Self {
        let issuer = Issuer::new(ca_params(fleet), key);
        Self { fleet: fleet.clone(), issuer, der, pem, served_until: AtomicU64::new(0) }
    }

    /// Whether what the key signs verifies under the certificate.
    fn is_of_one_pair(&self) -> Result<bool, CaError> {
        let mut roots = rustls::RootCertStore::empty();
        let leaf = self.server(u64::from(u32::MAX))?;
        let Ok(parsed) = ParsedCertificate::try_from(&leaf.chain[0]) else { return Ok(false) };
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::from(u32::MAX)));
        let verified = roots.add(self.der.clone()).and_then(|()| {
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], at, algorithms.all)
        });
        Ok(verified.is_ok())
    }

    /// The CA's certificate, DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What tokens carry.
    #[must_use]
    pub fn sha256(&self) -> String {
        sha256_hex(&self.der)
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &FleetId {
        &self.fleet
    }

    /// The coordinator's certificate on its own port, good for 90 days from `now_s` (Unix seconds).
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub fn server(&self, now_s: u64) -> Result<Pair, CaError> {
        self.pair(&server_name(&self.fleet), Purpose::ServerAuth, now_s, SERVER_DAYS)
    }

    /// The coordinator's port is served with a certificate that was made at `now_s` (Unix seconds).
    pub fn serves_from(&self, now_s: u64) {
        self.served_until.store(now_s + SERVER_DAYS * DAY_SECS, Ordering::Relaxed);
    }

    /// When that certificate ends, Unix seconds; none: there is no such port.
    #[must_use]
    pub fn served_until(&self) -> Option<u64> {
        Some(self.served_until.load(Ordering::Relaxed)).filter(|until| *until > 0)
    }

    /// The certificate of an external broker, with the coordinator's name: that is what nodes ask for.
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub fn broker(&self, now_s: u64) -> Result<Pair, CaError> {
        self.pair(&server_name(&self.fleet), Purpose::ServerAuth, now_s, LONG_DAYS)
    }

    /// What the coordinator shows to an external broker.
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub fn coordinator(&self, now_s: u64) -> Result<Pair, CaError> {
        self.pair(COORDINATOR_NAME, Purpose::ClientAuth, now_s, LONG_DAYS)
    }

    /// A node's certificate, for the key that it made.
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub fn node(
        &self,
        node: &NodeId,
        key: &TlsKey,
        now_s: u64,
    ) -> Result<NodeCertificate, CaError> {
        let mut params = leaf_params(node.as_str(), Purpose::ClientAuth);
        // The node's proxy shows it to other nodes' too, as the server that they reach.
        params.extended_key_usages.push(Purpose::ServerAuth);
        let dns_name = node_dns_name(&self.fleet, node);
        params.subject_alt_names = vec![SanType::DnsName(dns_name.try_into()?)];
        let times = Times {
            renew_at: now_s + RENEW_AFTER_DAYS * DAY_SECS,
            expires_at: now_s + CERTIFICATE_DAYS * DAY_SECS,
        };
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(times.expires_at);
        let serial: [u8; 16] = serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.signed_by(&Subject(key), &self.issuer)?;
        Ok(NodeCertificate { pem: certificate.pem(), serial: hex(&serial), times })
    }

    /// An operator's certificate, for the key that they made. Its name is of another kind than a node's, and its CN can be
    /// neither a node's id nor the coordinator's: an external broker that reads CNs knows nobody of that name.
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub fn operator(
        &self,
        operator: &OperatorName,
        key: &TlsKey,
        now_s: u64,
    ) -> Result<OperatorPass, CaError> {
        let mut params = leaf_params(&format!("operator:{operator}"), Purpose::ClientAuth);
        let dns_name = operator_dns_name(&self.fleet, operator);
        params.subject_alt_names = vec![SanType::DnsName(dns_name.try_into()?)];
        let expires_at = now_s + OPERATOR_DAYS * DAY_SECS;
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(expires_at);
        let serial: [u8; 16] = serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.signed_by(&Subject(key), &self.issuer)?;
        let sha256 = sha256_hex(certificate.der());
        Ok(OperatorPass { pem: certificate.pem(), serial: hex(&serial), sha256, expires_at })
    }

    /// The list of certificates that an external broker must refuse, PEM. It is good for ten years: a broker
    /// refuses everybody once it is over.
    ///
    /// # Errors
    /// Where it cannot be signed, or a serial number is none.
    pub fn revocations(&self, serials: &[String], now_s: u64) -> Result<String, CaError> {
        let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(now_s);
        let bad = |_| rcgen::Error::CouldNotParseKeyPair;
        let revoked = |serial: &String| -> Result<RevokedCertParams, rcgen::Error> {
            let number = u128::from_str_radix(serial, 16).map_err(bad)?;
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&number.to_be_bytes()),
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            })
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(FIRST_DAY.0, FIRST_DAY.1, FIRST_DAY.2),
            next_update: now + Duration::from_secs(LONG_DAYS * DAY_SECS),
            crl_number: SerialNumber::from(now_s),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect::<Result<_, _>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    fn pair(&self, name: &str, purpose: Purpose, now_s: u64, days: u64) -> Result<Pair, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = leaf_params(name, purpose);
        params.subject_alt_names = vec![SanType::DnsName(name.to_owned().try_into()?)];
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now_s + days * DAY_SECS);
        params.serial_number = Some(SerialNumber::from_slice(&serial()?));
        let certificate = params.signed_by(&key, &self.issuer)?;
        let (certificate_pem, key_pem) = (certificate.pem(), key.serialize_pem());
        let chain = vec![certificate.into(), self.der.clone()];
        Ok(Pair { chain, key: key.into(), certificate_pem, key_pem })
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca({}, …)", self.fleet)
    }
}

/// The public key of somebody else's certificate.
struct Subject<'a>(&'a TlsKey);

impl PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The same at every call: an issuer is its name and its key.
fn ca_params(fleet: &FleetId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Pith fleet {fleet}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(FIRST_DAY.0, FIRST_DAY.1, FIRST_DAY.2);
    // No end that is known (RFC 5280 §4.1.2.5).
    params.not_after = date_time_ymd(9999, 12, 31);
    params
}

fn leaf_params(name: &str, purpose: Purpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(FIRST_DAY.0, FIRST_DAY.1, FIRST_DAY.2);
    params
}

/// 16 random bytes, as a number that is positive and has no zero in front.
fn serial() -> Result<[u8; 16], DataDirError> {
    let mut bytes: [u8; 16] = random()?;
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, DataDir, FleetId) {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path());
        let fleet = data.init().unwrap().id;
        (dir, data, fleet)
    }

    #[test]
    fn a_fleet_has_its_ca_and_keeps_it() {
        let (dir, data, fleet) = folder();
        let made = Ca::open(&data, &fleet).unwrap();
        assert_eq!(Ca::open(&data, &fleet).unwrap().sha256(), made.sha256());
        std::fs::remove_dir_all(dir.path().join("tls")).unwrap();
        assert_ne!(Ca::open(&data, &fleet).unwrap().sha256(), made.sha256(), "an older folder");
    }

    #[test]
    fn half_a_ca_and_two_halves_of_two_are_named() {
        let (dir, data, fleet) = folder();
        Ca::open(&data, &fleet).unwrap();
        let (_other_dir, other, _) = folder();
        Ca::open(&other, &fleet).unwrap();
        let key = dir.path().join(KEY);
        std::fs::copy(other.path().join(KEY), &key).unwrap();
        let error = Ca::open(&data, &fleet).unwrap_err().to_string();
        assert!(error.contains("does not belong to tls/ca.key"), "{error}");
        std::fs::remove_file(key).unwrap();
        assert!(matches!(Ca::open(&data, &fleet), Err(CaError::Half(KEY))));
    }

    #[test]
    fn a_revocation_list_names_serial_numbers() {
        let (_dir, data, fleet) = folder();
        let ca = Ca::open(&data, &fleet).unwrap();
        let list = ca.revocations(&["4b".repeat(16)], 1_700_000_000).unwrap();
        assert!(list.starts_with("-----BEGIN X509 CRL-----"));
        assert!(ca.revocations(&["x".to_owned()], 1).is_err());
    }
}
