//! What `logs` and `exec` answer, one document per line.

use protocol::command::{Channel, End};
use protocol::id::NodeName;
use serde::{Deserialize, Serialize};

/// One line of an answer that has no length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamShown {
    /// Something was written.
    Output {
        /// Where.
        node: NodeName,
        /// By which instance.
        instance: String,
        /// On which of the two.
        channel: Channel,
        /// Base64; need not end where a line ends.
        bytes: String,
    },
    /// A node has told all, or why it does not.
    End {
        /// Which.
        node: NodeName,
        /// How.
        end: End,
    },
    /// A node that cannot be reached.
    Away {
        /// Which.
        node: NodeName,
        /// For a person.
        why: String,
    },
    /// Parts did not arrive.
    Lost {
        /// Of which node.
        node: NodeName,
        /// How many.
        parts: u64,
    },
    /// Nothing to say, and still there.
    Alive,
}
