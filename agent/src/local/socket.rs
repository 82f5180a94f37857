//! The agent's side of the local socket: who may ask, one line in, one line out. Must not decide: the loop does.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{Answer, MAX_REQUEST_BYTES, NotARequest, Request};

/// Conversations at once; whoever comes next waits.
const MAX_CONVERSATIONS: usize = 8;
/// For the request to come.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// For the loop to answer: a write to a slow card, and then some.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
const PASSWD_FILE: &str = "/etc/passwd";

/// What somebody who may ask asks, and where the answer goes.
#[derive(Debug)]
pub struct Call {
    /// What.
    pub request: Request,
    /// Who, for people.
    pub by: String,
    /// Where.
    pub answer: oneshot::Sender<Answer>,
}

/// Listens where only this user reaches it. Made beside its place and renamed into it; the ledger's lock says that no
/// other agent listens there.
///
/// # Errors
/// The system's.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let listener = UnixListener::bind(&temporary)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&temporary, path)?;
    Ok(listener)
}

/// Runs until it is dropped. Must be called within a `tokio::task::LocalSet`.
pub async fn serve(listener: UnixListener, calls: mpsc::Sender<Call>) {
    let places = Arc::new(Semaphore::new(MAX_CONVERSATIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let calls = calls.clone();
                tokio::task::spawn_local(async move {
                    if let Err(error) = converse(stream, &calls).await {
                        debug!(%error, "a local conversation broke off");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "accept failed on the local socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, calls: &mpsc::Sender<Call>) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let answer = match is_allowed(uid, nix::unistd::geteuid().as_raw()) {
        true => ask(&mut stream, uid, calls).await?,
        false => Answer::Refused("only root of this board may ask that".to_owned()),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Root, and whom the agent runs as: in `pith dev` that is no root.
const fn is_allowed(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

async fn ask(stream: &mut UnixStream, uid: u32, calls: &mpsc::Sender<Call>) -> io::Result<Answer> {
    let line = match timeout(REQUEST_DEADLINE, read_line(stream)).await {
        Ok(line) => line?,
        Err(_) => return Ok(Answer::Refused("no request came".to_owned())),
    };
    let request = match line.ok_or(NotARequest::TooLong).and_then(|line| Request::read(&line)) {
        Ok(request) => request,
        Err(error) => return Ok(Answer::Refused(error.to_string())),
    };
    let (answer, answered) = oneshot::channel();
    let by = asker(uid, request.user.as_deref());
    if calls.send(Call { request, by, answer }).await.is_err() {
        return Ok(Answer::Refused("the agent is ending".to_owned()));
    }
    Ok(match timeout(ANSWER_DEADLINE, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Answer::Refused(
            "the agent did not answer in time: it cannot write its ledger, or is ending; it may still do it, \
             `pith-agent ps` shows whether it did"
                .to_owned(),
        ),
    })
}

/// The first line, without its end; none: it is too long.
async fn read_line(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(Some(line));
        }
        if line.len() > MAX_REQUEST_BYTES {
            return Ok(None);
        }
        if stream.read_buf(&mut line).await? == 0 {
            return Ok(Some(line));
        }
    }
}

/// `root`, or `anna as root` where `sudo` said so.
fn asker(uid: u32, user: Option<&str>) -> String {
    let users = std::fs::read_to_string(PASSWD_FILE).unwrap_or_default();
    let own = user_named(&users, uid).map_or_else(|| format!("uid {uid}"), str::to_owned);
    match user {
        Some(user) if uid == 0 && !user.is_empty() && user != own => format!("{user} as {own}"),
        Some(_) | None => own,
    }
}

/// The user of this number in a file as passwd(5) has it.
fn user_named(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid) && !name.contains(char::is_control)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::Wish;

    #[test]
    fn root_and_the_agents_own_user_may_ask() {
        assert!(is_allowed(0, 0) && is_allowed(0, 1000) && is_allowed(1000, 1000));
        assert!(!is_allowed(1000, 0) && !is_allowed(1001, 1000));
    }

    #[test]
    fn a_user_is_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        assert_eq!(user_named(users, 0), Some("root"));
        assert_eq!(user_named(users, 1000), Some("anna"));
        assert_eq!(user_named(users, 7), None);
    }

    /// Asks with these bytes a loop that answers `done`.
    fn talk(bytes: &'static [u8]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("agent.sock");
            let listener = listen(&path).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let (calls, mut called) = mpsc::channel(1);
            tokio::task::spawn_local(serve(listener, calls));
            tokio::task::spawn_local(async move {
                while let Some(call) = called.recv().await {
                    assert_eq!(call.request.wish, Wish::Ps);
                    let _ = call.answer.send(Answer::Done(call.by));
                }
            });
            let mut stream = UnixStream::connect(&path).await.unwrap();
            // Whoever is refused early does not read the rest.
            let _ = stream.write_all(bytes).await;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        })
    }

    #[test]
    fn a_line_is_answered_by_a_line_whatever_it_is() {
        assert!(talk(b"{\"wish\":\"ps\"}\n").starts_with("{\"done\":"));
        assert!(talk(b"\x00\xff\n").contains("not a request"));
        assert!(talk(b"GET / HTTP/1.1\r\n\r\n").contains("not a request"));
        let long = Box::leak(vec![b'x'; MAX_REQUEST_BYTES + 1].into_boxed_slice());
        assert!(talk(long).contains("at most"));
    }
}
