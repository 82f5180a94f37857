//! Docker's refusals are sentences; here they become kinds. Each phrase was seen from a real daemon (20.10 unless said).

use std::error::Error as _;

use bollard::errors::Error as ClientError;

use crate::engine::error::{EngineError, PullError};
use protocol::registries::registry_of;

/// What is kept of a sentence of Docker's.
const MAX_MESSAGE_BYTES: usize = 512;

/// A failed call.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "nothing is decided by the client's other kinds"
)]
pub(super) fn engine_error(error: &ClientError) -> EngineError {
    match error {
        ClientError::DockerResponseServerError { status_code, message } => {
            by_answer(*status_code, message)
        }
        ClientError::DockerStreamError { error } => by_answer(500, error),
        ClientError::RequestTimeoutError => {
            EngineError::Unavailable("no answer in time".to_owned())
        }
        ClientError::SocketNotFoundError(path) => {
            EngineError::Unavailable(format!("there is no socket {path}"))
        }
        ClientError::HyperResponseError { .. } | ClientError::IOError { .. } => {
            EngineError::Unavailable(cut(&chain(error)))
        }
        other => EngineError::Other(cut(&chain(other))),
    }
}

/// An answer of the daemon with an error status.
pub(super) fn by_answer(status: u16, message: &str) -> EngineError {
    let text = cut(message);
    let low = message.to_lowercase();
    let says = |phrase: &str| low.contains(phrase);
    if says("no space left on device") {
        return EngineError::NoSpace(text);
    }
    if says("exec format error") {
        return EngineError::WrongPlatform(text);
    }
    if says("port is already allocated") || says("bind: address already in use") {
        return EngineError::PortTaken(text);
    }
    if says("address already in use") || says("pool overlaps with other one") {
        return EngineError::AddressTaken(text);
    }
    // The program or the user is not in the image.
    let is_missing = says("no such file or directory") || says("not found") || says("denied");
    if (says("exec:") && is_missing) || says("unable to find user") {
        return EngineError::BadRequest(text);
    }
    if says("has active endpoints") {
        return EngineError::Conflict(text);
    }
    let containerd_is_away = says("containerd") && (says("connection refused") || says("closing"));
    if containerd_is_away || says("daemon is shutting down") {
        return EngineError::Unavailable(text);
    }
    match status {
        400 | 403 => EngineError::BadRequest(text),
        404 => EngineError::NotFound(text),
        409 => EngineError::Conflict(text),
        502..=504 => EngineError::Unavailable(text),
        _ => EngineError::Other(text),
    }
}

/// A failed pull, and the sentence a person reads.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "nothing is decided by the client's other kinds"
)]
pub(super) fn pull_error(reference: &str, error: &ClientError) -> (PullError, String) {
    let text = match error {
        ClientError::DockerResponseServerError { message, .. } => message.clone(),
        ClientError::DockerStreamError { error } => error.clone(),
        other => match engine_error(other) {
            EngineError::Unavailable(text) => {
                return (PullError::EngineUnavailable, format!("Docker does not answer: {text}"));
            }
            other => other.to_string(),
        },
    };
    let kind = pull_kind(&text);
    (kind, pull_message(kind, reference, &cut(&text)))
}

/// An archive that Docker did not take, and the sentence a person reads.
pub(super) fn load_error(reference: &str, error: &ClientError) -> (PullError, String) {
    let (kind, text) = match engine_error(error) {
        EngineError::Unavailable(text) => (PullError::EngineUnavailable, text),
        EngineError::NoSpace(text) => (PullError::NoSpace, text),
        EngineError::WrongPlatform(text) => (PullError::WrongPlatform, text),
        EngineError::NotFound(text)
        | EngineError::Conflict(text)
        | EngineError::AddressTaken(text)
        | EngineError::PortTaken(text)
        | EngineError::BadRequest(text)
        | EngineError::Other(text) => (PullError::Other, text),
    };
    (kind, format!("Docker does not take the archive {reference}: {text}"))
}

pub(super) fn pull_kind(text: &str) -> PullError {
    let low = text.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| low.contains(phrase));
    // The order matters: a registry's refusal quotes addresses and names that may contain later phrases.
    if says(&["http response to https client"]) {
        return PullError::HttpRegistry;
    }
    if says(&["no space left on device", "disk quota exceeded"]) {
        return PullError::NoSpace;
    }
    let platform = [
        "no matching manifest",
        "does not match the specified platform",
        "cannot be used on this platform",
        "no match for platform",
    ];
    if says(&platform) {
        return PullError::WrongPlatform;
    }
    if says(&["manifest unknown", "name unknown", "not found: not found"]) {
        return PullError::NotFound;
    }
    let denied = [
        "unauthorized",
        "no basic auth credentials",
        "access denied",
        "denied:",
        "authentication required",
        "403 forbidden",
        "401 unauthorized",
    ];
    if says(&denied) {
        return PullError::Denied;
    }
    let unreachable = [
        "connection refused",
        "connection reset",
        "no such host",
        "no route to host",
        "network is unreachable",
        "name resolution",
        "server misbehaving",
        "i/o timeout",
        "tls handshake timeout",
        "client.timeout",
        "deadline exceeded",
        "eof",
        "broken pipe",
        "unexpected http status: 5",
        "toomanyrequests",
        "proxyconnect",
    ];
    if says(&unreachable) {
        return PullError::Unreachable;
    }
    if says(&["not found"]) {
        return PullError::NotFound;
    }
    PullError::Other
}

fn pull_message(kind: PullError, reference: &str, text: &str) -> String {
    let registry = registry_of(reference);
    match kind {
        PullError::NotFound => format!("{registry} has no {reference}: {text}"),
        PullError::Denied => format!(
            "{registry} refuses {reference} (it wants other credentials, or does not have it): {text}; \
             `pith secret set NAME --registry {registry} --username USER` gives nodes a login, as does a node's own registries.toml"
        ),
        PullError::WrongPlatform => {
            format!("{reference} has no variant for this node's processor: {text}")
        }
        PullError::NoSpace => format!("no room on the disk for {reference}: {text}"),
        PullError::Unreachable => format!("{registry} cannot be reached: {text}"),
        PullError::HttpRegistry => format!(
            "{registry} speaks plain HTTP, which this node's Docker refuses; \
             add \"insecure-registries\": [\"{registry}\"] to /etc/docker/daemon.json and restart Docker"
        ),
        PullError::EngineUnavailable => format!("Docker does not answer: {text}"),
        PullError::Other | PullError::Another | PullError::Wrong if text.contains("x509") => {
            format!(
                "{registry} shows a certificate that this node's Docker does not trust ({text}); \
             put its CA into /etc/docker/certs.d/{registry}/ca.crt"
            )
        }
        PullError::Other | PullError::Another | PullError::Wrong => {
            format!("{reference} cannot be pulled: {text}")
        }
    }
}

/// An error with its causes.
fn chain(error: &ClientError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// One line of bounded length.
fn cut(text: &str) -> String {
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = line.floor_char_boundary(MAX_MESSAGE_BYTES);
    line[..end].to_owned()
}

#[cfg(test)]
mod tests;
