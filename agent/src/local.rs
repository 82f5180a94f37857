//! What root asks of its own board: `pith-agent ps`, `logs`, `undo`, `hold`, `release`, `doctor` and `root`, without coordinator, broker
//! or network. One JSON line each way over a unix socket in `runtime_dir`.
//!
//! ```text
//! pith-agent hold web -> client -> agent.sock (0600, SO_PEERCRED) -> socket -> event_loop (decides, ledger) -> answer
//! pith-agent logs web -> logs -> Docker, by the labels of this fleet and node; so is `ps` where no agent answers
//! pith-agent doctor -> doctor -> files, programs, Docker
//! pith-agent root -> roots -> the trust root's file and the ledger, read beside the agent
//! ```

pub(crate) mod calls;
pub mod client;
pub mod logs;
pub mod render;
pub mod roots;
pub mod socket;
pub mod verbs;

use std::collections::BTreeMap;

use protocol::id::{NodeName, ReleaseId, ServiceName};
use protocol::report::{MAX_HOLD_REASON_BYTES, Report};
use serde::{Deserialize, Serialize};

/// Bytes of a request, without its end of line.
pub const MAX_REQUEST_BYTES: usize = 2_048;
/// Bytes of a user's name.
const MAX_USER_BYTES: usize = 64;

/// One line to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is asked.
    pub wish: Wish,
    /// Who became root to ask it, as `sudo` says; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// What runs here.
    Ps,
    /// Leave a service at what runs now.
    Hold(Change),
    /// Go back to the release before, and hold there.
    Undo(Change),
    /// Let the newest manifest count again.
    Release(Change),
}

/// Of which service, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The service.
    pub service: ServiceName,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One line back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What runs here.
    Board(Box<Board>),
    /// It is done, and durable.
    Done(String),
    /// It is not, with the mend.
    Refused(String),
}

/// What runs on a board, as its agent knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// The node's name.
    pub name: NodeName,
    /// What the node says of itself, to anybody.
    pub report: Report,
    /// The images of the releases that are on the board.
    pub images: BTreeMap<ReleaseId, String>,
    /// What `undo` would go back to.
    pub before: BTreeMap<ServiceName, ReleaseId>,
}

/// Why a line is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARequest {
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("a request has at most {MAX_REQUEST_BYTES} bytes")]
    TooLong,
    /// Not this form.
    #[error("not a request: {0}")]
    Unreadable(String),
    /// A reason that is too long, or would move a terminal's cursor.
    #[error("a reason is one line of at most {MAX_HOLD_REASON_BYTES} bytes")]
    Reason,
    /// The same of a user's name.
    #[error("not a user's name")]
    User,
}

impl Request {
    /// Reads one line, without its end.
    ///
    /// # Errors
    /// Says what it is not.
    pub fn read(line: &[u8]) -> Result<Self, NotARequest> {
        if line.len() > MAX_REQUEST_BYTES {
            return Err(NotARequest::TooLong);
        }
        let request: Self =
            serde_json::from_slice(line).map_err(|e| NotARequest::Unreadable(e.to_string()))?;
        let fits =
            |text: &String, max: usize| text.len() <= max && !text.contains(char::is_control);
        if request.user.as_ref().is_some_and(|user| !fits(user, MAX_USER_BYTES)) {
            return Err(NotARequest::User);
        }
        let reason = match &request.wish {
            Wish::Ps => None,
            Wish::Hold(change) | Wish::Undo(change) | Wish::Release(change) => {
                change.reason.as_ref()
            }
        };
        if reason.is_some_and(|reason| !fits(reason, MAX_HOLD_REASON_BYTES)) {
            return Err(NotARequest::Reason);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &Result<Request, NotARequest>) {
        assert_eq!(Request::read(line.as_bytes()), *expected, "{line}");
    }

    #[test]
    fn a_request_is_one_line_of_the_known_form() {
        let hold = |reason: Option<&str>| {
            Wish::Hold(Change {
                service: "web".parse().unwrap(),
                reason: reason.map(str::to_owned),
            })
        };
        check(r#"{"wish":"ps"}"#, &Ok(Request { wish: Wish::Ps, user: None }));
        let request = Request { wish: hold(Some("disk")), user: Some("anna".into()) };
        check(r#"{"wish":{"hold":{"service":"web","reason":"disk"}},"user":"anna"}"#, &Ok(request));
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_reason() {
        let reason = |reason: &str| {
            let service = "web".parse().unwrap();
            let wish = Wish::Undo(Change { service, reason: Some(reason.to_owned()) });
            serde_json::to_string(&Request { wish, user: None }).unwrap()
        };
        check(&reason(&"x".repeat(MAX_HOLD_REASON_BYTES + 1)), &Err(NotARequest::Reason));
        check(&reason("two\nlines"), &Err(NotARequest::Reason));
        check(&reason("\u{1b}[2J"), &Err(NotARequest::Reason));
        check(&" ".repeat(MAX_REQUEST_BYTES + 1), &Err(NotARequest::TooLong));
        check(r#"{"wish":"ps","user":"a\u0007"}"#, &Err(NotARequest::User));
        for line in [
            "",
            "ps",
            r#"{"wish":"stop"}"#,
            r#"{"wish":{"hold":{"service":"Web!"}}}"#,
            r#"{"wish":"ps","as":"root"}"#,
            r#"{"wish":{"hold":{"service":"web","for":"1h"}}}"#,
        ] {
            let read = Request::read(line.as_bytes());
            assert!(matches!(read, Err(NotARequest::Unreadable(_))), "{line}: {read:?}");
        }
    }
}
