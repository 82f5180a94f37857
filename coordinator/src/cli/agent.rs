//! `pith agent release | rollout | status | pause | resume | undo`: versions of the agent, signed here, taken by boards in batches.

mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::FORMAT;
use protocol::agent_release::{AgentRelease, AgentVersion, Program};
use protocol::envelope::Envelope;
use protocol::id::Digest;
use protocol::keys::RoleName;
use tokio::time::Instant;

use super::arguments::{AgentReleaseArgs, AgentRolloutArgs, AgentUndoArgs, AgentVerb};
use super::deploy::user;
use super::follow::{self, Patience, Waited};
use super::session::Session;
use super::{CliError, Exit, WaitArgs, signing};
use crate::client::Client;
use crate::render::{self, Progress};
use crate::state::requests::{AddAgentRelease, AgentSteer, RollAgent};
use crate::state::shown::{AgentReleaseShown, AgentsShown};
use program::{AgentProgram, Linking};

pub(super) async fn run(session: &Session, verb: AgentVerb) -> Result<Exit, CliError> {
    let client = session.client().await?;
    match verb {
        AgentVerb::Release(args) => release(session, &client, args).await,
        AgentVerb::Rollout(args) => roll(session, &client, args).await,
        AgentVerb::Undo(args) => undo(session, &client, args).await,
        AgentVerb::Status => {
            session.print(&client.agents(None).await?, render::agents::status);
            Ok(Exit::Done)
        }
        AgentVerb::Pause => steer(session, &client, AgentSteer::Pause).await,
        AgentVerb::Resume => steer(session, &client, AgentSteer::Resume).await,
    }
}

async fn steer(session: &Session, client: &Client, asked: AgentSteer) -> Result<Exit, CliError> {
    session.print(&client.steer_agents(asked).await?, render::agents::status);
    Ok(Exit::Done)
}

async fn release(
    session: &Session,
    client: &Client,
    args: AgentReleaseArgs,
) -> Result<Exit, CliError> {
    let mut programs = BTreeMap::new();
    let mut version: Option<(AgentVersion, PathBuf)> = None;
    for file in &args.files {
        let (bytes, read) = read(file, args.any_linking)?;
        if let Some((other, first)) = version.as_ref().filter(|(other, _)| *other != read.version) {
            return Err(CliError::usage(format_args!(
                "{}: this is {}, and {} is {other}; a release has one version",
                file.display(),
                read.version,
                first.display()
            )));
        }
        version = Some((read.version, file.clone()));
        if programs.insert(read.platform.to_owned(), bytes).is_some() {
            return Err(CliError::usage(format_args!(
                "{}: a second program for {}",
                file.display(),
                read.platform
            )));
        }
    }
    let Some((version, _)) = version else {
        return Err(CliError::usage(
            "a file is needed: the program `pith-agent` for each kind of board",
        ));
    };
    let mut platforms = BTreeMap::new();
    for (platform, bytes) in programs {
        let digest = Digest::of(&bytes);
        let size = bytes.len() as u64;
        client.send_program(&digest, bytes).await?;
        platforms.insert(platform, Program { digest, size });
    }
    let shown = sign(session, client, version, platforms).await?;
    session.print(&shown, render::agents::released);
    Ok(Exit::Done)
}

fn read(file: &Path, takes_any: bool) -> Result<(Vec<u8>, AgentProgram), CliError> {
    let wrong =
        |why: &dyn std::fmt::Display| CliError::usage(format_args!("{}: {why}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| wrong(&error))?;
    let read = program::read(&bytes).map_err(|error| wrong(&error))?;
    if read.linking == Linking::Dynamic && !takes_any {
        return Err(wrong(
            &"not static: it needs libraries that boards may not have; `make dist` builds static ones",
        ));
    }
    Ok((bytes, read))
}

/// Under the next counter, by the agent-release keys that are here.
async fn sign(
    session: &Session,
    client: &Client,
    version: AgentVersion,
    platforms: BTreeMap<String, Program>,
) -> Result<AgentsShown, CliError> {
    let fleet = session.fleet(client).await?;
    let known = client.agents(None).await?;
    let newest = known.releases.first().map_or(0, |release| release.counter);
    let keys = signing::keys_of(&session.own_folder()?, &fleet.root, RoleName::AgentRelease)?;
    let release = AgentRelease {
        format: FORMAT,
        fleet: fleet.id,
        version,
        counter: newest.saturating_add(1),
        platforms,
    };
    let release = Envelope::sign(&release, &keys.iter().collect::<Vec<_>>());
    Ok(client.add_agent_release(&AddAgentRelease { release, by: user() }).await?)
}

async fn roll(
    session: &Session,
    client: &Client,
    args: AgentRolloutArgs,
) -> Result<Exit, CliError> {
    let AgentRolloutArgs { to, batch, wait } = args;
    let asked = RollAgent { version: to, batch, by: user() };
    let shown = client.roll_agent(&asked).await?;
    follow(session, client, shown, &wait).await
}

/// The program before, signed again: nodes go below no counter.
async fn undo(session: &Session, client: &Client, args: AgentUndoArgs) -> Result<Exit, CliError> {
    let AgentUndoArgs { to, wait } = args;
    let known = client.agents(None).await?;
    let Some(before) = before(&known, to.as_deref()) else {
        return Err(CliError::refused(
            "no other release of the agent was confirmed on any node: to go back to the program of a package, give its              file to `pith agent release`",
        ));
    };
    let (version, platforms) = (before.release.version.clone(), before.release.platforms.clone());
    sign(session, client, version, platforms).await?;
    let batch = known.rollout.as_ref().map_or(1, |rollout| rollout.batch);
    let shown = client.roll_agent(&RollAgent { version: None, batch, by: user() }).await?;
    follow(session, client, shown, &wait).await
}

/// What was asked for; else what nodes still run beside the one that is being rolled out; else the newest other one that some node
/// confirmed.
fn before<'a>(known: &'a AgentsShown, to: Option<&str>) -> Option<&'a AgentReleaseShown> {
    let now = known.rollout.as_ref()?;
    if let Some(to) = to {
        return known.releases.iter().find(|of| of.version == to);
    }
    let others = || known.releases.iter().filter(|of| of.version != now.version);
    let runs = |of: &&AgentReleaseShown| now.nodes.iter().any(|n| n.agent_version == of.version);
    others().find(runs).or_else(|| others().find(|of| of.confirmed))
}

async fn follow(
    session: &Session,
    client: &Client,
    shown: AgentsShown,
    wait: &WaitArgs,
) -> Result<Exit, CliError> {
    let Some(patience) = Patience::of(wait) else {
        session.print(&shown, render::agents::status);
        return Ok(Exit::Done);
    };
    let mut progress = Progress::new(!session.is_json());
    let waited = follow::wait(patience, until_settled(client, &mut progress)).await?;
    progress.end();
    let (shown, exit) = match waited {
        Waited::Done(shown) => {
            let exit = match shown.rollout.as_ref().map(|rollout| rollout.state.as_str()) {
                Some("failed") => Exit::RolledBack,
                Some("paused") => Exit::NotFinished,
                Some(_) | None => Exit::Done,
            };
            (shown, exit)
        }
        Waited::TimedOut => (client.agents(None).await?, Exit::NotFinished),
        Waited::Interrupted => {
            eprintln!("nodes go on; follow them with: pith agent status");
            return Ok(Exit::Interrupted);
        }
    };
    session.print(&shown, render::agents::status);
    Ok(exit)
}

/// Until nothing moves any more without somebody.
async fn until_settled(client: &Client, progress: &mut Progress) -> Result<AgentsShown, CliError> {
    let (mut after, began) = (None, Instant::now());
    loop {
        let shown = follow::patiently(|| client.agents(after)).await?;
        progress.show(render::agents::lines(&shown, began.elapsed()));
        let state = shown.rollout.as_ref().map(|rollout| rollout.state.as_str());
        if state != Some("in_progress") {
            return Ok(shown);
        }
        after = Some(shown.version);
    }
}

#[cfg(test)]
mod tests {
    use protocol::agent_release::AgentRelease;

    use super::*;
    use crate::state::shown::{AgentNodeShown, AgentRolloutShown};

    /// Releases `VERSION` and `VERSION+` (confirmed), newest first; the newest is rolled out, and nodes run these.
    fn known(releases: &[&str], nodes: &[&str]) -> AgentsShown {
        let release = |text: &&str, counter| {
            let version = text.trim_end_matches('+').to_owned();
            AgentReleaseShown {
                release: AgentRelease {
                    format: 1,
                    fleet: "0".repeat(32).parse().expect("an id"),
                    version: version.parse().expect("a version"),
                    counter,
                    platforms: BTreeMap::new(),
                },
                version,
                counter,
                platforms: Vec::new(),
                added_ms: 0,
                by: "anna".to_owned(),
                confirmed: text.ends_with('+'),
            }
        };
        let counters = (1..=releases.len() as u64).rev();
        let releases: Vec<_> = releases.iter().zip(counters).map(|(r, c)| release(r, c)).collect();
        let node = |version: &&str| AgentNodeShown {
            node: "opi-1".to_owned(),
            online: true,
            agent_version: (*version).to_owned(),
            phase: "told".to_owned(),
            why: None,
        };
        let rollout = AgentRolloutShown {
            version: releases[0].version.clone(),
            counter: releases[0].counter,
            batch: 1,
            state: "in_progress".to_owned(),
            why: None,
            by: "anna".to_owned(),
            started_ms: 0,
            nodes: nodes.iter().map(node).collect(),
        };
        AgentsShown { version: 1, releases, rollout: Some(rollout) }
    }

    #[test]
    fn undo_goes_back_to_what_was_seen_well() {
        let back = |releases: &[&str], nodes: &[&str], to| {
            let known = known(releases, nodes);
            before(&known, to).map(|of| of.version.clone())
        };
        let some = |version: &str| Some(version.to_owned());
        assert_eq!(back(&["0.3.0+", "0.2.0", "0.1.0+"], &["0.3.0"], None), some("0.1.0"));
        assert_eq!(back(&["0.3.0", "0.2.0+", "0.1.0+"], &["0.1.0", "0.3.0"], None), some("0.1.0"));
        assert_eq!(back(&["0.3.0+", "0.2.0"], &["0.3.0"], None), None);
        assert_eq!(back(&["0.3.0+", "0.2.0"], &["0.3.0"], Some("0.2.0")), some("0.2.0"));
    }
}
