//! Requests about people and what they did.

use protocol::envelope::Envelope;
use protocol::id::OperatorName;
use reqwest::Method;

use super::{Client, ClientError};
use crate::audit::Verified;
use crate::state::requests::{Login, NewOperator, RenewLogin};
use crate::state::shown::{AuditShown, InvitationShown, LoggedIn, OperatorShown, OperatorsShown};

impl Client {
    /// Everybody who was invited.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all that follow.
    pub async fn operators(&self) -> Result<OperatorsShown, ClientError> {
        self.get("operators", &[]).await
    }

    /// Invites somebody.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn invite(&self, wish: &NewOperator) -> Result<InvitationShown, ClientError> {
        self.send(Method::POST, "operators", &[], Some(wish)).await
    }

    /// Refuses an operator from now on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke_operator(&self, name: &OperatorName) -> Result<OperatorShown, ClientError> {
        self.send(Method::POST, &format!("operators/{name}/revoke"), &[], Some(&())).await
    }

    /// Exchanges an invitation for a certificate.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn login(&self, login: &Login) -> Result<LoggedIn, ClientError> {
        self.send(Method::POST, "login", &[], Some(login)).await
    }

    /// A new certificate over the own one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn renew_login(&self, renew: &RenewLogin) -> Result<LoggedIn, ClientError> {
        self.send(Method::POST, "login/renew", &[], Some(renew)).await
    }

    /// Gives the own certificate back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn logout(&self) -> Result<OperatorShown, ClientError> {
        self.send(Method::POST, "logout", &[], Some(&())).await
    }

    /// The newest entries of the audit log, from a time on (Unix milliseconds).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn audit(&self, since_ms: u64) -> Result<AuditShown, ClientError> {
        self.get("audit", &[("since_ms", Some(since_ms.to_string()))]).await
    }

    /// Whether the audit log is what was written.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn verify_audit(&self) -> Result<Verified, ClientError> {
        self.get("audit/verify", &[]).await
    }

    /// The signed trust root in effect.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn root_document(&self) -> Result<Envelope, ClientError> {
        self.get("root/document", &[]).await
    }
}
