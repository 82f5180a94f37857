//! A notice as it travels. Pure.

use protocol::id::FleetId;
use ring::hmac;
use serde::Serialize;

use super::config::{Format, Target};
use crate::state::notices::{Notice, NoticeKind};

/// Carries what proves who wrote a message: `t=UNIX_SECONDS,v1=HEX`, the second being HMAC-SHA256 of `UNIX_SECONDS.BODY`.
pub const SIGNATURE_HEADER: &str = "pith-signature";

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Names and values.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The body.
    pub(super) body: Vec<u8>,
}

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    fleet: &'a FleetId,
    #[serde(flatten)]
    notice: &'a Notice,
    title: String,
    see: String,
    /// Messages to this target that were given up since the last one that arrived.
    lost: u64,
}

impl Message {
    /// A notice for a target; `lost` messages before it never arrived.
    #[must_use]
    pub(super) fn new(target: &Target, fleet: &FleetId, notice: &Notice, lost: u64) -> Self {
        match target.format {
            Format::Json => {
                let (title, see) = (title(notice), see(notice));
                let document = Document { format: 1, fleet, notice, title, see, lost };
                Self::json(&serde_json::json!(document))
            }
            Format::Slack => {
                let (title, text) = (escaped(&title(notice)), escaped(&text(notice, lost)));
                let text = format!("{} *{title}*\n{text}", icon(notice.kind));
                Self::json(&serde_json::json!({ "text": text }))
            }
            Format::Ntfy => Self {
                headers: vec![
                    ("content-type", "text/plain; charset=utf-8".to_owned()),
                    ("title", ascii(&title(notice))),
                    (
                        "priority",
                        if is_urgent(notice.kind) { "high" } else { "default" }.to_owned(),
                    ),
                    ("tags", tag(notice.kind).to_owned()),
                ],
                body: text(notice, lost).into_bytes(),
            },
        }
    }

    fn json(document: &serde_json::Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { headers, body: document.to_string().into_bytes() }
    }

    /// Signs it at this time, in Unix seconds.
    #[must_use]
    pub(super) fn signed(&self, secret: &[u8], unix_s: u64) -> String {
        let mut of = format!("{unix_s}.").into_bytes();
        of.extend_from_slice(&self.body);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &of);
        format!("t={unix_s},v1={}", protocol::id::hex(tag.as_ref()))
    }
}

/// One line for a person.
#[must_use]
fn title(notice: &Notice) -> String {
    let service = notice.service.as_ref().map_or(String::new(), ToString::to_string);
    let node = notice.node.as_ref().map_or(String::new(), ToString::to_string);
    let what = match notice.kind {
        NoticeKind::RolloutFailed => format!("{service}: the rollout failed"),
        NoticeKind::RolledBack => format!("{service}: rolled back"),
        NoticeKind::AwaitingPromotion => format!("{service} waits for you"),
        NoticeKind::RolloutSucceeded => format!("{service}: rolled out"),
        NoticeKind::NodeLost => format!("{node} is lost"),
        NoticeKind::NodeBack => format!("{node} is back"),
        NoticeKind::NodeAlarm => format!("{node} has an alarm"),
        NoticeKind::AgentReverted => format!("{node} took its agent back"),
        NoticeKind::DoctorFinding => format!("{node} found a problem of its own"),
        NoticeKind::BackupFailed => "the nightly backup failed".to_owned(),
        NoticeKind::Test => "a test".to_owned(),
    };
    match notice.environment.as_ref().filter(|of| of.as_str() != "default") {
        Some(environment) => format!("{what} ({environment})"),
        None => what,
    }
}

/// What to type next.
fn see(notice: &Notice) -> String {
    let environment = notice.environment.as_ref().filter(|of| of.as_str() != "default");
    let environment = environment.map_or(String::new(), |of| format!(" --env {of}"));
    let service = notice.service.as_ref().map_or(String::new(), ToString::to_string);
    let node = notice.node.as_ref().map_or(String::new(), ToString::to_string);
    match notice.kind {
        NoticeKind::RolloutFailed | NoticeKind::RolledBack | NoticeKind::RolloutSucceeded => {
            format!("pith rollout status {service}{environment}")
        }
        NoticeKind::AwaitingPromotion => format!("pith rollout promote {service}{environment}"),
        NoticeKind::NodeLost | NoticeKind::NodeBack | NoticeKind::NodeAlarm => {
            "pith node ls".to_owned()
        }
        NoticeKind::AgentReverted => "pith agent status".to_owned(),
        NoticeKind::DoctorFinding => format!("pith node doctor {node}"),
        NoticeKind::BackupFailed => "pith backup".to_owned(),
        NoticeKind::Test => "pith notify ls".to_owned(),
    }
}

fn text(notice: &Notice, lost: u64) -> String {
    let mut text = format!("{}\n{}", notice.message, see(notice));
    if lost > 0 {
        text.push_str(&format!("\n{lost} messages before this one never arrived"));
    }
    text
}

const fn is_urgent(kind: NoticeKind) -> bool {
    match kind {
        NoticeKind::RolloutFailed
        | NoticeKind::RolledBack
        | NoticeKind::NodeLost
        | NoticeKind::NodeAlarm
        | NoticeKind::BackupFailed => true,
        NoticeKind::AwaitingPromotion
        | NoticeKind::DoctorFinding
        | NoticeKind::RolloutSucceeded
        | NoticeKind::NodeBack
        | NoticeKind::AgentReverted
        | NoticeKind::Test => false,
    }
}

const fn tag(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::RolloutFailed | NoticeKind::NodeLost | NoticeKind::BackupFailed => {
            "rotating_light"
        }
        NoticeKind::RolledBack | NoticeKind::AgentReverted => "leftwards_arrow_with_hook",
        NoticeKind::NodeAlarm | NoticeKind::DoctorFinding => "warning",
        NoticeKind::AwaitingPromotion => "raised_hand",
        NoticeKind::RolloutSucceeded | NoticeKind::NodeBack => "white_check_mark",
        NoticeKind::Test => "wave",
    }
}

fn icon(kind: NoticeKind) -> String {
    format!(":{}:", tag(kind))
}

/// Slack gives `<`, `>` and `&` a meaning: a text could call a whole channel with `<!channel>`.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Headers are ASCII.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> Notice {
        Notice {
            kind: NoticeKind::RolledBack,
            at_ms: 1_790_000_000_000,
            environment: Some("production".parse().unwrap()),
            service: Some("web".parse().unwrap()),
            revision: Some(8),
            node: None,
            reason: Some(protocol::reason::Reason::NotReadyInTime),
            message: "opi-2 went back: <!channel> & co".to_owned(),
        }
    }

    fn message(format: Format, lost: u64) -> Message {
        let table = format!(
            "name = \"a\"\nurl = \"http://x/\"\nformat = \"{}\"",
            serde_json::json!(format).as_str().unwrap()
        );
        let target = &super::super::config::targets(&[toml::from_str(&table).unwrap()]).unwrap()[0];
        let fleet = "0123456789abcdef0123456789abcdef".parse().unwrap();
        Message::new(target, &fleet, &notice(), lost)
    }

    #[test]
    fn our_own_form_has_codes_for_programs_and_a_sentence_for_people() {
        let body: serde_json::Value =
            serde_json::from_slice(&message(Format::Json, 2).body).unwrap();
        assert_eq!(body["kind"], "rolled_back");
        assert_eq!(body["reason"], "not_ready_in_time");
        assert_eq!(body["title"], "web: rolled back (production)");
        assert_eq!(body["see"], "pith rollout status web --env production");
        assert_eq!(
            (&body["revision"], &body["lost"], &body["format"]),
            (&8.into(), &2.into(), &1.into())
        );
    }

    #[test]
    fn slack_and_ntfy_get_text() {
        let slack: serde_json::Value =
            serde_json::from_slice(&message(Format::Slack, 0).body).unwrap();
        let text = slack["text"].as_str().unwrap();
        assert!(
            text.starts_with(":leftwards_arrow_with_hook: *web: rolled back (production)*\nopi-2")
        );
        assert!(text.contains("&lt;!channel&gt; &amp; co"), "nobody shouts through us: {text}");
        let ntfy = message(Format::Ntfy, 1);
        assert!(ntfy.headers.contains(&("priority", "high".to_owned())));
        assert!(
            String::from_utf8(ntfy.body)
                .unwrap()
                .ends_with("1 messages before this one never arrived")
        );
    }

    #[test]
    fn a_signature_is_over_time_and_body() {
        let message = Message { headers: Vec::new(), body: b"{}".to_vec() };
        // printf '1790000000.{}' | openssl dgst -sha256 -hmac secret
        let expected =
            "t=1790000000,v1=d0cadd434460d4af55e7ab90d79c1802591d7001a77c9e06471d0e3ec8cc85ae";
        assert_eq!(message.signed(b"secret", 1_790_000_000), expected);
    }
}
