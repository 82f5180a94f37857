//! `pith keys sign`, and what becomes of a root once it is signed: in effect, in the folder, or waiting for others.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::envelope::{Envelope, MAX_ENVELOPE_BYTES, Signature};
use protocol::keys::{PublicKey, Root};
use protocol::succession;
use serde::Serialize;

use super::root_keys;
use crate::cli::session::Session;
use crate::cli::{CliError, Exit, SignArgs};
use crate::client::ClientError;
use crate::key_file::KeyFile;
use crate::passphrase::Passphrases;
use crate::roots::{self, Missing};
use crate::state::shown::{DistrustedShown, RootShown};
use crate::state::trust::next_root;

/// What a change has left behind.
#[derive(Debug, Default, Serialize)]
pub(super) struct Made {
    /// Key files that were written.
    pub(super) keys: Vec<PathBuf>,
}

/// The answer of every verb that makes or signs a root.
#[derive(Debug, Serialize)]
struct Answer {
    version: u64,
    /// `in_effect`: the coordinator has it; `stored`: it is in the folder for its next start; `incomplete`; `complete`: it is
    /// to be taken to the fleet's folder.
    state: &'static str,
    keys_made: Vec<PathBuf>,
    /// Where it waits for signatures, or to be taken to the fleet's folder.
    file: Option<PathBuf>,
    missing: Vec<Missing>,
    distrusted: Vec<DistrustedShown>,
}

/// Signs a file, with or without the fleet's folder at hand.
pub(super) async fn run(session: &Session, file: &Path, args: &SignArgs) -> Result<Exit, CliError> {
    let failed = |error: String| CliError::usage(format_args!("{}: {error}", file.display()));
    let length = fs::metadata(file).map_err(|e| failed(e.to_string()))?.len();
    if length > MAX_ENVELOPE_BYTES as u64 {
        return Err(failed("it is too large for a trust root".to_owned()));
    }
    let bytes = fs::read(file).map_err(|e| failed(e.to_string()))?;
    let mut envelope = Envelope::from_bytes(&bytes).map_err(|e| failed(e.to_string()))?;
    let root = unproven(&envelope).map_err(failed)?;
    let before = before(session, &root)?;
    let roots: Vec<&Root> = before.iter().chain([&root]).collect();
    let mut passphrases = Passphrases::default();
    for key in root_keys(session, &args.root_key, &roots, &mut passphrases)? {
        envelope.sign_too::<Root>(&key).map_err(|e| failed(e.to_string()))?;
    }
    join(session, &root, &mut envelope)?;
    if !session.is_json() {
        eprint!("{}", says(&root));
    }
    fs::write(file, envelope.to_bytes()).map_err(|e| failed(e.to_string()))?;
    let knows_fleet = before.is_some()
        || session
            .data
            .unfinished()
            .is_some_and(|waiting| root.version == 1 && waiting.payload == envelope.payload);
    if knows_fleet {
        return settle(session, before.as_ref(), root, envelope, Made::default()).await;
    }
    // Somebody's own machine: whether it is enough is seen where the fleet's folder is.
    let missing = roots::missing(None, &root, &envelope).map_err(|e| failed(e.to_string()))?;
    let answer = Answer {
        version: root.version,
        state: if missing.is_empty() { "complete" } else { "incomplete" },
        keys_made: Vec::new(),
        file: Some(file.to_owned()),
        missing,
        distrusted: Vec::new(),
    };
    session.print(&answer, |answer| {
        let file = file.display();
        let text = lacks(answer);
        format!("{text}signed; where the fleet's folder is, or by the next who signs: pith keys sign {file}\n")
    });
    Ok(Exit::Done)
}

/// With the signatures of the one that waits in the fleet's folder, which others may have added there.
fn join(session: &Session, root: &Root, envelope: &mut Envelope) -> Result<(), CliError> {
    let path = session.data.unsigned_root(root.version);
    let Some(waiting) = fs::read(&path).ok().and_then(|bytes| Envelope::from_bytes(&bytes).ok())
    else {
        return Ok(());
    };
    let Ok(other) = succession::unproven(&waiting) else { return Ok(()) };
    if other.fleet != root.fleet {
        return Ok(());
    }
    if waiting.payload != envelope.payload {
        let path = path.display();
        return Err(CliError::usage(format_args!(
            "{path} is another trust root {}; complete or remove that one first",
            root.version
        )));
    }
    let new = |signature: &Signature| !envelope.signatures.contains(signature);
    let more: Vec<Signature> = waiting.signatures.iter().filter(|s| new(s)).cloned().collect();
    envelope.signatures.extend(more);
    Ok(())
}

/// The root before, where this folder is the same fleet's.
fn before(session: &Session, root: &Root) -> Result<Option<Root>, CliError> {
    if !session.data.holds_fleet() {
        return Ok(None);
    }
    let fleet = session.data.open()?;
    if fleet.id != root.fleet {
        return Ok(None);
    }
    let newest = fleet.root.version;
    if root.version != newest + 1 {
        return Err(CliError::usage(format_args!(
            "it is trust root {}, and the fleet is at {newest}: only {} can follow",
            root.version,
            newest + 1
        )));
    }
    Ok(Some(fleet.root))
}

/// Puts a root in effect where it has all its signatures, else leaves it for the others.
pub(super) async fn settle(
    session: &Session,
    before: Option<&Root>,
    root: Root,
    envelope: Envelope,
    made: Made,
) -> Result<Exit, CliError> {
    let missing = roots::missing(before, &root, &envelope).map_err(CliError::failed)?;
    let version = root.version;
    let mut answer = Answer {
        version,
        state: "incomplete",
        keys_made: made.keys,
        file: None,
        missing,
        distrusted: Vec::new(),
    };
    if !answer.missing.is_empty() {
        let name = format!("root-{version}.json");
        answer.file = Some(session.data.write(&name, &envelope.to_bytes())?);
        session.print(&answer, lacks);
        return Ok(Exit::NotFinished);
    }
    let Some(before) = before else {
        let fleet = session.data.finish_first(&envelope)?;
        answer.state = "stored";
        let path = session.data.path().display();
        session.print(&answer, |_| {
            format!(
                "fleet {} in {path} is finished\nnext: pith dev --data {path}   or   pith serve --data {path}\n",
                fleet.id
            )
        });
        return Ok(Exit::Done);
    };
    match session.client().await?.succeed(&envelope).await {
        Ok(RootShown { distrusted, .. }) => {
            session.data.forget_unsigned(version);
            (answer.state, answer.distrusted) = ("in_effect", distrusted);
        }
        Err(ClientError::Unreachable { .. }) => {
            // Nobody serves: what the coordinator would check is checked here.
            let held: Vec<PublicKey> = session
                .data
                .keys()?
                .iter()
                .filter(|key| key.signs())
                .map(KeyFile::public)
                .collect();
            let next = next_root(before, &envelope, &held).map_err(CliError::refused)?;
            session.data.keep_root(&envelope, next.root.version)?;
            answer.state = "stored";
        }
        Err(error) => return Err(error.into()),
    }
    session.print(&answer, settled);
    Ok(Exit::Done)
}

fn unproven(envelope: &Envelope) -> Result<Root, String> {
    let root = succession::unproven(envelope).map_err(|e| e.to_string())?;
    root.check().map_err(|e| e.to_string())?;
    Ok(root)
}

fn settled(answer: &Answer) -> String {
    let mut text = made(&answer.keys_made);
    text += &match answer.state {
        "in_effect" => format!("trust root {} is in effect; every node is told\n", answer.version),
        _ => format!(
            "trust root {} is stored; the coordinator does not run, and tells the nodes when it starts\n",
            answer.version
        ),
    };
    for of_it in &answer.distrusted {
        text += &format!("warning: {of_it}\n");
    }
    text
}

fn lacks(answer: &Answer) -> String {
    let mut text = made(&answer.keys_made);
    for group in answer.missing.chunk_by(|a, b| (a.needed, &a.keys) == (b.needed, &b.keys)) {
        let Some(Missing { needed, keys, .. }) = group.first() else { continue };
        let under: Vec<String> = group.iter().map(|missing| missing.under.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(protocol::id::KeyId::as_str).collect();
        text += &format!(
            "trust root {} needs {needed} more signature(s) under trust root {}, of: {}\n",
            answer.version,
            under.join(" and "),
            keys.join(", ")
        );
    }
    if let Some(file) = answer.file.as_ref().filter(|_| !answer.missing.is_empty()) {
        text += &format!("who signs runs: pith keys sign {} --root-key FILE\n", file.display());
    }
    text
}

fn made(keys: &[PathBuf]) -> String {
    keys.iter().map(|key| format!("new key in {}\n", key.display())).collect()
}

/// What is about to be signed, for the person who signs it.
pub(super) fn says(root: &Root) -> String {
    let mut text =
        format!("trust root {} of fleet {}, epoch {}\n", root.version, root.fleet, root.epoch);
    for (name, role) in &root.roles {
        let keys: Vec<String> =
            role.keys.iter().map(PublicKey::id).map(|id| id.to_string()).collect();
        text += &format!("  {name}: {} of {}: {}\n", role.threshold, keys.len(), keys.join(", "));
    }
    text
}
