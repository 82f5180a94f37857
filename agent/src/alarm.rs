//! Waiting until a moment, for one wakeup. tokio's timers cost one more for each wheel that they come down: a sleep of a second wakes
//! the processor twice, and whoever probes each second is most of what a resting board does.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use planner::Now;
use tokio::net::unix::pipe::Receiver;

use crate::clock;

/// A timer of the kernel's on the clock of [`clock::now`]. Where it gives none (descriptors have run out), tokio's serve.
#[derive(Debug)]
pub struct Alarm {
    timer: Option<Timer>,
    set_to: Cell<Option<Now>>,
}

#[derive(Debug)]
struct Timer {
    timer: TimerFd,
    /// The same timer: it is read as a pipe is (timerfd_create(2)).
    rung: Receiver,
}

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let rung = Receiver::from_owned_fd_unchecked(timer.as_fd().try_clone_to_owned()?)?;
        Ok(Self { timer, rung })
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

impl Alarm {
    /// One that nobody waits for yet.
    #[must_use]
    pub fn new() -> Self {
        let timer =
            Timer::new().inspect_err(|error| tracing::warn!(%error, "no timer of the kernel's"));
        Self { timer: timer.ok(), set_to: Cell::new(None) }
    }

    /// Returns at this moment, at once where it has passed. Cancel-safe: what is dropped wakes nobody wrongly, as the next wait sets its own.
    pub async fn until(&self, at: Now) {
        while clock::now() < at {
            if self.ring(at).await.is_err() {
                tokio::time::sleep(Duration::from_millis(at.since(clock::now()))).await;
            }
        }
    }

    /// Until the timer has rung, which may have been set for another moment before.
    async fn ring(&self, at: Now) -> io::Result<()> {
        let timer = self.timer.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        if self.set_to.get() != Some(at) {
            let moment = Expiration::OneShot(TimeSpec::from_duration(Duration::from_millis(at.0)));
            timer.timer.set(moment, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            self.set_to.set(Some(at));
        }
        loop {
            timer.rung.readable().await?;
            match timer.rung.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    self.set_to.set(None);
                    return read.map(drop);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings_at_its_moment_also_where_it_was_set_for_another_before() {
        let alarm = Alarm::new();
        let far = clock::now().plus(3_600_000);
        let near = clock::now().plus(30);
        tokio::select! {
            biased;
            () = alarm.until(far) => panic!("an hour has not passed"),
            () = tokio::task::yield_now() => {}
        }
        alarm.until(near).await;
        assert!(clock::now() >= near && clock::now() < far);
        alarm.until(near).await;
        let again = clock::now().plus(5);
        alarm.until(again).await;
        assert!(clock::now() >= again);
    }

    #[tokio::test]
    async fn without_a_timer_of_the_kernels_it_rings_too() {
        let alarm = Alarm { timer: None, set_to: Cell::new(None) };
        let at = clock::now().plus(20);
        alarm.until(at).await;
        assert!(clock::now() >= at);
    }
}
