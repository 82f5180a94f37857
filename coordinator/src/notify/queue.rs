//! What a target has not taken yet. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use protocol::id::NodeName;

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

/// Whether the target asked for a notice. What it did not ask for may still end what it waits for: a node that is back was not lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Yes,
    No,
}

/// Of one target.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// Nodes that are gone and may be back before it counts.
    absent: BTreeMap<NodeName, Absent>,
    /// Nodes whose absence counted: that they are back is news.
    lost_nodes: BTreeSet<NodeName>,
    node_lost_after_ms: u64,
    failures: u32,
    again_at_ms: u64,
    lost: u64,
}

#[derive(Debug)]
struct Absent {
    notice: Notice,
    wanted: Wanted,
    due_ms: u64,
}

#[derive(Debug)]
struct Waiting {
    notice: Notice,
    since_ms: u64,
    tries: u32,
}

impl Queue {
    /// Nothing waits. A node that is back within `node_lost_after` was not lost.
    #[must_use]
    pub(super) fn new(node_lost_after: Duration) -> Self {
        let node_lost_after_ms = u64::try_from(node_lost_after.as_millis()).unwrap_or(u64::MAX);
        Self {
            waiting: VecDeque::new(),
            absent: BTreeMap::new(),
            lost_nodes: BTreeSet::new(),
            node_lost_after_ms,
            failures: 0,
            again_at_ms: 0,
            lost: 0,
        }
    }

    /// Adds a notice at `now_ms` of a clock that only goes on.
    pub(super) fn add(&mut self, notice: Notice, wanted: Wanted, now_ms: u64) {
        self.count_absent(now_ms);
        let is_told = match (notice.kind, &notice.node) {
            (NoticeKind::NodeLost, Some(node)) => {
                let due_ms = now_ms.saturating_add(self.node_lost_after_ms);
                let _ = self.absent.insert(node.clone(), Absent { notice, wanted, due_ms });
                return;
            }
            (NoticeKind::NodeBack, Some(node)) => self.is_news_that_back(&node.clone()),
            _ => true,
        };
        if is_told && wanted == Wanted::Yes {
            self.push(notice, now_ms);
        }
    }

    /// Whether anybody could miss it: it was lost, and that may have been told.
    fn is_news_that_back(&mut self, node: &NodeName) -> bool {
        let was_short = self.absent.remove(node).is_some();
        if was_short || !self.lost_nodes.remove(node) {
            return false;
        }
        let untold = |one: &Waiting| {
            let is_its = one.notice.node.as_ref() == Some(node);
            one.notice.kind == NoticeKind::NodeLost && is_its && one.tries == 0
        };
        let before = self.waiting.len();
        self.waiting.retain(|one| !untold(one));
        self.waiting.len() == before
    }

    fn push(&mut self, notice: Notice, now_ms: u64) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.push_back(Waiting { notice, since_ms: now_ms, tries: 0 });
    }

    /// Those that have been gone for long enough are lost.
    fn count_absent(&mut self, now_ms: u64) {
        let due = self.absent.iter().filter(|(_, absent)| absent.due_ms <= now_ms);
        let due: Vec<NodeName> = due.map(|(node, _)| node.clone()).collect();
        for node in due {
            let Some(absent) = self.absent.remove(&node) else { continue };
            let _ = self.lost_nodes.insert(node);
            if absent.wanted == Wanted::Yes {
                self.push(absent.notice, now_ms);
            }
        }
    }

    /// What is to be delivered now, and how many were given up before it; none: nothing is due. What was never tried goes first, then what was
    /// tried least: a message that the target cannot take holds up no other, except of the same node or service, which keep their order.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<(Notice, u64)> {
        self.count_absent(now_ms);
        let before = self.waiting.len();
        self.waiting.retain(|one| now_ms.saturating_sub(one.since_ms) < GIVEN_UP_AFTER_MS);
        self.lost += u64::try_from(before - self.waiting.len()).unwrap_or(0);
        let is_due = |one: &&Waiting| one.tries == 0 || self.again_at_ms <= now_ms;
        let due = self.firsts().into_iter().filter(is_due).min_by_key(|one| one.tries)?;
        Some((due.notice.clone(), self.lost))
    }

    /// The oldest of each subject.
    fn firsts(&self) -> Vec<&Waiting> {
        let mut subjects = BTreeSet::new();
        let mut firsts = Vec::new();
        for one in &self.waiting {
            let Notice { environment, service, node, .. } = &one.notice;
            if subjects.insert((environment, service, node)) {
                firsts.push(one);
            }
        }
        firsts
    }

    /// When to look again; none: when something is added.
    #[must_use]
    pub(super) fn wake_at(&self) -> Option<u64> {
        let firsts = self.firsts();
        let untried = firsts.iter().any(|one| one.tries == 0).then_some(0);
        let again = (!firsts.is_empty()).then_some(self.again_at_ms);
        let counts = self.absent.values().map(|absent| absent.due_ms).min();
        untried.into_iter().chain(again).chain(counts).min()
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
                if let Some(one) = self.waiting.iter_mut().find(|one| one.notice == *notice) {
                    one.tries += 1;
                }
                let pause_ms = PAUSE_LEAST_MS << self.failures.min(16);
                self.failures += 1;
                self.again_at_ms = now_ms.saturating_add(pause_ms.min(PAUSE_MOST_MS));
            }
        }
    }

    /// How many wait to be delivered.
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
        queue.add(notice(NoticeKind::NodeLost, "a", 0), Wanted::Yes, 0);
        queue.add(notice(NoticeKind::NodeLost, "b", 0), Wanted::Yes, 0);
        assert_eq!((queue.next(119_999), queue.wake_at()), (None, Some(120_000)));
        queue.add(notice(NoticeKind::NodeBack, "a", 1), Wanted::Yes, 100_000);
        let (told, _) = queue.next(120_000).unwrap();
        assert_eq!(told.node.as_ref().unwrap().as_str(), "b");
        queue.ended(&told, &Delivered::Yes, 120_000);
        assert_eq!((queue.len(), queue.next(500_000)), (0, None), "of a nothing is told");
        queue.add(notice(NoticeKind::NodeBack, "b", 1), Wanted::Yes, 500_000);
        assert_eq!(queue.next(500_000).unwrap().0.kind, NoticeKind::NodeBack);
    }

    #[test]
    fn what_is_not_taken_is_said_again_ever_more_rarely_and_given_up_after_a_day() {
        let mut queue = Queue::new(Duration::ZERO);
        queue.add(notice(NoticeKind::NodeAlarm, "a", 0), Wanted::Yes, 0);
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
        queue.add(notice(NoticeKind::NodeAlarm, "b", 0), Wanted::Yes, GIVEN_UP_AFTER_MS);
        let (told, lost) = queue.next(GIVEN_UP_AFTER_MS).unwrap();
        assert_eq!((told.node.unwrap().as_str(), lost), ("b", 1), "and it is said that one was");
    }

    #[test]
    fn a_target_that_is_away_holds_a_bounded_number_the_newest() {
        let mut queue = Queue::new(Duration::ZERO);
        for n in 0..300 {
            queue.add(notice(NoticeKind::NodeAlarm, &format!("n-{n}"), n), Wanted::Yes, n);
        }
        assert_eq!(queue.len(), MAX_WAITING);
        let (oldest, lost) = queue.next(300).unwrap();
        assert_eq!((oldest.at_ms, lost), (44, 44));
    }

    #[test]
    fn what_is_refused_for_good_is_not_said_again() {
        let mut queue = Queue::new(Duration::ZERO);
        queue.add(notice(NoticeKind::NodeAlarm, "a", 0), Wanted::Yes, 0);
        let (told, _) = queue.next(0).unwrap();
        queue.ended(&told, &Delivered::Never("404".to_owned()), 0);
        assert_eq!((queue.len(), queue.next(1)), (0, None));
    }

    #[test]
    fn a_node_that_is_back_in_time_is_not_lost_to_those_either_who_do_not_ask_who_is_back() {
        let mut queue = Queue::new(Duration::from_secs(120));
        queue.add(notice(NoticeKind::NodeLost, "a", 0), Wanted::Yes, 0);
        queue.add(notice(NoticeKind::NodeBack, "a", 1), Wanted::No, 60_000);
        assert_eq!((queue.next(600_000), queue.wake_at()), (None, None));
        queue.add(notice(NoticeKind::NodeLost, "a", 2), Wanted::No, 600_000);
        queue.add(notice(NoticeKind::NodeBack, "a", 3), Wanted::Yes, 700_000);
        assert_eq!(queue.next(700_000), None, "nor back, where it was away shortly");
        queue.add(notice(NoticeKind::NodeLost, "a", 4), Wanted::No, 700_000);
        queue.add(notice(NoticeKind::NodeBack, "a", 5), Wanted::Yes, 900_000);
        assert_eq!(queue.next(900_000).unwrap().0.at_ms, 5, "but where it was lost");
    }

    #[test]
    fn a_node_that_was_never_lost_is_not_back() {
        let mut queue = Queue::new(Duration::from_secs(120));
        queue.add(notice(NoticeKind::NodeBack, "new", 0), Wanted::Yes, 0);
        assert_eq!((queue.next(0), queue.len()), (None, 0));
    }

    #[test]
    fn a_loss_that_nobody_heard_of_is_not_told_once_the_node_is_back() {
        let mut queue = Queue::new(Duration::ZERO);
        for node in ["a", "b"] {
            queue.add(notice(NoticeKind::NodeLost, node, 0), Wanted::Yes, 0);
        }
        let (tried, _) = queue.next(1).unwrap();
        assert_eq!(tried.node.as_ref().unwrap().as_str(), "a");
        queue.ended(&tried, &Delivered::Later("no answer".to_owned()), 1);
        for node in ["a", "b"] {
            queue.add(notice(NoticeKind::NodeBack, node, 2), Wanted::Yes, 2);
        }
        // Of a the loss may have been heard: an answer that does not come says nothing. b was not lost to anybody.
        let mut told = Vec::new();
        while let Some((one, _)) = queue.next(10_000) {
            queue.ended(&one, &Delivered::Yes, 10_000);
            told.push((one.kind, one.node.unwrap().to_string()));
        }
        let a = "a".to_owned();
        assert_eq!(told, [(NoticeKind::NodeLost, a.clone()), (NoticeKind::NodeBack, a)]);
    }

    #[test]
    fn nodes_that_may_be_back_push_nothing_out() {
        let mut queue = Queue::new(Duration::from_secs(120));
        queue.add(notice(NoticeKind::NodeAlarm, "first", 0), Wanted::Yes, 0);
        for n in 0..300 {
            queue.add(notice(NoticeKind::NodeLost, &format!("n-{n}"), 0), Wanted::Yes, 0);
        }
        let (told, lost) = queue.next(0).unwrap();
        assert_eq!((told.kind, lost), (NoticeKind::NodeAlarm, 0));
    }

    #[test]
    fn a_message_that_is_not_taken_holds_up_those_of_the_same_node_alone() {
        let mut queue = Queue::new(Duration::ZERO);
        let alarm = |node: &str, at_ms| notice(NoticeKind::NodeAlarm, node, at_ms);
        queue.add(alarm("bad", 0), Wanted::Yes, 0);
        let (bad, _) = queue.next(0).unwrap();
        queue.ended(&bad, &Delivered::Later("503".to_owned()), 0);
        queue.add(alarm("bad", 1), Wanted::Yes, 1);
        queue.add(alarm("good", 2), Wanted::Yes, 1);
        let (good, _) = queue.next(1).unwrap();
        assert_eq!(good.node.as_ref().unwrap().as_str(), "good");
        assert_eq!(queue.wake_at(), Some(0));
        queue.ended(&good, &Delivered::Yes, 1);
        assert_eq!(queue.next(1).unwrap().0.at_ms, 0, "a target that takes one is asked again");
    }
}
