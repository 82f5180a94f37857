//! Who of root's waits for which answer.

use std::collections::BTreeMap;

use mqtt::VerifyAt;
use tokio::sync::oneshot;

use super::Answer;
use super::socket::Call;
use crate::clock;
use crate::event_loop::Asked;

/// Those who wait, by number.
#[derive(Debug)]
pub(crate) struct Calls {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    floor: VerifyAt,
}

impl Calls {
    pub(crate) fn new(floor: VerifyAt) -> Self {
        Self { last: 0, waiting: BTreeMap::new(), floor }
    }

    /// The newest time that somebody signed, seconds since 1970.
    pub(crate) fn floor_s(&self) -> u64 {
        self.floor.unix_s()
    }

    /// Remembers who asks.
    pub(crate) fn take(&mut self, call: Call, unix_ms: u64) -> Asked {
        self.waiting.retain(|_, answer| !answer.is_closed());
        self.last += 1;
        let Call { request, by, answer } = call;
        self.waiting.insert(self.last, answer);
        let at_s = clock::not_before(&self.floor, unix_ms / 1_000);
        Asked { number: self.last, request, by, at_s }
    }

    /// Whoever has gone meanwhile hears nothing.
    pub(crate) fn answer(&mut self, number: u64, answer: Answer) {
        if let Some(waiting) = self.waiting.remove(&number) {
            let _ = waiting.send(answer);
        }
    }
}
