//! `pith exec`

mod keyboard;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::command::Channel;
use serde_json::json;

use super::session::Session;
use super::signals::Signals;
use super::{CliError, ExecArgs, Exit, logs};
use crate::api::ExecWanted;
use crate::client::Lines;
use crate::render::figures::{harmless, harmless_json};
use crate::state::shown::StreamShown;
use keyboard::Raw;

pub(super) async fn run(session: &Session, args: ExecArgs) -> Result<Exit, CliError> {
    if args.terminal && session.is_json() {
        return Err(CliError::usage(
            "-t shows what a terminal gets, and -o json does not; leave one of them out",
        ));
    }
    let terminal = args.terminal.then(keyboard::size).transpose()?;
    let client = session.client().await?;
    let (service, instance) = session.service_or_instance(&client, &args.of).await?;
    let node = args.node.or_else(|| instance.as_ref().map(|(_, node)| node.clone()));
    let instance = instance.map(|(name, _)| name);
    let (command, input) = (args.command, args.input);
    let wanted = ExecWanted { node, instance, command, input, terminal };
    let onto = match (session.is_json(), terminal) {
        (true, _) => Onto::Json,
        (false, Some(_)) => Onto::Terminal,
        (false, None) => Onto::Streams(BTreeMap::new()),
    };
    if !input && terminal.is_none() {
        let lines = client.exec(&service, &wanted).await?;
        return interrupted_by_ctrl_c(follow(lines, onto, None)).await;
    }
    let (lines, keys) = client.exec_typed(&service, &wanted).await?;
    let typing = keyboard::type_all(keys, input, terminal.is_some());
    let raw = (terminal.is_some() && input).then(Raw::enter).transpose()?;
    // Ctrl-C on a terminal that passes on what is typed is the command's.
    let ended = interrupted_by_ctrl_c(follow(lines, onto, raw));
    tokio::select! {
        ended = ended => ended,
        never = typing => match never {},
    }
}

async fn interrupted_by_ctrl_c(
    following: impl Future<Output = Result<Exit, CliError>>,
) -> Result<Exit, CliError> {
    let mut signals = Signals::new().map_err(CliError::failed)?;
    tokio::select! {
        // Cancel-safe: what was not read yet is not wanted after it.
        ended = following => ended,
        exit = signals.any() => Ok(exit),
    }
}

/// To the command's end; a terminal that passes on what is typed is as it was before anything is said about that.
async fn follow(mut lines: Lines, mut onto: Onto, mut raw: Option<Raw>) -> Result<Exit, CliError> {
    let mut has_lost = false;
    while let Some(next) = lines.next().await? {
        match next {
            StreamShown::Output { node, instance, channel, bytes } => {
                let bytes = BASE64.decode(bytes).unwrap_or_default();
                let of = json!({ "node": node, "instance": instance, "channel": channel });
                if onto.put(channel, of, &bytes).is_err() {
                    // Nobody reads what is printed.
                    return Ok(Exit::Failed);
                }
            }
            StreamShown::End { node, end } => {
                let _ = onto.finish();
                drop(raw.take());
                if let Onto::Json = onto {
                    println!("{}", harmless_json(&json!({ "node": node, "end": end }).to_string()));
                }
                // What is not whole must not look so.
                let exit = logs::ended(&node, &end);
                let is_fine = exit == Exit::Done || exit == Exit::Of(0);
                return Ok(if has_lost && is_fine { Exit::Failed } else { exit });
            }
            StreamShown::Away { node, why } => {
                return Err(CliError::failed(format_args!(
                    "{node}: {why}; whether it ran is unknown"
                )));
            }
            StreamShown::Lost { node, parts } => {
                has_lost = true;
                let end_of_line = if raw.is_some() { "\r" } else { "" };
                eprintln!(
                    "{node}: {parts} parts of its answer were lost on their way{end_of_line}"
                );
            }
            StreamShown::Alive => {}
        }
    }
    Err(CliError::failed("the answer broke off; whether the command goes on is unknown"))
}

/// Where it is written to.
enum Onto {
    /// Documents.
    Json,
    /// The terminal that was asked for: byte for byte, for steering it is what it is for.
    Terminal,
    /// Byte for byte into a file or another program, and on a terminal without what steers it; with the beginnings of letters whose rest has
    /// not come.
    Streams(BTreeMap<Channel, Vec<u8>>),
}

impl Onto {
    fn put(
        &mut self,
        channel: Channel,
        mut of: serde_json::Value,
        bytes: &[u8],
    ) -> std::io::Result<()> {
        match self {
            Self::Json => {
                of["text"] = String::from_utf8_lossy(bytes).into();
                writeln!(std::io::stdout(), "{}", harmless_json(&of.to_string()))
            }
            Self::Terminal => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Self::Streams(waiting) => {
                let waiting = waiting.entry(channel).or_default();
                waiting.extend_from_slice(bytes);
                match channel {
                    Channel::Stdout => put(std::io::stdout().lock(), waiting),
                    Channel::Stderr => put(std::io::stderr().lock(), waiting),
                }
            }
        }
    }

    /// Letters whose rest never came.
    fn finish(&mut self) -> std::io::Result<()> {
        let Self::Streams(waiting) = self else { return Ok(()) };
        for (channel, rest) in std::mem::take(waiting) {
            let rest = String::from_utf8_lossy(&rest);
            match channel {
                Channel::Stdout => std::io::stdout().write_all(rest.as_bytes())?,
                Channel::Stderr => std::io::stderr().write_all(rest.as_bytes())?,
            }
        }
        Ok(())
    }
}

fn put(mut out: impl Write + IsTerminal, waiting: &mut Vec<u8>) -> std::io::Result<()> {
    if out.is_terminal() {
        let letters = whole_letters(waiting);
        out.write_all(harmless(&letters).as_bytes())?;
    } else {
        out.write_all(&std::mem::take(waiting))?;
    }
    out.flush()
}

/// Takes all but a letter at the end whose rest may come.
fn whole_letters(waiting: &mut Vec<u8>) -> String {
    // Of UTF-8 no more than three bytes wait for a fourth.
    let from = waiting.len().saturating_sub(3);
    let begun = (from..waiting.len()).find(|at| {
        let rest = std::str::from_utf8(&waiting[*at..]);
        rest.is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    });
    let rest = waiting.split_off(begun.unwrap_or(waiting.len()));
    let letters = String::from_utf8_lossy(waiting).into_owned();
    *waiting = rest;
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes, part by part, and what is shown after each.
    #[test]
    fn a_letter_that_two_parts_share_is_one_letter() {
        let rows: [(&[&[u8]], &[&str]); 5] = [
            (&[b"ab", b"c"], &["ab", "c"]),
            (&[b"a\xc3", b"\xa4b"], &["a", "äb"]),
            (&[b"\xf0\x9f", b"\x8d", b"\x8e."], &["", "", "🍎."]),
            // No letter: shown as one mark as soon as that is known.
            (&[b"\xc3a", b"\xff"], &["\u{fffd}a", "\u{fffd}"]),
            (&[b"\xe2\x82", b"x"], &["", "\u{fffd}x"]),
        ];
        for (parts, expected) in rows {
            let mut waiting = Vec::new();
            for (part, shown) in parts.iter().zip(expected) {
                waiting.extend_from_slice(part);
                assert_eq!(whole_letters(&mut waiting), *shown, "{parts:?}");
            }
            assert!(waiting.is_empty(), "{parts:?}");
        }
    }
}
