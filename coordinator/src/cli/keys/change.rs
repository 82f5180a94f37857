//! `pith keys add | rotate | revoke | threshold`: the next trust root, signed as far as the keys here go.

use std::path::PathBuf;

use protocol::envelope::Envelope;
use protocol::id::KeyId;
use protocol::keys::{PublicKey, RoleName, Root, SecretKey};
use protocol::succession::SignedRoot;

use super::sign::{Made, says, settle};
use super::{KeysVerb, root_keys};
use crate::ca::Ca;
use crate::cli::session::Session;
use crate::cli::{CliError, Exit};
use crate::data_dir::new_key;
use crate::key_file::KeyFile;
use crate::passphrase::Passphrases;
use crate::roots::{self, RootChange};

/// A key that the change brings in, where its secret is known here.
#[derive(Default)]
struct New {
    secret: Option<SecretKey>,
    /// To be written before the root is signed, under this passphrase.
    keep: Option<(RoleName, Option<String>)>,
}

pub(super) async fn run(session: &Session, verb: KeysVerb) -> Result<Exit, CliError> {
    let fleet = session.data.open()?;
    let mut passphrases = Passphrases::default();
    let read = read(session, verb, &fleet.root, &mut passphrases)?;
    make(session, &fleet.root, read, &mut passphrases).await
}

/// The next root with the same keys and a higher epoch.
pub(in crate::cli) async fn raise_epoch(
    session: &Session,
    named: Vec<PathBuf>,
) -> Result<Exit, CliError> {
    let fleet = session.data.open()?;
    let read = (RootChange::Epoch, New::default(), named);
    make(session, &fleet.root, read, &mut Passphrases::default()).await
}

/// The root of a fleet whose coordinator was lost: another director in a fresh folder, under a higher epoch.
pub(in crate::cli) async fn recover(
    session: &Session,
    found: &[SignedRoot],
    named: &[PathBuf],
) -> Result<Exit, CliError> {
    let Some(SignedRoot { root, .. }) = found.last() else {
        return Err(CliError::usage("no trust root was given"));
    };
    let director = new_key()?;
    let change = RootChange::Recover(director.public());
    let next = roots::next(root, &change).map_err(CliError::usage)?;
    // Before anything is written.
    let signers = root_keys(session, named, &[root], &mut Passphrases::default())?;
    if !session.is_json() {
        // Whoever signs sees whose keys they are: the root may have come from a board.
        eprint!("{}", says(&next));
    }
    session.data.begin_recovery(found)?;
    let made = Made { keys: vec![session.data.keep_key(RoleName::Director, &director, None)?] };
    let _ = Ca::open(&session.data, &root.fleet).map_err(CliError::failed)?;
    let mut envelope = Envelope::sign(&next, &[]);
    for key in &signers {
        envelope.sign_too::<Root>(key).map_err(CliError::failed)?;
    }
    session.data.finish_recovery(next.version, &envelope, found)?;
    settle(session, Some(root), next, envelope, made).await
}

async fn make(
    session: &Session,
    root: &Root,
    (change, new, named): Read,
    passphrases: &mut Passphrases,
) -> Result<Exit, CliError> {
    let next = roots::next(root, &change).map_err(CliError::usage)?;
    let waiting = session.data.unsigned_root(next.version);
    if waiting.exists() {
        let waiting = waiting.display();
        return Err(CliError::usage(format_args!(
            "{waiting} waits for signatures already; `pith keys sign {waiting}` completes it, removing it forgets that change"
        )));
    }
    let mut signers = root_keys(session, &named, &[root, &next], passphrases)?;
    let mut made = Made::default();
    if let Some(secret) = new.secret {
        if let Some((role, passphrase)) = new.keep {
            made.keys.push(session.data.keep_key(role, &secret, passphrase.as_deref())?);
        }
        let acts = next.roles.get(&RoleName::Root);
        if acts.is_some_and(|role| role.keys.contains(&secret.public())) {
            signers.push(secret);
        }
    }
    let mut envelope = Envelope::sign(&next, &[]);
    for key in &signers {
        envelope.sign_too::<Root>(key).map_err(CliError::failed)?;
    }
    settle(session, Some(root), next, envelope, made).await
}

type Read = (RootChange, New, Vec<PathBuf>);

fn read(
    session: &Session,
    verb: KeysVerb,
    root: &Root,
    passphrases: &mut Passphrases,
) -> Result<Read, CliError> {
    match verb {
        KeysVerb::Add { role, key, sign } => {
            let (public, secret) = named(&key, role, passphrases)?;
            let new = New { secret, keep: None };
            Ok((RootChange::Add(role, public), new, sign.root_key))
        }
        KeysVerb::Rotate { role, old, to, passphrase, sign } => {
            let old = old.map(|old| key_id(root, &old)).transpose()?;
            let (public, new) = match to {
                Some(path) => {
                    let (public, secret) = named(&path, role, passphrases)?;
                    (public, New { secret, keep: None })
                }
                None => {
                    // Before anything is asked of a person or written.
                    let secret = new_key()?;
                    let trial = RootChange::Rotate(role, old.clone(), secret.public());
                    roots::next(root, &trial).map_err(CliError::usage)?;
                    let encrypt = passphrase || session.data.is_encrypted(role, root);
                    let what = format!("the new {role} key");
                    let sealed = if encrypt { Some(passphrases.fresh(&what)?) } else { None };
                    let public = secret.public();
                    (public, New { secret: Some(secret), keep: Some((role, sealed)) })
                }
            };
            Ok((RootChange::Rotate(role, old, public), new, sign.root_key))
        }
        KeysVerb::Revoke { key, sign } => {
            Ok((RootChange::Revoke(key_id(root, &key)?), New::default(), sign.root_key))
        }
        KeysVerb::Threshold { role, count, sign } => {
            Ok((RootChange::Threshold(role, count), New::default(), sign.root_key))
        }
        KeysVerb::Ls | KeysVerb::New { .. } | KeysVerb::Encrypt { .. } | KeysVerb::Sign { .. } => {
            Err(CliError::usage("this changes no trust root"))
        }
    }
}

/// A key by its file; the secret only where it has to sign itself in.
fn named(
    path: &std::path::Path,
    role: RoleName,
    passphrases: &mut Passphrases,
) -> Result<(PublicKey, Option<SecretKey>), CliError> {
    let key = KeyFile::read(path)?;
    let signs = role == RoleName::Root && key.signs();
    let secret = if signs { Some(key.open(passphrases)?) } else { None };
    Ok((key.public(), secret))
}

/// A key of the root, by its id or the first digits of it.
fn key_id(root: &Root, text: &str) -> Result<KeyId, CliError> {
    let ids = root.roles.values().flat_map(|role| role.keys.iter().map(PublicKey::id));
    let mut found: Vec<KeyId> = ids.filter(|id| id.as_str().starts_with(text)).collect();
    found.dedup();
    match found.as_slice() {
        [one] if !text.is_empty() => Ok(one.clone()),
        [] | [_] => Err(CliError::usage(format_args!(
            "no role has a key {text}; `pith keys ls` lists them"
        ))),
        several => Err(CliError::usage(format_args!(
            "{} keys begin with {text}; write more digits",
            several.len()
        ))),
    }
}
