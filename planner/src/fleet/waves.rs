//! The order in which nodes move: groups of nodes, one after another.

use std::collections::BTreeMap;

use protocol::id::NodeName;
use protocol::spec::{Batch, CanaryNodes, Hold, RolloutPolicy, Share};

/// Nodes that move together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// Which, in their order.
    pub nodes: Vec<NodeName>,
    /// How many of them at once.
    pub at_once: usize,
    /// What the next wave waits for, besides this one's success.
    pub gate: Option<Hold>,
}

/// A node as it is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// The waves of a rollout over `nodes`, in their order: first `canaries`, then the policy's batches, then the rest
/// `batch` at once. Every node is in exactly one.
#[must_use]
pub fn waves(nodes: &[Member], canaries: &[NodeName], policy: &RolloutPolicy) -> Vec<Wave> {
    let mut left: Vec<&Member> = nodes.iter().collect();
    let mut waves = Vec::new();
    let mut take = |left: &mut Vec<&Member>, chosen: Vec<NodeName>, gate| {
        left.retain(|member| !chosen.contains(&member.name));
        let at_once = chosen.len();
        if at_once > 0 {
            waves.push(Wave { nodes: chosen, at_once, gate });
        }
    };
    let first = left.iter().map(|m| m.name.clone()).filter(|name| canaries.contains(name));
    let first = first.collect();
    take(&mut left, first, None);
    for batch in &policy.batches {
        let fitting: Vec<NodeName> =
            left.iter().filter(|m| fits(batch, m)).map(|m| m.name.clone()).collect();
        let most = at_least_one(batch.limit, fitting.len());
        take(&mut left, fitting.into_iter().take(most).collect(), batch.gate);
    }
    if !left.is_empty() {
        let at_once = at_least_one(policy.batch, nodes.len());
        let nodes = left.into_iter().map(|member| member.name.clone()).collect();
        waves.push(Wave { nodes, at_once, gate: None });
    }
    waves
}

/// The nodes that take a canary, of those that run the service.
#[must_use]
pub fn canaries(nodes: &[Member], wish: &CanaryNodes) -> Vec<NodeName> {
    let has = |member: &Member, labels: &BTreeMap<String, String>| {
        labels.iter().all(|(key, value)| member.labels.get(key) == Some(value))
    };
    let names = nodes.iter().filter(|member| match wish {
        CanaryNodes::Some(_) => true,
        CanaryNodes::Labels(labels) => has(member, labels),
        CanaryNodes::Names(names) => names.contains(&member.name),
    });
    let most = match wish {
        CanaryNodes::Some(share) => at_least_one(*share, nodes.len()),
        CanaryNodes::Labels(_) | CanaryNodes::Names(_) => usize::MAX,
    };
    names.map(|member| member.name.clone()).take(most).collect()
}

/// Instances of a candidate on a node that has `count`: as many as its share of the requests needs, at least one.
#[must_use]
pub fn candidate_count(count: u32, share: u32) -> u32 {
    let needed = (u64::from(count) * u64::from(share)).div_ceil(10_000);
    u32::try_from(needed).unwrap_or(count).clamp(count.min(1), count)
}

fn fits(batch: &Batch, member: &Member) -> bool {
    let named = batch.names.as_ref().is_none_or(|names| names.contains(&member.name));
    named && batch.labels.iter().all(|(key, value)| member.labels.get(key) == Some(value))
}

fn at_least_one(share: Share, count: usize) -> usize {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    share.floor_of(count).max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(names: &str) -> Vec<Member> {
        let member = |name: &str| Member {
            name: name.parse().unwrap(),
            labels: BTreeMap::from([("zone".to_owned(), name[..1].to_owned())]),
        };
        names.split_whitespace().map(member).collect()
    }

    fn policy(batches: Vec<Batch>) -> RolloutPolicy {
        let file = protocol::file::parse("web", "name = \"web\"\nimage = \"web\"\n").unwrap();
        RolloutPolicy { batches, batch: Share::Count(2), ..file.spec.rollout }
    }

    fn zone(value: &str, limit: Share) -> Batch {
        let labels = BTreeMap::from([("zone".to_owned(), value.to_owned())]);
        Batch { labels, names: None, limit, gate: Some(Hold::Manual) }
    }

    /// `a1 a2 / b1`, `+` before what moves two at once.
    fn told(waves: &[Wave]) -> String {
        let wave = |wave: &Wave| {
            let names: Vec<&str> = wave.nodes.iter().map(NodeName::as_str).collect();
            let gate = if wave.gate.is_some() { " gate" } else { "" };
            format!("{} x{}{gate}", names.join(" "), wave.at_once)
        };
        waves.iter().map(wave).collect::<Vec<_>>().join(" / ")
    }

    #[test]
    fn canaries_move_first_then_each_batch_then_the_rest() {
        let nodes = members("a1 a2 a3 a4 b1 b2 c1");
        let batches = vec![zone("b", Share::Percent(100)), zone("a", Share::Percent(50))];
        let canaries = ["a2".parse().unwrap()];
        let waves = waves(&nodes, &canaries, &policy(batches));
        assert_eq!(told(&waves), "a2 x1 / b1 b2 x2 gate / a1 x1 gate / a3 a4 c1 x2");
    }

    #[test]
    fn canary_nodes_are_so_many_or_those_of_a_label_or_those_named() {
        let nodes = members("a1 a2 b1 b2");
        let names = |wish| {
            let chosen = canaries(&nodes, &wish);
            chosen.iter().map(NodeName::as_str).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(CanaryNodes::Some(Share::Count(1))), "a1");
        assert_eq!(names(CanaryNodes::Some(Share::Percent(50))), "a1 a2");
        let labels = BTreeMap::from([("zone".to_owned(), "b".to_owned())]);
        assert_eq!(names(CanaryNodes::Labels(labels)), "b1 b2");
        assert_eq!(names(CanaryNodes::Names(["b2".parse().unwrap()].into())), "b2");
    }

    #[test]
    fn a_candidate_has_the_instances_that_its_share_needs() {
        let cases = [(4, 1_000, 1), (4, 5_000, 2), (4, 5_100, 3), (4, 10_000, 4), (1, 100, 1)];
        for (count, share, expected) in cases {
            assert_eq!(candidate_count(count, share), expected, "{count} at {share}");
        }
        assert_eq!(candidate_count(0, 1_000), 0);
    }
}
