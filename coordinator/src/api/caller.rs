//! Who asks, and what they may do. What the kernel or TLS says is in [`Peer`]; the loop is asked whose a certificate is, at
//! every request.

use std::net::IpAddr;

use nix::unistd::{self, Gid, Uid};
use protocol::id::OperatorName;

use super::Api;
use super::limits::Known;
use super::problem::Failed;
use super::routes::{Least, Route};
use crate::role::Role;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine.
    Local {
        /// Its user.
        uid: u32,
        /// The user's name.
        name: Option<String>,
        /// What that user may do.
        role: Option<Role>,
    },
    /// Somebody on the TLS port.
    Remote {
        /// From where.
        from: IpAddr,
        /// sha256 of the certificate that they showed; TLS has verified it under the fleet's CA.
        certificate: Option<String>,
    },
}

/// A group of this machine whose members are operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number.
    pub gid: u32,
}

/// Somebody who asks, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// For people and the audit log.
    pub(super) who: String,
    /// Whose limits and idempotency keys these are.
    pub(super) identity: String,
    /// None: nothing.
    pub(super) role: Option<Role>,
    /// Of those from afar.
    pub(super) operator: Option<OperatorName>,
    is_without_certificate: bool,
}

impl Peer {
    /// A process by what the kernel says of it: root and the coordinator's own user may do everything, members of the group
    /// what operators may. Users and groups are looked up anew for each connection.
    #[must_use]
    pub fn local(uid: u32, gid: u32, group: Option<&Group>) -> Self {
        let user = || unistd::User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let own = unistd::geteuid().as_raw();
        if uid == 0 || uid == own {
            let name = if uid == 0 { Some("root".to_owned()) } else { user().map(|u| u.name) };
            return Self::Local { uid, name, role: Some(Role::Security) };
        }
        let name = user().map(|user| user.name);
        let members = |group: &Group| {
            unistd::Group::from_gid(Gid::from_raw(group.gid)).ok().flatten().map(|g| g.mem)
        };
        let is_member = group.is_some_and(|group| {
            let is_listed = |name: &String| members(group).is_some_and(|all| all.contains(name));
            gid == group.gid || name.as_ref().is_some_and(is_listed)
        });
        Self::Local { uid, name, role: is_member.then_some(Role::Operator) }
    }
}

impl Caller {
    /// Whoever this is now.
    ///
    /// # Errors
    /// Where the loop has ended.
    pub(super) async fn of(peer: &Peer, api: &Api) -> Result<Self, Failed> {
        let (from, certificate) = match peer {
            Peer::Local { uid, name, role } => {
                let identity = format!("uid:{uid}");
                let who = match name {
                    Some(name) => format!("{identity} ({name})"),
                    None => identity.clone(),
                };
                let (role, operator) = (*role, None);
                return Ok(Self { who, identity, role, operator, is_without_certificate: false });
            }
            Peer::Remote { from, certificate } => (from, certificate),
        };
        let known = match certificate.clone() {
            Some(sha256) => {
                api.fleet.ask(move |state, at| state.operator_with(&sha256, at)).await?
            }
            None => None,
        };
        let is_without_certificate = certificate.is_none();
        let Some((name, role)) = known else {
            let who = format!("from:{from}");
            let (identity, role, operator) = (who.clone(), None, None);
            return Ok(Self { who, identity, role, operator, is_without_certificate });
        };
        let who = format!("operator:{name}");
        let (identity, role, operator) = (who.clone(), Some(role), Some(name));
        Ok(Self { who, identity, role, operator, is_without_certificate })
    }

    pub(super) fn known(&self) -> Known {
        if self.role.is_some() { Known::Yes } else { Known::Stranger }
    }

    /// Whether they may ask this.
    ///
    /// # Errors
    /// Says what they are and what is needed.
    pub(super) fn may(&self, route: &Route) -> Result<(), Failed> {
        let Least::Role(least) = route.least else { return Ok(()) };
        match self.role {
            Some(role) if role >= least => Ok(()),
            Some(role) => Err(Failed::role(format!(
                "`{}` needs the role {least}, and {} has the role {role}",
                route.verb, self.who
            ))),
            None if self.is_without_certificate => Err(Failed::no_certificate()),
            None if self.identity.starts_with("uid:") => Err(Failed::no_role(&self.who)),
            None => Err(Failed::not_an_operator()),
        }
    }

    /// The name for histories: that of the certificate, where there is one, else what the person's side says.
    pub(super) fn by(&self, said: String) -> String {
        self.operator.as_ref().map_or(said, ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_of(uid: u32, gid: u32, group: Option<&Group>) -> Option<Role> {
        let Peer::Local { role, .. } = Peer::local(uid, gid, group) else { return None };
        role
    }

    #[test]
    fn root_and_the_coordinators_user_may_all_and_others_only_with_the_group() {
        let own = unistd::geteuid().as_raw();
        let group = Group { name: "a-group".to_owned(), gid: 61_234 };
        assert_eq!(role_of(0, 0, None), Some(Role::Security));
        assert_eq!(role_of(own, 7, None), Some(Role::Security));
        let stranger = 61_233;
        assert_eq!(role_of(stranger, stranger, None), None);
        assert_eq!(role_of(stranger, stranger, Some(&group)), None);
        assert_eq!(role_of(stranger, group.gid, Some(&group)), Some(Role::Operator));
    }
}
