//! Looks at a board. Only reads, and judges nothing: what is wanted is said by the modules that judge.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use protocol::doctor::Examination;

use super::facts::{EngineAway, Facts, Ran, StateFolder, Subject, Unread, Volume};
use super::{board, clock, disk, engine, firewall, heat, images, kernel, neighbours, ports};
use crate::engine::{Engine, EngineError, Ours};
use crate::ledger::{self, KeptHere};
use crate::{identity, tls, trust};

/// Bytes of one file that are read.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Files that one pattern finds.
const MAX_FILES: usize = 2_048;
/// Bytes that one program prints.
const MAX_PRINTED_BYTES: u64 = 4 * 1024 * 1024;
/// A program that takes longer does not answer.
const PROGRAM_WITHIN: Duration = Duration::from_secs(8);
/// Where programs of root's are, also for a user whose PATH lacks them.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const FILES: [&[&str]; 9] = [
    board::FILES,
    clock::FILES,
    disk::FILES,
    engine::FILES,
    firewall::FILES,
    heat::FILES,
    images::FILES,
    kernel::FILES,
    neighbours::FILES,
];
const PROGRAMS: [&[&str]; 3] = [clock::PROGRAMS, firewall::PROGRAMS, ports::PROGRAMS];

/// Runs programs of the board.
pub trait Tools: Send + 'static {
    /// Runs one, whose words are split at spaces, to its end.
    fn run(&self, command: &str) -> Ran;
}

/// The programs that are installed.
#[derive(Debug, Clone, Copy)]
pub struct Installed;

/// Looks at everything and judges it. `at`: what the machine's clock says and the newest signed time that is known, seconds since 1970.
pub async fn examine<E: Engine>(
    subject: Subject,
    engine: &E,
    at: (u64, u64),
    (root, tools): (PathBuf, impl Tools),
) -> Examination {
    let facts = look(subject, engine, at, (root, tools)).await;
    super::findings(&facts)
}

async fn look<E: Engine>(
    subject: Subject,
    engine: &E,
    (unix_s, floor_s): (u64, u64),
    (root, tools): (PathBuf, impl Tools),
) -> Facts {
    let survey = engine.survey().await.map_err(|error| away(&error));
    let of_state = subject.clone();
    let contents = ledger::look(&subject.state_dir);
    let (kept, state_floor_s, trouble) = match contents {
        Ok(contents) => (contents.kept_here(), contents.floor_s(), None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (Vec::new(), 0, None),
        Err(error) => (Vec::new(), 0, Some(error.to_string())),
    };
    let docker_root = survey.as_ref().map(|one| one.info.root_dir.clone()).unwrap_or_default();
    let kept = with_images(engine, kept).await;
    let bridges = bridges(engine, &subject).await;
    let read = tokio::task::spawn_blocking(move || {
        let state = state_folder(&of_state, trouble);
        let volumes = volumes(&of_state, &docker_root);
        let programs = PROGRAMS.into_iter().flatten();
        let programs = programs.map(|command| ((*command).to_owned(), tools.run(command)));
        (files(&root), programs.collect::<BTreeMap<_, _>>(), volumes, state)
    });
    // A task that panicked has seen nothing.
    let (files, programs, volumes, state) = read.await.unwrap_or_default();
    let floor_s = floor_s.max(state_floor_s).max(tls::first_floor().unix_s());
    let as_root = nix::unistd::geteuid().is_root();
    Facts {
        subject,
        as_root,
        unix_s,
        floor_s,
        files,
        programs,
        volumes,
        engine: survey,
        kept,
        bridges,
        state,
    }
}

fn away(error: &EngineError) -> EngineAway {
    let message = error.to_string();
    let is_denied = message.to_ascii_lowercase().contains("permission denied");
    EngineAway { message, is_denied }
}

async fn with_images<E: Engine>(engine: &E, kept: Vec<KeptHere>) -> Vec<(KeptHere, Option<bool>)> {
    let mut with = Vec::new();
    for one in kept {
        let image = engine.image(&one.release.image).await;
        with.push((one, image.ok().map(|image| image.is_some())));
    }
    with
}

/// Docker names the interface of a bridge network by the first digits of the network's id.
async fn bridges<E: Engine>(engine: &E, subject: &Subject) -> Vec<String> {
    let node = identity::load(&subject.state_dir).ok();
    let fleet = trust::load(&subject.root_file).ok();
    let Some((node, fleet)) = node.zip(fleet) else { return Vec::new() };
    let ours = Ours { fleet: fleet.fleet, node: node.public().node_id() };
    let networks = engine.networks(&ours).await.unwrap_or_default();
    networks.iter().map(|network| format!("br-{}", images::first(&network.id, 12))).collect()
}

fn state_folder(subject: &Subject, trouble: Option<String>) -> StateFolder {
    let dir = &subject.state_dir;
    let has = |name: &str| dir.join(name).exists();
    StateFolder {
        has_joined: has(protocol::join::CERTIFICATE_FILE) || subject.root_file.exists(),
        trouble,
        board: std::fs::read_to_string(dir.join(board::BOARD_FILE)).ok(),
        agent_answers: UnixStream::connect(&subject.agent_socket).is_ok(),
    }
}

fn volumes(subject: &Subject, docker_root: &str) -> Vec<Volume> {
    let state_dir = subject.state_dir.to_string_lossy().into_owned();
    let volumes =
        [("the state folder", state_dir), ("the engine's images", docker_root.to_owned())];
    volumes.into_iter().filter_map(|(what, path)| volume(what, path)).collect()
}

fn volume(what: &'static str, path: String) -> Option<Volume> {
    let seen = nix::sys::statvfs::statvfs(path.as_str()).ok()?;
    let block = seen.fragment_size();
    let used = seen.blocks().saturating_sub(seen.blocks_free());
    Some(Volume {
        what,
        path,
        total_bytes: (used + seen.blocks_available()) * block,
        free_bytes: seen.blocks_available() * block,
        inodes: seen.files(),
        free_inodes: seen.files_free(),
    })
}

/// All files that are wanted, below `root`.
pub(super) fn files(root: &Path) -> BTreeMap<String, Result<String, Unread>> {
    let mut found = BTreeMap::new();
    for pattern in FILES.into_iter().flatten() {
        let parts: Vec<&str> = pattern.trim_start_matches('/').split('/').collect();
        let mut paths = Vec::new();
        expand(root, String::new(), &parts, &mut paths);
        for path in paths {
            match read(&root.join(path.trim_start_matches('/'))) {
                Err(Unread::Missing) => {}
                text => drop(found.insert(path, text)),
            }
        }
    }
    found
}

/// `*` stands for any part of one name.
fn expand(root: &Path, at: String, parts: &[&str], paths: &mut Vec<String>) {
    let Some((part, rest)) = parts.split_first() else { return paths.push(at) };
    if !part.contains('*') {
        return expand(root, format!("{at}/{part}"), rest, paths);
    }
    let Ok(entries) = std::fs::read_dir(root.join(at.trim_start_matches('/'))) else { return };
    let (before, after) = part.split_once('*').unwrap_or((part, ""));
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let fits = name.len() >= before.len() + after.len();
        if fits && name.starts_with(before) && name.ends_with(after) && paths.len() < MAX_FILES {
            expand(root, format!("{at}/{name}"), rest, paths);
        }
    }
}

fn read(path: &Path) -> Result<String, Unread> {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    let kind = |error: std::io::Error| {
        let kind = error.kind();
        if [NotFound, NotADirectory].contains(&kind) {
            Unread::Missing
        } else if kind == PermissionDenied {
            Unread::Denied
        } else {
            Unread::Broken
        }
    };
    let file = std::fs::File::open(path).map_err(kind)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(kind)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Tools for Installed {
    fn run(&self, command: &str) -> Ran {
        let mut words = command.split(' ');
        let mut program = Command::new(words.next().unwrap_or_default());
        program.args(words).env("PATH", PATH).env("LC_ALL", "C");
        program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match program.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ran::Missing,
            Err(error) => return Ran::Failed(error.to_string()),
        };
        let (told, tells) = mpsc::channel();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let readers = [out.map(reader), err.map(reader)];
        for (index, read) in readers.into_iter().enumerate() {
            let told = told.clone();
            std::thread::spawn(move || {
                let _ = told.send((index, read.map(|read| read()).unwrap_or_default()));
            });
        }
        let mut texts = [String::new(), String::new()];
        for _ in 0..2 {
            let Ok((index, text)) = tells.recv_timeout(PROGRAM_WITHIN) else {
                let _ = child.kill();
                let _ = child.wait();
                let seconds = PROGRAM_WITHIN.as_secs();
                return Ran::Failed(format!("`{command}` did not end within {seconds} s"));
            };
            texts[index] = text;
        }
        let [out, err] = texts;
        match child.wait() {
            Ok(status) if status.success() => Ran::Printed(out),
            Ok(_) => Ran::Failed(err.trim().to_owned()),
            Err(error) => Ran::Failed(error.to_string()),
        }
    }
}

fn reader<R: std::io::Read + Send + 'static>(from: R) -> Box<dyn FnOnce() -> String + Send> {
    Box::new(move || {
        let mut bytes = Vec::new();
        let _ = from.take(MAX_PRINTED_BYTES).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests;
