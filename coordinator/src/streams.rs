//! Who waits for the answers to which command: the loop hands parts over, the API takes them. Bounded by what nodes may say
//! before it is taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::command::{INPUT_WINDOW, Part, WINDOW};
use protocol::id::CommandId;
use tokio::sync::mpsc;

/// Parts of one stream that were not taken: both windows, what is said again of one, the first and the last, and room.
const MAX_PARTS: usize = 2 * WINDOW as usize + 2 * INPUT_WINDOW as usize + 4;

/// All that are waited for.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    open: Arc<Mutex<HashMap<CommandId, mpsc::Sender<Part>>>>,
}

impl Streams {
    /// Waits for a stream until what is returned is dropped.
    #[must_use]
    pub fn open(&self, id: &CommandId) -> mpsc::Receiver<Part> {
        let (sender, parts) = mpsc::channel(MAX_PARTS);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, sender| !sender.is_closed());
        open.insert(id.clone(), sender);
        parts
    }

    /// Hands a part over. One that is too many is lost, and whoever waits sees it by the numbers.
    pub fn deliver(&self, part: Part) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = open.get(&part.stream).is_some_and(mpsc::Sender::is_closed);
        if is_gone {
            open.remove(&part.stream);
        } else if let Some(sender) = open.get(&part.stream) {
            let _ = sender.try_send(part);
        }
    }
}
