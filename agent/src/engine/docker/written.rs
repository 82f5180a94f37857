//! Logs and commands as they are written, for somebody far away.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::container::LogOutput;
use bollard::errors::Error as ClientError;
use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters as query;
use futures_util::{Stream, StreamExt as _};
use hyper_util::rt::TokioIo;
use protocol::command::{Channel, Terminal};
use serde_json::json;
use tokio::sync::mpsc;

use super::ask::encoded;
use super::{Docker, QUERY_DEADLINE_MS, logs, within};
use crate::engine::error::EngineError;
use crate::engine::{Source, Typing, Wrote};
use crate::typing::{self, Other};

/// A command has a terminal only once it runs, a moment after Docker has said that it starts it.
const RESIZE_TRIES: u32 = 20;
const RESIZE_AGAIN: Duration = Duration::from_millis(50);
/// By Ctrl-P and Ctrl-Q, where nothing is said, Docker leaves a terminal's command alone and holds each Ctrl-P back. It wants some keys; nobody
/// types these in a row, and only Ctrl-^ waits for the key after it.
const NO_DETACHING: &str = "ctrl-^,ctrl-],ctrl-^,ctrl-],ctrl-^,ctrl-]";

/// Reads to the end; what it returns says how that was.
pub(super) async fn read(
    docker: &Docker,
    id: &str,
    (source, typing): (Source, Option<Typing>),
    pieces: &mpsc::Sender<Wrote>,
) -> Wrote {
    let read = match source {
        Source::Logs { lines, since_s, follow } => {
            let mut options = query::LogsOptionsBuilder::new()
                .stdout(true)
                .stderr(true)
                .follow(follow)
                .tail(&lines.to_string());
            if let Some(since_s) = since_s {
                options = options.since(since(since_s));
            }
            // What is there comes at once; a daemon that hangs is not waited for.
            let within_ms = (!follow).then_some(QUERY_DEADLINE_MS);
            match docker.client() {
                Ok(client) => {
                    let output = client.logs(id, Some(options.build()));
                    pass(output, within_ms, pieces).await.map(|()| None)
                }
                Err(error) => Err(error),
            }
        }
        Source::Exec { command, terminal } => {
            exec(docker, id, (command, terminal, typing), pieces).await.map(Some)
        }
    };
    match read {
        Ok(code) => Wrote::Ended(code),
        Err(error) => Wrote::Failed(error.to_string()),
    }
}

/// The engine marks lines by this machine's clock, right or wrong; so is this.
fn since(seconds: u64) -> i32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i32::try_from(now.as_secs().saturating_sub(seconds)).unwrap_or(0)
}

/// Without a deadline whoever reads it has a lease.
async fn pass(
    mut output: impl Stream<Item = Result<LogOutput, ClientError>> + Unpin,
    within_ms: Option<u64>,
    pieces: &mpsc::Sender<Wrote>,
) -> Result<(), EngineError> {
    loop {
        let next = async { output.next().await.transpose() };
        let chunk = match within_ms {
            Some(within_ms) => within(within_ms, next).await?,
            None => next.await.map_err(|error| super::classify::engine_error(&error))?,
        };
        let Some(chunk) = chunk else { return Ok(()) };
        let (channel, bytes) = match chunk {
            LogOutput::StdErr { message } => (Channel::Stderr, message),
            LogOutput::StdOut { message }
            | LogOutput::StdIn { message }
            | LogOutput::Console { message } => (Channel::Stdout, message),
        };
        // Nobody reads any more: this task is being ended.
        let _ = pieces.send(Wrote::Bytes(channel, bytes.to_vec())).await;
    }
}

/// The code that the command ended with.
async fn exec(
    docker: &Docker,
    id: &str,
    (command, terminal, typing): (Vec<String>, Option<Terminal>, Option<Typing>),
    pieces: &mpsc::Sender<Wrote>,
) -> Result<i64, EngineError> {
    let config = ExecConfig {
        attach_stdin: Some(typing.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(terminal.is_some()),
        console_size: terminal.map(size),
        detach_keys: Some(NO_DETACHING.to_owned()),
        cmd: Some(command),
        ..Default::default()
    };
    let client = docker.client()?;
    let exec = within(QUERY_DEADLINE_MS, client.create_exec(id, config)).await?.id;
    let typing = match (terminal, typing) {
        (Some(terminal), Some(typing)) => {
            on_terminal(docker, &exec, (terminal, typing), pieces).await?;
            return code(docker, &exec).await;
        }
        (Some(_) | None, typing) => typing,
    };
    let start = client.start_exec(&exec, None::<StartExecOptions>);
    match within(QUERY_DEADLINE_MS, start).await? {
        StartExecResults::Attached { output, input } => {
            if let Some(typing) = typing {
                let to = (input, Other::Pipe);
                let passing = typing::pass_on(to, typing, pieces.downgrade(), async |_| {});
                tokio::task::spawn_local(passing);
            }
            pass(output, None, pieces).await?;
        }
        StartExecResults::Detached => {}
    }
    code(docker, &exec).await
}

async fn code(docker: &Docker, exec: &str) -> Result<i64, EngineError> {
    let runs_on = || EngineError::Other("the command runs on, and writes no more".to_owned());
    logs::exit_code(docker, exec).await?.ok_or_else(runs_on)
}

/// What is written on a terminal is in no frames; the client library takes its first bytes for the head of one, where they look like it.
async fn on_terminal(
    docker: &Docker,
    exec: &str,
    (terminal, typing): (Terminal, Typing),
    pieces: &mpsc::Sender<Wrote>,
) -> Result<(), EngineError> {
    let path = format!("/exec/{}/start", encoded(exec));
    // An engine before 23 does not know the size, and learns it by a call.
    let words = json!({ "Detach": false, "Tty": true, "ConsoleSize": size(terminal) });
    let stream = docker.upgrade(&path, &words).await?;
    let (mut from, to) = tokio::io::split(TokioIo::new(stream));
    let (of, id, weak) = (docker.clone(), exec.to_owned(), pieces.downgrade());
    tokio::task::spawn_local(async move {
        resize(&of, &id, terminal).await;
        let to = (to, Other::Terminal);
        typing::pass_on(to, typing, weak, async |terminal| resize(&of, &id, terminal).await).await;
    });
    loop {
        match typing::read(&mut from, pieces).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(EngineError::Unavailable(error.to_string())),
        }
    }
}

fn size(Terminal { rows, columns }: Terminal) -> Vec<usize> {
    vec![rows.into(), columns.into()]
}

/// A command that ended meanwhile has no terminal, and needs none.
async fn resize(docker: &Docker, exec: &str, terminal: Terminal) {
    let Ok(client) = docker.client() else { return };
    let (height, width) = (terminal.rows, terminal.columns);
    for _ in 0..RESIZE_TRIES {
        let resized = client.resize_exec(exec, ResizeExecOptions { height, width });
        if within(QUERY_DEADLINE_MS, resized).await.is_ok() {
            return;
        }
        tokio::time::sleep(RESIZE_AGAIN).await;
    }
}
