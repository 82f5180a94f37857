//! People who use the API from afar: invitations, certificates and their end.
//!
//! ```text
//!            invite                 login, once                  revoke, logout
//!  nobody ------------>  invited  -------------->  logged in  ------------------>  revoked
//!                           ^                          | its certificate is over        |
//!                           +-------- invite ----------+--------------------------------+
//! ```
//! One login per name: its certificate, and the one that it was renewed over. Whether it still counts is asked at every request,
//! so that a revocation holds at once.

use protocol::id::OperatorName;
use protocol::join::{Offer, Token};

use super::records::{Change, Invitation, Operator, OperatorCertificate};
use super::requests::{Login, NewOperator, Refused};
use super::shown::OperatorShown;
use super::{At, State};
use crate::ca::OperatorPass;
use crate::role::Role;

/// Operators that are kept, revoked ones included.
const MAX_OPERATORS: usize = 1024;
/// The longest life of an invitation.
const MAX_INVITATION_MS: u64 = 7 * 24 * 60 * 60 * 1000;

impl State {
    /// Keeps an invitation; its secret is not kept.
    ///
    /// # Errors
    /// Where the name is somebody's who is in, the invitation would live too long, or there are too many.
    pub fn invite(
        &mut self,
        wish: &NewOperator,
        offer: &Offer,
        at: At,
    ) -> Result<Operator, Refused> {
        if wish.ttl_ms == 0 || wish.ttl_ms > MAX_INVITATION_MS {
            return Err(Refused::InvitationLife);
        }
        let known = self.operators.get(&wish.name);
        if known.is_some_and(|known| known.is_in(at.unix_ms / 1000)) {
            return Err(Refused::OperatorExists(wish.name.clone()));
        }
        if known.is_none() && self.operators.len() >= MAX_OPERATORS {
            return Err(Refused::TooManyOperators(MAX_OPERATORS));
        }
        let operator = Operator {
            name: wish.name.clone(),
            role: wish.role,
            invitation: Invitation {
                id: offer.id.clone(),
                secret_sha256: Token::secret_sha256(&offer.secret),
                expires_ms: at.unix_ms + wish.ttl_ms,
                used: false,
            },
            certificate: None,
            renewed_over: None,
            revoked: false,
            since_ms: at.unix_ms,
        };
        self.note_fleet(format!("operator {} is invited as {}", wish.name, wish.role), at);
        self.keep_operator(operator.clone());
        Ok(operator)
    }

    /// Takes an invitation and gives a certificate for the key that was made where the person sits.
    ///
    /// # Errors
    /// Where the token is unknown, used or too old, or no certificate can be made.
    pub fn login(
        &mut self,
        body: &Login,
        issue: impl FnOnce(&OperatorName) -> Result<OperatorPass, String>,
        at: At,
    ) -> Result<(Operator, OperatorPass), Refused> {
        let secret_sha256 = Token::secret_sha256(&body.secret);
        let invited = self.operators.values().find(|operator| {
            // Digests: how long the comparison takes says nothing about a secret.
            operator.invitation.id == body.token
                && operator.invitation.secret_sha256 == secret_sha256
        });
        let Some(invited) = invited else { return Err(Refused::InvitationUnknown) };
        if invited.invitation.used {
            return Err(Refused::InvitationUsed(invited.name.clone()));
        }
        if invited.revoked {
            return Err(Refused::InvitationUnknown);
        }
        if at.unix_ms >= invited.invitation.expires_ms {
            return Err(Refused::InvitationExpired(invited.name.clone()));
        }
        let pass = issue(&invited.name).map_err(Refused::NoCertificate)?;
        let mut operator = invited.clone();
        operator.invitation.used = true;
        operator.since_ms = at.unix_ms;
        (operator.certificate, operator.renewed_over) =
            (Some(OperatorCertificate::of(&pass)), None);
        tracing::info!(operator = %operator.name, role = %operator.role, "an operator logged in");
        self.note_fleet(format!("operator {} logged in as {}", operator.name, operator.role), at);
        self.keep_operator(operator.clone());
        Ok((operator, pass))
    }

    /// Gives whoever shows this certificate a new one, and nobody else. The one that is shown counts on to its own end; one that
    /// was renewed over it before and may never have arrived counts no more.
    ///
    /// # Errors
    /// Where the certificate is nobody's any more, or none can be made.
    pub fn renew_login(
        &mut self,
        shown: &str,
        issue: impl FnOnce(&OperatorName) -> Result<OperatorPass, String>,
        at: At,
    ) -> Result<(Operator, OperatorPass), Refused> {
        let known = self.who_shows(shown, at).ok_or(Refused::NotLoggedIn)?;
        let pass = issue(&known.name).map_err(Refused::NoCertificate)?;
        let mut operator = known.clone();
        let over = operator.certificates().find(|own| own.sha256 == shown).cloned();
        operator.renewed_over = over;
        operator.certificate = Some(OperatorCertificate::of(&pass));
        operator.since_ms = at.unix_ms;
        tracing::info!(operator = %operator.name, "an operator's certificate is renewed");
        self.note_fleet(format!("operator {} renewed their certificate", operator.name), at);
        self.keep_operator(operator.clone());
        Ok((operator, pass))
    }

    /// Refuses an operator from now on; their certificate is worth nothing with the next request.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn revoke_operator(
        &mut self,
        name: &OperatorName,
        at: At,
    ) -> Result<OperatorShown, Refused> {
        let Some(known) = self.operators.get(name) else {
            return Err(Refused::NoOperator(name.clone()));
        };
        let mut operator = known.clone();
        if !operator.revoked {
            operator.revoked = true;
            operator.since_ms = at.unix_ms;
            tracing::warn!(operator = %name, "operator revoked");
            self.note_fleet(format!("operator {name} is revoked"), at);
            self.keep_operator(operator.clone());
        }
        Ok(show(&operator, at))
    }

    /// Whose certificate this is, and what they may do; none: nobody's, or nobody's any more.
    #[must_use]
    pub fn operator_with(&self, sha256: &str, at: At) -> Option<(OperatorName, Role)> {
        self.who_shows(sha256, at).map(|operator| (operator.name.clone(), operator.role))
    }

    fn who_shows(&self, sha256: &str, at: At) -> Option<&Operator> {
        self.operators.values().find(|operator| {
            let mut counting = operator.counting(at.unix_ms / 1000);
            counting.any(|certificate| certificate.sha256 == sha256)
        })
    }

    /// Everybody who was ever invited.
    #[must_use]
    pub fn show_operators(&self, at: At) -> Vec<OperatorShown> {
        self.operators.values().map(|operator| show(operator, at)).collect()
    }

    fn keep_operator(&mut self, operator: Operator) {
        // Who waits for news is asked again whether they may have it.
        self.effects.visible = true;
        self.effects.changes.push(Change::Operator(Box::new(operator.clone())));
        self.operators.insert(operator.name.clone(), operator);
    }
}

impl Operator {
    /// The newest first.
    fn certificates(&self) -> impl Iterator<Item = &OperatorCertificate> {
        self.certificate.iter().chain(&self.renewed_over)
    }

    /// Certificates that are good for something now.
    fn counting(&self, now_s: u64) -> impl Iterator<Item = &OperatorCertificate> {
        self.certificates().filter(move |own| !self.revoked && own.expires_at > now_s)
    }

    fn is_in(&self, now_s: u64) -> bool {
        self.counting(now_s).next().is_some()
    }
}

impl OperatorCertificate {
    fn of(pass: &OperatorPass) -> Self {
        Self {
            sha256: pass.sha256.clone(),
            serial: pass.serial.clone(),
            expires_at: pass.expires_at,
        }
    }
}

fn show(operator: &Operator, at: At) -> OperatorShown {
    let is_over = |certificate: &OperatorCertificate| certificate.expires_at <= at.unix_ms / 1000;
    let status = match &operator.certificate {
        _ if operator.revoked => "revoked",
        Some(certificate) if is_over(certificate) => "expired",
        Some(_) => "active",
        None if operator.invitation.expires_ms <= at.unix_ms => "expired",
        None => "invited",
    };
    OperatorShown {
        name: operator.name.clone(),
        role: operator.role,
        status: status.to_owned(),
        since_ms: operator.since_ms,
        invitation_expires_ms: operator.invitation.expires_ms,
        certificate_expires_at: operator.certificate.as_ref().map(|own| own.expires_at),
    }
}
