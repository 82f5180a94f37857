//! When the node asks next: for a certificate, and what a stranger in the coordinator's place has to say. Pure: time is an argument.

use std::time::{Duration, Instant};

use protocol::join::LOBBY_INTERVAL_SECS;

/// However often the certificate is refused.
const RENEWAL_PAUSE: Duration = Duration::from_secs(LOBBY_INTERVAL_SECS);
/// However often strangers answer.
const STRANGER_PAUSE: Duration = Duration::from_secs(60);

/// What is to be done, and when.
#[derive(Debug)]
pub(super) struct Agenda {
    look_at: Instant,
    is_refused: bool,
    /// Not before, whoever refuses.
    renew_from: Instant,
    is_foreign: bool,
    /// Not before, whoever answers.
    stranger_from: Instant,
}

/// Why a renewal is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is time to look whether it is due.
    Look,
    /// The certificate was refused: due whatever the clocks say.
    Refused,
}

impl Agenda {
    /// The first look is now.
    pub(super) fn new(now: Instant) -> Self {
        let (is_refused, is_foreign) = (false, false);
        Self { look_at: now, is_refused, renew_from: now, is_foreign, stranger_from: now }
    }

    /// Somebody refused the certificate.
    pub(super) fn refused(&mut self) {
        self.is_refused = true;
    }

    /// What answers is of another CA.
    pub(super) fn foreign(&mut self) {
        self.is_foreign = true;
    }

    /// Looks again after this.
    pub(super) fn look_in(&mut self, pause: Duration, now: Instant) {
        self.look_at = now + pause;
    }

    /// When something is to be done, at the latest.
    pub(super) fn wake_at(&self) -> Instant {
        let refused = self.is_refused.then_some(self.renew_from);
        let foreign = self.is_foreign.then_some(self.stranger_from);
        refused.into_iter().chain(foreign).fold(self.look_at, Instant::min)
    }

    /// Whether a stranger is asked now.
    pub(super) fn take_stranger(&mut self, now: Instant) -> bool {
        if !self.is_foreign || now < self.stranger_from {
            return false;
        }
        self.is_foreign = false;
        self.stranger_from = now + STRANGER_PAUSE;
        true
    }

    /// Whether a renewal is looked at now.
    pub(super) fn take_renewal(&mut self, now: Instant) -> Option<Cause> {
        let is_refused = self.is_refused && now >= self.renew_from;
        if !is_refused && now < self.look_at {
            return None;
        }
        self.is_refused &= !is_refused;
        Some(if is_refused { Cause::Refused } else { Cause::Look })
    }

    /// Somebody is asked for a certificate now.
    pub(super) fn asks(&mut self, now: Instant) {
        self.renew_from = now + RENEWAL_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_certificate_that_is_refused_again_and_again_is_asked_for_every_ten_seconds_at_most() {
        let start = Instant::now();
        let mut agenda = Agenda::new(start);
        assert_eq!(agenda.take_renewal(start), Some(Cause::Look), "at the start");
        agenda.look_in(3_600 * S, start);
        assert_eq!(agenda.wake_at(), start + 3_600 * S);
        let mut asked = Vec::new();
        for second in 1..60 {
            let now = start + second * S;
            agenda.refused();
            if agenda.wake_at() > now {
                continue;
            }
            assert_eq!(agenda.take_renewal(now), Some(Cause::Refused));
            agenda.asks(now);
            asked.push(second);
        }
        assert_eq!(asked, [1, 11, 21, 31, 41, 51]);
        assert_eq!(agenda.wake_at(), start + 61 * S, "the last refusal is not forgotten");
        assert_eq!(agenda.take_renewal(start + 61 * S), Some(Cause::Refused));
        assert_eq!(agenda.take_renewal(start + 61 * S), None);
    }

    #[test]
    fn strangers_are_asked_once_a_minute_at_most_and_only_where_one_answers() {
        let start = Instant::now();
        let mut agenda = Agenda::new(start);
        agenda.look_in(3_600 * S, start);
        assert!(!agenda.take_stranger(start));
        let mut asked = Vec::new();
        for second in 0..180 {
            let now = start + second * S;
            agenda.foreign();
            if agenda.wake_at() <= now && agenda.take_stranger(now) {
                asked.push(second);
            }
        }
        assert_eq!(asked, [0, 60, 120]);
        assert_eq!(agenda.take_renewal(start + 180 * S), None, "that renews nothing");
    }
}
