//! The machine's Docker, asked through its own command line, so that the tests do not trust what they test.

use std::collections::BTreeMap;
use std::process::Command;

/// Runs `docker …` and gives its standard output.
///
/// # Panics
/// When the command fails.
#[must_use]
pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().expect("docker can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {args:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether an engine answers.
#[must_use]
pub fn answers() -> bool {
    let version =
        Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
    version.is_ok_and(|output| output.status.success())
}

/// A container as `docker ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `running`, `exited`, `created` …
    pub state: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// All containers that carry `label`, in any state, by name.
#[must_use]
pub fn containers(label: &str) -> Vec<Container> {
    let filter = format!("label={label}");
    let format = "{{.ID}}\t{{.Names}}\t{{.State}}\t{{.Labels}}";
    let out = docker(&["ps", "-a", "--no-trunc", "--filter", &filter, "--format", format]);
    let mut containers: Vec<Container> = out.lines().filter_map(parse).collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    containers
}

fn parse(line: &str) -> Option<Container> {
    let mut fields = line.split('\t').map(str::to_owned);
    let (id, name, state) = (fields.next()?, fields.next()?, fields.next()?);
    let labels = fields.next()?;
    let pair = |text: &str| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    Some(Container { id, name, state, labels: labels.split(',').filter_map(pair).collect() })
}

/// Networks that carry `label`, by name.
#[must_use]
pub fn networks(label: &str) -> Vec<String> {
    let filter = format!("label={label}");
    let out = docker(&["network", "ls", "--filter", &filter, "--format", "{{.Name}}"]);
    out.lines().map(str::to_owned).collect()
}

/// Volumes that carry `label`, by name.
#[must_use]
pub fn volumes(label: &str) -> Vec<String> {
    let filter = format!("label={label}");
    let out = docker(&["volume", "ls", "--filter", &filter, "--format", "{{.Name}}"]);
    out.lines().map(str::to_owned).collect()
}

/// Removes the images whose repository matches, by digest and by tag; those in use stay.
pub fn remove_images(reference: &str) {
    let filter = format!("reference={reference}");
    let format = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}";
    let list = ["image", "ls", "--digests", "--filter", &filter, "--format", format];
    let Ok(output) = Command::new("docker").args(list).output() else { return };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [repository, tag, digest] = fields[..] else { continue };
        let names = [(tag, ':'), (digest, '@')].into_iter().filter(|(part, _)| *part != "<none>");
        for (part, separator) in names {
            let name = format!("{repository}{separator}{part}");
            let _ = Command::new("docker").args(["rmi", &name]).output();
        }
    }
}

/// Removes the containers and networks that carry `label`, whatever becomes of it: a test ends.
pub fn remove_all(label: &str) {
    for container in containers(label) {
        let _ = Command::new("docker").args(["rm", "-f", &container.id]).output();
    }
    for network in networks(label) {
        let _ = Command::new("docker").args(["network", "rm", &network]).output();
    }
}
