//! What a node lets containers have of it: its own file, read on the node, which no signature overrides (DESIGN §5).
//!
//! ```text
//! /etc/pith/policy.toml --file::parse_policy--> NodePolicy --denied(service, HostAccess)--> what is not allowed, and the
//!                                                                                          lines that would allow it
//! ```
//! Nothing is allowed that is not written there. Pure: what a path of the node leads to is for the agent to find out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::ServiceName;
use crate::spec::HostAccess;

/// Capabilities that every container of Docker has: to have them is no access to the node.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const ALL: &str = "ALL";

/// A node's policy. The default allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodePolicy {
    /// For every service.
    #[serde(skip_serializing_if = "is_default")]
    pub every: Allowed,
    /// For one service: each key that is written takes the place of the one for every service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, Instead>,
}

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowed {
    /// Containers with all rights of the node's root.
    #[serde(skip_serializing_if = "is_default")]
    pub privileged: bool,
    /// Containers in the node's network.
    #[serde(skip_serializing_if = "is_default")]
    pub host_network: bool,
    /// Commands run inside containers from afar.
    #[serde(skip_serializing_if = "is_default")]
    pub exec: bool,
    /// Absolute paths; with each everything below it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_paths: Vec<String>,
    /// Paths below `/dev`; `*` stands for any characters but `/`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Capabilities beyond Docker's defaults, `ALL` or names without `CAP_`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub capabilities: BTreeSet<String>,
}

/// What is allowed to one service instead; none: as for every service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instead {
    /// See [`Allowed::privileged`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// See [`Allowed::host_network`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_network: Option<bool>,
    /// See [`Allowed::exec`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<bool>,
    /// See [`Allowed::host_paths`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_paths: Option<Vec<String>>,
    /// See [`Allowed::devices`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<String>>,
    /// See [`Allowed::capabilities`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<BTreeSet<String>>,
}

/// One thing that a service asks for and the policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// What it asks for: `the device /dev/ttyUSB0`.
    pub asks: String,
    /// What `policy.toml` would have to say: `devices = ["/dev/ttyUSB0"]`.
    pub line: String,
}

/// What a node says of its policy: how it stands now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyState {
    /// What is in force.
    #[serde(skip_serializing_if = "is_default")]
    pub policy: NodePolicy,
    /// Devices that it allows to some service and that are there.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub devices: BTreeSet<String>,
    /// Why the file counts as absent, though there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl NodePolicy {
    /// What a service may have.
    #[must_use]
    pub fn of(&self, service: &ServiceName) -> Allowed {
        let mut allowed = self.every.clone();
        let Some(instead) = self.services.get(service) else { return allowed };
        let Instead { privileged, host_network, exec, host_paths, devices, capabilities } =
            instead.clone();
        allowed.privileged = privileged.unwrap_or(allowed.privileged);
        allowed.host_network = host_network.unwrap_or(allowed.host_network);
        allowed.exec = exec.unwrap_or(allowed.exec);
        allowed.host_paths = host_paths.unwrap_or(allowed.host_paths);
        allowed.devices = devices.unwrap_or(allowed.devices);
        allowed.capabilities = capabilities.unwrap_or(allowed.capabilities);
        allowed
    }

    /// Whether commands may be run inside the service's containers from afar.
    #[must_use]
    pub fn allows_exec(&self, service: &ServiceName) -> bool {
        self.of(service).exec
    }

    /// What of `asked` is not allowed; empty: all of it is.
    #[must_use]
    pub fn denied(&self, service: &ServiceName, asked: &HostAccess) -> Vec<Denied> {
        let allowed = self.of(service);
        let mut denied = Vec::new();
        if asked.privileged && !allowed.privileged {
            denied.push(Denied::new("all rights of root (`privileged`)", "privileged = true"));
        }
        if asked.network && !allowed.host_network {
            denied.push(Denied::new("the node's network", "host_network = true"));
        }
        let paths = asked.paths.iter().map(|path| normalised(&path.host));
        let paths = paths.filter(|path| !allowed.host_paths.iter().any(|top| is_below(path, top)));
        let noun = ("the host path", "the host paths");
        denied.extend(Denied::list(noun, "host_paths", &allowed.host_paths, paths.collect()));
        let devices = asked.devices.iter().map(|device| normalised(&device.path));
        let devices = devices.filter(|path| !allowed.devices.iter().any(|one| is_like(path, one)));
        let noun = ("the device", "the devices");
        denied.extend(Denied::list(noun, "devices", &allowed.devices, devices.collect()));
        let has_all = allowed.capabilities.contains(ALL);
        let more = asked.capabilities.iter().filter(|name| {
            !has_all
                && !allowed.capabilities.contains(*name)
                && !DEFAULT_CAPABILITIES.contains(&name.as_str())
        });
        let noun = ("the capability", "the capabilities");
        let before: Vec<String> = allowed.capabilities.iter().cloned().collect();
        denied.extend(Denied::list(noun, "capabilities", &before, more.cloned().collect()));
        let instead = self.services.get(service);
        for one in &mut denied {
            let key = one.line.split(' ').next().unwrap_or_default();
            if instead.is_some_and(|instead| instead.says(key)) {
                one.line = format!("[services.{service}] {}", one.line);
            }
        }
        denied
    }

    /// Every pattern of devices that it allows to anyone.
    pub fn device_patterns(&self) -> impl Iterator<Item = &str> {
        let instead = self.services.values().filter_map(|instead| instead.devices.as_ref());
        std::iter::once(&self.every.devices).chain(instead).flatten().map(String::as_str)
    }
}

impl PolicyState {
    /// Why a node would not start a service that asks for this, with the lines that would allow it; none: it would.
    #[must_use]
    pub fn refusal(&self, service: &ServiceName, asked: &HostAccess) -> Option<String> {
        let denied = self.policy.denied(service, asked);
        (!denied.is_empty()).then(|| match &self.trouble {
            None => sentence(&denied),
            Some(trouble) => format!("{}; the file counts as absent: {trouble}", sentence(&denied)),
        })
    }

    /// The first device that a service asks for and the node does not have.
    #[must_use]
    pub fn missing_device<'a>(&self, asked: &'a HostAccess) -> Option<&'a str> {
        let mut asked = asked.devices.iter().map(|device| device.path.as_str());
        asked.find(|path| !self.devices.contains(&normalised(path)))
    }
}

/// What is not allowed and what would allow it, in one sentence.
#[must_use]
pub fn sentence(denied: &[Denied]) -> String {
    let asks: Vec<&str> = denied.iter().map(|one| one.asks.as_str()).collect();
    let lines: Vec<String> = denied.iter().map(|one| format!("`{}`", one.line)).collect();
    format!(
        "the node's policy does not allow {}; its policy.toml would have to say {}",
        asks.join(" and "),
        lines.join(" and ")
    )
}

impl Denied {
    fn new(asks: &str, line: &str) -> Self {
        Self { asks: asks.to_owned(), line: line.to_owned() }
    }

    /// The line keeps what it says already.
    fn list(
        (one, several): (&str, &str),
        key: &str,
        before: &[String],
        missing: Vec<String>,
    ) -> Option<Self> {
        let noun = match missing.len() {
            0 => return None,
            1 => one,
            _ => several,
        };
        let all: BTreeSet<&String> = before.iter().chain(&missing).collect();
        let all: Vec<String> = all.into_iter().map(|text| format!("{text:?}")).collect();
        Some(Self {
            asks: format!("{noun} {}", missing.join(", ")),
            line: format!("{key} = [{}]", all.join(", ")),
        })
    }
}

impl Instead {
    /// Whether it says something of a key of the file.
    fn says(&self, key: &str) -> bool {
        match key {
            "privileged" => self.privileged.is_some(),
            "host_network" => self.host_network.is_some(),
            "exec" => self.exec.is_some(),
            "host_paths" => self.host_paths.is_some(),
            "devices" => self.devices.is_some(),
            "capabilities" => self.capabilities.is_some(),
            _ => false,
        }
    }
}

/// An absolute path without `.`, `..` and doubled slashes, by its text alone.
#[must_use]
pub fn normalised(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether a path is `top` or something below it, by whole parts: `/mnt-old` is not below `/mnt`.
#[must_use]
pub fn is_below(path: &str, top: &str) -> bool {
    let (path, top) = (normalised(path), normalised(top));
    top == "/" || path == top || path.strip_prefix(&top).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a path is like a pattern, in which `*` stands for any characters but `/`.
#[must_use]
pub fn is_like(path: &str, pattern: &str) -> bool {
    let path = normalised(path);
    let (mut parts, mut patterns) = (path.split('/'), pattern.split('/'));
    loop {
        match (parts.next(), patterns.next()) {
            (None, None) => return true,
            (Some(part), Some(pattern)) if is_part_like(part, pattern) => {}
            (_, _) => return false,
        }
    }
}

fn is_part_like(text: &str, pattern: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return left.ends_with(piece);
        }
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    true
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
