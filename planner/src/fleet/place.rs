//! Which node runs how many instances. Sticky: what runs somewhere stays there, also while the node is away.

use std::collections::BTreeMap;

use protocol::id::NodeName;
use protocol::spec::{Placement, Scheduling};

/// What is to be placed.
#[derive(Debug, Clone)]
pub struct PlaceRequest<'a> {
    /// The release's own wish.
    pub scheduling: Scheduling,
    /// An operator's count (`pith scale`), which wins over the release's.
    pub count_override: Option<u32>,
    /// Where it may run.
    pub placement: &'a Placement,
    /// At most one instance per node.
    pub exclusive: bool,
}

/// A node as placement looks at it; all of the service's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is heard of.
    pub online: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Instances per node, only nodes with at least one (or, per node, every node that fits).
    pub counts: BTreeMap<NodeName, u32>,
    /// Instances that no node may take: more exclusive ones than nodes.
    pub unplaced: u32,
}

/// No node may run it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no node fits: {0}")]
pub struct NoNodeFits(
    /// What was asked for and what there is.
    pub String,
);

/// Places instances on the nodes that fit.
///
/// # Errors
/// When no node fits at all.
pub fn place(
    request: &PlaceRequest<'_>,
    nodes: &[NodeFacts],
    current: &BTreeMap<NodeName, u32>,
) -> Result<Placed, NoNodeFits> {
    let fitting: Vec<&NodeFacts> =
        nodes.iter().filter(|node| fits(request.placement, node)).collect();
    if fitting.is_empty() {
        return Err(NoNodeFits(wish(request.placement, nodes.len())));
    }
    let per_node_most = if request.exclusive { 1 } else { u32::MAX };
    Ok(match request.scheduling {
        Scheduling::PerNode(count) => {
            let count = request.count_override.unwrap_or(count);
            let on_each = count.min(per_node_most);
            let counts = fitting.iter().map(|node| (node.name.clone(), on_each)).collect();
            Placed { counts, unplaced: 0 }
        }
        Scheduling::Replicas(count) => {
            spread(request.count_override.unwrap_or(count), per_node_most, &fitting, current)
        }
    })
}

fn fits(placement: &Placement, node: &NodeFacts) -> bool {
    let named = placement.names.as_ref().is_none_or(|names| names.contains(&node.name));
    named && placement.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

fn wish(placement: &Placement, nodes: usize) -> String {
    if nodes == 0 {
        return "the environment has no nodes".to_owned();
    }
    if let Some(names) = &placement.names {
        let names: Vec<&str> = names.iter().map(NodeName::as_str).collect();
        return format!("none of the {nodes} nodes is named {}", names.join(" or "));
    }
    let labels: Vec<String> = placement.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    format!("none of the {nodes} nodes carries {}", labels.join(" and "))
}

/// Keeps what is placed, then adds to the emptiest node that is heard of, or takes from the fullest.
fn spread(
    count: u32,
    per_node_most: u32,
    fitting: &[&NodeFacts],
    current: &BTreeMap<NodeName, u32>,
) -> Placed {
    let kept = |node: &&&NodeFacts| {
        let count = current.get(&node.name).copied().unwrap_or(0).min(per_node_most);
        (node.name.clone(), count)
    };
    let mut counts: BTreeMap<NodeName, u32> = fitting.iter().map(|node| kept(&node)).collect();
    let nobody_is_heard_of = fitting.iter().all(|node| !node.online);
    let may_take_more = |name: &NodeName| {
        nobody_is_heard_of || fitting.iter().any(|node| node.name == *name && node.online)
    };
    let mut placed: u32 = counts.values().sum();
    while placed < count {
        let free = counts.iter_mut().filter(|(name, n)| **n < per_node_most && may_take_more(name));
        let Some((_, emptiest)) = free.min_by_key(|(name, n)| (**n, (*name).clone())) else {
            break;
        };
        *emptiest += 1;
        placed += 1;
    }
    while placed > count {
        let taken = counts.iter_mut().filter(|(_, n)| **n > 0);
        let Some((_, fullest)) = taken.max_by_key(|(name, n)| (**n, (*name).clone())) else {
            break;
        };
        *fullest -= 1;
        placed -= 1;
    }
    counts.retain(|_, n| *n > 0);
    Placed { counts, unplaced: count.saturating_sub(placed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[&str]) -> Vec<NodeFacts> {
        let node = |name: &&str| NodeFacts {
            name: name.trim_end_matches('!').parse().unwrap(),
            labels: BTreeMap::from([("zone".to_owned(), name[..1].to_owned())]),
            online: !name.ends_with('!'),
        };
        names.iter().map(node).collect()
    }

    /// `current` and the answer as `a=1 b=2`; a trailing `!` marks a node that is away.
    fn check(count: u32, exclusive: bool, names: &[&str], current: &str, expected: &str) {
        let placement = Placement::default();
        let request = PlaceRequest {
            scheduling: Scheduling::Replicas(count),
            count_override: None,
            placement: &placement,
            exclusive,
        };
        let current = current.split_whitespace().map(|pair| {
            let (name, n) = pair.split_once('=').unwrap();
            (name.parse().unwrap(), n.parse().unwrap())
        });
        let placed = place(&request, &nodes(names), &current.collect()).unwrap();
        let mut text: Vec<String> =
            placed.counts.iter().map(|(name, n)| format!("{name}={n}")).collect();
        if placed.unplaced > 0 {
            text.push(format!("unplaced={}", placed.unplaced));
        }
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn replicas_are_spread_evenly() {
        check(4, false, &["a", "b", "c"], "", "a=2 b=1 c=1");
        check(2, false, &["a", "b", "c"], "", "a=1 b=1");
    }

    #[test]
    fn what_runs_somewhere_stays_there() {
        check(4, false, &["a", "b", "c"], "a=2 b=2", "a=2 b=2");
        check(5, false, &["a", "b", "c"], "a=2 b=2", "a=2 b=2 c=1");
        check(3, false, &["a", "b", "c"], "a=2 b=2", "a=2 b=1");
    }

    #[test]
    fn instances_lost_with_a_node_are_not_moved_and_new_ones_go_elsewhere() {
        check(4, false, &["a", "b!", "c"], "a=1 b=2 c=1", "a=1 b=2 c=1");
        check(5, false, &["a", "b!", "c"], "a=2 b=1 c=1", "a=2 b=1 c=2");
        check(2, false, &["a", "b!", "c"], "", "a=1 c=1");
    }

    #[test]
    fn an_exclusive_service_has_one_instance_per_node_and_says_what_found_none() {
        check(4, true, &["a", "b", "c"], "", "a=1 b=1 c=1 unplaced=1");
    }

    #[test]
    fn a_node_that_does_not_fit_any_more_loses_its_instances() {
        check(2, false, &["a", "b"], "a=1 gone=1", "a=1 b=1");
    }

    #[test]
    fn placement_by_label_and_by_name_chooses_the_nodes() {
        let by = |labels: &[(&str, &str)], names: Option<&[&str]>| {
            let placement = Placement {
                names: names.map(|n| n.iter().map(|n| n.parse().unwrap()).collect()),
                labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            };
            let request = PlaceRequest {
                scheduling: Scheduling::PerNode(1),
                count_override: None,
                placement: &placement,
                exclusive: false,
            };
            place(&request, &nodes(&["a1", "a2", "b1"]), &BTreeMap::new())
                .map(|p| p.counts.keys().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(by(&[("zone", "a")], None).unwrap(), "a1 a2");
        assert_eq!(by(&[], Some(&["b1"])).unwrap(), "b1");
        let error = by(&[("zone", "z")], None).unwrap_err().to_string();
        assert_eq!(error, "no node fits: none of the 3 nodes carries zone=z");
    }
}
