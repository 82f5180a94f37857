//! What containers and commands in them write.

use std::time::Duration;

use bollard::Docker as Client;
use bollard::container::LogOutput;
use bollard::errors::Error as ClientError;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters as query;
use futures_util::StreamExt as _;

use super::answers::ExecSeen;
use super::ask::encoded;
use super::{Docker, QUERY_DEADLINE_MS, classify, within};
use crate::engine::error::EngineError;
use crate::engine::{ExecOutcome, MAX_EXEC_OUTPUT_BYTES};

/// What of a log's tail is looked at.
const MAX_TAIL_BYTES: usize = 64 * 1024;
/// See [`exit_code`].
const CODE_TRIES: u32 = 40;
const CODE_AGAIN: Duration = Duration::from_millis(50);

pub(super) async fn tail(
    client: &Client,
    id: &str,
    lines: usize,
) -> Result<Vec<String>, EngineError> {
    let options =
        query::LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
    let mut chunks = client.logs(id, Some(options));
    let collect = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(chunk?.as_ref());
            if bytes.len() > 2 * MAX_TAIL_BYTES {
                bytes.drain(..bytes.len() - MAX_TAIL_BYTES);
            }
        }
        Ok::<_, ClientError>(bytes)
    };
    let bytes = within(QUERY_DEADLINE_MS, collect).await?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<String> = text.lines().map(printable).collect();
    Ok(all[all.len().saturating_sub(lines)..].to_vec())
}

/// Without control characters: it goes to terminals.
fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

pub(super) async fn exec(
    docker: &Docker,
    id: &str,
    command: &[String],
    deadline_ms: u64,
) -> Result<ExecOutcome, EngineError> {
    let client = docker.client()?;
    let failed = |error: ClientError| classify::engine_error(&error);
    let run = async {
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let exec = client.create_exec(id, config).await.map_err(failed)?.id;
        let start = client.start_exec(&exec, None::<StartExecOptions>);
        let output = match start.await.map_err(failed)? {
            StartExecResults::Attached { output, .. } => beginning(output).await.map_err(failed)?,
            StartExecResults::Detached => String::new(),
        };
        Ok(ExecOutcome::Exited { code: exit_code(docker, &exec).await?.unwrap_or(-1), output })
    };
    let run = tokio::time::timeout(Duration::from_millis(deadline_ms), run);
    run.await.unwrap_or(Ok(ExecOutcome::TimedOut))
}

/// What a command ended with, of which nothing more is to be read; Docker may know it a moment later. None: it runs on, and has closed what
/// it writes to.
pub(super) async fn exit_code(docker: &Docker, exec: &str) -> Result<Option<i64>, EngineError> {
    for _ in 0..CODE_TRIES {
        let seen: ExecSeen = docker.get(&format!("/exec/{}/json", encoded(exec))).await?;
        if seen.exit_code.is_some() {
            return Ok(seen.exit_code);
        }
        tokio::time::sleep(CODE_AGAIN).await;
    }
    Ok(None)
}

/// Reads to the end and keeps the beginning.
async fn beginning(
    mut output: impl futures_util::Stream<Item = Result<LogOutput, ClientError>> + Unpin,
) -> Result<String, ClientError> {
    let mut kept = Vec::new();
    while let Some(chunk) = output.next().await {
        let chunk = chunk?;
        let room = MAX_EXEC_OUTPUT_BYTES.saturating_sub(kept.len());
        kept.extend(chunk.as_ref().iter().take(room));
    }
    Ok(String::from_utf8_lossy(&kept).trim_end().to_owned())
}
