//! What people are shown of each other, and of what was done.

use protocol::id::{FleetId, OperatorName};
use serde::{Deserialize, Serialize};

use crate::audit::Entry;
use crate::role::Role;

/// Somebody who was invited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorShown {
    /// Who.
    pub name: OperatorName,
    /// What they may do.
    pub role: Role,
    /// `invited`, `active`, `expired` or `revoked`.
    pub status: String,
    /// Unix milliseconds of the last change.
    pub since_ms: u64,
    /// Unix milliseconds.
    pub invitation_expires_ms: u64,
    /// Unix seconds; none before the login.
    pub certificate_expires_at: Option<u64>,
}

/// `pith operator ls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorsShown {
    /// By name.
    pub operators: Vec<OperatorShown>,
}

/// `pith operator invite`. Shown once: the coordinator keeps a hash of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationShown {
    /// Who is invited.
    pub name: OperatorName,
    /// As what.
    pub role: Role,
    /// The word to pass on.
    pub token: String,
    /// Unix milliseconds.
    pub expires_ms: u64,
    /// Where they will look for the coordinator.
    pub addresses: Vec<String>,
}

/// What an invitation was exchanged for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// The fleet.
    pub fleet: FleetId,
    /// Who.
    pub name: OperatorName,
    /// As what.
    pub role: Role,
    /// PEM, for the key that was sent.
    pub certificate: String,
    /// The fleet's CA, PEM.
    pub ca: String,
    /// Unix seconds.
    pub expires_at: u64,
}

/// `pith audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditShown {
    /// Ascending.
    pub entries: Vec<Entry>,
}
