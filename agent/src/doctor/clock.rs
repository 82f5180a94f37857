//! The board's clock: behind what somebody signed, kept by nobody, or lost with each power cut.

use protocol::doctor::Finding;

use super::facts::{Facts, Ran};
use super::{note, ok, problem, unknown, warning};

const CLOCK: &str = "clock";
const SYNC: &str = "time-sync";
const RTC: &str = "rtc";

const TIMEDATECTL: &str = "timedatectl show";
/// systemd-timesyncd touches it whenever it has synchronised (systemd-timesyncd.service(8)).
const TIMESYNCD: &str = "/run/systemd/timesync/synchronized";
/// Process ids of daemons that keep the time.
const DAEMONS: [(&str, &str); 4] = [
    ("/run/chrony/chronyd.pid", "chrony"),
    ("/run/chronyd.pid", "chrony"),
    ("/run/ntpd.pid", "ntpd"),
    ("/run/openntpd.pid", "openntpd"),
];

pub(super) const FILES: &[&str] = &[
    TIMESYNCD,
    DAEMONS[0].0,
    DAEMONS[1].0,
    DAEMONS[2].0,
    DAEMONS[3].0,
    "/lib/systemd/system/systemd-timesyncd.service",
    "/sys/class/rtc/rtc*/name",
];
pub(super) const PROGRAMS: &[&str] = &[TIMEDATECTL];

/// A clock that is so far behind fails certificates that were made today.
const FAR_BEHIND_S: u64 = 3_600;
/// Two clocks are never quite the same.
const BEHIND_S: u64 = 120;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![clock(facts), sync(facts), rtc(facts)]
}

fn clock(facts: &Facts) -> Finding {
    let behind_s = facts.floor_s.saturating_sub(facts.unix_s);
    let mend = format!("`date -s @{}`, and see time-sync", facts.floor_s);
    let seen = format!("{} behind the newest time that somebody signed", for_people(behind_s));
    match behind_s {
        0..BEHIND_S => ok(CLOCK, "not behind the newest time that somebody signed"),
        BEHIND_S..FAR_BEHIND_S => warning(CLOCK, seen)
            .because("the agent goes by the signed time; logs and dockerd go by the clock")
            .mend(mend),
        _ => problem(CLOCK, seen)
            .because(
                "dockerd takes the certificates of registries for not valid yet: pulls fail; \
                the agent itself goes by the signed time",
            )
            .mend(mend),
    }
}

fn sync(facts: &Facts) -> Finding {
    let daemon = DAEMONS.iter().find(|(path, _)| facts.files.contains_key(*path));
    let by = match daemon {
        Some((_, name)) => *name,
        None if facts.files.contains_key(TIMESYNCD) => "systemd-timesyncd",
        None => "the system",
    };
    let says = |key: &str| {
        let text = facts.printed(TIMEDATECTL)?;
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value == "yes")
    };
    const WHY: &str =
        "it drifts, or starts in the past after a power cut, until pulls and logs are wrong";
    const SERVERS: &str = "`timedatectl timesync-status`; where no server is reached, \
        `NTP=ADDRESS` in /etc/systemd/timesyncd.conf, then `systemctl restart \
        systemd-timesyncd`";
    match (says("NTPSynchronized"), says("NTP")) {
        (Some(true), _) => ok(SYNC, format!("synchronised, by {by}")),
        (Some(false), Some(false)) if daemon.is_none() => {
            warning(SYNC, "nobody keeps the clock").because(WHY).mend(begin(facts))
        }
        (Some(false), _) => warning(SYNC, format!("not synchronised since the start, by {by}"))
            .because(WHY)
            .mend(SERVERS),
        (None, _) if facts.files.contains_key(TIMESYNCD) => {
            ok(SYNC, "synchronised, by systemd-timesyncd")
        }
        (None, _) if daemon.is_some() => unknown(
            SYNC,
            &format!("{by} runs, and timedatectl does not say whether it has synchronised"),
        )
        .mend("`chronyc tracking` or `ntpq -p`"),
        (None, _) => {
            let why = match facts.programs.get(TIMEDATECTL) {
                Some(Ran::Failed(why)) if !why.is_empty() => format!("timedatectl: {why}"),
                Some(Ran::Failed(_) | Ran::Printed(_) | Ran::Missing) | None => {
                    "timedatectl does not say".to_owned()
                }
            };
            unknown(SYNC, &why).mend(begin(facts))
        }
    }
}

fn begin(facts: &Facts) -> String {
    match facts.files.contains_key("/lib/systemd/system/systemd-timesyncd.service") {
        true => "`timedatectl set-ntp true`".to_owned(),
        false => "`apt-get install systemd-timesyncd` and `timedatectl set-ntp true`".to_owned(),
    }
}

fn rtc(facts: &Facts) -> Finding {
    let found = facts.below("/sys/class/rtc/").next();
    match found {
        Some((_, name)) => ok(RTC, name.trim()),
        None => note(RTC, "none: the clock stands still without power").because(
            "after a power cut it says an old time until it is synchronised; what runs \
                starts all the same",
        ),
    }
}

/// `12 s`, `4 min`, `3 h`, `20423 d`.
fn for_people(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3_600 => format!("{} min", secs / 60),
        3_600..86_400 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, check_findings};
    use super::*;
    use protocol::doctor::Severity::{self, Note, Ok as Well, Problem, Unknown, Warning};

    const SYNCED: &str = "Timezone=Etc/UTC\nLocalRTC=no\nCanNTP=yes\nNTP=yes\nNTPSynchronized=yes\nTimeUSec=Wed \
        2026-11-25 22:46:07 UTC\n";

    fn saying(from: &str, to: &str) -> Tree {
        Tree::new().prints(TIMEDATECTL, &SYNCED.replace(from, to))
    }

    #[track_caller]
    fn check_sync(tree: &Tree, severity: Severity, seen: &str, mend: &str) {
        check_findings(&check(&tree.facts())[1..2], &[(SYNC, severity, seen, mend)]);
    }

    #[test]
    fn a_clock_that_is_kept_is_ok() {
        let tree = saying("", "")
            .file(TIMESYNCD, "")
            .file("/sys/class/rtc/rtc0/name", "rtc-ds1307 0-0068\n");
        check_findings(
            &check(&tree.facts()),
            &[
                (CLOCK, Well, "not behind", ""),
                (SYNC, Well, "by systemd-timesyncd", ""),
                (RTC, Well, "rtc-ds1307", ""),
            ],
        );
    }

    #[test]
    fn a_clock_of_1970_is_a_problem_and_a_few_minutes_a_warning() {
        let mut facts = Tree::new().facts();
        facts.unix_s = 86_400;
        check_findings(
            &check(&facts)[..1],
            &[(CLOCK, Problem, "20780 d behind", "date -s @1795500000")],
        );
        facts.unix_s = facts.floor_s - 600;
        check_findings(&check(&facts)[..1], &[(CLOCK, Warning, "10 min behind", "date -s @")]);
    }

    #[test]
    fn who_keeps_the_clock_is_found_or_said_to_be_unknown() {
        let not = "NTPSynchronized=no";
        check_sync(&saying("NTPSynchronized=yes", not), Warning, "not synchronised", "NTP=ADDRESS");
        let nobody = Tree::new().prints(TIMEDATECTL, "NTP=no\nNTPSynchronized=no\n");
        check_sync(&nobody, Warning, "nobody keeps the clock", "apt-get install systemd-timesyncd");
        let nobody = nobody.file("/lib/systemd/system/systemd-timesyncd.service", "[Unit]\n");
        check_sync(&nobody, Warning, "nobody keeps the clock", "`timedatectl set-ntp true`");
        check_sync(&saying("", "").file(DAEMONS[0].0, "812\n"), Well, "by chrony", "");
        check_sync(&Tree::new().file(DAEMONS[0].0, "812\n"), Unknown, "chrony runs", "chronyc");
        check_sync(&Tree::new().file(TIMESYNCD, ""), Well, "systemd-timesyncd", "");
        let failed = Ran::Failed("Failed to connect to bus: Host is down".to_owned());
        check_sync(&Tree::new().program(TIMEDATECTL, failed), Unknown, "Host is down", "set-ntp");
    }

    #[test]
    fn a_board_without_a_hardware_clock_is_told_so() {
        check_findings(
            &check(&Tree::new().facts())[2..],
            &[(RTC, Note, "stands still without power", "")],
        );
    }
}
