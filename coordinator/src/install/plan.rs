//! What is to be done to a board, from what it is: a list of acts, each with its reason. Pure.

use std::collections::BTreeSet;

use protocol::id::{FleetId, NodeId, NodeName};

use super::allowing::{Allow, Writing};
use super::daemon::{self, Tuning};
use super::facts::{Facts, Installed, Root};
use super::obstacle::Obstacle;
use super::package::{Named, Package, VERSION};

/// Where nodes' proxies serve each other.
const FLEET_PORT: u16 = 7484;
/// A package, twice: as a file and unpacked.
const AGENT_KIB: u64 = 32 * 1024;
/// Docker's packages, unpacked.
const DOCKER_KIB: u64 = 450 * 1024;
/// Below this, images do not fit beside it.
const ROOM_KIB: u64 = 512 * 1024;
/// 512 MB boards say less of themselves.
const MEMORY_KIB: u64 = 400 * 1024;
/// What APT believes of its lists, and TLS of certificates, is off by then.
const CLOCK_OFF_S: u64 = 24 * 60 * 60;

/// That are shown.
const MAX_PORTS: usize = 24;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// The node's name; none: the board's own.
    pub name: Option<NodeName>,
    /// The board's policy.
    pub allow: Option<Allow>,
    /// Whether Docker's configuration is changed.
    pub tune_docker: bool,
    /// Exchange the package and nothing else.
    pub upgrade: bool,
}

/// What the coordinator knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The fleet.
    pub fleet: FleetId,
    /// Names that other nodes have.
    pub names: BTreeSet<NodeName>,
    /// Nodes that were revoked.
    pub revoked: BTreeSet<NodeId>,
    /// Unix seconds.
    pub now_s: u64,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Is the coordinator reached from there? Before anything is changed.
    Reach,
    /// Copy the package and install it.
    Install {
        /// Whether Docker comes with it.
        with_docker: bool,
    },
    /// Write /etc/pith/policy.toml.
    Policy(String),
    /// Write /etc/docker/daemon.json and have Docker read it.
    TuneDocker(String),
    /// Make it a node.
    Join(NodeName),
    /// Start the units, now and at each boot.
    Enable,
}

/// What is to be done, and what a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order, each with its reason.
    pub acts: Vec<(Act, String)>,
    /// What is as it should be.
    pub already: Vec<String>,
    /// What may go wrong later.
    pub warnings: Vec<String>,
    /// Asked for and not done: a person has decided otherwise.
    pub undone: Vec<String>,
}

/// What the board is, for a person.
#[must_use]
pub fn found(facts: &Facts) -> Vec<String> {
    let mib = |kib: u64| format!("{} MiB", kib / 1024);
    let docker = match (&facts.docker, &facts.docker_client) {
        (Some(version), _) => format!("Docker {version}, {} containers run", facts.containers),
        (None, Some(version)) => format!("Docker {version} is there and does not answer"),
        (None, None) => "no Docker".to_owned(),
    };
    let agent = match (&facts.agent, &facts.membership) {
        (None, _) => "no pith-agent".to_owned(),
        (Some(Installed { status, version }), membership) => {
            let status = if status == "installed" { String::new() } else { format!(" ({status})") };
            let fleet = membership.as_ref().map_or("no fleet yet".to_owned(), |m| {
                format!("node {} of fleet {}", m.node, m.fleet)
            });
            format!("pith-agent {version}{status}, {fleet}")
        }
    };
    let ports: Vec<String> = facts.listening.iter().take(MAX_PORTS).map(u16::to_string).collect();
    vec![
        format!("{}: {}, {}, {} cores", facts.host, facts.os_name, facts.machine, facts.cores),
        format!(
            "memory {}{}, free below /usr {}, below /var {}",
            mib(facts.memory_kib),
            if facts.memory_limits { "" } else { " (no limits of memory)" },
            mib(facts.free_usr_kib),
            mib(facts.free_var_kib)
        ),
        format!("{docker}; {agent}; TCP ports taken: {}", ports.join(", ")),
    ]
}

/// The processor that a package must be for.
///
/// # Errors
/// Where nothing is built for it, or there is no dpkg.
pub fn architecture(facts: &Facts) -> Result<&str, Obstacle> {
    let architecture = facts.dpkg.as_deref().unwrap_or_default();
    let is_32_bit = |machine: &str| machine.starts_with("armv") || machine.starts_with('i');
    match (architecture, facts.machine.as_str()) {
        ("", machine) if is_32_bit(machine) => Err(processor(facts)),
        ("", _) => Err(Obstacle::NotDebian(facts.os_name.clone())),
        ("arm64" | "amd64", _) if !facts.is_debian_like() => {
            Err(Obstacle::NotDebian(facts.os_name.clone()))
        }
        ("arm64" | "amd64", _) => Ok(architecture),
        (_, _) => Err(processor(facts)),
    }
}

fn processor(facts: &Facts) -> Obstacle {
    let architecture = facts.dpkg.clone().unwrap_or_else(|| "32 bits".to_owned());
    Obstacle::Processor { machine: facts.machine.clone(), architecture }
}

/// What to do. A package that is named must fit, also where it is not needed.
///
/// # Errors
/// The first thing that stands against it; nothing was done then.
pub fn plan(
    facts: &Facts,
    wish: &Wish,
    known: &Known,
    package: Option<&Package>,
) -> Result<Plan, Obstacle> {
    check(facts, known, package)?;
    let mut plan = Plan::default();
    warn(facts, known, &mut plan);
    let is_joined = facts.membership.is_some();
    let installs = install(facts, wish, &mut plan)?;
    if wish.upgrade {
        return Ok(plan);
    }
    if let Some(allow) = &wish.allow {
        policy(facts, allow, installs, &mut plan);
    }
    if wish.tune_docker {
        tune(facts, &mut plan)?;
    }
    if is_joined {
        plan.already.push("it has joined this fleet".to_owned());
    } else {
        let name = name(facts, wish, known, &mut plan)?;
        plan.acts.insert(
            0,
            (
                Act::Reach,
                "nothing is changed on a board that cannot reach the coordinator".to_owned(),
            ),
        );
        plan.acts.push((Act::Join(name), "it belongs to no fleet yet".to_owned()));
    }
    let units = [facts.proxy_unit, facts.agent_unit];
    if is_joined && units.iter().all(|unit| unit.active && unit.enabled) {
        plan.already.push("pith-proxy and pith-agent run, now and at each boot".to_owned());
    } else {
        plan.acts.push((Act::Enable, "the units are not started".to_owned()));
    }
    Ok(plan)
}

fn check(facts: &Facts, known: &Known, package: Option<&Package>) -> Result<(), Obstacle> {
    let board = architecture(facts)?;
    if facts.root == Root::None {
        return Err(Obstacle::NoSudo { user: facts.user.clone() });
    }
    if facts.systemd.is_none() {
        return Err(Obstacle::NoSystemd);
    }
    if let Some(of) = facts.membership.as_ref().filter(|of| of.fleet != known.fleet) {
        let (theirs, node, ours) = (of.fleet.clone(), of.node.clone(), known.fleet.clone());
        return Err(Obstacle::OtherFleet { theirs, node, ours });
    }
    if let Some(of) = facts.membership.as_ref().filter(|of| known.revoked.contains(&of.node)) {
        return Err(Obstacle::Revoked(of.node.clone()));
    }
    let Some(Package { path, name: Named::As { version, architecture } }) = package else {
        return Ok(());
    };
    let file = path.display().to_string();
    if architecture != board {
        let (package, board) = (architecture.clone(), board.to_owned());
        return Err(Obstacle::WrongProcessor { file, package, board });
    }
    if version != VERSION {
        return Err(Obstacle::WrongVersion { file, package: version.clone() });
    }
    Ok(())
}

fn warn(facts: &Facts, known: &Known, plan: &mut Plan) {
    if facts.clock_s.abs_diff(known.now_s) > CLOCK_OFF_S {
        plan.warnings.push(format!(
            "the board's clock is off by {} days: Pith does not mind, apt-get may (`date -s @{}` there, or a time service)",
            facts.clock_s.abs_diff(known.now_s) / 86_400,
            known.now_s
        ));
    }
    if facts.docker_package && facts.docker.is_none() {
        plan.warnings.push(
            "Docker is installed and does not answer: the node is not ready before it does (`systemctl status docker` there)".to_owned(),
        );
    }
    if facts.docker_package && !facts.docker_group {
        plan.warnings.push(
            "there is no group docker, by which the agent reaches Docker's socket: `groupadd docker && systemctl restart docker` there"
                .to_owned(),
        );
    }
    if facts.memory_kib < MEMORY_KIB {
        plan.warnings.push(format!(
            "{} MiB of memory are little: 512 are what Pith is made for",
            facts.memory_kib / 1024
        ));
    }
    if !facts.memory_limits {
        plan.warnings.push(
            "the kernel does not limit the memory of containers: add cgroup_enable=memory to its command line (Armbian: extraargs in \
             /boot/armbianEnv.txt; Raspberry Pi: /boot/cmdline.txt) and start the board anew"
                .to_owned(),
        );
    }
    if facts.listening.contains(&FLEET_PORT) && !facts.proxy_unit.active {
        plan.warnings.push(format!(
            "somebody listens on port {FLEET_PORT}, where nodes' proxies serve each other: set fleet_port in /etc/pith/agent.toml"
        ));
    }
}

/// Whether the package is installed by this plan.
fn install(facts: &Facts, wish: &Wish, plan: &mut Plan) -> Result<bool, Obstacle> {
    let has_docker = facts.docker_package;
    let why = match &facts.agent {
        Some(Installed { status, version }) if status == "installed" => {
            match (compared(version), wish.upgrade) {
                (std::cmp::Ordering::Greater, _) => return Err(Obstacle::Newer(version.clone())),
                (std::cmp::Ordering::Equal, _) => {
                    plan.already.push(format!("pith-agent {version} is installed"));
                    return Ok(false);
                }
                (std::cmp::Ordering::Less, false) => {
                    plan.already.push(format!(
                        "pith-agent {version} is installed; `--upgrade` exchanges it for {VERSION}"
                    ));
                    return Ok(false);
                }
                (std::cmp::Ordering::Less, true) => format!("{version} is there"),
            }
        }
        _ if wish.upgrade => return Err(Obstacle::NothingToUpgrade),
        Some(Installed { status, .. }) if status != "config-files" && status != "not-installed" => {
            format!("an earlier installing stopped half-way ({status})")
        }
        Some(_) | None => "it is not there yet".to_owned(),
    };
    if let Some(version) = facts.docker_client.as_ref().filter(|_| !has_docker) {
        return Err(Obstacle::DockerFromElsewhere(version.clone()));
    }
    if !has_docker && !facts.apt {
        return Err(Obstacle::NoDocker);
    }
    let (needed, what) = if has_docker {
        (AGENT_KIB, "pith-agent")
    } else {
        (AGENT_KIB + DOCKER_KIB, "pith-agent and Docker")
    };
    space("/usr", facts.free_usr_kib, needed, what)?;
    space("/var", facts.free_var_kib, needed.min(ROOM_KIB), what)?;
    if facts.free_var_kib < ROOM_KIB {
        plan.warnings.push(format!(
            "{} MiB free below /var are little for images",
            facts.free_var_kib / 1024
        ));
    }
    let why = if has_docker {
        why
    } else {
        format!("{why}; Docker is missing and comes with it, from Debian (docker.io)")
    };
    plan.acts.push((Act::Install { with_docker: !has_docker }, why));
    Ok(true)
}

fn space(
    below: &'static str,
    free_kib: u64,
    needed_kib: u64,
    what: &'static str,
) -> Result<(), Obstacle> {
    if free_kib >= needed_kib {
        return Ok(());
    }
    let (free_mib, needed_mib) = (free_kib / 1024, needed_kib / 1024);
    Err(Obstacle::Space { below, free_mib, needed_mib, what })
}

fn policy(facts: &Facts, allow: &Allow, installs: bool, plan: &mut Plan) {
    // The package's own comes with it.
    let is_shipped = facts.is_policy_shipped || (installs && facts.policy.is_none());
    match allow.writing(facts.policy.as_deref(), is_shipped) {
        Writing::Already => plan.already.push("/etc/pith/policy.toml allows that".to_owned()),
        Writing::Write(text) => plan.acts.push((Act::Policy(text), "--allow".to_owned())),
        Writing::Differs(lines) => plan.undone.push(format!(
            "/etc/pith/policy.toml was written by somebody and is left alone; --allow would make this of it:\n  {}",
            lines.join("\n  ")
        )),
    }
}

fn tune(facts: &Facts, plan: &mut Plan) -> Result<(), Obstacle> {
    match daemon::tuned(facts.daemon_json.as_deref())? {
        Tuning::Already => plan.already.push("/etc/docker/daemon.json is tuned".to_owned()),
        Tuning::Write { text, added, runs_on } => {
            let containers = facts.containers;
            let what = if runs_on {
                format!(
                    "and restarted once, with live-restore: the {containers} containers that run go on"
                )
            } else {
                format!(
                    "and restarted once, without live-restore as the file wants it: the {containers} containers that run stop, and those with a \
                     restart policy start again"
                )
            };
            let why = format!("--tune-docker adds {}; Docker is reloaded {what}", added.join(", "));
            plan.acts.push((Act::TuneDocker(text), why));
        }
    }
    Ok(())
}

/// The name to join under: free in the fleet.
fn name(facts: &Facts, wish: &Wish, known: &Known, plan: &mut Plan) -> Result<NodeName, Obstacle> {
    let own = facts.host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let wanted = match &wish.name {
        Some(name) => name.clone(),
        None => own.parse().map_err(|_| Obstacle::Name(facts.host.clone()))?,
    };
    let numbered = |n: usize| format!("{wanted}-{n}").parse::<NodeName>().ok();
    let others = (2..known.names.len() + 3).filter_map(numbered);
    let free =
        std::iter::once(wanted.clone()).chain(others).find(|name| !known.names.contains(name));
    let free = free.ok_or_else(|| Obstacle::Name(facts.host.clone()))?;
    if free != wanted {
        plan.warnings.push(format!("a node is called {wanted} already: this one becomes {free}"));
    }
    Ok(free)
}

/// Another version beside this one: numbers by their value, as Debian orders what we give out.
fn compared(version: &str) -> std::cmp::Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        let upstream = text.split(['-', '+', '~']).next().unwrap_or_default();
        upstream.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    numbers(version).cmp(&numbers(VERSION))
}

#[cfg(test)]
mod tests;
