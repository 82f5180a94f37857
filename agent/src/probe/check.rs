//! One asking: HTTP and TCP natively, a command through the engine.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use protocol::spec::Check;
use protocol::units::Millis;
use tokio::net::TcpStream;

use super::window::Answer;
use crate::engine::pull::AbortOnDrop;
use crate::engine::{Engine, EngineError, ExecOutcome};
use crate::wire;

/// What of a bad answer's body is kept for people.
const MAX_BODY_BYTES: usize = 200;

/// Asks every check; all must pass within `timeout`.
pub(super) async fn ask<E: Engine>(
    engine: &E,
    container: &str,
    address: Ipv4Addr,
    checks: &[Check],
    timeout: Millis,
) -> Answer {
    for check in checks {
        let answer = match check {
            Check::Http { path, port } => {
                bounded(timeout, http(SocketAddr::from((address, *port)), path)).await
            }
            Check::Tcp { port } => bounded(timeout, tcp(SocketAddr::from((address, *port)))).await,
            Check::Exec { command } => exec(engine, container, command, timeout).await,
        };
        if answer != Answer::Passed {
            return answer;
        }
    }
    Answer::Passed
}

async fn bounded(timeout: Millis, asking: impl Future<Output = Result<(), String>>) -> Answer {
    match tokio::time::timeout(Duration::from_millis(timeout.0), asking).await {
        Ok(Ok(())) => Answer::Passed,
        Ok(Err(text)) => Answer::Failed(text),
        Err(_) => Answer::Failed(format!("no answer within {timeout}")),
    }
}

async fn tcp(address: SocketAddr) -> Result<(), String> {
    let connected = TcpStream::connect(address).await;
    connected.map(drop).map_err(|error| format!("connect to {address}: {error}"))
}

async fn http(address: SocketAddr, path: &str) -> Result<(), String> {
    let asked = format!("GET http://{address}{path}");
    let fails = |error: &dyn std::fmt::Display| format!("{asked}: {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| fails(&error))?;
    let opening = wire::open(Box::new(stream)).await;
    let (mut sender, connection) = opening.map_err(|error| fails(&error))?;
    let _connection = AbortOnDrop(connection);
    let request = http::Request::get(path)
        .header(http::header::HOST, address.to_string())
        .header(http::header::USER_AGENT, "pith-probe")
        .header(http::header::CONNECTION, "close")
        .body(wire::whole(Bytes::new()))
        .map_err(|error| fails(&error))?;
    let response = sender.send_request(request).await.map_err(|error| fails(&error))?;
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    let body = beginning(response.into_body()).await;
    let colon = if body.is_empty() { "" } else { ": " };
    Err(format!("{asked}: {status}{colon}{body}"))
}

/// The beginning of a body, in one line.
async fn beginning(mut body: hyper::body::Incoming) -> String {
    let mut kept = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(bytes) = frame.into_data() {
            kept.extend_from_slice(&bytes);
        }
        if kept.len() >= MAX_BODY_BYTES {
            kept.truncate(MAX_BODY_BYTES);
            break;
        }
    }
    let text = String::from_utf8_lossy(&kept);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

async fn exec<E: Engine>(
    engine: &E,
    container: &str,
    command: &[String],
    timeout: Millis,
) -> Answer {
    match engine.exec(container, command, timeout.0).await {
        Ok(ExecOutcome::Exited { code: 0, .. }) => Answer::Passed,
        Ok(ExecOutcome::Exited { code, output }) => {
            let colon = if output.is_empty() { "" } else { ": " };
            Answer::Failed(format!("`{}` exited with {code}{colon}{output}", command.join(" ")))
        }
        Ok(ExecOutcome::TimedOut) => {
            Answer::Failed(format!("`{}` did not end within {timeout}", command.join(" ")))
        }
        Err(EngineError::Unavailable(_)) => Answer::Unknown,
        Err(error) => Answer::Failed(format!("`{}`: {error}", command.join(" "))),
    }
}
