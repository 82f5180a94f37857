//! Power and heat: what makes a board slower than it is.

use protocol::doctor::Finding;

use super::facts::Facts;
use super::{note, ok, problem, unknown, warning};

/// What the firmware of a Raspberry Pi says of power and heat.
pub(crate) const THROTTLED: &str = "/sys/devices/platform/soc/soc:firmware/get_throttled";

pub(super) const FILES: &[&str] = &[
    THROTTLED,
    "/sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq",
    "/sys/devices/system/cpu/cpufreq/policy*/cpuinfo_max_freq",
    "/sys/class/thermal/thermal_zone*/type",
    "/sys/class/thermal/thermal_zone*/temp",
    "/sys/class/thermal/thermal_zone*/trip_point_*_temp",
    "/sys/class/thermal/thermal_zone*/trip_point_*_type",
];

const POWER: &str = "power";
const FREQUENCY: &str = "cpu-frequency";
const HEAT: &str = "temperature";

/// Bits of the firmware's answer (raspberrypi.com, "vcgencmd get_throttled"); 16 bits further up: since the start.
const FLAGS: [(u32, &str); 4] = [
    (0, "under-voltage"),
    (1, "frequency capped"),
    (2, "throttled"),
    (3, "soft temperature limit"),
];
const SINCE_START: u32 = 16;
/// Points from which on the kernel makes a board slower, and at which it switches it off (Documentation/driver-api/thermal/sysfs-api.rst).
const SLOWS: &[&str] = &["passive", "hot"];
const ENDS: &[&str] = &["critical"];
/// Without a trip point of its own a processor of a board is hot from here on, in thousandths of a degree.
const HOT_MILLI: i64 = 80_000;
/// So near to the point at which the kernel switches the board off, in thousandths of a degree.
const NEAR_MILLI: i64 = 5_000;

/// What the firmware said in [`THROTTLED`]; none where that is no such answer.
pub(crate) fn firmware_bits(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// Whether the board is slowed down now, by what the firmware said.
pub(crate) fn is_slowed(bits: u32) -> bool {
    FLAGS.iter().any(|(bit, _)| bits & (1 << bit) != 0)
}

/// From where on the kernel makes the board slower, by the points of a zone, in thousandths of a degree; none: nowhere.
pub(crate) fn slows_from(trips: &[(String, i64)]) -> Option<i64> {
    first(trips, SLOWS)
}

fn first(trips: &[(String, i64)], kinds: &[&str]) -> Option<i64> {
    let of_kind = trips.iter().filter(|(kind, _)| kinds.contains(&kind.as_str()));
    of_kind.map(|(_, milli)| *milli).filter(|milli| *milli > 0).min()
}

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![power(facts), frequency(facts), heat(facts)]
}

fn power(facts: &Facts) -> Finding {
    let Some(text) = facts.text(THROTTLED) else {
        return unknown(POWER, "only the firmware of a Raspberry Pi tells of under-voltage");
    };
    let Some(bits) = firmware_bits(text) else {
        return unknown(POWER, &format!("the firmware says `{text}`"));
    };
    let told = |shift: u32| {
        let set = FLAGS.iter().filter(|(bit, _)| bits & (1 << (bit + shift)) != 0);
        set.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    };
    let (now, before) = (told(0), told(SINCE_START));
    const MEND: &str = "a supply that gives 5.1 V at 3 A over a short cable; without \
        under-voltage: a heat sink or a fan";
    match (now.as_str(), before.as_str()) {
        ("", "") => ok(POWER, "no under-voltage and no throttling since the start"),
        ("", before) => warning(POWER, format!("since the start: {before} (0x{bits:x})"))
            .because(
                "probes and rollouts are slower than the board is, and a card may lose what \
                it writes",
            )
            .mend(MEND),
        (now, _) => problem(POWER, format!("now: {now} (0x{bits:x})"))
            .because("the board runs slower than it is, and may lose what it writes")
            .mend(MEND),
    }
}

fn frequency(facts: &Facts) -> Finding {
    let mut lowered = Vec::new();
    let mut highest = None;
    for (path, allowed) in facts.below("/sys/devices/system/cpu/cpufreq/") {
        let Some(policy) = path.strip_suffix("/scaling_max_freq") else { continue };
        let able = facts.text(&format!("{policy}/cpuinfo_max_freq"));
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let Some((allowed, able)) = number(allowed).zip(able.and_then(number)) else { continue };
        highest = highest.max(Some(able));
        if allowed < able {
            let policy = policy.rsplit('/').next().unwrap_or_default();
            lowered.push(format!("{policy}: {} of {}", megahertz(allowed), megahertz(able)));
        }
    }
    match (lowered.as_slice(), highest) {
        (_, None) => unknown(FREQUENCY, "this kernel has no cpufreq"),
        ([], Some(able)) => ok(FREQUENCY, format!("up to {}", megahertz(able))),
        ([..], Some(_)) => note(FREQUENCY, lowered.join(", "))
            .because("somebody, or the heat, keeps the processor below what it can")
            .mend(
                "see temperature; where it was set on purpose: /etc/default/cpufrequtils, or \
                `cpupower frequency-set -u`",
            ),
    }
}

fn megahertz(kilohertz: u64) -> String {
    format!("{} MHz", kilohertz / 1000)
}

fn heat(facts: &Facts) -> Finding {
    let zones = facts.below("/sys/class/thermal/").filter_map(|(path, text)| {
        let zone = path.strip_suffix("/temp")?;
        Some((zone, text.trim().parse::<i64>().ok()?))
    });
    let Some((zone, milli)) = zones.max_by_key(|(_, milli)| *milli) else {
        return unknown(HEAT, "this kernel has no thermal zone");
    };
    let name = facts.text(&format!("{zone}/type")).unwrap_or("?");
    let trips: Vec<(String, i64)> = facts
        .below(zone)
        .filter(|(path, _)| path[zone.len()..].starts_with('/'))
        .filter_map(|(path, text)| {
            let point = path.strip_suffix("_temp").filter(|path| path.contains("/trip_point_"))?;
            let kind = facts.text(&format!("{point}_type"))?;
            Some((kind.to_owned(), text.trim().parse().ok()?))
        })
        .collect();
    let (hot, critical) = (slows_from(&trips).unwrap_or(HOT_MILLI), first(&trips, ENDS));
    let seen = format!("{} °C ({name})", milli / 1000);
    const MEND: &str = "a heat sink, a fan, or air around the board";
    if critical.is_some_and(|critical| milli >= critical - NEAR_MILLI) {
        let critical = critical.unwrap_or_default() / 1000;
        problem(HEAT, seen)
            .because(format!("at {critical} °C the kernel switches the board off"))
            .mend(MEND)
    } else if milli >= hot {
        warning(HEAT, seen)
            .because(format!("from {} °C on the board makes itself slower", hot / 1000))
            .mend(MEND)
    } else {
        ok(HEAT, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, check_findings};
    use super::*;
    use protocol::doctor::Severity::{Note, Ok as Well, Problem, Unknown, Warning};

    const POLICY: &str = "/sys/devices/system/cpu/cpufreq/policy0";
    const ZONE: &str = "/sys/class/thermal/thermal_zone0";

    #[test]
    fn the_firmware_s_bits_are_read_for_now_and_since_the_start() {
        let check = |text: &str, severity, seen, mend| {
            let facts = Tree::new().file(THROTTLED, text).facts();
            check_findings(&check(&facts)[..1], &[(POWER, severity, seen, mend)]);
        };
        check("0\n", Well, "no under-voltage", "");
        check("50005\n", Problem, "now: under-voltage, throttled (0x50005)", "5.1 V");
        check(
            "0x80000\n",
            Warning,
            "since the start: soft temperature limit (0x80000)",
            "heat sink",
        );
        check("?\n", Unknown, "the firmware says `?`", "");
        check_findings(
            &super::check(&Tree::new().facts())[..1],
            &[(POWER, Unknown, "Raspberry Pi", "")],
        );
    }

    #[test]
    fn a_processor_that_is_kept_slow_is_noted() {
        let of = |allowed: &str| {
            let able = (format!("{POLICY}/cpuinfo_max_freq"), "1512000\n");
            Tree::new().file(&format!("{POLICY}/scaling_max_freq"), allowed).file(&able.0, able.1)
        };
        check_findings(
            &check(&of("1512000\n").facts())[1..2],
            &[(FREQUENCY, Well, "up to 1512 MHz", "")],
        );
        check_findings(
            &check(&of("1200000\n").facts())[1..2],
            &[(FREQUENCY, Note, "policy0: 1200 MHz of 1512 MHz", "cpupower")],
        );
        check_findings(
            &check(&Tree::new().facts())[1..2],
            &[(FREQUENCY, Unknown, "no cpufreq", "")],
        );
    }

    #[test]
    fn heat_is_judged_by_the_zone_s_own_trip_points() {
        let of = |milli: &str| {
            Tree::new()
                .file(&format!("{ZONE}/type"), "cpu-thermal\n")
                .file(&format!("{ZONE}/temp"), milli)
                .file(&format!("{ZONE}/trip_point_0_type"), "passive\n")
                .file(&format!("{ZONE}/trip_point_0_temp"), "75000\n")
                .file(&format!("{ZONE}/trip_point_1_type"), "critical\n")
                .file(&format!("{ZONE}/trip_point_1_temp"), "105000\n")
        };
        check_findings(
            &check(&of("48312\n").facts())[2..],
            &[(HEAT, Well, "48 °C (cpu-thermal)", "")],
        );
        check_findings(&check(&of("77000\n").facts())[2..], &[(HEAT, Warning, "77 °C", "fan")]);
        check_findings(&check(&of("101000\n").facts())[2..], &[(HEAT, Problem, "101 °C", "fan")]);
        let plain = Tree::new().file(&format!("{ZONE}/temp"), "81000\n");
        check_findings(&check(&plain.facts())[2..], &[(HEAT, Warning, "81 °C (?)", "fan")]);
        check_findings(
            &check(&Tree::new().facts())[2..],
            &[(HEAT, Unknown, "no thermal zone", "")],
        );
    }
}
