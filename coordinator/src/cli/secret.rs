//! `pith secret set | rotate | ls | rm | sync`: values are sealed here, for each node and each release key, and leave this
//! process in no other form.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use protocol::id::{EnvironmentName, SecretName};
use protocol::keys::{PublicKey, RoleName, SecretKey};
use protocol::registries::{RegistryLogin, registry_of};
use protocol::secret::{self, Clear, Label, MAX_SECRET_BYTES, Reader};
use serde::Serialize;

use super::arguments::{SecretVerb, SetArgs, ValueArgs};
use super::deploy::{follow_accepted, user};
use super::follow::Patience;
use super::session::Session;
use super::{CliError, Exit, signing};
use crate::client::Client;
use crate::data_dir::{Fleet, random};
use crate::passphrase::{Passphrases, typed};
use crate::render;
use crate::state::records::{NodeCopy, OperatorCopy};
use crate::state::requests::{AddCopies, CopiesOf, SetSecret};
use crate::state::shown::{LackingShown, RecipientShown, RolloutShown, SecretSet};

/// Bytes of a value that is made here: as many as a key has.
const RANDOM_BYTES: usize = 32;

pub(super) async fn run(session: &Session, verb: SecretVerb) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let environment = session.environment(&client).await?;
    match verb {
        SecretVerb::Set(args) => set(session, &client, &environment, (args, false)).await,
        SecretVerb::Rotate(args) => set(session, &client, &environment, (args, true)).await,
        SecretVerb::Ls => {
            session.print(&client.secrets(&environment).await?, render::secrets::list);
            Ok(Exit::Done)
        }
        SecretVerb::Rm { name } => {
            let removed = client.remove_secret(&environment, &name).await?;
            session.print(&removed, |r| {
                format!("secret {} of {} is removed\n", r.name, r.environment)
            });
            Ok(Exit::Done)
        }
        SecretVerb::Sync => sync(session, &client, &environment).await,
    }
}

/// What `set` and `rotate` print as JSON.
#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    set: SecretSet,
    /// Where each of its rollouts stands.
    followed: Vec<RolloutShown>,
}

async fn set(
    session: &Session,
    client: &Client,
    environment: &EnvironmentName,
    (args, must_exist): (SetArgs, bool),
) -> Result<Exit, CliError> {
    let SetArgs { name, value, registry, username, cause, wait } = args;
    let fleet = session.data.open()?;
    let shown = client.secrets(environment).await?;
    let clear = read_value(&name, &value)?;
    let clear = match registry.as_ref().zip(username) {
        Some((registry, username)) => login(registry, username, &clear)?,
        None => clear,
    };
    let version = shown.newest.get(&name).copied().unwrap_or(0) + 1;
    let seal = Sealing { fleet: &fleet, environment, name: &name, version, clear: &clear };
    let request = SetSecret {
        version,
        must_exist,
        registry: registry.clone(),
        operators: seal.for_operators(&release_keys(&fleet))?,
        nodes: seal.for_nodes(&shown.recipients)?,
        cause,
        by: user(),
    };
    drop(clear);
    let set = client.set_secret(environment, &name, &request).await?;
    if !session.is_json() {
        print!("{}", render::secrets::set(&set, registry.as_deref()));
    }
    let (mut followed, mut exit) = (Vec::new(), Exit::Done);
    for accepted in &set.rollouts {
        let patience = Patience::of(&wait);
        let (rollout, ended) = follow_accepted(session, client, accepted, patience).await?;
        followed.push(rollout);
        if exit == Exit::Done {
            exit = ended;
        }
    }
    for (service, reason) in &set.failed {
        eprintln!("{service} goes on with the value before: {reason}");
        exit = Exit::Failed;
    }
    if session.is_json() {
        session.print(&Done { set, followed }, |_| String::new());
    }
    Ok(exit)
}

/// Without the newline that a password from a file or a pipe ends with.
fn login(registry: &str, username: String, password: &Clear) -> Result<Clear, CliError> {
    let is_host = !registry.is_empty()
        && registry_of(&format!("{registry}/x")) == registry
        && !registry.contains(|c: char| c == '/' || c.is_whitespace());
    if !is_host {
        return Err(CliError::usage(format_args!(
            "`{registry}` is not a registry as image names begin: write its host, with the port where it has one, such as \
             ghcr.io or registry.local:5000"
        )));
    }
    let password = std::str::from_utf8(password.bytes())
        .map_err(|_| CliError::usage(format_args!("the password of {username} is not text")))?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(CliError::usage(format_args!("the password of {username} is empty")));
    }
    let login = RegistryLogin { registry: registry.to_owned(), username, password };
    Ok(Clear::new(serde_json::to_vec(&login).expect("three strings serialise")))
}

async fn sync(
    session: &Session,
    client: &Client,
    environment: &EnvironmentName,
) -> Result<Exit, CliError> {
    let unsynced = client.unsynced(environment).await?;
    let mut copies = Vec::new();
    if !unsynced.lacking.is_empty() {
        let fleet = session.data.open()?;
        let keys = opening_keys(session, &fleet, &unsynced.lacking)?;
        for one in &unsynced.lacking {
            copies.push(seal_again(one, &fleet, environment, &unsynced.recipients, &keys)?);
        }
    }
    let synced = client.add_copies(environment, &AddCopies { copies, by: user() }).await?;
    session.print(&synced, render::secrets::synced);
    Ok(Exit::Done)
}

/// Keys that open a copy of all that is lacking. One that the trust root names no more still opens what was sealed to it.
fn opening_keys(
    session: &Session,
    fleet: &Fleet,
    lacking: &[LackingShown],
) -> Result<Vec<SecretKey>, CliError> {
    let reads = |one: &LackingShown, key: &PublicKey| one.operators.iter().any(|c| c.key == *key);
    let mut passphrases = Passphrases::default();
    let mut keys: Vec<SecretKey> = Vec::new();
    for file in session.data.keys()? {
        let is_opened = |one: &LackingShown| keys.iter().any(|key| reads(one, &key.public()));
        let helps = |one: &LackingShown| !is_opened(one) && reads(one, &file.public());
        if file.signs() && lacking.iter().any(helps) {
            keys.push(file.open(&mut passphrases)?);
        }
    }
    match keys.is_empty() {
        true => signing::release_keys(&session.data, &fleet.root),
        false => Ok(keys),
    }
}

fn seal_again(
    one: &LackingShown,
    fleet: &Fleet,
    environment: &EnvironmentName,
    recipients: &[RecipientShown],
    keys: &[SecretKey],
) -> Result<CopiesOf, CliError> {
    let LackingShown { name, version, .. } = one;
    let opened = keys.iter().find_map(|key| {
        let copy = one.operators.iter().find(|copy| copy.key == key.public())?;
        let reader = Reader::Operator(key.public());
        let label =
            Label { fleet: &fleet.id, environment, name, version: *version, reader: &reader };
        secret::open(&label, &key.opening_key(), &copy.sealed).ok()
    });
    let Some(clear) = opened else {
        let readers: Vec<String> = one.operators.iter().map(|c| c.key.id().to_string()).collect();
        return Err(CliError::refused(format_args!(
            "secret {name} version {version} is sealed to release keys {}, and none of them is here; run it where one is, or set \
             the value anew: `pith secret set {name} --env {environment}`",
            readers.join(", ")
        )));
    };
    let seal = Sealing { fleet, environment, name, version: *version, clear: &clear };
    let nodes = recipients.iter().filter(|recipient| one.nodes.contains(&recipient.node));
    // Which keys may read is what the trust root says, not the coordinator.
    let wanted: Vec<PublicKey> =
        release_keys(fleet).into_iter().filter(|key| one.keys.contains(key)).collect();
    Ok(CopiesOf {
        name: name.clone(),
        version: *version,
        operators: seal.for_operators(&wanted)?,
        nodes: seal.for_nodes(nodes)?,
    })
}

/// One value on its way to its readers.
struct Sealing<'a> {
    fleet: &'a Fleet,
    environment: &'a EnvironmentName,
    name: &'a SecretName,
    version: u64,
    clear: &'a Clear,
}

impl Sealing<'_> {
    fn for_nodes<'a>(
        &self,
        recipients: impl IntoIterator<Item = &'a RecipientShown>,
    ) -> Result<Vec<NodeCopy>, CliError> {
        let with_key = recipients.into_iter().filter_map(|one| Some((one, one.seal_key.as_ref()?)));
        let copy = |(one, key): (&RecipientShown, &protocol::join::SealKey)| {
            let sealed = self.seal(&Reader::Node(one.node.clone()), key)?;
            Ok(NodeCopy { node: one.node.clone(), key: key.clone(), sealed })
        };
        with_key.map(copy).collect()
    }

    fn for_operators(&self, keys: &[PublicKey]) -> Result<Vec<OperatorCopy>, CliError> {
        let copy = |key: &PublicKey| {
            let sealed = self.seal(&Reader::Operator(key.clone()), &key.seal_key())?;
            Ok(OperatorCopy { key: key.clone(), sealed })
        };
        keys.iter().map(copy).collect()
    }

    fn seal(
        &self,
        reader: &Reader,
        key: &protocol::join::SealKey,
    ) -> Result<secret::Sealed, CliError> {
        let Self { fleet, environment, name, version, clear } = self;
        let label = Label { fleet: &fleet.id, environment, name, version: *version, reader };
        secret::seal(&label, key, clear, random()?)
            .map_err(|error| CliError::usage(format_args!("secret {name}: {error}")))
    }
}

fn release_keys(fleet: &Fleet) -> Vec<PublicKey> {
    let role = fleet.root.roles.get(&RoleName::Release);
    role.map(|role| role.distinct().into_iter().cloned().collect()).unwrap_or_default()
}

/// From a file, drawn here, from a pipe, or typed without an echo.
fn read_value(name: &SecretName, value: &ValueArgs) -> Result<Clear, CliError> {
    if value.random {
        let drawn: [u8; RANDOM_BYTES] = random()?;
        let text: String = drawn.iter().map(|byte| format!("{byte:02x}")).collect();
        return Ok(Clear::new(text.into_bytes()));
    }
    if let Some(path) = &value.from_file {
        return read_file(path);
    }
    if std::io::stdin().is_terminal() {
        let typed = typed(&format!("secret {name}"), &format!("value of {name}: "))?;
        return Ok(Clear::new(typed.into_bytes()));
    }
    read_all(&mut std::io::stdin().lock())
        .map_err(|error| CliError::failed(format_args!("stdin: {error}")))
}

fn read_file(path: &Path) -> Result<Clear, CliError> {
    let failed = |error| CliError::usage(format_args!("{}: {error}", path.display()));
    read_all(&mut File::open(path).map_err(failed)?).map_err(failed)
}

/// As it is: a newline at the end is part of it. One byte more than is allowed tells that it is too large.
fn read_all(from: &mut dyn std::io::Read) -> std::io::Result<Clear> {
    let mut bytes = Vec::with_capacity(MAX_SECRET_BYTES + 2);
    from.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Clear::new(bytes))
}
