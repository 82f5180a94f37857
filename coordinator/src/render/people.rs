//! Invitations, operators and what they did, for people.

use crate::audit::{Entry, Event, Verified};
use crate::role::Role;
use crate::state::shown::{AuditShown, InvitationShown, OperatorShown, OperatorsShown};

use super::{clock as time, table};

/// The word to pass on, alone.
#[must_use]
pub fn invitation(invitation: &InvitationShown) -> String {
    format!("pith login {}\n", invitation.token)
}

/// What to do with it.
#[must_use]
pub fn invitation_use(invitation: &InvitationShown) -> String {
    let InvitationShown { name, role, expires_ms, addresses, .. } = invitation;
    format!(
        "for {name}, to run once on their machine before {}; they will be {role}. It looks for the coordinator at {}",
        time(*expires_ms),
        addresses.join(", ")
    )
}

/// `pith operator ls`.
#[must_use]
pub fn operators(shown: &OperatorsShown) -> String {
    if shown.operators.is_empty() {
        return "nobody is invited; `pith operator invite NAME --role ROLE` invites somebody\n"
            .to_owned();
    }
    let mut rows = vec![["NAME", "ROLE", "STATUS", "SINCE", "UNTIL"].map(str::to_owned)];
    for operator in &shown.operators {
        let until = match (operator.status.as_str(), operator.certificate_expires_at) {
            ("revoked", _) => "-".to_owned(),
            (_, Some(expires_at)) => time(expires_at.saturating_mul(1000)),
            (_, None) => time(operator.invitation_expires_ms),
        };
        rows.push([
            operator.name.to_string(),
            operator.role.to_string(),
            operator.status.clone(),
            time(operator.since_ms),
            until,
        ]);
    }
    table(&rows)
}

/// What a revocation did.
#[must_use]
pub fn revoked(operator: &OperatorShown) -> String {
    format!("operator {} is revoked: the next request is refused\n", operator.name)
}

/// `pith audit`.
#[must_use]
pub fn audit(shown: &AuditShown) -> String {
    let mut rows = vec![["N", "TIME", "WHO", "ROLE", "VERB", "TARGET", "WHAT"].map(str::to_owned)];
    for entry in &shown.entries {
        rows.push([
            entry.n.to_string(),
            time(entry.at_ms),
            entry.who.clone(),
            entry.role.map_or("-", Role::as_str).to_owned(),
            entry.verb.clone(),
            if entry.target.is_empty() { "-".to_owned() } else { entry.target.clone() },
            what(entry),
        ]);
    }
    // Names came from outside: nothing of them reaches a terminal as a command to it.
    for row in &mut rows {
        for cell in row.iter_mut().filter(|cell| cell.chars().any(char::is_control)) {
            *cell = cell.escape_debug().to_string();
        }
    }
    table(&rows)
}

fn what(entry: &Entry) -> String {
    let event = match entry.event {
        Event::Asked => "asked",
        Event::Done => "done",
        Event::Failed => "failed",
        Event::Refused => "refused",
        Event::Mended => "mended",
    };
    let of = entry.of.map_or(String::new(), |of| format!(" {of}"));
    let code = entry.code.as_ref().map_or(String::new(), |code| format!(" ({code})"));
    format!("{event}{of}{code}")
}

/// `pith audit --verify`.
#[must_use]
pub fn verified(verified: &Verified) -> String {
    let Verified { first, entries, head, broken } = verified;
    match broken {
        None if *first > 1 => format!(
            "{entries} entries, from number {first} on, are what was written; the last has the hash {head}; older ones are not kept\n"
        ),
        None => format!("{entries} entries are what was written; the last has the hash {head}\n"),
        Some(broken) => format!(
            "entry {} is not what was written: {}\nthe {entries} before it are; keep the file, and look who could write to it\n",
            broken.line, broken.reason
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_outside_is_no_command_to_a_terminal() {
        let entry = Entry {
            n: 7,
            at_ms: 1_700_000_000_000,
            event: Event::Refused,
            of: None,
            who: "from:10.0.0.9".to_owned(),
            role: None,
            verb: "node revoke".to_owned(),
            target: "\u{1b}[2Jopi\n1".to_owned(),
            request: None,
            key: None,
            status: Some(401),
            code: Some("no_certificate".to_owned()),
            prev: String::new(),
        };
        let text = audit(&AuditShown { entries: vec![entry] });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.contains("\\u{1b}[2Jopi\\n1") && text.contains("refused (no_certificate)"),
            "{text}"
        );
    }

    #[test]
    fn the_first_entry_that_was_changed_is_named() {
        let broken = crate::audit::Broken { line: 3, reason: "its content is not".to_owned() };
        let text = verified(&Verified {
            first: 1,
            entries: 2,
            head: "ab".to_owned(),
            broken: Some(broken),
        });
        assert!(text.starts_with("entry 3 is not what was written: its content is not"), "{text}");
    }
}
