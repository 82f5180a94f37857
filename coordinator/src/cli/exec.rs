//! `pith exec`

use std::io::{IsTerminal, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::command::Channel;
use serde_json::json;

use super::session::Session;
use super::{CliError, ExecArgs, Exit, logs};
use crate::api::ExecWanted;
use crate::render::figures::{harmless, harmless_json};
use crate::state::shown::StreamShown;

pub(super) async fn run(session: &Session, args: ExecArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let (service, instance) = session.service_or_instance(&client, &args.of).await?;
    let node = args.node.or_else(|| instance.as_ref().map(|(_, node)| node.clone()));
    let instance = instance.map(|(name, _)| name);
    let wanted = ExecWanted { node, instance, command: args.command };
    let mut lines = client.exec(&service, &wanted).await?;
    let mut exit = None;
    loop {
        let next = tokio::select! {
            // Cancel-safe: what was not read yet is not wanted after Ctrl-C.
            next = lines.next() => next?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        };
        match next {
            None => break,
            Some(StreamShown::Output { node, instance, channel, bytes }) => {
                let bytes = BASE64.decode(bytes).unwrap_or_default();
                let written = if session.is_json() {
                    let text = String::from_utf8_lossy(&bytes);
                    let document = json!({
                        "node": node, "instance": instance, "channel": channel, "text": text,
                    });
                    writeln!(std::io::stdout(), "{}", harmless_json(&document.to_string()))
                } else {
                    pass(channel, &bytes)
                };
                if written.is_err() {
                    // Nobody reads what is printed.
                    return Ok(Exit::Failed);
                }
            }
            Some(StreamShown::End { node, end }) => {
                if session.is_json() {
                    println!("{}", harmless_json(&json!({ "node": node, "end": end }).to_string()));
                }
                exit = Some(logs::ended(&node, &end));
            }
            Some(StreamShown::Away { node, why }) => {
                return Err(CliError::failed(format_args!(
                    "{node}: {why}; whether it ran is unknown"
                )));
            }
            Some(StreamShown::Lost { node, parts }) => {
                eprintln!("{node}: {parts} parts of its answer were lost on their way");
            }
            Some(StreamShown::Alive) => {}
        }
    }
    exit.ok_or_else(|| {
        CliError::failed("the answer broke off; whether the command goes on is unknown")
    })
}

/// Where it was written to: byte for byte into a file or another program, and on a terminal without what steers it.
fn pass(channel: Channel, bytes: &[u8]) -> std::io::Result<()> {
    match channel {
        Channel::Stdout => put(std::io::stdout().lock(), bytes),
        Channel::Stderr => put(std::io::stderr().lock(), bytes),
    }
}

fn put(mut out: impl Write + IsTerminal, bytes: &[u8]) -> std::io::Result<()> {
    if out.is_terminal() {
        out.write_all(harmless(&String::from_utf8_lossy(bytes)).as_bytes())?;
    } else {
        out.write_all(bytes)?;
    }
    out.flush()
}
