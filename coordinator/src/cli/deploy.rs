//! `pith deploy`: sign a release of each service here, hand it over, and follow its rollout.

use protocol::FORMAT;
use protocol::envelope::{Envelope, MAX_ENVELOPE_BYTES};
use protocol::id::ServiceId;
use protocol::keys::SecretKey;
use protocol::release::Release;

use super::follow::{self, Patience};
use super::session::Session;
use super::signing;
use super::sources::{self, Ready};
use super::together;
use super::{CliError, DeployArgs, Exit};
use crate::client::Client;
use crate::data_dir::Fleet;
use crate::render;
use crate::state::requests::{Accepted, Deploy};
use crate::state::shown::RolloutShown;

pub(super) async fn run(session: &Session, args: DeployArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let batch = sources::load(session, &client, &args.target).await?;
    let fleet = session.fleet(&client).await?;
    let keys = signing::release_keys(&session.own_folder()?, &fleet.root)?;
    if args.if_revision.is_some() && batch.services.len() > 1 {
        return Err(CliError::usage(
            "--if-revision is for one service; deploy the others without it",
        ));
    }
    let mut requests = Vec::new();
    for service in &batch.services {
        let request = Deploy {
            environment: batch.environment.clone(),
            release: sign(service, &fleet, &keys)?,
            file: service.text.clone(),
            cause: args.cause.clone(),
            by: user(),
            if_revision: args.if_revision,
        };
        requests.push((service.spec.name.clone(), service.spec.depends_on.clone(), request));
    }
    let patience = Patience::of(&args.wait);
    let (shown, exit) = match requests.as_slice() {
        [(_, _, request)] => {
            let accepted = client.deploy(request).await?;
            let (rollout, exit) = follow_accepted(session, &client, &accepted, patience).await?;
            (vec![rollout], exit)
        }
        _ => together::run(session, &client, requests, patience).await?,
    };
    if session.is_json() {
        match shown.as_slice() {
            [one] => session.print(one, |_| String::new()),
            several => session.print(&several, |_| String::new()),
        }
    }
    Ok(exit)
}

/// Says what was accepted and, where it is wanted, waits for the end.
pub(super) async fn follow_accepted(
    session: &Session,
    client: &Client,
    accepted: &Accepted,
    patience: Option<Patience>,
) -> Result<(RolloutShown, Exit), CliError> {
    let id: &ServiceId = &accepted.service;
    if accepted.unplaced > 0 {
        eprintln!(
            "warning: {} of {id}'s instances found no node: it is exclusive, one per node",
            accepted.unplaced
        );
    }
    let rollout = client.rollout(id, Some(accepted.revision), None).await?;
    if !session.is_json() {
        print!("{}", render::accepted(accepted, &rollout));
    }
    match patience.filter(|_| !accepted.unchanged) {
        Some(patience) => follow::rollout(session, client, id, accepted.revision, patience).await,
        None => Ok((rollout, Exit::Done)),
    }
}

fn sign(service: &Ready, fleet: &Fleet, keys: &[SecretKey]) -> Result<Envelope, CliError> {
    let release = Release {
        format: FORMAT,
        fleet: fleet.id.clone(),
        counter: service.counter,
        image: service.image.clone(),
        base: service.base.clone(),
        environments: service.environments.clone(),
    };
    let envelope = Envelope::sign(&release, &keys.iter().collect::<Vec<_>>());
    let size = envelope.to_bytes().len();
    if size > MAX_ENVELOPE_BYTES {
        return Err(CliError::usage(format_args!(
            "the release of {} has {size} bytes, more than the {MAX_ENVELOPE_BYTES} allowed",
            service.spec.name
        )));
    }
    Ok(envelope)
}

/// Who asks, for the history: the person behind `sudo`, else the user of this process.
pub(super) fn user() -> String {
    let uid = nix::unistd::getuid();
    let known = || nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    std::env::var("SUDO_USER").ok().or_else(known).unwrap_or_else(|| format!("uid {uid}"))
}
