//! Who belongs to the fleet: tokens, the lobby, admission, certificates and their end.
//!
//! ```text
//!            join, token                 approve (or the token did)              revoke
//!  stranger ------------->  Pending  ------------------------------>  Admitted  --------> Revoked
//!                                         approve ID: at once            |
//!                                                        renew: a certificate; one that is over waits for approve
//! ```
//! Only an admitted node is heard, and gets manifests. A revoked identity never comes back: the board joins with a new key.

mod shown;

use std::collections::BTreeMap;

use protocol::envelope::{Envelope, Rejected};
use protocol::id::{EnvironmentName, NodeId, ServiceName};
use protocol::join::{
    Answer, Approved, Join, JoinBody, Offer, RefusalCode, Refused, RenewBody, Token, TokenId,
    verify_join, verify_renew,
};

use super::heard::MAX_NODES;
use super::records::{Change, Happened, IssuedCertificate, Member, Renewal, Standing, TokenRecord};
use super::requests::{NewToken, Refused as NotDone};
use super::shown::{MemberShown, RevokedShown};
use super::{At, State};
use crate::ca::NodeCertificate;

/// Tokens that are kept at once, used and expired ones included.
const MAX_TOKENS: usize = 1024;
/// A token that is over is remembered this long, so that its use is answered with the reason.
const TOKEN_REMEMBERED_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// The longest life of a token.
pub const MAX_TOKEN_MS: u64 = 24 * 60 * 60 * 1000;

/// Hands out what the state has decided that a node gets.
pub trait Issue {
    /// A certificate for the node's key.
    ///
    /// # Errors
    /// In words, where none can be made.
    fn certificate(
        &self,
        node: &NodeId,
        key: &protocol::join::TlsKey,
        now_s: u64,
    ) -> Result<NodeCertificate, String>;
    /// The fleet's CA.
    fn ca_pem(&self) -> String;
    /// The trust roots above a version, ascending.
    ///
    /// # Errors
    /// In words, where they cannot be read.
    fn roots(&self, newer_than: u64) -> Result<Vec<Envelope>, String>;
    /// Where MQTT is, if it is not the coordinator's own port.
    fn broker(&self) -> Option<String>;
}

impl State {
    /// Keeps a new token; its secret is not kept.
    ///
    /// # Errors
    /// Where it would live too long, or there are too many.
    pub fn new_token(
        &mut self,
        wish: &NewToken,
        offer: &Offer,
        at: At,
    ) -> Result<TokenRecord, NotDone> {
        self.token_for(wish, None, offer, at)
    }

    /// The same; `replaces`: in whose place its board comes.
    pub(super) fn token_for(
        &mut self,
        wish: &NewToken,
        replaces: Option<NodeId>,
        offer: &Offer,
        at: At,
    ) -> Result<TokenRecord, NotDone> {
        let is_over =
            |token: &TokenRecord| at.unix_ms.saturating_sub(token.expires_ms) > TOKEN_REMEMBERED_MS;
        let over: Vec<TokenId> =
            self.tokens.values().filter(|token| is_over(token)).map(|t| t.id.clone()).collect();
        for id in over {
            self.tokens.remove(&id);
            self.effects.changes.push(Change::ForgetToken(id));
        }
        if wish.ttl_ms == 0 || wish.ttl_ms > MAX_TOKEN_MS {
            return Err(NotDone::TokenLife);
        }
        if self.tokens.len() >= MAX_TOKENS {
            return Err(NotDone::TooManyTokens(MAX_TOKENS));
        }
        let token = TokenRecord {
            id: offer.id.clone(),
            secret_sha256: Token::secret_sha256(&offer.secret),
            expires_ms: at.unix_ms + wish.ttl_ms,
            labels: wish.labels.clone(),
            environment: wish.environment.clone(),
            approve: wish.approve,
            used_by: None,
            replaces,
        };
        self.tokens.insert(token.id.clone(), token.clone());
        self.effects.changes.push(Change::Token(Box::new(token.clone())));
        Ok(token)
    }

    /// Answers a request to join.
    pub fn join(&mut self, body: &JoinBody, desk: &impl Issue, at: At) -> Answer {
        self.take_in(body, desk, at).unwrap_or_else(Answer::Refused)
    }

    fn take_in(&mut self, body: &JoinBody, desk: &impl Issue, at: At) -> Result<Answer, Refused> {
        let (join, key) =
            verify_join(&body.request.to_bytes(), &self.director.fleet).map_err(not_signed)?;
        let join = join.into_inner();
        let known = self.members.get(&join.node);
        if known.is_some_and(|member| member.standing == Standing::Revoked) {
            return Err(revoked());
        }
        let token = self.token_of(&join, &body.secret, at)?;
        if known.is_none() && self.members.len() >= MAX_NODES {
            let message = format!("the fleet has {MAX_NODES} nodes already");
            return Err(refused(RefusalCode::Busy, &message));
        }
        let was_admitted = known.is_some_and(|member| member.standing == Standing::Admitted);
        let certificates = known.map(|member| member.certificates.clone()).unwrap_or_default();
        let is_same = known.is_some_and(|member| member.token.as_ref() == Some(&token.id));
        let is_admitted = was_admitted || token.approve;
        let mut member = Member {
            id: join.node.clone(),
            standing: if is_admitted { Standing::Admitted } else { Standing::Pending },
            name: Some(join.name.clone()),
            fixed_name: known.and_then(|member| member.fixed_name.clone()),
            environment: token.environment.clone(),
            asked_environment: join.environment.clone(),
            labels: token.labels.clone(),
            asked_labels: join.labels.clone(),
            key: Some(key),
            tls_key: Some(join.tls_key.clone()),
            seal_key: Some(join.seal_key.clone()),
            token: Some(token.id.clone()),
            certificates,
            renewal: Renewal::No,
            recovered: known.and_then(|member| member.recovered.clone()),
            since_ms: at.unix_ms,
        };
        if let Some(old) = &token.replaces {
            self.succeed_old(&mut member, old, at);
        }
        if token.used_by.is_none() {
            let used = TokenRecord { used_by: Some(join.node.clone()), ..token };
            self.effects.changes.push(Change::Token(Box::new(used.clone())));
            self.tokens.insert(used.id.clone(), used);
        }
        self.keep_member(member);
        if is_admitted {
            self.let_in(&join.node);
            return self.issue(&join.node, 0, desk, at);
        }
        if !is_same {
            tracing::info!(name = %join.name, id = %join.node, "a node asks to join");
            self.note_member(
                &join.node,
                format!("asks to join: `pith node approve {}` lets it in", join.name),
                at,
            );
        }
        Ok(Answer::Pending)
    }

    /// The token of a request, if it is good for it.
    fn token_of(&self, join: &Join, secret: &str, at: At) -> Result<TokenRecord, Refused> {
        let no = refused;
        let token = self.tokens.get(&join.token).filter(|token| {
            // Digests: how long the comparison takes says nothing about a secret.
            token.secret_sha256 == Token::secret_sha256(secret)
        });
        let Some(token) = token else {
            let text = "this coordinator knows no such token; make one with `pith node token`";
            return Err(no(RefusalCode::TokenUnknown, text));
        };
        match &token.used_by {
            // The answer was lost on its way.
            Some(by) if *by == join.node => {}
            Some(by) => {
                let text = format!(
                    "the token was used by node {by}; a token is for one node: make another with `pith node token`"
                );
                return Err(no(RefusalCode::TokenUsed, &text));
            }
            None if at.unix_ms >= token.expires_ms => {
                let text = "the token is too old; make another with `pith node token`";
                return Err(no(RefusalCode::TokenExpired, text));
            }
            None => {}
        }
        if let (Some(of_token), Some(asked)) = (&token.environment, &join.environment)
            && of_token != asked
        {
            let text = format!(
                "the token is for environment {of_token}, and the node is configured for {asked}; change `environment` in its \
                 agent.toml, or make a token with --env {asked}"
            );
            return Err(no(RefusalCode::WrongEnvironment, &text));
        }
        Ok(token.clone())
    }

    /// Answers a request for a certificate.
    pub fn renew(&mut self, body: &RenewBody, desk: &impl Issue, at: At) -> Answer {
        self.give_again(body, desk, at).unwrap_or_else(Answer::Refused)
    }

    fn give_again(
        &mut self,
        body: &RenewBody,
        desk: &impl Issue,
        at: At,
    ) -> Result<Answer, Refused> {
        let (renew, key) =
            verify_renew(&body.request.to_bytes(), &self.director.fleet).map_err(not_signed)?;
        let renew = renew.into_inner();
        // What a token has fixed stays, whatever a board shows beside it.
        let comes_again = |known: &&Member| {
            known.standing == Standing::Pending
                && known.recovered.is_some()
                && known.token.is_none()
        };
        let manifest = body.manifest.as_ref();
        let Some(known) = self.members.get(&renew.node).filter(|known| !comes_again(known)) else {
            return self.come_again(renew, key, manifest, at);
        };
        let is_over = known.is_over(at.unix_ms / 1000);
        let mut member = known.clone();
        member.key = Some(key);
        member.tls_key = Some(renew.tls_key);
        let shown = manifest.filter(|_| !self.nodes.contains_key(&renew.node));
        if let Some(shown) = shown.filter(|one| self.told_before(one, &member.id).is_ok()) {
            // Let in by its id before it asked.
            member.recovered = Some(shown.clone());
        }
        match (known.standing, known.renewal) {
            (Standing::Revoked, _) => Err(revoked()),
            (Standing::Pending, _) => {
                if self.members.get(&renew.node) != Some(&member) {
                    self.keep_member(member);
                }
                Ok(Answer::Pending)
            }
            (Standing::Admitted, Renewal::No) if is_over => {
                member.renewal = Renewal::Asked;
                member.since_ms = at.unix_ms;
                let name = self.member_name(&member);
                self.keep_member(member);
                let text =
                    format!("its certificate is over: `pith node approve {name}` lets it back in");
                self.note_member(&renew.node, text, at);
                Ok(Answer::Pending)
            }
            (Standing::Admitted, Renewal::Asked) if is_over => Ok(Answer::Pending),
            (Standing::Admitted, Renewal::No | Renewal::Asked | Renewal::Granted) => {
                member.renewal = Renewal::No;
                self.keep_member(member);
                self.issue(&renew.node, renew.root_version, desk, at)
            }
        }
    }

    /// A certificate for an admitted node that has said its key.
    fn issue(
        &mut self,
        id: &NodeId,
        root_version: u64,
        desk: &impl Issue,
        at: At,
    ) -> Result<Answer, Refused> {
        let failed = |error: String| {
            tracing::error!(%error, node = %id.short(), "no certificate for a node");
            refused(RefusalCode::Busy, "the coordinator cannot make a certificate; see its log")
        };
        let now_s = at.unix_ms / 1000;
        let Some(member) = self.members.get(id) else { return Err(failed("no member".into())) };
        let Some(key) = &member.tls_key else { return Err(failed("no key".into())) };
        let certificate = desk.certificate(id, key, now_s).map_err(failed)?;
        let roots = desk.roots(root_version).map_err(failed)?;
        let mut member = member.clone();
        // Those that are over need no revocation any more.
        member.certificates.retain(|issued| issued.expires_at > now_s);
        member.certificates.push(IssuedCertificate {
            serial: certificate.serial,
            expires_at: certificate.times.expires_at,
        });
        let mut labels = member.asked_labels.clone();
        labels.extend(member.labels.clone());
        let answer = Approved {
            certificate: certificate.pem,
            ca: desk.ca_pem(),
            roots,
            environment: self.environment_of(&member),
            labels,
            broker: desk.broker(),
            times: certificate.times,
        };
        self.keep_member(member);
        Ok(Answer::Approved(Box::new(answer)))
    }

    fn environment_of(&self, member: &Member) -> EnvironmentName {
        let heard = self.nodes.get(&member.id).map(|node| node.record.environment.clone());
        let asked = member.environment.clone().or_else(|| member.asked_environment.clone());
        asked.or(heard).unwrap_or_else(|| "default".parse().expect("a valid name"))
    }

    /// Lets a node in: out of the lobby, back in with a certificate that is over, or, by its id, before it has
    /// asked. Asked twice, it says the same.
    ///
    /// # Errors
    /// Where nobody, or more than one, is meant, or the node is revoked.
    pub fn approve(&mut self, who: &str, at: At) -> Result<MemberShown, NotDone> {
        let id = match self.member_named(who) {
            Err(NotDone::NoNode(_)) if who.parse::<NodeId>().is_ok() => {
                who.parse().expect("parsed a moment ago")
            }
            found => found?,
        };
        self.admit(&id, at)?;
        Ok(self.show_member(&id))
    }

    /// Lets a node in by its id.
    ///
    /// # Errors
    /// Where it is revoked, or the fleet is full.
    pub fn admit(&mut self, id: &NodeId, at: At) -> Result<(), NotDone> {
        let known = self.members.get(id).cloned();
        if known.is_none() && self.members.len() >= MAX_NODES {
            return Err(NotDone::FleetFull(MAX_NODES));
        }
        let before = known.as_ref().map(|member| (member.standing, member.renewal));
        let mut member = known.unwrap_or_else(|| Member::unknown(id.clone(), at.unix_ms));
        match before {
            Some((Standing::Revoked, _)) => {
                return Err(NotDone::NodeRevoked(self.member_name(&member)));
            }
            Some((Standing::Admitted, Renewal::No | Renewal::Granted)) => return Ok(()),
            Some((Standing::Admitted, Renewal::Asked)) => member.renewal = Renewal::Granted,
            Some((Standing::Pending, _)) | None => member.standing = Standing::Admitted,
        }
        member.since_ms = at.unix_ms;
        self.keep_member(member);
        self.let_in(id);
        self.note_member(id, "admitted".to_owned(), at);
        Ok(())
    }

    /// Refuses an identity for ever.
    ///
    /// # Errors
    /// Where nobody, or more than one, is meant.
    pub fn revoke(&mut self, who: &str, at: At) -> Result<RevokedShown, NotDone> {
        let id = match self.member_named(who) {
            // A board that a coordinator, made anew, was only told of: others still take its calls.
            Err(NotDone::NoNode(_)) if self.absent().any(|(_, id)| id.as_str() == who) => {
                who.parse().map_err(|_| NotDone::NoNode(who.into()))?
            }
            found => found?,
        };
        let mut member = match self.members.get(&id) {
            Some(known) => known.clone(),
            None if self.members.len() >= MAX_NODES => return Err(NotDone::FleetFull(MAX_NODES)),
            None => Member::unknown(id.clone(), at.unix_ms),
        };
        let is_new = member.standing != Standing::Revoked;
        member.standing = Standing::Revoked;
        member.renewal = Renewal::No;
        let name = self.member_name(&member);
        let services: Vec<ServiceName> = self
            .nodes
            .get(&id)
            .map(|node| node.intent.assigned.keys().cloned().collect())
            .unwrap_or_default();
        if is_new {
            member.since_ms = at.unix_ms;
            tracing::warn!(node = %name, id = %id, "node revoked");
            self.keep_member(member);
            self.effects.admit.remove(&id);
            self.effects.revoke.insert(id.clone());
            self.set_offline(&id, "revoked", at);
            self.are_peers_stale = true;
            self.note_member(&id, "revoked: its identity is refused from now on".to_owned(), at);
        }
        let secrets = self.sealed_to(&id);
        Ok(RevokedShown { id, name, already: !is_new, services, secrets })
    }

    /// Every node that may come in, at a start.
    pub fn admitted(&self) -> impl Iterator<Item = &NodeId> {
        self.members.values().filter(|m| m.standing == Standing::Admitted).map(|m| &m.id)
    }

    /// As [`revoked_serials`], of now.
    #[must_use]
    pub fn revoked_serials(&self) -> Vec<String> {
        revoked_serials(self.members.values())
    }

    pub(super) fn is_admitted(&self, id: &NodeId) -> bool {
        self.members.get(id).is_some_and(|member| member.standing == Standing::Admitted)
    }

    /// What the operator has fixed of a node, whatever its hello says: name, environment and labels are.
    pub(super) fn fixed_for(&self, id: &NodeId) -> Option<&Member> {
        self.members.get(id)
    }

    fn let_in(&mut self, id: &NodeId) {
        self.effects.revoke.remove(id);
        self.effects.admit.insert(id.clone());
    }

    pub(super) fn keep_member(&mut self, member: Member) {
        self.effects.visible = true;
        self.effects.changes.push(Change::Member(Box::new(member.clone())));
        self.members.insert(member.id.clone(), member);
    }

    pub(super) fn note_member(&mut self, id: &NodeId, message: String, at: At) {
        let Some(member) = self.members.get(id) else { return };
        let heard = self.nodes.get(id).map(|node| node.record.name.clone());
        self.note(Happened {
            id: 0,
            at_ms: at.unix_ms,
            environment: Some(self.environment_of(member)),
            service: None,
            node: heard.or_else(|| member.name.clone()),
            reason: None,
            message,
        });
    }
}

impl Member {
    /// Let in by its id, before it has said anything.
    pub(super) fn unknown(id: NodeId, since_ms: u64) -> Self {
        Self {
            id,
            standing: Standing::Pending,
            name: None,
            fixed_name: None,
            environment: None,
            asked_environment: None,
            labels: BTreeMap::new(),
            asked_labels: BTreeMap::new(),
            key: None,
            tls_key: None,
            seal_key: None,
            token: None,
            certificates: Vec::new(),
            renewal: Renewal::No,
            recovered: None,
            since_ms,
        }
    }

    /// Whether it had certificates, and the last is over.
    fn is_over(&self, now_s: u64) -> bool {
        self.certificates.last().is_some_and(|newest| newest.expires_at <= now_s)
    }
}

/// Serial numbers of certificates that an external broker must refuse.
#[must_use]
pub fn revoked_serials<'a>(members: impl IntoIterator<Item = &'a Member>) -> Vec<String> {
    let revoked = members.into_iter().filter(|member| member.standing == Standing::Revoked);
    revoked.flat_map(|member| member.certificates.iter().map(|one| one.serial.clone())).collect()
}

pub(super) fn refused(code: RefusalCode, message: &str) -> Refused {
    Refused { code, message: message.to_owned() }
}

fn revoked() -> Refused {
    let text = "this identity was revoked; a board that is to come back removes its keys (`node.key` in its state_dir) and joins anew";
    refused(RefusalCode::Revoked, text)
}

fn not_signed(rejected: Rejected) -> Refused {
    let is_foreign = rejected == Rejected::WrongFleet;
    let code = if is_foreign { RefusalCode::WrongFleet } else { RefusalCode::BadRequest };
    refused(code, &format!("the request is refused: {rejected}"))
}
