//! What ran here as a compose.yaml, for whoever goes on without Pith. Pure.
//!
//! Strings are written as JSON, which YAML reads; `$` is doubled, because Compose puts variables in its place.

use std::collections::BTreeMap;

use protocol::id::{EnvironmentName, ServiceName};
use protocol::release::Image;
use protocol::spec::{Check, Port, Probe, ServiceSpec};

use crate::engine::Ours;

/// A service that ran here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Of which environment.
    pub environment: EnvironmentName,
    /// Its instances.
    pub count: usize,
    /// What they were made from.
    pub image: Image,
    /// What it was.
    pub spec: ServiceSpec,
}

/// The file. Values of secrets are not known here, and not in it.
#[must_use]
pub fn file(ours: &Ours, ran: &[Ran]) -> String {
    let mut text = format!(
        "# What node {} of fleet {} ran when Pith was removed from it: docker compose -f THIS_FILE up -d\n\
         # Values of secrets are not in it: those that a service had as files are looked for in ./secrets/NAME, those that it had as variables\n\
         # are left empty. Rollouts, and requests that wait while something is replaced, are Pith's: with Compose a new version is a short outage.\n\
         services:\n",
        ours.node, ours.fleet
    );
    let here = |name: &ServiceName| ran.iter().any(|one| one.spec.name == *name);
    let (mut volumes, mut secrets) = (String::new(), String::new());
    for one in ran {
        text.push_str(&service(ours, one, &here));
        for volume in &one.spec.volumes {
            let name = ours.volume_name(&one.environment, &one.spec.name, &volume.name);
            volumes.push_str(&format!("  {}:\n    external: true\n", quoted(&name)));
        }
        for secret in &one.spec.secrets {
            let entry = format!(
                "  {}:\n    file: {}\n",
                quoted(secret.name.as_str()),
                quoted(&format!("./secrets/{}", secret.name))
            );
            // Several services may have the same.
            if !secrets.contains(&entry) {
                secrets.push_str(&entry);
            }
        }
    }
    for (head, entries) in [("volumes:\n", volumes), ("secrets:\n", secrets)] {
        if !entries.is_empty() {
            text.push_str(head);
            text.push_str(&entries);
        }
    }
    text
}

/// One service, under its own name: within the file others reach it by that.
fn service(ours: &Ours, ran: &Ran, here: &dyn Fn(&ServiceName) -> bool) -> String {
    let Ran { spec, image, count, environment } = ran;
    let mut lines = Lines::default();
    lines
        .comment(&format!("{} of environment {environment}, image {}", spec.name, image.reference));
    lines.value("image", &image.pinned_reference());
    lines.line("restart: unless-stopped");
    process(spec, &mut lines);
    ports(spec, *count, &mut lines);
    mounts(ours, ran, &mut lines);
    access(spec, &mut lines);
    let needs = spec.depends_on.iter().filter(|name| here(name)).map(|name| quoted(name.as_str()));
    lines.list("depends_on", needs.collect());
    health(spec, &mut lines);
    format!("  {}:\n{}", quoted(spec.name.as_str()), lines.0)
}

fn process(spec: &ServiceSpec, lines: &mut Lines) {
    let container = &spec.container;
    for (key, words) in [("entrypoint", &container.entrypoint), ("command", &container.command)] {
        if let Some(words) = words {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            lines.line(&format!("{key}: [{}]", words.join(", ")));
        }
    }
    for (key, value) in [("user", &container.user), ("working_dir", &container.working_dir)] {
        if let Some(value) = value {
            lines.value(key, value);
        }
    }
    let mut env = container.env.clone();
    env.extend(container.secret_env.keys().map(|key| (key.clone(), String::new())));
    lines.map("environment", &env);
    for (variable, secret) in &container.secret_env {
        lines.comment(&format!("{variable} was the secret {secret}: write its value there"));
    }
    lines.map("labels", &container.labels);
    lines.line(&format!("init: {}", container.init));
    if container.read_only {
        lines.line("read_only: true");
    }
    lines.line(&format!("stop_grace_period: {}ms", spec.stop_grace.0));
    lines.list("cap_drop", container.cap_drop.iter().map(|name| quoted(name)).collect());
    let tmpfs = container.tmpfs.iter().map(|(path, size)| match size {
        Some(size) => quoted(&format!("{path}:size={}", size.0)),
        None => quoted(path),
    });
    lines.list("tmpfs", tmpfs.collect());
    if !container.ulimits.is_empty() {
        lines.line("ulimits:");
        for (name, limit) in &container.ulimits {
            lines.line(&format!(
                "  {}: {{ soft: {}, hard: {} }}",
                quoted(name),
                limit.soft,
                limit.hard
            ));
        }
    }
    if let Some(memory) = spec.resources.limits.memory {
        lines.line(&format!("mem_limit: {}b", memory.0));
    }
    if let Some(cpu) = spec.resources.limits.cpu {
        lines.line(&format!("cpus: {}.{:03}", cpu.0 / 1000, cpu.0 % 1000));
    }
}

fn ports(spec: &ServiceSpec, count: usize, lines: &mut Lines) {
    let open = |port: &Port| {
        let listen = port.listen.as_ref()?;
        let address = listen.address.map_or_else(String::new, |address| match address.is_ipv6() {
            true => format!("[{address}]:"),
            false => format!("{address}:"),
        });
        Some(quoted(&format!("{address}{}:{}", listen.port, port.target)))
    };
    let open: Vec<String> = spec.ports.iter().filter_map(open).collect();
    if count > 1 && open.is_empty() {
        lines.line(&format!("deploy: {{ replicas: {count} }}"));
    }
    if count > 1 && !open.is_empty() {
        lines.comment(&format!(
            "{count} instances ran behind its ports: Compose opens a port for one"
        ));
    }
    lines.list("ports", open);
    for port in spec
        .ports
        .iter()
        .filter(|port| port.listen.as_ref().is_some_and(|listen| listen.port != port.target))
    {
        lines.comment(&format!(
            "services of this file reach it on {} instead of its outer port",
            port.target
        ));
    }
}

fn mounts(ours: &Ours, ran: &Ran, lines: &mut Lines) {
    let read_only = |is: bool| if is { ":ro" } else { "" };
    let spec = &ran.spec;
    let named = spec.volumes.iter().map(|volume| {
        let docker = ours.volume_name(&ran.environment, &spec.name, &volume.name);
        quoted(&format!("{docker}:{}{}", volume.path, read_only(volume.read_only)))
    });
    let paths = spec.host.paths.iter();
    let paths = paths
        .map(|path| quoted(&format!("{}:{}{}", path.host, path.path, read_only(path.read_only))));
    lines.list("volumes", named.chain(paths).collect());
    if !spec.secrets.is_empty() {
        lines.line("secrets:");
        for secret in &spec.secrets {
            let (name, path) = (quoted(secret.name.as_str()), quoted(&secret.path));
            lines.line(&format!(
                "  - {{ source: {name}, target: {path}, mode: 0{:o} }}",
                secret.mode
            ));
        }
    }
}

fn access(spec: &ServiceSpec, lines: &mut Lines) {
    let host = &spec.host;
    if host.privileged {
        lines.line("privileged: true");
    }
    if host.network {
        lines.line("network_mode: host");
    }
    lines.list("cap_add", host.capabilities.iter().map(|name| quoted(name)).collect());
    let device =
        |d: &protocol::spec::Device| quoted(&format!("{}:{}:{}", d.path, d.target, d.permissions));
    lines.list("devices", host.devices.iter().map(device).collect());
}

/// Compose runs a command inside: a probe that is one is kept, the others have no program to run there.
fn health(spec: &ServiceSpec, lines: &mut Lines) {
    let probe = spec.health.liveness.as_ref().or(spec.health.readiness.as_ref());
    let Some(Probe { check, period, timeout, failure_threshold, .. }) = probe else { return };
    match check {
        Check::Exec { command } => {
            let words = std::iter::once("CMD".to_owned()).chain(command.iter().cloned());
            let words: Vec<String> = words.map(|word| quoted(&word)).collect();
            lines.line("healthcheck:");
            lines.line(&format!("  test: [{}]", words.join(", ")));
            lines.line(&format!("  interval: {}ms", period.0));
            lines.line(&format!("  timeout: {}ms", timeout.0));
            lines.line(&format!("  retries: {failure_threshold}"));
        }
        Check::Http { path, port } => {
            lines.comment(&format!(
                "no healthcheck: GET {path} on port {port} was asked from outside"
            ));
        }
        Check::Tcp { port } => {
            lines.comment(&format!(
                "no healthcheck: a connection to port {port} was asked for from outside"
            ));
        }
    }
}

/// Lines of one service.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, text: &str) {
        self.0.push_str("    ");
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn comment(&mut self, text: &str) {
        let plain: String = text.chars().filter(|c| !c.is_control()).collect();
        self.line(&format!("# {plain}"));
    }

    fn value(&mut self, key: &str, value: &str) {
        self.line(&format!("{key}: {}", quoted(value)));
    }

    fn list(&mut self, key: &str, items: Vec<String>) {
        if !items.is_empty() {
            self.line(&format!("{key}:"));
            items.iter().for_each(|item| self.line(&format!("  - {item}")));
        }
    }

    fn map(&mut self, key: &str, map: &BTreeMap<String, String>) {
        if !map.is_empty() {
            self.line(&format!("{key}:"));
            map.iter().for_each(|(key, value)| {
                self.line(&format!("  {}: {}", quoted(key), quoted(value)))
            });
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(&text.replace('$', "$$")).expect("a string serialises")
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::file::parse;

    fn ran(text: &str, count: usize) -> Ran {
        let spec = parse("t.toml", text).unwrap().spec;
        let digest = format!("sha256:{}", "ab".repeat(32));
        let image = Image {
            reference: "r.local/web:v1".into(),
            pin: protocol::release::Pin::Digest(digest.parse().unwrap()),
        };
        Ran { environment: "default".parse().unwrap(), count, image, spec }
    }

    fn ours() -> Ours {
        Ours { fleet: "f1".repeat(16).parse().unwrap(), node: "ab".repeat(16).parse().unwrap() }
    }

    const WEB: &str = r#"
name = "web"
image = "r.local/web:v1"
per_node = 2
depends_on = ["db", "elsewhere"]
env = { GREETING = "costs $5", TOKEN = { secret = "token" } }
command = ["serve", "--all"]
[[ports]]
listen = 80
target = 8080
[health.readiness]
http = { path = "/ready", port = 8080 }
[resources]
limits = { memory = "64Mi", cpu = "1500m" }
[[secrets]]
name = "key"
"#;

    #[test]
    fn what_ran_can_be_run_by_compose() {
        let db = "name = \"db\"\nimage = \"db\"\n[[volumes]]\nname = \"data\"\npath = \"/data\"\n[health.liveness]\nexec = [\"pg_isready\"]\n";
        let text = file(&ours(), &[ran(db, 1), ran(WEB, 2)]);
        for words in [
            "  \"web\":\n",
            "image: \"r.local/web@sha256:abab",
            "\"GREETING\": \"costs $$5\"",
            "\"TOKEN\": \"\"",
            "TOKEN was the secret token",
            "- \"80:8080\"",
            "mem_limit: 67108864b",
            "cpus: 1.500",
            "- \"db\"\n",
            "2 instances ran behind its ports",
            "no healthcheck: GET /ready",
            "test: [\"CMD\", \"pg_isready\"]",
            "{ source: \"key\", target: \"/run/secrets/key\", mode: 0400 }",
            "file: \"./secrets/key\"",
            "\"pith-abababab-db-data:/data\"",
            "  \"pith-abababab-db-data\":\n    external: true",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        assert!(!text.contains("elsewhere"), "{text}");
    }

    #[test]
    fn a_string_stays_one_whatever_is_in_it() {
        assert_eq!(quoted("a\": b\n${HOME}"), "\"a\\\": b\\n$${HOME}\"");
        let text = file(
            &ours(),
            &[ran("name = \"web\"\nimage = \"w\"\nenv = { A = \"x\\n  evil: true\" }\n", 1)],
        );
        assert!(!text.lines().any(|line| line.trim_start().starts_with("evil")), "{text}");
    }
}
