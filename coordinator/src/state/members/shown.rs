//! Who is meant by a name, and how members are shown.

use protocol::id::{EnvironmentName, NodeId, NodeName};
use protocol::join::Token;

use crate::state::State;
use crate::state::records::{Member, Renewal, Standing, TokenRecord};
use crate::state::requests::Refused as NotDone;
use crate::state::shown::{MemberShown, TokenShown};

impl TokenShown {
    /// What is kept of a token, with the line to paste.
    #[must_use]
    pub fn of(kept: &TokenRecord, token: Token) -> Self {
        Self {
            id: kept.id.to_string(),
            token: token.encode(),
            expires_ms: kept.expires_ms,
            approve: kept.approve,
            addresses: token.addresses,
        }
    }
}

impl State {
    /// By its id, or the name that it has or asks for.
    pub(in crate::state) fn member_named(&self, who: &str) -> Result<NodeId, NotDone> {
        let is_meant =
            |member: &&Member| member.id.as_str() == who || self.member_name(member) == who;
        // A revoked one is meant only where nobody else has its name.
        let rank =
            |member: &&Member| member.standing == Standing::Revoked && member.id.as_str() != who;
        let meant: Vec<&Member> = self.members.values().filter(is_meant).collect();
        let live: Vec<&&Member> = meant.iter().filter(|member| !rank(member)).collect();
        match (live.as_slice(), meant.as_slice()) {
            ([one], _) => Ok(one.id.clone()),
            ([], [one]) => Ok(one.id.clone()),
            ([], []) => Err(NotDone::NoNode(who.to_owned())),
            ([], many) => Err(several(who, many.iter().map(|member| &member.id))),
            (many, _) => Err(several(who, many.iter().map(|member| &member.id))),
        }
    }

    /// The name that people know a member by.
    pub(super) fn member_name(&self, member: &Member) -> String {
        let heard = self.nodes.get(&member.id).map(|node| node.record.name.to_string());
        let asked = || member.name.as_ref().map(NodeName::to_string);
        heard.or_else(asked).unwrap_or_else(|| member.id.to_string())
    }

    /// A member as it is shown.
    pub(in crate::state) fn show_member(&self, id: &NodeId) -> MemberShown {
        let unknown = Member::unknown(id.clone(), 0);
        let member = self.members.get(id).unwrap_or(&unknown);
        let status = match (member.standing, member.renewal) {
            (Standing::Pending, _) | (Standing::Admitted, Renewal::Asked) => "pending",
            (Standing::Admitted, Renewal::No | Renewal::Granted) => "admitted",
            (Standing::Revoked, _) => "revoked",
        };
        let mut labels = member.asked_labels.clone();
        labels.extend(member.labels.clone());
        MemberShown {
            id: id.clone(),
            name: self.member_name(member),
            status: status.to_owned(),
            environment: self.environment_of(member),
            labels,
            since_ms: member.since_ms,
            runs: self.show_runs(member),
            certificate_expires_at: member.certificates.last().map(|issued| issued.expires_at),
        }
    }

    /// Members that never said hello: those of the lobby, and those that are admitted or revoked before they did.
    pub(in crate::state) fn show_unheard(
        &self,
        environment: Option<&EnvironmentName>,
    ) -> Vec<MemberShown> {
        let unheard = self.members.keys().filter(|id| !self.nodes.contains_key(*id));
        unheard
            .map(|id| self.show_member(id))
            .filter(|member| environment.is_none_or(|wanted| *wanted == member.environment))
            .collect()
    }
}

fn several<'a>(who: &str, ids: impl Iterator<Item = &'a NodeId>) -> NotDone {
    let ids: Vec<&str> = ids.map(NodeId::as_str).collect();
    NotDone::SeveralNodes { name: who.to_owned(), ids: ids.join(", ") }
}
