//! Logs and commands as they are written, for somebody far away.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::container::LogOutput;
use bollard::errors::Error as ClientError;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters as query;
use futures_util::{Stream, StreamExt as _};
use protocol::command::Channel;
use tokio::sync::mpsc;

use super::{Docker, QUERY_DEADLINE_MS, logs, within};
use crate::engine::error::EngineError;
use crate::engine::{Source, Wrote};

/// Reads to the end; what it returns says how that was.
pub(super) async fn read(
    docker: &Docker,
    id: &str,
    source: &Source,
    pieces: &mpsc::Sender<Wrote>,
) -> Wrote {
    let read = match source {
        Source::Logs { lines, since_s, follow } => {
            let mut options = query::LogsOptionsBuilder::new()
                .stdout(true)
                .stderr(true)
                .follow(*follow)
                .tail(&lines.to_string());
            if let Some(since_s) = since_s {
                options = options.since(since(*since_s));
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
        Source::Exec { command } => exec(docker, id, command, pieces).await.map(Some),
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
    command: &[String],
    pieces: &mpsc::Sender<Wrote>,
) -> Result<i64, EngineError> {
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..Default::default()
    };
    let client = docker.client()?;
    let exec = within(QUERY_DEADLINE_MS, client.create_exec(id, config)).await?.id;
    let start = client.start_exec(&exec, None::<StartExecOptions>);
    match within(QUERY_DEADLINE_MS, start).await? {
        StartExecResults::Attached { output, .. } => pass(output, None, pieces).await?,
        StartExecResults::Detached => {}
    }
    logs::code(docker, &exec).await
}
