//! Where the release key comes from: the environment, a command, or the fleet's folder. It signs here and is never sent.

use std::process::{Command, Stdio};

use protocol::keys::{RoleName, Root, SecretKey};

use super::CliError;
use crate::data_dir::DataDir;
use crate::key_file::{Holds, KeyFile};
use crate::passphrase::Passphrases;

/// The text of a release key file.
const KEY_VARIABLE: &str = "PITH_RELEASE_KEY";
/// A shell command that prints it, such as a password manager's.
const COMMAND_VARIABLE: &str = "PITH_RELEASE_KEY_COMMAND";

/// A place outside the folder.
type Source = fn(&mut Vec<String>) -> Result<Option<KeyFile>, CliError>;

/// As many release keys as a release needs signatures.
///
/// # Errors
/// Where they are not to be had; says what was tried.
pub(super) fn release_keys(data: &DataDir, root: &Root) -> Result<Vec<SecretKey>, CliError> {
    keys_of(data, root, RoleName::Release)
}

/// The same for another role: then the fleet's folder alone is looked in.
///
/// # Errors
/// Where they are not to be had; says what was tried.
pub(super) fn keys_of(
    data: &DataDir,
    root: &Root,
    role: RoleName,
) -> Result<Vec<SecretKey>, CliError> {
    let needed = root.roles.get(&role).map_or(1, |role| role.threshold.max(1));
    let mut tried = Vec::new();
    let mut passphrases = Passphrases::default();
    let mut keys: Vec<SecretKey> = Vec::new();
    let elsewhere = if role == RoleName::Release {
        &[from_environment as Source, from_command][..]
    } else {
        &[]
    };
    for source in elsewhere {
        let Some(key) = source(&mut tried)? else { continue };
        let secret = key.open(&mut passphrases).map_err(CliError::refused)?;
        check_known(&secret, &key.name, root)?;
        push(&mut keys, secret);
    }
    let in_folder = data.keys_of(role, root)?;
    let folder = data.path().join("keys");
    tried.push(format!("{} (it holds {} of them)", folder.display(), in_folder.len()));
    for key in &in_folder {
        let is_enough = u32::try_from(keys.len()).is_ok_and(|count| count >= needed);
        if is_enough {
            break;
        }
        // What needs no passphrase comes first; nobody is asked for more than is needed.
        let secret = key.open(&mut passphrases).map_err(|error| match key.holds() {
            Holds::Encrypted => CliError::refused(format_args!("{error}\n{}", how(&tried))),
            Holds::Plain | Holds::Public => CliError::refused(error),
        })?;
        push(&mut keys, secret);
    }
    let held = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    if held < needed {
        return Err(CliError::refused(format_args!(
            "a release needs {needed} signature(s) under trust root {}, and {held} {role} key(s) are here\n{}",
            root.version,
            how(&tried)
        )));
    }
    Ok(keys)
}

fn how(tried: &[String]) -> String {
    format!("the release key was looked for in: {}", tried.join("; "))
}

fn push(keys: &mut Vec<SecretKey>, secret: SecretKey) {
    if keys.iter().all(|known| known.public() != secret.public()) {
        keys.push(secret);
    }
}

fn check_known(secret: &SecretKey, name: &str, root: &Root) -> Result<(), CliError> {
    let role = root.roles.get(&RoleName::Release);
    if role.is_some_and(|role| role.keys.contains(&secret.public())) {
        return Ok(());
    }
    let id = secret.public().id();
    Err(CliError::refused(format_args!(
        "{name}: key {id} is no release key under trust root {}; `pith keys ls` lists those that are",
        root.version
    )))
}

fn from_environment(tried: &mut Vec<String>) -> Result<Option<KeyFile>, CliError> {
    let Some(text) = std::env::var(KEY_VARIABLE).ok().filter(|text| !text.is_empty()) else {
        tried.push(format!("{KEY_VARIABLE} (not set)"));
        return Ok(None);
    };
    tried.push(KEY_VARIABLE.to_owned());
    Ok(Some(KeyFile::parse(KEY_VARIABLE, &text).map_err(CliError::refused)?))
}

fn from_command(tried: &mut Vec<String>) -> Result<Option<KeyFile>, CliError> {
    let Some(line) = std::env::var(COMMAND_VARIABLE).ok().filter(|line| !line.is_empty()) else {
        tried.push(format!("{COMMAND_VARIABLE} (not set)"));
        return Ok(None);
    };
    tried.push(COMMAND_VARIABLE.to_owned());
    // It may ask a person: the terminal stays its own, its complaints are seen.
    let mut command = Command::new("sh");
    command.args(["-c", &line]).stdin(Stdio::inherit()).stderr(Stdio::inherit());
    let output =
        command.output().map_err(|e| CliError::refused(format_args!("{COMMAND_VARIABLE}: {e}")))?;
    if !output.status.success() {
        return Err(CliError::refused(format_args!(
            "{COMMAND_VARIABLE}: the command ended with {}",
            output.status
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Some(KeyFile::parse(COMMAND_VARIABLE, &text).map_err(CliError::refused)?))
}
