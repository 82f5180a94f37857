//! `pith keys`: works on the trust root where the operator sits. The coordinator only verifies, keeps and tells it.

pub(super) mod change;
mod ls;
mod sign;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use protocol::keys::{RoleName, SecretKey};
use serde_json::json;

use super::session::Session;
use super::{CliError, Exit, KeysVerb};
use crate::data_dir::new_key;
use crate::key_file::{KeyFile, public_text, secret_text};
use crate::passphrase::Passphrases;

pub(super) async fn run(session: &Session, verb: KeysVerb) -> Result<Exit, CliError> {
    let works_anywhere =
        matches!(verb, KeysVerb::New { .. } | KeysVerb::Encrypt { .. } | KeysVerb::Sign { .. });
    if !works_anywhere {
        let _ = session.folder("keys")?;
    }
    match verb {
        KeysVerb::Ls => ls::run(session).await,
        KeysVerb::New { file, passphrase } => new(session, &file, passphrase),
        KeysVerb::Encrypt { file } => encrypt(session, &file),
        KeysVerb::Sign { file, sign } => sign::run(session, &file, &sign).await,
        KeysVerb::Add { .. }
        | KeysVerb::Rotate { .. }
        | KeysVerb::Revoke { .. }
        | KeysVerb::Threshold { .. } => change::run(session, verb).await,
    }
}

fn new(session: &Session, file: &Path, encrypted: bool) -> Result<Exit, CliError> {
    let public = public_file(file);
    for path in [file, &public] {
        if path.exists() {
            let path = path.display();
            return Err(CliError::usage(format_args!(
                "{path} is there already; a key is never overwritten"
            )));
        }
    }
    let mut passphrases = Passphrases::default();
    let what = file.display().to_string();
    let passphrase = if encrypted { Some(passphrases.fresh(&what)?) } else { None };
    let key = new_key()?;
    write_new(file, &secret_text(&key, passphrase.as_deref())?, 0o600)?;
    write_new(&public, &public_text(&key.public()), 0o644)?;
    let id = key.public().id();
    let answer = json!({ "key": id, "secret": file, "public": public, "encrypted": encrypted });
    session.print(&answer, |_| {
        let (file, public) = (file.display(), public.display());
        format!("key {id}\n{file} is secret: keep it\n{public} is public: pass it on\n")
    });
    Ok(Exit::Done)
}

fn encrypt(session: &Session, file: &Path) -> Result<Exit, CliError> {
    let key = KeyFile::read(file)?;
    if !key.signs() {
        return Err(CliError::usage(format_args!(
            "{} is public: there is nothing to hide",
            key.name
        )));
    }
    let secret = key.open(&mut Passphrases::default())?;
    let passphrase = Passphrases::default().fresh(&key.name)?;
    let text = secret_text(&secret, Some(&passphrase))?;
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    write_new(&beside, &text, 0o600)?;
    fs::rename(&beside, file).map_err(CliError::failed)?;
    let id = secret.public().id();
    let answer = json!({ "key": id, "secret": file, "encrypted": true });
    session.print(&answer, |_| format!("key {id} in {} is encrypted\n", file.display()));
    Ok(Exit::Done)
}

fn public_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    let failed = |error| CliError::failed(format_args!("{}: {error}", path.display()));
    let mut file =
        fs::File::options().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Root keys to sign with: those named, else those in the fleet's folder that `roots` name.
fn root_keys(
    session: &Session,
    named: &[PathBuf],
    roots: &[&protocol::keys::Root],
    passphrases: &mut Passphrases,
) -> Result<Vec<SecretKey>, CliError> {
    let is_root_key = |key: &KeyFile| {
        let mut roles = roots.iter().filter_map(|root| root.roles.get(&RoleName::Root));
        roles.any(|role| role.keys.contains(&key.public()))
    };
    let keys = if named.is_empty() {
        let mut keys = session.data.keys()?;
        keys.retain(|key| key.signs() && is_root_key(key));
        keys
    } else {
        let keys = named.iter().map(|path| KeyFile::read(path));
        keys.collect::<Result<Vec<_>, _>>()?
    };
    if let Some(key) = keys.iter().find(|key| !is_root_key(key)) {
        let (name, id) = (&key.name, key.public().id());
        let versions: Vec<String> = roots.iter().map(|root| root.version.to_string()).collect();
        return Err(CliError::usage(format_args!(
            "{name}: key {id} is no root key of trust root {}",
            versions.join(" or ")
        )));
    }
    keys.iter().map(|key| Ok(key.open(passphrases)?)).collect()
}
