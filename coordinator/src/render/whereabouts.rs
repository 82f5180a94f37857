//! Where nodes look for the coordinator, and who of them has learned it.

use super::table::table;
use crate::state::shown::{AddressesShown, NodeLearned};

/// What follows once every node has learned it.
pub const NEXT: &str = "next: `pith backup FILE`, stop this coordinator and keep it off, `pith restore FILE --root-key KEY` on the \
                        new machine, `pith serve` there; the nodes come over by themselves (docs/backup.md)";

/// `pith coordinator addresses`
#[must_use]
pub fn addresses(shown: &AddressesShown) -> String {
    if shown.addresses.is_empty() {
        return "nodes look for the coordinator where they joined; `pith coordinator move HOST:PORT` tells them of another \
                address beside that\n"
            .to_owned();
    }
    let mut text = format!("nodes are told to look at {}", shown.addresses.join(", then "));
    if !shown.forgotten.is_empty() {
        text.push_str(&format!(", and no more at {}", shown.forgotten.join(", ")));
    }
    text.push_str(&format!("; {}\n", count(shown)));
    if shown.nodes.is_empty() {
        return text;
    }
    let mut rows = vec![["NODE", "LEARNED", "LOOKS AT"].map(str::to_owned)];
    for node in &shown.nodes {
        rows.push([node.node.clone(), learned(node).to_owned(), looks_at(node)]);
    }
    text.push_str(&table(&rows));
    for (node, broker) in shown.nodes.iter().filter_map(|one| Some((one, one.broker.as_ref()?))) {
        text.push_str(&format!(
            "{} connects to {broker} alone, as [broker] in its agent.toml says: where that is this coordinator, change it there\n",
            node.node
        ));
    }
    let silent = shown.nodes.iter().filter(|node| !node.heard).map(|node| node.node.as_str());
    let silent: Vec<&str> = silent.collect();
    if !silent.is_empty() {
        text.push_str(&format!(
            "not heard since this coordinator's start: {}\n",
            silent.join(", ")
        ));
    }
    text
}

/// While it is waited for.
#[must_use]
pub fn lines(shown: &AddressesShown) -> Vec<String> {
    let waiting: Vec<&str> = shown.waiting().map(|node| node.node.as_str()).collect();
    let mut line = count(shown);
    if !waiting.is_empty() {
        line.push_str(&format!("; waiting for {}", waiting.join(", ")));
    }
    vec![line]
}

/// Who has not learned it, and what becomes of them.
#[must_use]
pub fn missing(shown: &AddressesShown) -> String {
    let names = |online: bool| {
        let of_it = shown.missing().filter(|node| node.online == online);
        of_it.map(|node| node.node.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (online, offline) = (names(true), names(false));
    let mut parts = Vec::new();
    if !offline.is_empty() {
        parts.push(format!(
            "offline: {offline}; they learn it once they are back here. After the move they look at the old address alone: keep it \
             reachable for them, or `pith-agent join TOKEN --again` there"
        ));
    }
    if !online.is_empty() {
        parts.push(format!(
            "online, and silent about it: {online}; is their pith-agent older than this pith?"
        ));
    }
    format!("not learned by every node. {}", parts.join(". "))
}

fn count(shown: &AddressesShown) -> String {
    let learned = shown.nodes.iter().filter(|node| node.learned).count();
    format!("{learned} of {} nodes have learned it", shown.nodes.len())
}

const fn learned(node: &NodeLearned) -> &'static str {
    match (node.learned, node.online) {
        (true, _) => "yes",
        (false, true) => "not yet",
        (false, false) => "not yet, offline",
    }
}

fn looks_at(node: &NodeLearned) -> String {
    match (&node.broker, &node.knows[..]) {
        (Some(broker), _) => broker.clone(),
        (None, []) => "where it joined".to_owned(),
        (None, knows) => knows.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, online: bool, learned: bool, broker: Option<&str>) -> NodeLearned {
        let knows = if learned { vec!["b:2".to_owned(), "a:1".to_owned()] } else { Vec::new() };
        NodeLearned {
            id: "00000000000000000000000000000001".parse().unwrap(),
            node: name.to_owned(),
            online,
            heard: online,
            learned,
            knows,
            broker: broker.map(str::to_owned),
        }
    }

    #[test]
    fn it_says_who_has_learned_what_and_what_is_to_be_done_about_the_others() {
        let nodes = vec![
            node("one", true, true, None),
            node("two", true, true, Some("a:1")),
            node("three", true, false, None),
            node("four", false, false, None),
        ];
        let addresses = vec!["b:2".to_owned()];
        let shown = AddressesShown { version: 1, addresses, forgotten: Vec::new(), nodes };
        let text = super::addresses(&shown);
        assert_eq!(
            text,
            "nodes are told to look at b:2; 2 of 4 nodes have learned it\n\
             NODE   LEARNED           LOOKS AT\n\
             one    yes               b:2 a:1\n\
             two    yes               a:1\n\
             three  not yet           where it joined\n\
             four   not yet, offline  where it joined\n\
             two connects to a:1 alone, as [broker] in its agent.toml says: where that is this coordinator, change it there\n\
             not heard since this coordinator's start: four\n"
        );
        assert_eq!(lines(&shown), ["2 of 4 nodes have learned it; waiting for three"]);
        let missing = missing(&shown);
        assert!(missing.contains("offline: four;") && missing.contains("about it: three;"));
        let none = AddressesShown { addresses: Vec::new(), ..shown };
        assert!(super::addresses(&none).contains("where they joined"));
    }
}
