//! Which node runs how many instances. Sticky: what runs somewhere stays there, also while the node is away.

use std::collections::BTreeMap;

use protocol::id::{NodeName, ServiceName};
use protocol::policy::PolicyState;
use protocol::spec::{HostAccess, Placement, Scheduling};

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
    /// Whom a node's policy is asked for.
    pub service: &'a ServiceName,
    /// What it asks of its nodes.
    pub host: &'a HostAccess,
    /// What nodes that would refuse it mean.
    pub refusing: Refusing,
}

/// What a node means whose policy does not allow what a service asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusing {
    /// Where the service runs there, names it, or is to run on every node: nothing is placed at all. Any other is left out.
    Refuse,
    /// It gets nothing new.
    LeaveOut,
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
    /// What it lets containers have of it, as it told last.
    pub policy: PolicyState,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Instances per node, only nodes with at least one (or, per node, every node that fits).
    pub counts: BTreeMap<NodeName, u32>,
    /// Instances that no node may take: more exclusive ones than nodes.
    pub unplaced: u32,
    /// Nodes that would refuse it and were left out, with their reasons.
    pub left_out: BTreeMap<NodeName, String>,
}

/// Nothing was placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unplaceable {
    /// No node may run it.
    #[error(transparent)]
    NoNodeFits(#[from] NoNodeFits),
    /// Nodes would refuse it.
    #[error(transparent)]
    PolicyDenied(#[from] PolicyDenied),
}

/// Nodes that would refuse what is asked of them, with their reasons; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", refusals(.0))]
pub struct PolicyDenied(
    /// By node.
    pub BTreeMap<NodeName, String>,
);

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
/// When no node fits at all, or one that matters would refuse it.
pub fn place(
    request: &PlaceRequest<'_>,
    nodes: &[NodeFacts],
    current: &BTreeMap<NodeName, u32>,
) -> Result<Placed, Unplaceable> {
    let fitting: Vec<&NodeFacts> =
        nodes.iter().filter(|node| fits(request.placement, node)).collect();
    if fitting.is_empty() {
        return Err(NoNodeFits(wish(request.placement, nodes.len())).into());
    }
    let (fitting, left_out) = admitting(request, fitting, current)?;
    let per_node_most = if request.exclusive { 1 } else { u32::MAX };
    Ok(match request.scheduling {
        Scheduling::PerNode(count) => {
            let count = request.count_override.unwrap_or(count);
            let on_each = count.min(per_node_most);
            let counts = fitting.iter().map(|node| (node.name.clone(), on_each)).collect();
            Placed { counts, unplaced: 0, left_out }
        }
        Scheduling::Replicas(count) => {
            let count = request.count_override.unwrap_or(count);
            let placed = spread(count, per_node_most, &fitting, current);
            Placed { left_out, ..placed }
        }
    })
}

fn fits(placement: &Placement, node: &NodeFacts) -> bool {
    let named = placement.names.as_ref().is_none_or(|names| names.contains(&node.name));
    named && placement.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

type Admitting<'a> = (Vec<&'a NodeFacts>, BTreeMap<NodeName, String>);

/// The nodes that would take it, and those that are left out. What runs somewhere stays there: a policy that was narrowed,
/// or a device that is unplugged, moves nothing.
fn admitting<'a>(
    request: &PlaceRequest<'_>,
    fitting: Vec<&'a NodeFacts>,
    current: &BTreeMap<NodeName, u32>,
) -> Result<Admitting<'a>, Unplaceable> {
    let host = request.host;
    let runs = |node: &NodeFacts| current.get(&node.name).is_some_and(|count| *count > 0);
    let refusal = |node: &&NodeFacts| {
        let why = node.policy.refusal(request.service, host)?;
        Some((node.name.clone(), why))
    };
    let refusing: BTreeMap<NodeName, String> = fitting.iter().filter_map(refusal).collect();
    let matters = |node: &NodeFacts| {
        let is_for_every_node = matches!(request.scheduling, Scheduling::PerNode(_));
        runs(node) || is_for_every_node || request.placement.names.is_some()
    };
    let would_refuse = |node: &&NodeFacts| refusing.contains_key(&node.name);
    let is_denied = match request.refusing {
        Refusing::Refuse => fitting.iter().filter(|n| would_refuse(n)).any(|n| matters(n)),
        Refusing::LeaveOut => false,
    };
    if is_denied || refusing.len() == fitting.len() && !fitting.iter().any(|node| runs(node)) {
        return Err(PolicyDenied(refusing).into());
    }
    let takes = |node: &&NodeFacts| runs(node) || !would_refuse(node);
    let admitting: Vec<&NodeFacts> = fitting.into_iter().filter(takes).collect();
    let has = |node: &&NodeFacts| runs(node) || node.policy.missing_device(host).is_none();
    let having: Vec<&NodeFacts> = admitting.iter().copied().filter(has).collect();
    let missing = admitting.iter().find_map(|node| node.policy.missing_device(host));
    if let (true, Some(device)) = (having.is_empty(), missing) {
        let text = format!("none of the {} nodes that would take it has {device}", admitting.len());
        return Err(NoNodeFits(text).into());
    }
    let is_left_out = |name: &NodeName| !having.iter().any(|node| node.name == *name);
    let left_out = refusing.into_iter().filter(|(name, _)| is_left_out(name)).collect();
    Ok((having, left_out))
}

/// As many as fit into a line or two.
fn refusals(nodes: &BTreeMap<NodeName, String>) -> String {
    const SHOWN: usize = 3;
    let shown = nodes.iter().take(SHOWN).map(|(name, why)| format!("{name}: {why}"));
    let text = shown.collect::<Vec<_>>().join("\n");
    match nodes.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}\nand {more} more nodes"),
    }
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
    Placed { counts, unplaced: count.saturating_sub(placed), left_out: BTreeMap::new() }
}

#[cfg(test)]
mod tests;
