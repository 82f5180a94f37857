//! What a target has not taken yet. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use crate::state::notices::{Notice, NoticeKind};

/// Notices that wait for one target; the oldest are given up for newer ones.
const MAX_WAITING: usize = 256;
/// One that could not be delivered for this long is given up: it would tell of yesterday.
const GIVEN_UP_AFTER_MS: u64 = 24 * 60 * 60 * 1000;
const PAUSE_LEAST_MS: u64 = 1_000;
const PAUSE_MOST_MS: u64 = 5 * 60_000;

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivered {
    /// Taken.
    Yes,
    /// Not now: no connection, no answer, or 408, 425, 429 and 5xx.
    Later(String),
    /// Never: every other answer.
    Never(String),
}

/// Of one target.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    node_lost_after_ms: u64,
    failures: u32,
    again_at_ms: u64,
    lost: u64,
}

#[derive(Debug)]
struct Waiting {
    notice: Notice,
    due_ms: u64,
    since_ms: u64,
}

impl Queue {
    /// Nothing waits. A node that is back within `node_lost_after` was not lost.
    #[must_use]
    pub(super) fn new(node_lost_after: Duration) -> Self {
        let node_lost_after_ms = u64::try_from(node_lost_after.as_millis()).unwrap_or(u64::MAX);
        Self { waiting: VecDeque::new(), node_lost_after_ms, failures: 0, again_at_ms: 0, lost: 0 }
    }

    /// Adds a notice at `now_ms` of a clock that only goes on.
    pub(super) fn add(&mut self, notice: Notice, now_ms: u64) {
        let is_back = notice.kind == NoticeKind::NodeBack;
        if is_back {
            let is_its = |waiting: &Waiting| {
                waiting.notice.kind == NoticeKind::NodeLost
                    && waiting.notice.node == notice.node
                    && waiting.due_ms > now_ms
            };
            let before = self.waiting.len();
            self.waiting.retain(|waiting| !is_its(waiting));
            if self.waiting.len() < before {
                // Nobody was told that it was away.
                return;
            }
        }
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
            self.lost += 1;
        }
        let delay_ms =
            if notice.kind == NoticeKind::NodeLost { self.node_lost_after_ms } else { 0 };
        let due_ms = now_ms.saturating_add(delay_ms);
        self.waiting.push_back(Waiting { notice, due_ms, since_ms: now_ms });
    }

    /// What is to be delivered now, and how many were given up before it; none: nothing is due.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<(Notice, u64)> {
        let before = self.waiting.len();
        self.waiting.retain(|one| now_ms.saturating_sub(one.since_ms) < GIVEN_UP_AFTER_MS);
        self.lost += u64::try_from(before - self.waiting.len()).unwrap_or(0);
        if now_ms < self.again_at_ms {
            return None;
        }
        let due = self.waiting.iter().find(|one| one.due_ms <= now_ms)?;
        Some((due.notice.clone(), self.lost))
    }

    /// When to look again; none: when something is added.
    #[must_use]
    pub(super) fn wake_at(&self) -> Option<u64> {
        let due = self.waiting.iter().map(|one| one.due_ms).min()?;
        Some(due.max(self.again_at_ms))
    }

    /// The notice that [`Queue::next`] gave ended so.
    pub(super) fn ended(&mut self, notice: &Notice, how: &Delivered, now_ms: u64) {
        match how {
            Delivered::Yes => {
                self.forget(notice);
                (self.failures, self.again_at_ms, self.lost) = (0, 0, 0);
            }
            Delivered::Never(_) => {
                self.forget(notice);
                self.lost += 1;
            }
            Delivered::Later(_) => {
                let pause_ms = PAUSE_LEAST_MS << self.failures.min(16);
                self.failures += 1;
                self.again_at_ms = now_ms.saturating_add(pause_ms.min(PAUSE_MOST_MS));
            }
        }
    }

    /// How many wait.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn forget(&mut self, notice: &Notice) {
        if let Some(at) = self.waiting.iter().position(|one| one.notice == *notice) {
            self.waiting.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(kind: NoticeKind, node: &str, at_ms: u64) -> Notice {
        Notice {
            kind,
            at_ms,
            environment: None,
            service: None,
            revision: None,
            node: Some(node.parse().unwrap()),
            reason: None,
            message: String::new(),
        }
    }

    #[test]
    fn a_node_that_is_soon_back_was_not_lost_and_one_that_is_not_is_told_once_it_counts() {
        let mut queue = Queue::new(Duration::from_secs(120));
        queue.add(notice(NoticeKind::NodeLost, "a", 0), 0);
        queue.add(notice(NoticeKind::NodeLost, "b", 0), 0);
        assert_eq!((queue.next(119_999), queue.wake_at()), (None, Some(120_000)));
        queue.add(notice(NoticeKind::NodeBack, "a", 1), 100_000);
        let (told, _) = queue.next(120_000).unwrap();
        assert_eq!(told.node.as_ref().unwrap().as_str(), "b");
        queue.ended(&told, &Delivered::Yes, 120_000);
        assert_eq!((queue.len(), queue.next(500_000)), (0, None), "of a nothing is told");
        queue.add(notice(NoticeKind::NodeBack, "b", 1), 500_000);
        assert_eq!(queue.next(500_000).unwrap().0.kind, NoticeKind::NodeBack);
    }

    #[test]
    fn what_is_not_taken_is_said_again_ever_more_rarely_and_given_up_after_a_day() {
        let mut queue = Queue::new(Duration::ZERO);
        queue.add(notice(NoticeKind::NodeAlarm, "a", 0), 0);
        let (mut at, mut pauses) = (0, Vec::new());
        for _ in 0..10 {
            let (told, _) = queue.next(at).unwrap();
            queue.ended(&told, &Delivered::Later("503".to_owned()), at);
            assert_eq!(queue.next(at), None);
            pauses.push((queue.wake_at().unwrap() - at) / 1000);
            at = queue.wake_at().unwrap();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(queue.next(GIVEN_UP_AFTER_MS), None);
        queue.add(notice(NoticeKind::NodeAlarm, "b", 0), GIVEN_UP_AFTER_MS);
        let (told, lost) = queue.next(GIVEN_UP_AFTER_MS).unwrap();
        assert_eq!((told.node.unwrap().as_str(), lost), ("b", 1), "and it is said that one was");
    }

    #[test]
    fn a_target_that_is_away_holds_a_bounded_number_the_newest() {
        let mut queue = Queue::new(Duration::ZERO);
        for n in 0..300 {
            queue.add(notice(NoticeKind::NodeAlarm, &format!("n-{n}"), n), n);
        }
        assert_eq!(queue.len(), MAX_WAITING);
        let (oldest, lost) = queue.next(300).unwrap();
        assert_eq!((oldest.at_ms, lost), (44, 44));
    }

    #[test]
    fn what_is_refused_for_good_is_not_said_again() {
        let mut queue = Queue::new(Duration::ZERO);
        queue.add(notice(NoticeKind::NodeAlarm, "a", 0), 0);
        let (told, _) = queue.next(0).unwrap();
        queue.ended(&told, &Delivered::Never("404".to_owned()), 0);
        assert_eq!((queue.len(), queue.next(1)), (0, None));
    }
}
