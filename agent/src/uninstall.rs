//! `pith-agent uninstall`: what this board has of Pith, a compose.yaml of what ran, and with `--yes` its end.
//!
//! ```text
//! key, trust root, ledger -> who the board is, what it was told to run
//! Docker, by our labels   -> containers, networks, volumes
//!   without --yes: told | with: units stopped -> containers ended and removed -> networks -> volumes, if --volumes
//! ```
//! Asks neither coordinator nor network. Touches nothing that is not ours, and leaves the package to apt: it would take this very program away.

mod acting;
pub mod compose;
mod telling;

use std::path::PathBuf;

use protocol::id::{FleetId, NodeId, ReleaseId, ServiceName};
use protocol::release::Release;
use serde::Serialize;

use crate::config::Config;
use crate::engine::docker::Docker;
use crate::engine::{Container, ContainerState, Engine as _, Identity, Network, Ours};
use crate::{identity, ledger, tls, trust};
use compose::Ran;

/// As everywhere.
const FAILED: u8 = 1;

/// How it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Do it.
    pub yes: bool,
    /// Named volumes too, with what is in them.
    pub volumes: bool,
    /// Where the compose.yaml goes; none: a new file in the working folder.
    pub compose: Option<PathBuf>,
    /// As JSON.
    pub json: bool,
}

/// What this board has of Pith.
#[derive(Debug)]
struct Board {
    ours: Ours,
    engine: Docker,
    containers: Vec<Container>,
    networks: Vec<Network>,
    volumes: Vec<String>,
    /// What ran, by environment and name.
    ran: Vec<Ran>,
    /// Of containers whose release is in no ledger.
    unknown: Vec<ServiceName>,
    config: Config,
    name: String,
}

/// What is told, as JSON.
#[derive(Debug, Serialize)]
struct Told<'a> {
    fleet: &'a FleetId,
    node: &'a NodeId,
    name: &'a str,
    done: bool,
    ports: Vec<u16>,
    containers: Vec<&'a str>,
    networks: Vec<&'a str>,
    volumes: &'a [String],
    volumes_removed: bool,
    files: Vec<String>,
    compose: Option<String>,
    next: Vec<String>,
}

/// Runs it to its end; its exit code.
pub async fn run(config: Config, wish: &Wish) -> u8 {
    let outcome = async {
        anyhow::ensure!(
            nix::unistd::geteuid().is_root(),
            "this needs root: sudo pith-agent uninstall"
        );
        let board = Board::look(config).await?;
        let compose = board.write_compose(wish.compose.as_deref())?;
        if wish.yes {
            acting::remove(&board, wish.volumes, |line| {
                if !wish.json {
                    println!("{line}")
                }
            })
            .await?;
        }
        print!("{}", telling::told(&board, wish, compose.as_deref()));
        anyhow::Ok(())
    };
    match outcome.await {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("pith-agent: {error:#}");
            FAILED
        }
    }
}

impl Board {
    async fn look(config: Config) -> anyhow::Result<Self> {
        anyhow::ensure!(
            config.root_file().exists(),
            "this board has joined no fleet ({} is not there): nothing of one is on it, and `apt-get purge pith-agent` removes the package",
            config.root_file().display()
        );
        let node = identity::load(&config.state_dir)?.public().node_id();
        let fleet = trust::load(&config.root_file())?.fleet;
        let ours = Ours { fleet, node };
        let engine = Docker::at(&config.docker);
        let containers = engine.containers(&ours).await?;
        let networks = engine.networks(&ours).await?;
        let volumes = engine.volumes(&ours).await?;
        let releases = releases(&config)?;
        let (ran, unknown) = of_containers(&containers, &releases);
        let placement = tls::placement(&config.state_dir);
        let name =
            placement.map_or_else(|| config.node_name(), |placement| placement.name).to_string();
        Ok(Self { ours, engine, containers, networks, volumes, ran, unknown, config, name })
    }

    /// Ports that close with the proxy.
    fn ports(&self) -> Vec<u16> {
        let ports = self.ran.iter().flat_map(|ran| &ran.spec.ports);
        ports.filter_map(|port| Some(port.listen.as_ref()?.port)).collect()
    }

    /// Where what ran was written to; none where nothing did.
    fn write_compose(&self, to: Option<&std::path::Path>) -> anyhow::Result<Option<PathBuf>> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        if self.ran.is_empty() {
            return Ok(None);
        }
        let text = compose::file(&self.ours, &self.ran);
        let numbered = |n: u32| match n {
            1 => PathBuf::from("pith-compose.yaml"),
            n => PathBuf::from(format!("pith-compose-{n}.yaml")),
        };
        // Nobody's file is written over; variables may be nobody else's business.
        let create = |path: &PathBuf| {
            std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)
        };
        let named = to.map(|path| (path.to_owned(), create(&path.to_owned())));
        let (path, file) = named.unwrap_or_else(|| {
            let tries = (1..100).map(|n| (numbered(n), create(&numbered(n))));
            let free = |(_, made): &(PathBuf, std::io::Result<std::fs::File>)| {
                made.as_ref().err().map(std::io::Error::kind)
                    != Some(std::io::ErrorKind::AlreadyExists)
            };
            tries.into_iter().find(free).unwrap_or_else(|| (numbered(100), create(&numbered(100))))
        });
        let told = |error: std::io::Error| {
            anyhow::anyhow!("{}: {error}; name another file with --compose", path.display())
        };
        file.map_err(told)?.write_all(text.as_bytes())?;
        Ok(Some(std::path::absolute(&path)?))
    }
}

/// Releases that the ledger holds and somebody of this fleet vouched for.
fn releases(config: &Config) -> anyhow::Result<Vec<(ReleaseId, Release)>> {
    let first = trust::load(&config.root_file())?;
    let contents = ledger::look(&config.state_dir)?;
    let trust = contents.trust(&first);
    let roots: Vec<_> = std::iter::once(&trust.root).chain(&trust.former).collect();
    let read = |(id, envelope): (&ReleaseId, &protocol::envelope::Envelope)| {
        let release = roots.iter().find_map(|root| envelope.verify::<Release>(root).ok())?;
        Some((id.clone(), release.into_inner()))
    };
    Ok(contents.releases().iter().filter_map(read).collect())
}

/// Each service once, as most of its instances that run, with their number; and those of which nothing is known.
fn of_containers(
    containers: &[Container],
    releases: &[(ReleaseId, Release)],
) -> (Vec<Ran>, Vec<ServiceName>) {
    let runs = |one: &&Container| matches!(one.state, ContainerState::Running { .. });
    let running: Vec<&Identity> = containers.iter().filter(runs).map(|one| &one.identity).collect();
    let (mut ran, mut unknown) = (Vec::<Ran>::new(), Vec::new());
    for of in &running {
        let is_it =
            |one: &&&Identity| (&one.environment, &one.service) == (&of.environment, &of.service);
        let of_release =
            |id: &ReleaseId| running.iter().filter(is_it).filter(|one| one.release == *id).count();
        let most =
            running.iter().filter(is_it).map(|one| &one.release).max_by_key(|id| of_release(id));
        let known = most.and_then(|most| releases.iter().find(|(id, _)| id == most));
        match known {
            _ if ran.iter().any(|one| {
                (&one.environment, &one.spec.name) == (&of.environment, &of.service)
            }) => {}
            Some((id, release)) => ran.push(Ran {
                environment: of.environment.clone(),
                count: of_release(id),
                image: release.image.clone(),
                spec: release.spec(&of.environment).clone(),
            }),
            None if unknown.contains(&of.service) => {}
            None => unknown.push(of.service.clone()),
        }
    }
    (ran, unknown)
}
