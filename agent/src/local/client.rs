//! The command's side of the local socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Answer, Request};

/// Longer than the agent takes to say that it cannot.
const DEADLINE: Duration = Duration::from_secs(30);
/// A board's answer is smaller.
const MAX_ANSWER_BYTES: u64 = 8 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no agent runs here (nobody answers on {path}); start it with `systemctl start pith-agent`, \
         or name its file with --config"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket is another user's.
    #[error("{0} is root's: `sudo pith-agent …`")]
    NotAllowed(PathBuf),
    /// It broke off.
    #[error("the agent broke off before it answered: {0}")]
    BrokeOff(io::Error),
}

/// Asks the agent of this board.
///
/// # Errors
/// Where it does not run, does not let this user ask, or does not answer.
pub fn ask(path: &Path, request: &Request) -> Result<Answer, AskError> {
    let path = path.to_owned();
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(AskError::NotAllowed(path));
        }
        Err(source) => return Err(AskError::NotRunning { path, source }),
    };
    converse(stream, request).map_err(AskError::BrokeOff)
}

fn converse(mut stream: UnixStream, request: &Request) -> io::Result<Answer> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_until(b'\n', &mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
