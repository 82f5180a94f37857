//! Which nodes take the next release of the agent: in batches, the next only when the former is confirmed, none after the first that
//! was taken back.

use protocol::id::NodeName;

/// A node that was told and has gone silent holds the batch up for this long; whoever goes back by itself has said so by then.
pub const SILENT_MS: u64 = 60 * 60_000;

/// A node and the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentNode {
    /// Its name.
    pub name: NodeName,
    /// Whether it is heard of.
    pub is_online: bool,
    /// How far it is.
    pub standing: Standing,
}

/// How far a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not told.
    Behind,
    /// Told this long ago, and not done.
    Told {
        /// Milliseconds.
        since_ms: u64,
    },
    /// It runs and is confirmed.
    Confirmed,
    /// It was taken back, or not begun: why.
    Failed(String),
    /// It was taken back or not begun, and an operator went on without it.
    LetGo,
    /// The release has no program for it.
    NotForIt,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// These are told now.
    Tell(Vec<NodeName>),
    /// Those that were told are waited for.
    Wait,
    /// Nobody more is told.
    Stop {
        /// Because of this node.
        node: NodeName,
        /// Which said so.
        why: String,
    },
    /// Everyone that is there has it.
    Done {
        /// Nodes that are not there.
        pending: usize,
    },
}

/// What follows for nodes in this order, `batch` (at least one) at a time.
#[must_use]
pub fn next(nodes: &[AgentNode], batch: usize) -> Next {
    let (mut behind, mut under_way, mut pending) = (Vec::new(), 0, 0);
    for node in nodes {
        match &node.standing {
            Standing::Failed(why) => {
                return Next::Stop { node: node.name.clone(), why: why.clone() };
            }
            Standing::Told { since_ms } if node.is_online || *since_ms < SILENT_MS => {
                under_way += 1
            }
            Standing::Told { .. } => pending += 1,
            Standing::Behind if node.is_online => behind.push(node.name.clone()),
            Standing::Behind => pending += 1,
            Standing::Confirmed | Standing::LetGo | Standing::NotForIt => {}
        }
    }
    if under_way > 0 {
        return Next::Wait;
    }
    behind.truncate(batch.max(1));
    if behind.is_empty() { Next::Done { pending } } else { Next::Tell(behind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1+ 2! 3-`: node 1 confirmed, 2 told, 3 not told; `x` failed, `/` let go, `?` not for it; a lower-case `o` behind it: offline.
    fn nodes(text: &str) -> Vec<AgentNode> {
        let node = |word: &str| {
            let is_online = !word.ends_with('o');
            let word = word.trim_end_matches('o');
            let (name, mark) = word.split_at(word.len() - 1);
            let standing = match mark {
                "+" => Standing::Confirmed,
                "!" => Standing::Told { since_ms: 1 },
                "~" => Standing::Told { since_ms: SILENT_MS },
                "x" => Standing::Failed("it ended".to_owned()),
                "?" => Standing::NotForIt,
                "/" => Standing::LetGo,
                _ => Standing::Behind,
            };
            AgentNode { name: format!("node-{name}").parse().expect("a name"), is_online, standing }
        };
        text.split_whitespace().map(node).collect()
    }

    #[track_caller]
    fn check(text: &str, batch: usize, expected: &str) {
        let shown = match next(&nodes(text), batch) {
            Next::Tell(names) => names
                .iter()
                .map(|name| name.as_str().replace("node-", ""))
                .collect::<Vec<_>>()
                .join(" "),
            Next::Wait => "wait".to_owned(),
            Next::Stop { node, why } => format!("stop {node}: {why}"),
            Next::Done { pending } => format!("done {pending}"),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn nodes_move_in_batches_and_the_next_waits_for_the_former() {
        check("1- 2- 3-", 1, "1");
        check("1- 2- 3-", 2, "1 2");
        check("1- 2- 3-", 0, "1");
        check("1! 2- 3-", 1, "wait");
        check("1+ 2! 3-", 2, "wait");
        check("1+ 2+ 3-", 2, "3");
        check("1+ 2+ 3+", 2, "done 0");
    }

    #[test]
    fn the_first_that_is_taken_back_stops_all_others() {
        check("1+ 2x 3-", 1, "stop node-2: it ended");
        check("1! 2x 3-", 1, "stop node-2: it ended");
    }

    #[test]
    fn whoever_is_away_is_counted_and_waited_for_only_where_it_was_told() {
        check("1-o 2- 3-o", 1, "2");
        check("1-o 2+ 3-o", 1, "done 2");
        check("1!o 2-", 1, "wait");
        check("1~o 2-", 1, "2");
        check("1~ 2-", 1, "wait");
        check("1? 2-", 1, "2");
        check("1? 2+", 1, "done 0");
        check("1/ 2-", 1, "2");
        check("1/ 2+", 1, "done 0");
    }
}
