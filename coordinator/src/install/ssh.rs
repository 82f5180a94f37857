//! The system's own ssh: the user's configuration, agent and known_hosts count. One connection, held by a first ssh, carries all scripts.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::str::FromStr;
use std::time::Duration;

use nix::sys::stat::Mode;
use protocol::id::hex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::data_dir::random;

/// Until the connection stands; a person may be typing a password.
const CONNECT: Duration = Duration::from_secs(120);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(50);
/// What a script may say.
const MAX_SAID: u64 = 2 * 1024 * 1024;
/// As ssh says that it failed itself.
const FAILED: i32 = 255;

/// `USER@HOST[:PORT]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    login: String,
    port: Option<u16>,
}

/// Why text is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not USER@HOST[:PORT], such as root@10.0.0.7 or pi@board.local:2222")]
pub struct BadTarget(String);

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let bad = || BadTarget(text.chars().take(80).flat_map(char::escape_default).collect());
        let (user, at) = text.rsplit_once('@').map_or((None, text), |(user, at)| (Some(user), at));
        let (host, port) = match at.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, ""))) => (host, None),
            Some(Some((host, rest))) => (host, Some(rest.strip_prefix(':').ok_or_else(bad)?)),
            Some(None) => return Err(bad()),
            // An IPv6 address alone.
            None if at.matches(':').count() > 1 => (at, None),
            None => at.split_once(':').map_or((at, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|port| port.parse::<u16>().map_err(|_| bad())).transpose()?;
        let is_word = |word: &str| {
            // What begins with a dash would be an option of ssh.
            !word.is_empty()
                && !word.starts_with('-')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-:%".contains(c))
        };
        if !is_word(host) || user.is_some_and(|user| !is_word(user)) || port == Some(0) {
            return Err(bad());
        }
        let login = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
        Ok(Self { login, port })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.login)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// How root is reached once the connection stands.
#[derive(Clone, PartialEq, Eq)]
pub enum Elevation {
    /// The login is root's.
    Root,
    /// `sudo`, which asks nothing.
    Sudo,
    /// `sudo`, which reads this from standard input.
    SudoPassword(String),
    /// Where sudo asks nothing; else as who logged in.
    IfFree,
}

/// Why nothing was said.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// No ssh here.
    #[error(
        "{program}: {source}; the system's ssh is needed (apt-get install openssh-client), or name another with --ssh"
    )]
    NoProgram {
        /// What was called.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No way there.
    #[error(
        "{target} cannot be reached by ssh: {said}; is it on, and is that its address? `ssh {target}` must work"
    )]
    Unreachable {
        /// Where.
        target: String,
        /// By ssh.
        said: String,
    },
    /// Nobody we are.
    #[error(
        "{target} refuses the key or password: {said}; `ssh-copy-id {target}` puts your key there"
    )]
    KeyRefused {
        /// Where.
        target: String,
        /// By ssh.
        said: String,
    },
    /// Who it is, is not known.
    #[error(
        "{target} shows a host key that is not known here: {said}; look at it once with `ssh {target}`. Was the board set up anew: `ssh-keygen -R HOST`"
    )]
    HostKey {
        /// Where.
        target: String,
        /// By ssh.
        said: String,
    },
    /// The connection ended.
    #[error(
        "the connection to {target} broke off: {said}; the same command goes on where it stopped"
    )]
    Broken {
        /// Where.
        target: String,
        /// By ssh.
        said: String,
    },
    /// It takes too long.
    #[error("{target} did not finish within {} s; the same command goes on where it stopped", .patience.as_secs())]
    TimedOut {
        /// Where.
        target: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// Here.
    #[error("{path}: {source}", path = .path.display())]
    Here {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What a script said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How it ended.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// And to stderr.
    pub err: String,
}

/// A connection to a board; ends when dropped.
#[derive(Debug)]
pub struct Ssh {
    words: Vec<String>,
    target: Target,
    folder: PathBuf,
    _first: Child,
}

/// The words of `--ssh` or PITH_SSH, as rsync takes them: separated by spaces, quotes hold together what has some.
///
/// # Errors
/// In words.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (Some(_) | None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("--ssh: a quote is not closed in `{text}`"));
    }
    words.extend(word);
    if words.is_empty() {
        return Err("--ssh: a command is expected, such as `ssh -i FILE`".to_owned());
    }
    Ok(words)
}

impl Ssh {
    /// Connects. ssh itself asks for passwords and unknown host keys, where a terminal is there (`may_ask`).
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn open(words: Vec<String>, target: Target, may_ask: bool) -> Result<Self, SshError> {
        let folder = private_folder()?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args([
            "-M",
            "-N",
            "-o",
            "ControlPersist=no",
            "-o",
            "ConnectTimeout=15",
        ]);
        command.args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]);
        if !may_ask {
            command.args(["-o", "BatchMode=yes"]);
        }
        arguments(&mut command, &target, &folder);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let started = command.spawn();
        let mut first = started.map_err(|source| {
            let _ = std::fs::remove_dir(&folder);
            SshError::NoProgram { program: words[0].clone(), source }
        })?;
        let mut stderr = first.stderr.take();
        let socket = socket(&folder);
        let waiting = async {
            loop {
                if socket.exists() {
                    return Ok(());
                }
                if let Ok(Some(_)) = first.try_wait() {
                    let mut said = String::new();
                    if let Some(stderr) = &mut stderr {
                        let _ = stderr.take(MAX_SAID).read_to_string(&mut said).await;
                    }
                    return Err(explain(&target, &said));
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let waited = tokio::time::timeout(CONNECT, waiting).await;
        match waited {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let _ = std::fs::remove_dir_all(&folder);
                return Err(error);
            }
            Err(_) => {
                let _ = std::fs::remove_dir_all(&folder);
                return Err(SshError::TimedOut { target: target.to_string(), patience: CONNECT });
            }
        }
        if let Some(mut stderr) = stderr {
            // So that it never waits for somebody to read what it says.
            tokio::spawn(async move { tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await });
        }
        Ok(Self { words, target, folder, _first: first })
    }

    /// Where it leads.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Runs a POSIX script there, with arguments that anybody there may see and standard input that nobody does.
    ///
    /// # Errors
    /// Where it was not run to its end. How it ended is in the answer.
    pub async fn run(
        &self,
        script: &str,
        arguments_of_it: &[&str],
        stdin: &[u8],
        elevation: &Elevation,
        patience: Duration,
    ) -> Result<Said, SshError> {
        let (line, stdin) = remote(script, arguments_of_it, stdin, elevation);
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(["-o", "ControlMaster=no", "-o", "BatchMode=yes"]);
        arguments(&mut command, &self.target, &self.folder);
        command.arg(line);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let here = |source| SshError::Here { path: PathBuf::from(&self.words[0]), source };
        let mut child = command.spawn().map_err(here)?;
        let (pipe, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feeding = async move {
            if let Some(mut pipe) = pipe {
                // A script that ends early has its reasons, and says them.
                let _ = pipe.write_all(&stdin).await;
                let _ = pipe.shutdown().await;
            }
        };
        let running = async {
            let ((), out, err) = tokio::join!(feeding, read(out), read(err));
            Ok::<_, std::io::Error>((child.wait().await?, out, err))
        };
        let late = |_| SshError::TimedOut { target: self.target.to_string(), patience };
        let (status, out, err) =
            tokio::time::timeout(patience, running).await.map_err(late)?.map_err(here)?;
        match code(status) {
            FAILED => {
                Err(SshError::Broken { target: self.target.to_string(), said: last_line(&err) })
            }
            code => Ok(Said { code, out, err }),
        }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        // The first ssh is killed with its handle.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(MAX_SAID);
        let _ = pipe.read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut pipe.into_inner(), &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(FAILED)
}

fn arguments(command: &mut Command, target: &Target, folder: &Path) {
    command.arg("-S").arg(socket(folder));
    if let Some(port) = target.port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", &target.login]);
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("s")
}

/// For this user alone; short, because the path of a socket is.
fn private_folder() -> Result<PathBuf, SshError> {
    let top = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
    let top = top.unwrap_or_else(|| PathBuf::from("/tmp"));
    let drawn: [u8; 8] = random().map_err(|_| SshError::Here {
        path: top.clone(),
        source: std::io::Error::other("no random bytes"),
    })?;
    let path = top.join(format!("pith-{}", hex(&drawn)));
    let made = nix::unistd::mkdir(&path, Mode::S_IRWXU);
    made.map_err(|error| SshError::Here { path: path.clone(), source: error.into() })?;
    Ok(path)
}

/// The line that the board's shell reads, and what goes to its standard input.
fn remote(
    script: &str,
    arguments: &[&str],
    stdin: &[u8],
    elevation: &Elevation,
) -> (String, Vec<u8>) {
    let mut line = format!("sh -c {} pith", quoted(script));
    for one in arguments {
        line.push(' ');
        line.push_str(&quoted(one));
    }
    match elevation {
        Elevation::Root => (line, stdin.to_vec()),
        Elevation::Sudo => (format!("sudo -n {line}"), stdin.to_vec()),
        // -k: it asks in any case, so that the first line is always the password's.
        Elevation::SudoPassword(password) => {
            (format!("sudo -S -k -p '' {line}"), [password.as_bytes(), b"\n", stdin].concat())
        }
        Elevation::IfFree => {
            let free = "[ \"$(id -u)\" != 0 ] && command -v sudo >/dev/null 2>&1 && sudo -n true </dev/null >/dev/null 2>&1";
            let chosen = format!("if {free}; then exec sudo -n {line}; else exec {line}; fi");
            (format!("sh -c {}", quoted(&chosen)), stdin.to_vec())
        }
    }
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    line.trim().chars().filter(|c| !c.is_control()).take(300).collect()
}

/// What ssh's own words mean.
fn explain(target: &Target, said: &str) -> SshError {
    let (at, line) = (target.to_string(), last_line(said));
    let has = |words: &str| said.contains(words);
    if has("Permission denied") || has("Too many authentication failures") {
        return SshError::KeyRefused { target: at, said: line };
    }
    if has("Host key verification failed") || has("HOST IDENTIFICATION HAS CHANGED") {
        return SshError::HostKey { target: at, said: line };
    }
    SshError::Unreachable { target: at, said: line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Option<(String, Option<u16>)> {
        text.parse::<Target>().ok().map(|target| (target.login, target.port))
    }

    #[test]
    fn a_target_is_a_login_and_a_port() {
        assert_eq!(target("root@10.0.0.7"), Some(("root@10.0.0.7".into(), None)));
        assert_eq!(target("pi@board.local:2222"), Some(("pi@board.local".into(), Some(2222))));
        assert_eq!(target("board"), Some(("board".into(), None)));
        assert_eq!(target("root@[fe80::1%eth0]:22"), Some(("root@fe80::1%eth0".into(), Some(22))));
        assert_eq!(target("root@fe80::1"), Some(("root@fe80::1".into(), None)));
        for bad in [
            "",
            "root@",
            "@board",
            "-oProxyCommand=x",
            "a@-b",
            "a b",
            "b:",
            "b:x",
            "b:0",
            "[::1",
            "a;b",
        ] {
            assert_eq!(target(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_command_is_split_as_people_write_it() {
        assert_eq!(words("ssh -i 'my key' -p 1").unwrap(), ["ssh", "-i", "my key", "-p", "1"]);
        assert!(words("ssh 'x").unwrap_err().contains("quote"));
        assert!(words("  ").is_err());
    }

    #[test]
    fn a_password_is_the_first_line_of_standard_input_and_in_no_argument() {
        let elevation = Elevation::SudoPassword("s3cret".to_owned());
        let (line, stdin) = remote("echo it's", &["a b"], b"token\n", &elevation);
        assert_eq!(stdin, b"s3cret\ntoken\n");
        assert!(!line.contains("s3cret") && !line.contains("token"));
        assert_eq!(line, "sudo -S -k -p '' sh -c 'echo it'\\''s' pith 'a b'");
    }

    #[test]
    fn what_ssh_says_becomes_what_to_do() {
        let of = |said: &str| explain(&"root@b".parse().unwrap(), said).to_string();
        assert!(of("root@b: Permission denied (publickey).").contains("ssh-copy-id"));
        assert!(of("Host key verification failed.").contains("host key"));
        assert!(of("ssh: connect to host b port 22: No route to host").contains("No route"));
    }
}
