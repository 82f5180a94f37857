//! Answers that are kept for a day, so that a request that is sent again is not done again.

use serde::{Deserialize, Serialize};

/// Whose request, by its idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AnswerKey {
    /// `uid:0`, `operator:anna`: nobody meets the key of another.
    pub identity: String,
    /// As it was sent.
    pub key: String,
}

/// What a request was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// Which.
    pub of: AnswerKey,
    /// sha256 of method, path and body.
    pub request: String,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Of HTTP.
    pub status: u16,
    /// Why it was refused.
    pub code: Option<String>,
    /// The answer; none for one that holds a secret, which is never written: it lives in memory alone.
    pub body: Option<String>,
}
