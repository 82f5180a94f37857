//! People who use the API from afar, as they are kept.

use protocol::id::OperatorName;
use protocol::join::TokenId;
use serde::{Deserialize, Serialize};

use crate::role::Role;

/// Somebody who was invited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Unique.
    pub name: OperatorName,
    /// What they may do.
    pub role: Role,
    /// Their token; it stays when it was used, so that its second use is answered with the reason.
    pub invitation: Invitation,
    /// None until they have logged in.
    pub certificate: Option<OperatorCertificate>,
    /// What it was renewed over: that counts to its own end, for the answer may have been lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_over: Option<OperatorCertificate>,
    /// Whether they are out.
    pub revoked: bool,
    /// Unix milliseconds of the last change.
    pub since_ms: u64,
}

/// The right to log in once; the secret is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Which token.
    pub id: TokenId,
    /// sha256 of its secret, hexadecimal.
    pub secret_sha256: String,
    /// Unix milliseconds.
    pub expires_ms: u64,
    /// Whether somebody logged in with it.
    pub used: bool,
}

/// A certificate of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorCertificate {
    /// sha256 of its DER, hexadecimal: what shows it is who it was given to.
    pub sha256: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Unix seconds.
    pub expires_at: u64,
}
