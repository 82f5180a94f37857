//! `[[ports]]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use super::problem::Problems;
use super::tree::{Item, Keys, Table};
use crate::id::PortName;
use crate::spec::{Listen, Port, PortProtocol};

/// Ports of one service.
const MAX_PORTS: usize = 32;

const KEYS: Keys = Keys {
    known: &["name", "listen", "target", "protocol", "proxy_protocol"],
    later: &[("tls", "put a front such as Caddy before the service")],
    elsewhere: &[
        ("port", "did you mean `listen` (on the node) or `target` (in the container)?"),
        ("published", "did you mean `listen`?"),
        ("host_port", "did you mean `listen`?"),
        ("container_port", "did you mean `target`?"),
    ],
};

/// The ports, and where each `listen` stands by the port's place in the list.
pub(super) fn read(
    item: Option<&Item<'_>>,
    problems: &mut Problems<'_>,
) -> (Vec<Port>, BTreeMap<usize, Range<usize>>) {
    let (mut ports, mut listens) = (Vec::<Port>::new(), BTreeMap::new());
    let Some(item) = item else { return (ports, listens) };
    let items = item.list("tables, each under `[[ports]]`", problems).unwrap_or_default();
    if items.len() > MAX_PORTS {
        item.invalid(format!("at most {MAX_PORTS} ports"), problems);
        return (ports, listens);
    }
    let only = items.len() == 1;
    for item in &items {
        let Some(table) = item.table(&KEYS, problems) else { continue };
        let Some(port) = read_port(&table, only, problems) else { continue };
        refuse_doubles(&table, &port, &ports, problems);
        if let Some(item) = table.get("listen") {
            listens.insert(ports.len(), item.span.clone());
        }
        ports.push(port);
    }
    (ports, listens)
}

fn refuse_doubles(table: &Table<'_>, port: &Port, before: &[Port], problems: &mut Problems<'_>) {
    for other in before {
        if other.name == port.name {
            let at = table.get("name").map_or(&table.span, |item| &item.span);
            let message = format!("two ports are named `{}`", port.name);
            problems.add(at, &format!("{}.name", table.path), message, "give it another name");
        }
        let (Some(one), Some(two)) = (&other.listen, &port.listen) else { continue };
        if let (true, Some(item)) = (overlap(one, two), table.get("listen")) {
            let message = format!("port {} is used twice", two.port);
            let label = format!("port `{}` listens there already", other.name);
            problems.add(&item.span, &item.path, message, label);
        }
    }
}

/// Whether both would open the same port of a node. An address of all zeros is all addresses.
pub(super) fn overlap(one: &Listen, two: &Listen) -> bool {
    let all = |listen: &Listen| listen.address.is_none_or(|address| address.is_unspecified());
    one.port == two.port && (all(one) || all(two) || one.address == two.address)
}

fn read_port(table: &Table<'_>, only: bool, problems: &mut Problems<'_>) -> Option<Port> {
    let protocol = table
        .get("protocol")
        .map_or(Some(PortProtocol::Http), |item| read_protocol(item, problems));
    let target = match table.get("target") {
        Some(item) => read_number(item, problems),
        None => {
            let message = format!("missing key `{}.target`", table.path);
            let label = "expected the port inside the container, such as `target = 8080`";
            problems.add(&table.span, &format!("{}.target", table.path), message, label);
            None
        }
    };
    let listen = table.get("listen").and_then(|item| read_listen(item, problems));
    let proxy_protocol = table.switch("proxy_protocol", false, problems);
    if let (true, Some(PortProtocol::Http), Some(item)) =
        (proxy_protocol, protocol, table.get("proxy_protocol"))
    {
        item.invalid("only for `protocol = \"tcp\"`", problems).help =
            Some("over http the client's address is in X-Forwarded-For".to_owned());
    }
    let name = match table.get("name") {
        Some(item) => item.parsed::<PortName>(problems),
        None if only => Some(default_name(protocol.unwrap_or(PortProtocol::Http))),
        None => {
            let message = format!("missing key `{}.name`", table.path);
            let label = "each of several ports needs a name";
            problems.add(&table.span, &format!("{}.name", table.path), message, label);
            None
        }
    };
    Some(Port { name: name?, listen, target: target?, protocol: protocol?, proxy_protocol })
}

fn default_name(protocol: PortProtocol) -> PortName {
    let name = match protocol {
        PortProtocol::Http => "http",
        PortProtocol::Tcp => "tcp",
    };
    name.parse().expect("a protocol's name is a label")
}

fn read_protocol(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<PortProtocol> {
    if item.as_text() == Some("udp") {
        item.later("`udp`", "only `http` and `tcp` pass the proxy yet", problems);
        return None;
    }
    match item.word(&["http", "tcp"], problems)? {
        "tcp" => Some(PortProtocol::Tcp),
        _ => Some(PortProtocol::Http),
    }
}

/// A port number from 1.
pub(super) fn read_number(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<u16> {
    let number = item.number(1..=u32::from(u16::MAX), problems)?;
    u16::try_from(number).ok()
}

fn read_listen(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Listen> {
    let Some(text) = item.as_text() else {
        if item.as_integer().is_some() {
            return read_number(item, problems).map(|port| Listen { address: None, port });
        }
        item.wrong_type("a port number or a string such as \"127.0.0.1:5000\"", problems);
        return None;
    };
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => {
            Some(Listen { address: Some(address.ip()), port: address.port() })
        }
        Ok(_) | Err(_) => {
            let label = "expected a port such as 5000, or an address and a port such as \
                         \"127.0.0.1:5000\" or \"[::1]:5000\"";
            item.invalid(label, problems);
            None
        }
    }
}
