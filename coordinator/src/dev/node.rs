//! One node of `pith dev`: its settings, its folder, its agent and proxy.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use protocol::id::{EnvironmentName, NodeId, NodeName};
use protocol::keys::SecretKey;
use serde::Serialize;

use super::DevError;
use super::child::{Program, Supervised};
use crate::data_dir::{DataDir, DataDirError, check_socket_path, new_key};

/// Lines of a log that are shown when a node does not come up.
const LAST_WORDS: usize = 8;

/// On tmpfs on every Linux.
const MEMORY_DIR: &str = "/dev/shm";

/// How a node presents itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its name.
    pub name: NodeName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Where a node finds the rest.
pub(super) struct Surroundings<'a> {
    pub(super) data: &'a DataDir,
    pub(super) docker: String,
    pub(super) agent: PathBuf,
    pub(super) fleet_port: u16,
}

/// A node whose folder is written and whose processes are not started yet.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) id: NodeId,
    pub(super) key: SecretKey,
    /// Below the data folder.
    pub(super) state_dir: String,
    name: NodeName,
    agent: Program,
    proxy: Program,
}

/// A node that runs.
#[derive(Debug)]
pub(super) struct DevNode {
    name: NodeName,
    id: NodeId,
    agent_log: PathBuf,
    agent: Supervised,
    proxy: Supervised,
}

/// `agent.toml`, as the agent reads it.
#[derive(Debug, Serialize)]
struct AgentFile<'a> {
    name: &'a NodeName,
    environment: &'a EnvironmentName,
    labels: &'a BTreeMap<String, String>,
    state_dir: PathBuf,
    runtime_dir: PathBuf,
    secrets_dir: PathBuf,
    listen: [String; 1],
    address: String,
    fleet_port: u16,
    network_pool: String,
    docker: &'a str,
    registries: PathBuf,
    policy: PathBuf,
    remove_images: bool,
}

/// The nodes that `--nodes N` and `--node …` ask for: `node-1` to `node-N`, those named last replacing the first ones.
///
/// # Errors
/// Where a setting is not readable or a name stands twice.
pub fn settings(
    count: u8,
    given: &[String],
    environment: &EnvironmentName,
) -> Result<Vec<NodeSettings>, DevError> {
    let plain = |k: usize| NodeSettings {
        name: format!("node-{k}").parse().expect("letters, a hyphen and digits"),
        environment: environment.clone(),
        labels: BTreeMap::new(),
    };
    let total = usize::from(count).max(given.len());
    let mut nodes: Vec<NodeSettings> = (1..=total).map(plain).collect();
    for (node, text) in nodes.iter_mut().zip(given) {
        let failed = |reason: String| DevError::Settings { text: text.clone(), reason };
        read_settings(node, text).map_err(failed)?;
    }
    for (index, node) in nodes.iter().enumerate() {
        if nodes[..index].iter().any(|other| other.name == node.name) {
            let reason = format!("two nodes are named {}", node.name);
            return Err(DevError::Settings { text: format!("name={}", node.name), reason });
        }
    }
    Ok(nodes)
}

fn read_settings(node: &mut NodeSettings, text: &str) -> Result<(), String> {
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (key, value) =
            part.split_once('=').ok_or_else(|| format!("`{part}` is not key=value"))?;
        match key {
            "name" => node.name = value.parse().map_err(|e| format!("{e}"))?,
            "env" => node.environment = value.parse().map_err(|e| format!("{e}"))?,
            "label" => {
                let (key, value) = value
                    .split_once('=')
                    .ok_or_else(|| format!("label `{value}` is not key=value"))?;
                node.labels.insert(key.to_owned(), value.to_owned());
            }
            other => return Err(format!("`{other}` is not known; there are name, env and label")),
        }
    }
    Ok(())
}

/// Where a node keeps secrets in clear: in memory.
pub(super) fn secrets_dir(node: &NodeId) -> PathBuf {
    PathBuf::from(format!("{MEMORY_DIR}/pith-{node}"))
}

impl Prepared {
    /// Writes the node's folder. One from before is used again: the same key is the same node, and its containers are
    /// its own.
    pub(super) fn new(
        settings: &NodeSettings,
        address: Ipv4Addr,
        pool: String,
        around: &Surroundings<'_>,
    ) -> Result<Self, DevError> {
        let name = &settings.name;
        let folder = around.data.create_folder(&format!("nodes/{name}"))?;
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let key = node_key(around.data, name)?;
        let id = key.public().node_id();
        let runtime_dir = around.data.create_folder(&format!("nodes/{name}/run"))?;
        let control_socket = std::path::absolute(runtime_dir.join("proxy.sock"));
        let control_socket = control_socket.unwrap_or_else(|_| runtime_dir.join("proxy.sock"));
        check_socket_path(&control_socket)?;
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let file = AgentFile {
            name,
            environment: &settings.environment,
            labels: &settings.labels,
            state_dir: folder.join("state"),
            runtime_dir: absolute(runtime_dir),
            // The data folder is on a disk.
            secrets_dir: secrets_dir(&id),
            listen: [address.to_string()],
            address: address.to_string(),
            fleet_port: around.fleet_port,
            network_pool: pool,
            docker: &around.docker,
            registries: absolute(around.data.registries()),
            policy: folder.join("policy.toml"),
            // This Docker has other users.
            remove_images: false,
        };
        let text = toml::to_string(&file).expect("plain data serialises");
        let config = around.data.write(&format!("nodes/{name}/agent.toml"), text.as_bytes())?;
        let config = absolute(config);
        let program = |role, arguments: &[&str]| Program {
            role,
            path: around.agent.clone(),
            arguments: arguments
                .iter()
                .map(Into::into)
                .chain(["--config".into(), config.clone().into_os_string()])
                .collect(),
            folder: folder.clone(),
            socket: None,
        };
        let (mut proxy, agent) = (program("proxy", &["proxy"]), program("agent", &[]));
        proxy.socket = Some(control_socket);
        let state_dir = format!("nodes/{name}/state");
        Ok(Self { id, key, state_dir, name: name.clone(), agent, proxy })
    }
}

impl DevNode {
    /// Starts its proxy and agent.
    pub(super) fn start(prepared: Prepared) -> Result<Self, DevError> {
        let Prepared { id, name, agent, proxy, .. } = prepared;
        let agent_log = agent.log();
        let proxy = Supervised::start(proxy)?;
        let agent = Supervised::start(agent)?;
        Ok(Self { name, id, agent_log, agent, proxy })
    }

    pub(super) fn name(&self) -> &NodeName {
        &self.name
    }

    pub(super) fn id(&self) -> &NodeId {
        &self.id
    }

    /// The agent first: it would take a proxy that goes for a fault.
    pub(super) async fn stop(&mut self) {
        self.agent.stop().await;
        self.proxy.stop().await;
    }

    /// Secrets in clear go with the containers that used them.
    pub(super) fn forget_secrets(&self) {
        let _ = fs::remove_dir_all(secrets_dir(&self.id));
    }

    /// The end of the agent's log, for a node that did not come up.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.agent_log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
        format!("{} ends with:\n{}", self.agent_log.display(), last.join("\n"))
    }
}

/// The agent would make its key at first start; made here, its id is known before it connects.
fn node_key(data: &DataDir, name: &NodeName) -> Result<SecretKey, DevError> {
    let state = data.create_folder(&format!("nodes/{name}/state"))?;
    let path = state.join("node.key");
    if let Ok(text) = fs::read_to_string(&path) {
        return SecretKey::from_base64(&text)
            .map_err(|e| DataDirError::Damaged { path, reason: e.to_string() }.into());
    }
    let key = new_key()?;
    data.write(&format!("nodes/{name}/state/node.key"), key.to_base64().as_bytes())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(count: u8, given: &[&str], expected: &str) {
        let given: Vec<String> = given.iter().map(|s| (*s).to_owned()).collect();
        let shown = match settings(count, &given, &"default".parse().unwrap()) {
            Err(error) => error.to_string(),
            Ok(nodes) => {
                let show = |n: &NodeSettings| format!("{}@{}{:?}", n.name, n.environment, n.labels);
                nodes.iter().map(show).collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn nodes_are_numbered_and_named_ones_come_first() {
        check(2, &[], "node-1@default{} node-2@default{}");
        check(
            2,
            &["name=edge,env=staging,label=zone=a,label=disk=ssd"],
            "edge@staging{\"disk\": \"ssd\", \"zone\": \"a\"} node-2@default{}",
        );
        check(1, &["name=a", "name=b"], "a@default{} b@default{}");
    }

    #[test]
    fn mistakes_in_settings_are_named() {
        check(1, &["zone=a"], "--node zone=a: `zone` is not known; there are name, env and label");
        check(1, &["label=zone"], "--node label=zone: label `zone` is not key=value");
        check(2, &["name=node-2"], "--node name=node-2: two nodes are named node-2");
    }
}
