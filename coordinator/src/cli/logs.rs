//! `pith logs`

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::command::{Channel, End};
use protocol::id::NodeName;
use serde_json::json;

use super::session::Session;
use super::{CliError, Exit, LogsArgs};
use crate::render::figures::{harmless, harmless_json, plain};
use crate::state::shown::StreamShown;

/// A line without an end is shown in pieces of this.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Instances whose colour, or the beginning of whose line, is kept; a node may make up names.
const MAX_INSTANCES: usize = 1_024;
const MAX_NAME_CHARS: usize = 128;
/// One after another for the instances, by ECMA-48: cyan, yellow, green, magenta, blue, bright ones.
const COLOURS: [u8; 8] = [36, 33, 32, 35, 34, 96, 93, 92];

pub(super) async fn run(session: &Session, args: LogsArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let (service, instance) = session.service_or_instance(&client, &args.of).await?;
    let node = args.node.or_else(|| instance.as_ref().map(|(_, node)| node.clone()));
    let since_s = args.since.map(|since| since.0.div_ceil(1_000));
    let query = [
        ("node", node.map(|node| node.to_string())),
        ("instance", instance.map(|(name, _)| name)),
        ("lines", Some(args.lines.to_string())),
        ("since_s", since_s.map(|since| since.to_string())),
        ("follow", Some(args.follow.to_string())),
        ("previous", Some(args.previous.to_string())),
    ];
    let mut lines = client.logs(&service, &query).await?;
    let mut shown = Shown::new(session.is_json());
    loop {
        let next = tokio::select! {
            // Cancel-safe: what was not read yet is not wanted after Ctrl-C.
            next = lines.next() => next?,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(next) = next else { break };
        if shown.show(next).is_err() {
            // Nobody reads what is printed.
            break;
        }
    }
    let _ = shown.finish();
    Ok(shown.exit)
}

/// What was printed, and what waits for the end of its line.
#[derive(Debug)]
pub(super) struct Shown {
    is_json: bool,
    has_colour: bool,
    colours: BTreeMap<String, u8>,
    waiting: BTreeMap<(NodeName, String, Channel), Vec<u8>>,
    has_told: bool,
    exit: Exit,
}

impl Shown {
    pub(super) fn new(is_json: bool) -> Self {
        let has_colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            is_json,
            has_colour,
            colours: BTreeMap::new(),
            waiting: BTreeMap::new(),
            has_told: false,
            exit: Exit::Done,
        }
    }

    fn show(&mut self, line: StreamShown) -> std::io::Result<()> {
        match line {
            StreamShown::Output { node, instance, channel, bytes } => {
                self.has_told = true;
                let bytes = BASE64.decode(bytes).unwrap_or_default();
                let of = (node, instance.chars().take(MAX_NAME_CHARS).collect(), channel);
                let mut waiting = self.waiting.remove(&of).unwrap_or_default();
                waiting.extend(bytes);
                while let Some(end) = end_of_line(&waiting) {
                    let line: Vec<u8> = waiting.drain(..end).collect();
                    self.print(&of, &line)?;
                }
                if waiting.is_empty() {
                    return Ok(());
                }
                if self.waiting.len() >= MAX_INSTANCES {
                    return self.print(&of, &waiting);
                }
                self.waiting.insert(of, waiting);
                Ok(())
            }
            StreamShown::End { node, end } => {
                let exit = ended(&node, &end);
                self.has_told |= exit == Exit::Done;
                self.exit = exit;
                Ok(())
            }
            StreamShown::Away { node, why } => {
                eprintln!("{node}: {why}; its lines are missing");
                self.exit = Exit::Failed;
                Ok(())
            }
            StreamShown::Lost { node, parts } => {
                eprintln!("{node}: {parts} parts of its answer were lost on their way");
                Ok(())
            }
            StreamShown::Alive => Ok(()),
        }
    }

    /// Lines that have no end. What one node told is worth having, whatever became of the others.
    fn finish(&mut self) -> std::io::Result<()> {
        if self.has_told && self.exit != Exit::Refused {
            self.exit = Exit::Done;
        }
        for (of, line) in std::mem::take(&mut self.waiting) {
            if !line.is_empty() {
                self.print(&of, &line)?;
            }
        }
        Ok(())
    }

    fn print(
        &mut self,
        (node, instance, channel): &(NodeName, String, Channel),
        line: &[u8],
    ) -> std::io::Result<()> {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches(['\n', '\r']);
        let mut out = std::io::stdout().lock();
        if self.is_json {
            let document = json!({
                "node": node, "instance": instance, "channel": channel, "line": line,
            });
            return writeln!(out, "{}", harmless_json(&document.to_string()));
        }
        let colour = self.has_colour.then(|| self.colour_of(instance));
        writeln!(out, "{}", for_terminal(colour, instance, line))
    }
}

impl Shown {
    fn colour_of(&mut self, instance: &str) -> u8 {
        if let Some(known) = self.colours.get(instance) {
            return *known;
        }
        let next = COLOURS[self.colours.len() % COLOURS.len()];
        if self.colours.len() < MAX_INSTANCES {
            self.colours.insert(instance.to_owned(), next);
        }
        next
    }
}

/// Neither what an application writes nor what a node calls it may steer a terminal.
fn for_terminal(colour: Option<u8>, instance: &str, line: &str) -> String {
    let instance = printable(instance);
    let line = harmless(line);
    match colour {
        None => format!("{instance} | {line}"),
        Some(colour) => format!("\x1b[{colour}m{instance} |\x1b[0m {line}"),
    }
}

fn end_of_line(waiting: &[u8]) -> Option<usize> {
    let end = waiting.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
    end.or((waiting.len() > MAX_LINE_BYTES).then_some(MAX_LINE_BYTES))
}

/// Says why a node told nothing more, where that is worth saying.
pub(super) fn ended(node: &NodeName, end: &End) -> Exit {
    match end {
        End::Finished => Exit::Done,
        End::Exited { code } => Exit::Of(u8::try_from(*code).unwrap_or(1)),
        End::Unheard => {
            eprintln!("{node}: nobody kept the stream for a while, and it ended");
            Exit::Failed
        }
        End::Forgotten => {
            eprintln!("{node}: its last words were lost on their way");
            Exit::Failed
        }
        End::Failed { message } => {
            eprintln!("{node}: {}", printable(message));
            Exit::Failed
        }
        End::Refused { code, message } => {
            eprintln!("{node}: refused ({}): {}", printable(code), printable(message));
            match code.as_str() {
                "command_exec_not_allowed" | "role" => Exit::Refused,
                _ => Exit::Failed,
            }
        }
    }
}

/// Text of a node, safe on a terminal.
fn printable(text: &str) -> String {
    plain(&text.chars().take(500).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_line_nor_the_name_of_an_instance_steers_a_terminal() {
        let shown = for_terminal(None, "web\x1b]0;x\x07\n-0", "a\tb\x1b[2J\u{9b}1m");
        assert_eq!(shown, "web ]0;x  -0 | a\tb[2J1m");
        assert_eq!(for_terminal(Some(36), "web-0", "a"), "\x1b[36mweb-0 |\x1b[0m a");
    }

    #[test]
    fn a_node_that_makes_up_names_costs_a_bounded_memory() {
        let mut shown = Shown::new(true);
        for n in 0..=MAX_INSTANCES {
            let output = StreamShown::Output {
                node: "opi-1".parse().unwrap(),
                instance: format!("{n}-{}", "x".repeat(1_000)),
                channel: Channel::Stdout,
                bytes: BASE64.encode("half a line"),
            };
            shown.show(output).unwrap();
            let _ = shown.colour_of(&n.to_string());
        }
        assert_eq!((shown.waiting.len(), shown.colours.len()), (MAX_INSTANCES, MAX_INSTANCES));
        let name = &shown.waiting.keys().next().unwrap().1;
        assert_eq!(name.chars().count(), MAX_NAME_CHARS);
    }

    #[test]
    fn lines_end_where_they_end_and_a_line_without_an_end_is_cut() {
        assert_eq!(end_of_line(b"one\ntwo"), Some(4));
        assert_eq!(end_of_line(b"two"), None);
        assert_eq!(end_of_line(&[b'a'; MAX_LINE_BYTES + 1]), Some(MAX_LINE_BYTES));
    }
}
