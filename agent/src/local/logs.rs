//! What the containers of this fleet and node are and write, by Docker alone: it needs no agent.

use std::collections::BTreeMap;
use std::io::Write as _;

use futures_util::StreamExt as _;
use protocol::command::{Channel, Logs};

use crate::commands::to_read;
use crate::config::Config;
use crate::engine::docker::Docker;
use crate::engine::{Container, Engine as _, Ours, Source, Wrote};
use crate::{identity, streaming, trust};

/// A line without an end is shown in pieces of this.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Containers of ours, with the engine that has them.
#[derive(Debug)]
pub struct Here {
    engine: Docker,
    /// By name.
    pub containers: Vec<Container>,
}

impl Here {
    /// Asks Docker.
    ///
    /// # Errors
    /// Where the node's key or trust root cannot be read, or Docker does not answer.
    pub async fn look(config: &Config) -> anyhow::Result<Self> {
        let node = identity::load(&config.state_dir)?.public().node_id();
        let fleet = trust::load(&config.root_file())?.fleet;
        let engine = Docker::at(&config.docker);
        let containers = engine.containers(&Ours { fleet, node }).await?;
        Ok(Self { engine, containers })
    }

    /// Writes what instances of a service write to standard output, each that is asked for to its end. Within a `LocalSet`.
    ///
    /// # Errors
    /// Where nothing of it is here, Docker breaks off, or nobody reads what is written.
    pub async fn logs(&self, logs: &Logs) -> anyhow::Result<()> {
        let read = to_read(logs, &self.containers).map_err(|refused| {
            anyhow::anyhow!("{refused}; `pith-agent ps` shows what is on this board")
        })?;
        let is_alone = read.len() == 1;
        let sources = read
            .into_iter()
            .map(|container| (container.name.clone(), container.id.clone(), Source::logs(logs)));
        let mut written = streaming::written(&self.engine, sources.collect(), None);
        let (mut lines, mut failed) = (Lines::default(), None);
        while let Some(((instance, _), wrote)) = written.next().await {
            let whole = match wrote {
                Wrote::Bytes(channel, bytes) => lines.add((instance.clone(), channel), &bytes),
                Wrote::Took => continue,
                Wrote::Ended(_) => lines.end(&instance),
                Wrote::Failed(message) => {
                    failed = Some(anyhow::anyhow!("{instance}: {message}"));
                    lines.end(&instance)
                }
            };
            let mut out = std::io::stdout().lock();
            for line in whole {
                match is_alone {
                    true => writeln!(out, "{line}")?,
                    false => writeln!(out, "{instance} | {line}")?,
                }
            }
            out.flush()?;
        }
        failed.map_or(Ok(()), Err)
    }
}

/// What waits for the end of its line, each instance's and channel's by itself.
#[derive(Debug, Default)]
struct Lines(BTreeMap<(String, Channel), Vec<u8>>);

impl Lines {
    /// The lines that end with these bytes.
    fn add(&mut self, of: (String, Channel), bytes: &[u8]) -> Vec<String> {
        let waiting = self.0.entry(of).or_default();
        waiting.extend(bytes);
        let mut lines = Vec::new();
        while let Some(end) = end_of_line(waiting) {
            let line: Vec<u8> = waiting.drain(..end).collect();
            lines.push(printable(&line));
        }
        lines
    }

    /// Nothing more comes of an instance: its lines that have no end.
    fn end(&mut self, instance: &str) -> Vec<String> {
        let of_it = self.0.extract_if(.., |(of, _), _| of == instance);
        of_it.filter(|(_, line)| !line.is_empty()).map(|(_, line)| printable(&line)).collect()
    }
}

fn end_of_line(waiting: &[u8]) -> Option<usize> {
    let end = waiting.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
    end.or((waiting.len() > MAX_LINE_BYTES).then_some(MAX_LINE_BYTES))
}

/// Without control characters: it goes to terminals.
fn printable(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    line.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_two_channels_and_instances_do_not_meet_in_one_line() {
        let of = |instance: &str, channel| (instance.to_owned(), channel);
        let mut lines = Lines::default();
        let none: [&str; 0] = [];
        assert_eq!(lines.add(of("web-0", Channel::Stdout), b"GET /or"), none);
        assert_eq!(lines.add(of("web-0", Channel::Stderr), b"panic\nat "), ["panic"]);
        assert_eq!(lines.add(of("web-1", Channel::Stdout), b"other"), none);
        assert_eq!(lines.add(of("web-0", Channel::Stdout), b"ders\nPOST"), ["GET /orders"]);
        assert_eq!(lines.end("web-0"), ["POST", "at "]);
        assert_eq!(lines.end("web-0"), none);
        assert_eq!(lines.end("web-1"), ["other"]);
    }

    #[test]
    fn what_is_written_steers_no_terminal_and_a_line_without_an_end_is_cut() {
        let of = || ("web-0".to_owned(), Channel::Stdout);
        let mut lines = Lines::default();
        assert_eq!(lines.add(of(), b"\x1b[31mred\tone\x07\r\n"), ["[31mred\tone"]);
        let cut = lines.add(of(), &[b'a'; MAX_LINE_BYTES + 1]);
        assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE_BYTES]);
        assert_eq!(lines.end("web-0"), ["a"]);
    }
}
