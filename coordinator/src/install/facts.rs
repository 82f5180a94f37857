//! What a board is: the lines of `look.sh`, read. Pure.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::id::{FleetId, NodeId};

/// Longer answers are no board's.
const MAX_BYTES: usize = 1024 * 1024;

/// Why an answer is not that of a board.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// No POSIX shell answered, or it broke off.
    #[error("the board's shell answered something else: {0}")]
    Strange(String),
    /// Somebody else's output.
    #[error("the board's shell answered more than {MAX_BYTES} bytes")]
    TooLong,
}

/// How root is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// It answered as root.
    Is,
    /// By sudo, without a password.
    Sudo,
    /// By sudo, with one.
    SudoPassword,
    /// There is no sudo.
    None,
}

/// A unit of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unit {
    /// It runs.
    pub active: bool,
    /// It is started at boot.
    pub enabled: bool,
}

/// The package as dpkg knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// `installed`, or how far it got: `unpacked`, `half-configured`, `config-files` …
    pub status: String,
    /// Its version.
    pub version: String,
}

/// A fleet that the board has joined, from its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Which.
    pub fleet: FleetId,
    /// Who it is there.
    pub node: NodeId,
}

/// What a board is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// How root is reached.
    pub root: Root,
    /// Who logged in.
    pub user: String,
    /// Its name.
    pub host: String,
    /// As the kernel says: `aarch64`, `armv7l`.
    pub machine: String,
    /// As dpkg says: `arm64`; none: no dpkg.
    pub dpkg: Option<String>,
    /// `ID` and `ID_LIKE` of os-release.
    pub os: Vec<String>,
    /// `PRETTY_NAME` of it.
    pub os_name: String,
    /// Whether apt-get is there.
    pub apt: bool,
    /// Its version, where systemd runs the machine.
    pub systemd: Option<String>,
    /// Unix seconds, as the board believes.
    pub clock_s: u64,
    /// Processors.
    pub cores: u32,
    /// Of memory.
    pub memory_kib: u64,
    /// Below /usr.
    pub free_usr_kib: u64,
    /// Below /var.
    pub free_var_kib: u64,
    /// Whether containers can be limited in memory.
    pub memory_limits: bool,
    /// TCP ports that somebody listens on.
    pub listening: BTreeSet<u16>,
    /// Of the client that is installed.
    pub docker_client: Option<String>,
    /// Of the daemon, where it answered.
    pub docker: Option<String>,
    /// Whether it is of a package that pith-agent's depends on.
    pub docker_package: bool,
    /// That run, where it answered.
    pub containers: u32,
    /// Whether the group is there that the agent reaches Docker by.
    pub docker_group: bool,
    /// /etc/docker/daemon.json
    pub daemon_json: Option<String>,
    /// As dpkg knows it.
    pub agent: Option<Installed>,
    /// What the program says of itself; none: it is not there.
    pub agent_binary: Option<String>,
    /// /etc/pith/policy.toml
    pub policy: Option<String>,
    /// Whether it is as the package brought it.
    pub is_policy_shipped: bool,
    /// Which fleet it has joined.
    pub membership: Option<Membership>,
    /// pith-proxy.service
    pub proxy_unit: Unit,
    /// pith-agent.service
    pub agent_unit: Unit,
}

impl Facts {
    /// Reads what `look.sh` printed.
    ///
    /// # Errors
    /// Where it did not come to its end.
    pub fn parse(text: &str) -> Result<Self, NotRead> {
        if text.len() > MAX_BYTES {
            return Err(NotRead::TooLong);
        }
        let lines: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once(' ')).collect();
        if !lines.contains_key("looked") || !lines.contains_key("end") {
            let said: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(NotRead::Strange(said));
        }
        let word = |key: &str| lines.get(key).map(|value| value.trim().to_owned());
        let number = |key: &str| lines.get(key).and_then(|value| value.trim().parse().ok());
        let text_of = |key: &str| lines.get(key).and_then(|value| decoded(value));
        let root = match (lines.get("uid").copied(), lines.get("sudo").copied()) {
            (Some("0"), _) => Root::Is,
            (_, Some("free")) => Root::Sudo,
            (_, Some("password")) => Root::SudoPassword,
            (_, _) => Root::None,
        };
        let likes = word("os_like").unwrap_or_default();
        let os = word("os").into_iter().chain(likes.split_whitespace().map(str::to_owned));
        let shipped = lines.get("policy_shipped_md5");
        Ok(Self {
            root,
            user: word("user").unwrap_or_default(),
            host: word("host").unwrap_or_default(),
            machine: word("machine").unwrap_or_default(),
            dpkg: word("dpkg"),
            os: os.collect(),
            os_name: word("os_name").unwrap_or_else(|| "an unknown system".to_owned()),
            apt: lines.contains_key("apt"),
            systemd: word("systemd"),
            clock_s: number("clock").unwrap_or(0),
            cores: number("cores").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            memory_kib: number("memory_kib").unwrap_or(0),
            free_usr_kib: number("free_usr_kib").unwrap_or(0),
            free_var_kib: number("free_var_kib").unwrap_or(0),
            memory_limits: lines.get("memory_limits") == Some(&"yes"),
            listening: ports(lines.get("listening").copied().unwrap_or_default()),
            docker_client: word("docker_client"),
            docker: word("docker"),
            docker_package: lines.contains_key("docker_package"),
            containers: number("containers").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            docker_group: lines.contains_key("docker_group"),
            daemon_json: text_of("daemon_json"),
            agent: lines.get("agent").and_then(|value| installed(value)),
            agent_binary: word("agent_binary"),
            policy: text_of("policy"),
            is_policy_shipped: shipped.is_some() && shipped == lines.get("policy_md5"),
            membership: text_of("certificate").and_then(|pem| membership(&pem)),
            proxy_unit: unit(lines.get("unit_pith-proxy").copied()),
            agent_unit: unit(lines.get("unit_pith-agent").copied()),
        })
    }

    /// Whether its packages are Debian's.
    #[must_use]
    pub fn is_debian_like(&self) -> bool {
        self.dpkg.is_some() && (self.apt || self.os.iter().any(|os| os == "debian"))
    }
}

fn decoded(value: &str) -> Option<String> {
    // What is no text is refused by whoever reads it further, not taken for absent.
    Some(String::from_utf8_lossy(&BASE64.decode(value.trim()).ok()?).into_owned())
}

fn installed(value: &str) -> Option<Installed> {
    let (status, version) = value.split_once(' ')?;
    Some(Installed { status: status.to_owned(), version: version.trim().to_owned() })
}

fn unit(value: Option<&str>) -> Unit {
    let mut words = value.unwrap_or_default().split_whitespace();
    Unit { active: words.next() == Some("active"), enabled: words.next() == Some("enabled") }
}

/// As /proc/net/tcp has them, in hexadecimal.
fn ports(value: &str) -> BTreeSet<u16> {
    value.split_whitespace().filter_map(|port| u16::from_str_radix(port, 16).ok()).collect()
}

/// Who a certificate is of: its DNS name is `<node>.node.<fleet>.pith`, in plain letters inside the DER.
fn membership(pem: &str) -> Option<Membership> {
    let base64: String = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN CERTIFICATE"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = BASE64.decode(base64).ok()?;
    const MIDDLE: &[u8] = b".node.";
    const ID_CHARS: usize = 32;
    let places = der.windows(MIDDLE.len()).enumerate().filter(|(_, bytes)| *bytes == MIDDLE);
    let id = |from: usize| std::str::from_utf8(der.get(from..from + ID_CHARS)?).ok();
    let read = |at: usize| {
        let node = id(at.checked_sub(ID_CHARS)?)?.parse().ok()?;
        let fleet = id(at + MIDDLE.len())?.parse().ok()?;
        Some(Membership { fleet, node })
    };
    places.filter_map(|(at, _)| read(at)).next()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A board of the kind that people have: `more` takes the place of lines, or comes beside them.
    pub(crate) fn board(more: &str) -> Facts {
        Facts::parse(&said(more)).unwrap()
    }

    pub(crate) fn said(more: &str) -> String {
        let plain = "looked 1\nuid 0\nuser root\nhost orangepi\nmachine aarch64\nos debian\n\
            os_name Debian GNU/Linux 12 (bookworm)\ndpkg arm64\napt yes\nsystemd 252\nclock 1790000000\ncores 4\n\
            memory_kib 1000000\nfree_usr_kib 9000000\nfree_var_kib 9000000\nmemory_limits yes\nlistening 0016 1F90 \n\
            docker_client 20.10.24\ndocker_package docker.io\ndocker 20.10.24\ncontainers 0\ndocker_group yes\n";
        format!("{plain}{more}\nend 1\n")
    }

    #[test]
    fn a_board_is_read() {
        let facts = board(
            "agent installed 0.1.0\nunit_pith-agent active enabled\nunit_pith-proxy inactive disabled",
        );
        assert_eq!((facts.root, facts.host.as_str()), (Root::Is, "orangepi"));
        assert_eq!(facts.listening, BTreeSet::from([22, 8080]));
        let agent = facts.agent.clone().unwrap();
        assert_eq!((agent.status.as_str(), agent.version.as_str()), ("installed", "0.1.0"));
        assert!(facts.agent_unit.active && facts.agent_unit.enabled && !facts.proxy_unit.active);
        assert!(facts.is_debian_like() && facts.membership.is_none());
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        let facts =
            Facts::parse("looked 1\nuid 1000\nsudo password\nmachine armv7l\nend 1\n").unwrap();
        assert_eq!(facts.root, Root::SudoPassword);
        assert_eq!(
            (facts.dpkg.as_ref(), facts.docker.as_ref(), facts.agent.as_ref()),
            (None, None, None)
        );
        assert!(!facts.memory_limits && facts.free_usr_kib == 0);
    }

    #[test]
    fn an_answer_that_broke_off_or_is_somebody_elses_is_refused() {
        for text in ["", "bash: sh: command not found", "looked 1\nuid 0\n"] {
            assert!(matches!(Facts::parse(text), Err(NotRead::Strange(_))), "{text:?}");
        }
        assert_eq!(Facts::parse(&"x".repeat(MAX_BYTES + 1)), Err(NotRead::TooLong));
    }

    #[test]
    fn the_fleet_of_a_board_stands_in_its_certificate() {
        let (node, fleet) = ("ab".repeat(16), "cd".repeat(16));
        let der = format!("0\u{1}x{node}yz{node}.node.{fleet}.pith\u{3}");
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            BASE64.encode(der)
        );
        let facts = board(&format!("certificate {}", BASE64.encode(pem)));
        let found = facts.membership.unwrap();
        assert_eq!((found.node.to_string(), found.fleet.to_string()), (node, fleet));
        assert_eq!(membership("-----BEGIN CERTIFICATE-----\n!!\n"), None);
    }
}
