//! Room, wear and swap: what a card has left.

use protocol::doctor::Finding;

use super::facts::{Facts, Volume};
use super::{note, ok, problem, unknown, warning};

const MOUNTS: &str = "/proc/self/mountinfo";
const SWAPS: &str = "/proc/swaps";
const MEMINFO: &str = "/proc/meminfo";

pub(super) const FILES: &[&str] = &[
    MOUNTS,
    "/sys/fs/ext4/*/errors_count",
    SWAPS,
    MEMINFO,
    "/sys/block/mmcblk*/device/type",
    "/sys/block/mmcblk*/device/name",
    "/sys/block/mmcblk*/device/life_time",
    "/sys/block/mmcblk*/device/pre_eol_info",
];

const SPACE: &str = "disk-space";
const WRITABLE: &str = "read-only";
const WEAR: &str = "card-wear";
const SWAP: &str = "swap";

/// From here on the agent removes images that nothing needs.
const TIGHT_PERCENT: u64 = 70;
const NEARLY_FULL_PERCENT: u64 = 85;
const FULL_PERCENT: u64 = 95;
/// The ledger and an image's layer find no room below it.
const LEAST_FREE_BYTES: u64 = 64 << 20;
/// A board of less memory is better off with compressed swap.
const SMALL_KIB: u64 = 1 << 20;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = facts.volumes.iter().map(space).collect();
    found.extend(writable(facts));
    found.extend(wear(facts));
    found.push(swap(facts));
    found
}

fn space(volume: &Volume) -> Finding {
    let Volume { what, path, total_bytes, free_bytes, inodes, free_inodes } = volume;
    let percent = |free: u64, all: u64| (all - free.min(all)) * 100 / all.max(1);
    let of_inodes = percent(*free_inodes, *inodes);
    let used = percent(*free_bytes, *total_bytes).max(of_inodes);
    let inodes_told =
        if *inodes > 0 { format!(", {of_inodes} % of inodes used") } else { String::new() };
    let seen = format!(
        "{what} ({path}): {} of {} free{inodes_told}",
        for_people(*free_bytes),
        for_people(*total_bytes)
    );
    const MEND: &str = "`docker system df` and `du -xh / | sort -h | tail -20` say what takes it; \
        the agent removes by itself what no service needs";
    if used >= FULL_PERCENT || *free_bytes < LEAST_FREE_BYTES {
        problem(SPACE, seen)
            .because("images cannot be pulled and the ledger cannot be written: nothing moves")
            .mend(MEND)
    } else if used >= NEARLY_FULL_PERCENT {
        warning(SPACE, seen).because("the next release may find no room").mend(MEND)
    } else if used >= TIGHT_PERCENT {
        note(SPACE, seen).because(
            "images that nothing needs are removed from 70 % on: an undo to \
            an old revision then pulls again",
        )
    } else {
        ok(SPACE, seen)
    }
}

fn for_people(bytes: u64) -> String {
    match bytes >> 20 {
        mib @ 0..10_240 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib >> 10),
    }
}

/// Whether a file system itself is read-only. How it is mounted here says nothing: the agent's unit mounts everything so.
fn writable(facts: &Facts) -> Option<Finding> {
    let Ok(mounts) = facts.file(MOUNTS) else {
        return Some(unknown(WRITABLE, "/proc/self/mountinfo"));
    };
    let mut ill = Vec::new();
    for volume in &facts.volumes {
        let of_it = mounts.lines().filter_map(|line| mount(line, &volume.path));
        let Some((_, way, device)) = of_it.max_by_key(|(point, ..)| point.len()) else { continue };
        let place = format!("{} ({}) on {device}", volume.what, volume.path);
        match (way, errors(facts, device)) {
            ("ro", _) => ill.push(place),
            (_, Some(errors)) => ill.push(format!(
                "{place}, with {errors} errors since its last check: it may take no writes until the board is started again"
            )),
            (_, None) => {}
        }
    }
    if facts.volumes.is_empty() {
        return None;
    }
    if ill.is_empty() {
        return Some(ok(WRITABLE, "no file system that is needed"));
    }
    Some(
        problem(WRITABLE, ill.join(", "))
            .because(
                "nothing can be written: no manifest is accepted, no image pulled; a kernel \
                does it to a card that fails",
            )
            .mend(
                "`dmesg | grep -i 'mmc\\|ext4\\|remount'` says why; save what is on the card \
                and replace it; a boot with `fsck.mode=force` on the kernel's line checks it; or `mount -o remount,rw /` where it was done on purpose",
            ),
    )
}

/// `36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/root rw,errors=continue` (proc(5)): point, `ro` or `rw` of the file system, device.
/// Errors that ext4 has counted since it was last checked; none: none, or another file system. With `errors=remount-ro` it takes no
/// writes after the first, and kernels from 6.1.113 on do not call it read-only then (Documentation/ABI/testing/sysfs-fs-ext4).
fn errors(facts: &Facts, device: &str) -> Option<u64> {
    let name = device.rsplit('/').next()?;
    let count = facts.text(&format!("/sys/fs/ext4/{name}/errors_count"))?.parse().ok()?;
    (count > 0).then_some(count)
}

fn mount<'a>(line: &'a str, path: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let (mount, system) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4)?;
    let is_above = point == "/" || path == point || path.strip_prefix(point)?.starts_with('/');
    let mut system = system.split(' ').skip(1);
    let (device, options) = (system.next()?, system.next()?);
    let way = if options.split(',').any(|option| option == "ro") { "ro" } else { "rw" };
    is_above.then_some((point, way, device))
}

fn wear(facts: &Facts) -> Vec<Finding> {
    let devices =
        facts.below("/sys/block/mmcblk").filter(|(path, _)| path.ends_with("/device/type"));
    devices
        .map(|(path, kind)| card(facts, path.trim_end_matches("/device/type"), kind.trim()))
        .collect()
}

/// The registers DEVICE_LIFE_TIME_EST and PRE_EOL_INFO of JESD84-B50, as the kernel shows them.
fn card(facts: &Facts, device: &str, kind: &str) -> Finding {
    let of = |name: &str| facts.text(&format!("{device}/device/{name}"));
    let name = device.rsplit('/').next().unwrap_or_default();
    let called = format!("{name} ({kind} {})", of("name").unwrap_or("without a name"));
    if kind != "MMC" {
        return unknown(WEAR, &format!("{called}: SD cards do not tell how worn they are")).mend(
            "`dmesg | grep mmc` shows errors; keep a second card, and `pith backup` away from it",
        );
    }
    let number = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let life =
        of("life_time").map(|text| text.split_whitespace().filter_map(number).collect::<Vec<u8>>());
    let worst = life.and_then(|life| life.into_iter().max()).filter(|worst| *worst > 0);
    let reserve = of("pre_eol_info").and_then(number);
    let Some(worst) = worst else {
        return unknown(WEAR, &format!("{called} does not tell its life time"));
    };
    const MEND: &str = "replace it: a new board or card, `pith node token`, `pith-agent join`; \
        until then deploy little";
    let seen = match worst {
        11.. => format!("{called}: past its rated life"),
        tenths => format!("{called}: {} to {} % of its life used", (tenths - 1) * 10, tenths * 10),
    };
    match (worst, reserve) {
        (11.., _) | (_, Some(3)) => {
            problem(WEAR, seen).because("it may become read-only at any write").mend(MEND)
        }
        (9.., _) | (_, Some(2)) => {
            warning(WEAR, seen).because("its spare blocks are nearly used up").mend(MEND)
        }
        _ => ok(WEAR, seen),
    }
}

fn swap(facts: &Facts) -> Finding {
    let Ok(table) = facts.file(SWAPS) else { return unknown(SWAP, SWAPS) };
    let names: Vec<&str> =
        table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let on_card: Vec<&str> =
        names.iter().copied().filter(|name| !name.starts_with("/dev/zram")).collect();
    let memory_kib = facts.text(MEMINFO).and_then(|text| {
        text.lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok()
        })
    });
    match (names.as_slice(), on_card.as_slice()) {
        ([], _) if memory_kib.is_some_and(|kib| kib < SMALL_KIB) => note(SWAP, "none")
            .because(
                "on a board of this size compressed swap in memory leaves room for one \
                instance more",
            )
            .mend("`apt-get install zram-tools`"),
        ([], _) => ok(SWAP, "none"),
        (_, []) => ok(SWAP, format!("{} (compressed, in memory)", names.join(", "))),
        (_, [..]) => warning(SWAP, on_card.join(", "))
            .because("swap on a card wears it out and makes the board wait for it")
            .mend(format!(
                "`swapoff {}` and its line in /etc/fstab (Raspberry Pi OS: `systemctl \
                disable --now dphys-swapfile`); `apt-get install zram-tools`",
                on_card.join(" ")
            )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, check_findings};
    use super::*;
    use protocol::doctor::Severity::{self, Note, Ok as Well, Problem, Unknown, Warning};

    const GIB: u64 = 1 << 30;
    const HEAD: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

    fn volume(path: &str, free_percent: u64, free_inodes: u64) -> Volume {
        let path = path.to_owned();
        Volume {
            what: "the state folder",
            path,
            total_bytes: 30 * GIB,
            free_bytes: 30 * GIB * free_percent / 100,
            inodes: 1000,
            free_inodes,
        }
    }

    #[test]
    fn room_is_judged_by_bytes_and_by_inodes() {
        let check = |free, inodes, severity, seen, mend| {
            check_findings(
                &[space(&volume("/var/lib/pith", free, inodes))],
                &[(SPACE, severity, seen, mend)],
            );
        };
        check(60, 900, Well, "18 GiB of 30 GiB free, 10 % of inodes used", "");
        check(25, 900, Note, "7680 MiB of", "");
        check(10, 900, Warning, "/var/lib/pith", "docker system df");
        check(3, 900, Problem, "free", "docker system df");
        check(60, 20, Problem, "98 % of inodes used", "docker system df");
    }

    #[test]
    fn a_file_system_that_the_kernel_made_read_only_is_a_problem_and_a_mount_of_a_unit_is_not() {
        let of_unit = "21 1 179:2 / / ro,noatime shared:1 - ext4 /dev/mmcblk0p2 rw,errors=remount-ro\n\
                       40 21 179:2 /var/lib/pith /var/lib/pith rw,noatime - ext4 /dev/mmcblk0p2 rw\n";
        let mut facts = Tree::new().file(MOUNTS, of_unit).facts();
        facts.volumes = vec![volume("/var/lib/pith", 60, 900)];
        check_findings(
            &writable(&facts).into_iter().collect::<Vec<_>>(),
            &[(WRITABLE, Well, "no file system", "")],
        );
        let failed =
            of_unit.replace("/dev/mmcblk0p2 rw\n", "/dev/mmcblk0p2 ro,errors=remount-ro\n");
        let mut facts = Tree::new().file(MOUNTS, &failed).facts();
        facts.volumes = vec![volume("/var/lib/pith", 60, 900), volume("/var/lib/docker", 60, 900)];
        check_findings(
            &writable(&facts).into_iter().collect::<Vec<_>>(),
            &[(WRITABLE, Problem, "the state folder (/var/lib/pith) on /dev/mmcblk0p2", "dmesg")],
        );
        assert_eq!(
            mount(of_unit.lines().next().unwrap(), "/var"),
            Some(("/", "rw", "/dev/mmcblk0p2"))
        );
        assert_eq!(mount(of_unit.lines().nth(1).unwrap(), "/var/lib/pith2"), None);
    }

    #[test]
    fn a_file_system_with_errors_is_a_problem_also_where_the_kernel_does_not_call_it_read_only() {
        let mounts = "21 1 254:0 / / rw,relatime - ext4 /dev/vda rw,errors=remount-ro\n";
        let with = |count: &str| {
            let tree = Tree::new().file(MOUNTS, mounts);
            let mut facts = tree.file("/sys/fs/ext4/vda/errors_count", count).facts();
            facts.volumes = vec![volume("/var/lib/pith", 60, 900)];
            writable(&facts).into_iter().collect::<Vec<_>>()
        };
        check_findings(&with("0\n"), &[(WRITABLE, Well, "no file system", "")]);
        check_findings(
            &with("2\n"),
            &[(WRITABLE, Problem, "2 errors since its last check", "fsck")],
        );
    }

    #[track_caller]
    fn check_card(
        kind: &str,
        life: &str,
        reserve: &str,
        severity: Severity,
        seen: &str,
        mend: &str,
    ) {
        let mut tree = Tree::new()
            .file("/sys/block/mmcblk1/device/type", kind)
            .file("/sys/block/mmcblk1/device/name", "DG4016\n");
        for (name, text) in [("life_time", life), ("pre_eol_info", reserve)] {
            if !text.is_empty() {
                tree = tree.file(&format!("/sys/block/mmcblk1/device/{name}"), text);
            }
        }
        check_findings(&wear(&tree.facts()), &[(WEAR, severity, seen, mend)]);
    }

    #[test]
    fn an_emmc_tells_its_wear_and_an_sd_card_does_not() {
        check_card("MMC\n", "0x01 0x02\n", "0x01\n", Well, "mmcblk1 (MMC DG4016): 10 to 20 %", "");
        check_card("MMC\n", "0x09 0x01\n", "0x01\n", Warning, "80 to 90 %", "replace it");
        check_card("MMC\n", "0x02 0x02\n", "0x02\n", Warning, "10 to 20 %", "replace it");
        check_card("MMC\n", "0x0b 0x01\n", "0x01\n", Problem, "past its rated life", "replace it");
        check_card("MMC\n", "0x05 0x01\n", "0x03\n", Problem, "40 to 50 %", "replace it");
        check_card("MMC\n", "", "", Unknown, "does not tell", "");
        check_card("SD\n", "", "", Unknown, "SD cards do not tell", "dmesg");
        assert_eq!(wear(&Tree::new().facts()), [], "a board without a card");
    }

    #[test]
    fn swap_on_a_card_is_a_warning_and_in_memory_ok() {
        let check = |rows: &str, memory: &str, severity, seen, mend| {
            let tree = Tree::new().file(SWAPS, &format!("{HEAD}{rows}")).file(MEMINFO, memory);
            check_findings(&[swap(&tree.facts())], &[(SWAP, severity, seen, mend)]);
        };
        check("", "MemTotal:        4029472 kB\n", Well, "none", "");
        check("", "MemTotal:         492884 kB\n", Note, "none", "zram-tools");
        check("/dev/zram0  partition\t246440\t0\t5\n", "", Well, "/dev/zram0", "");
        check(
            "/var/swap   file\t102396\t0\t-2\n/dev/zram0 partition 1 0 5\n",
            "",
            Warning,
            "/var/swap",
            "swapoff /var/swap",
        );
    }
}
