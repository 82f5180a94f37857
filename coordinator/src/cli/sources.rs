//! From `-f`, `SERVICE` and `--image` to services ready to be planned or deployed, dependencies first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use protocol::file::{ArchiveSource, ServiceFile, check_together, parse};
use protocol::id::{EnvironmentName, ServiceName};
use protocol::release::{Image, Pin};
use protocol::spec::ServiceSpec;

use super::archives;
use super::session::Session;
use super::{CliError, TargetArgs};
use crate::client::{Client, ClientError};
use crate::docker::Docker;
use crate::resolve::Sources;
use crate::resolve::registries::Registries;
use crate::state::shown::{Deployed, NodeShown};

/// One service with its image pinned.
#[derive(Debug)]
pub(super) struct Ready {
    /// The file as written.
    pub(super) text: String,
    /// As the environment of the command reads it.
    pub(super) spec: ServiceSpec,
    /// Where no overlay says otherwise.
    pub(super) base: ServiceSpec,
    /// In every environment that has an overlay.
    pub(super) environments: BTreeMap<EnvironmentName, ServiceSpec>,
    pub(super) image: Image,
    /// The counter of its next release.
    pub(super) counter: u64,
}

/// All services of one command, and where they go.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) environment: EnvironmentName,
    pub(super) services: Vec<Ready>,
    /// Where their images are.
    pub(super) sources: Sources,
    /// Of the environment's nodes.
    pub(super) architectures: BTreeSet<String>,
}

/// Where the nodes are, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// All on this machine, sharing its Docker.
    ThisMachine,
    /// On other machines too.
    Machines,
}

struct Read {
    text: String,
    /// As the environment of the command reads it.
    file: ServiceFile,
    base: ServiceSpec,
    image: Option<String>,
    archive: Option<ArchiveSource>,
}

/// Reads, checks and pins. Mistakes in files are found before anything is asked of anyone.
pub(super) async fn load(
    session: &Session,
    client: &Client,
    target: &TargetArgs,
) -> Result<Batch, CliError> {
    let mut read = Vec::new();
    for path in files(&target.file)? {
        read.push(read_file(&path.display().to_string(), read_text(&path)?)?);
    }
    if target.image.is_some() && read.len() > 1 {
        return Err(CliError::usage("--image is for one service; deploy the others without it"));
    }
    let environment = match session.environment(client).await {
        Ok(environment) => environment,
        Err(error) => {
            // A mistake in the files is worth more than the coordinator's absence.
            check(&read, &Deployed { services: BTreeMap::new(), counters: BTreeMap::new() })?;
            return Err(error);
        }
    };
    let deployed = client.deployed(&environment).await?;
    if let Some(name) = &target.service {
        read.push(stored(name, &deployed, &environment)?);
    }
    for one in &mut read {
        one.file = one.file.in_environment(&environment);
    }
    check(&read, &deployed)?;
    let sources = sources(session)?;
    let mut services = Vec::new();
    let nodes = client.nodes(Some(&environment)).await?.nodes;
    let (spread, architectures) = (spread(&nodes), architectures(&nodes));
    for mut one in in_order(read) {
        if let Some(image) = &target.image {
            (one.image, one.archive) = (Some(image.clone()), None);
        }
        let resolved = match &one.archive {
            Some(source) => archives::resolve(client, source, &architectures).await?,
            None => resolve(&one, &sources, spread).await?,
        };
        services.push(ready(one, resolved, &deployed));
    }
    Ok(Batch { environment, services, sources, architectures })
}

/// The services that files describe.
pub(super) fn names(paths: &[PathBuf]) -> Result<Vec<ServiceName>, CliError> {
    let mut names = Vec::new();
    for path in files(paths)? {
        names.push(read_file(&path.display().to_string(), read_text(&path)?)?.file.spec.name);
    }
    Ok(names)
}

fn read_text(path: &Path) -> Result<String, CliError> {
    let file = path.display();
    fs::read_to_string(path).map_err(|error| match error {
        error if error.kind() == io::ErrorKind::InvalidData => CliError::usage(format_args!(
            "{file}: it is not text in UTF-8; an editor's \"save as\" makes it that"
        )),
        error => CliError::usage(format_args!("{file}: {error}")),
    })
}

fn read_file(name: &str, text: String) -> Result<Read, CliError> {
    let file = parse(name, &text).map_err(CliError::usage)?;
    for warning in &file.warnings {
        eprintln!("{warning}");
    }
    let (image, archive) = (file.image.clone(), file.archive.clone());
    Ok(Read { text, image, archive, base: file.spec.clone(), file })
}

/// The stored file of a deployed service; its image is the one that runs, which may be another than the file's.
fn stored(
    name: &ServiceName,
    deployed: &Deployed,
    environment: &EnvironmentName,
) -> Result<Read, CliError> {
    let Some(service) = deployed.services.get(name) else {
        let names: Vec<&str> = deployed.services.keys().map(ServiceName::as_str).collect();
        let there = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        return Err(CliError::usage(format_args!(
            "no service `{name}` in {environment}, where {there} is deployed; deploy a file with -f first"
        )));
    };
    if service.file.is_empty() {
        return Err(CliError::usage(format_args!(
            "the file of `{name}` is not known: this coordinator was recovered from what the nodes hold; deploy the file with -f once"
        )));
    }
    let mut read = read_file(&format!("the stored file of {name}"), service.file.clone())?;
    // It was deployed with another image than the file's archive.
    read.archive = read.archive.filter(|source| source.archive == service.image);
    read.image = Some(service.image.clone());
    Ok(read)
}

fn check(read: &[Read], deployed: &Deployed) -> Result<(), CliError> {
    let files: Vec<&ServiceFile> = read.iter().map(|one| &one.file).collect();
    let specs: Vec<&ServiceSpec> = deployed.services.values().map(|one| &one.spec).collect();
    check_together(&files, &specs).map_err(CliError::usage)
}

fn sources(session: &Session) -> Result<Sources, CliError> {
    let config = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
    let docker_config = config.or_else(home).map(|dir| dir.join("config.json"));
    let registries =
        Registries::load(&session.own_folder()?.registries(), docker_config.as_deref())
            .map_err(CliError::usage)?;
    Ok(Sources { registries, docker: Docker::local().ok() })
}

fn architectures(nodes: &[NodeShown]) -> BTreeSet<String> {
    nodes.iter().map(|node| node.capacity.architecture.clone()).collect()
}

fn spread(nodes: &[NodeShown]) -> Spread {
    let is_here =
        |address: &str| address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let all_here = nodes.iter().all(|node| is_here(&node.address));
    if all_here { Spread::ThisMachine } else { Spread::Machines }
}

async fn resolve(read: &Read, sources: &Sources, spread: Spread) -> Result<Image, CliError> {
    let name = &read.file.spec.name;
    let Some(reference) = &read.image else {
        return Err(CliError::usage(format_args!(
            "{}: `{name}` names no image; add `image = \"…\"`, `[source]` with an archive, or --image",
            read.file.source_name()
        )));
    };
    let resolved = sources.resolve(reference).await.map_err(CliError::failed)?;
    for warning in &resolved.warnings {
        eprintln!("warning: {warning}");
    }
    if spread == Spread::Machines && matches!(resolved.image.pin, Pin::ImageId(_)) {
        eprintln!(
            "warning: {reference} exists in the local Docker only: nodes on other machines cannot pull it; push it to a \
             registry for them, or to the coordinator: `pith push {reference}`"
        );
    }
    Ok(resolved.image)
}

fn ready(read: Read, image: Image, deployed: &Deployed) -> Ready {
    let name = &read.file.spec.name;
    let counter = deployed.counters.get(name).map_or(0, |counter| *counter) + 1;
    Ready {
        text: read.text,
        spec: read.file.spec,
        base: read.base,
        environments: read.file.environments,
        image,
        counter,
    }
}

/// Dependencies first, else by name. There are no cycles: they were refused.
fn in_order(read: Vec<Read>) -> Vec<Read> {
    let mut left: BTreeMap<ServiceName, Read> =
        read.into_iter().map(|one| (one.file.spec.name.clone(), one)).collect();
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let names: BTreeSet<ServiceName> = left.keys().cloned().collect();
        let free = |one: &&ServiceName| left[*one].file.spec.depends_on.is_disjoint(&names);
        let next = names.iter().find(free).or(names.first()).cloned();
        ordered.extend(next.and_then(|name| left.remove(&name)));
    }
    ordered
}

/// Files as named; of a folder, every `.toml` in it.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = found.len();
            found.extend(toml_files(path)?);
            if found.len() == before {
                return Err(CliError::usage(format_args!(
                    "{} holds no .toml file",
                    path.display()
                )));
            }
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

fn toml_files(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let entries = fs::read_dir(folder)
        .map_err(|e| CliError::usage(format_args!("{}: {e}", folder.display())))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    Ok(files)
}

/// Whether an error means that nobody is there.
pub(super) fn is_away(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Away { .. } | ClientError::Broken(_) => true,
        ClientError::Denied { .. } | ClientError::Distrust { .. } => false,
        ClientError::Refused(problem) => problem.code == "stopping",
    }
}
