//! What the kernel does and was told at boot: the memory cgroup, the version of cgroups, its own version.

use protocol::doctor::Finding;

use super::facts::{Facts, Unread};
use super::{AS_ROOT, note, ok, problem, unknown, warning};

const CMDLINE: &str = "/proc/cmdline";
const CONTROLLERS: &str = "/sys/fs/cgroup/cgroup.controllers";
const CGROUPS: &str = "/proc/cgroups";
const RELEASE: &str = "/proc/sys/kernel/osrelease";
/// One line, and the firmware hands it on.
const FIRMWARE_LINES: [&str; 2] = ["/boot/firmware/cmdline.txt", "/boot/cmdline.txt"];
/// `extraargs=…`, for Armbian and for images of Orange Pi's maker.
const ARMBIAN_FILES: [&str; 2] = ["/boot/armbianEnv.txt", "/boot/orangepiEnv.txt"];
const EXTLINUX: &str = "/boot/extlinux/extlinux.conf";
const GRUB: &str = "/etc/default/grub";

pub(super) const FILES: &[&str] = &[
    CMDLINE,
    CONTROLLERS,
    CGROUPS,
    RELEASE,
    FIRMWARE_LINES[0],
    FIRMWARE_LINES[1],
    ARMBIAN_FILES[0],
    ARMBIAN_FILES[1],
    EXTLINUX,
    GRUB,
];

const MEMORY: &str = "memory-cgroup";
const VERSION: &str = "cgroup-version";
const KERNEL: &str = "kernel-version";

const DISABLE: &str = "cgroup_disable=memory";
const ENABLE: &str = "cgroup_enable=memory";
/// Below it Docker does not start (docs.docker.com, "Check kernel dependencies").
const LEAST_KERNEL: (u32, u32) = (3, 10);
/// From here on cgroup v2 is as runc wants it (opencontainers/runc, docs/cgroup-v2.md).
const GOOD_KERNEL: (u32, u32) = (5, 2);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![memory(facts), version(facts), kernel(facts)]
}

fn memory(facts: &Facts) -> Finding {
    let Some(is_on) = has_memory(facts) else {
        return unknown(MEMORY, "neither /sys/fs/cgroup nor /proc/cgroups says").mend(AS_ROOT);
    };
    if is_on {
        return ok(MEMORY, "on");
    }
    let is_told = facts.text(CMDLINE).is_some_and(|line| line.contains(DISABLE));
    let how = if is_told {
        format!("off: the kernel was booted with `{DISABLE}`")
    } else {
        "off".to_owned()
    };
    problem(MEMORY, how)
        .because("no memory limit holds: one service that leaks takes the board with it")
        .mend(boot_argument(facts))
}

fn has_memory(facts: &Facts) -> Option<bool> {
    if let Ok(controllers) = facts.file(CONTROLLERS) {
        return Some(controllers.split_whitespace().any(|one| one == "memory"));
    }
    // "#subsys_name hierarchy num_cgroups enabled" (cgroups(7)).
    let table = facts.file(CGROUPS).ok()?;
    let row = table.lines().find(|line| line.split_whitespace().next() == Some("memory"));
    Some(row.is_some_and(|row| row.split_whitespace().nth(3) == Some("1")))
}

/// The line that turns it on, in the file that this board has.
fn boot_argument(facts: &Facts) -> String {
    for path in FIRMWARE_LINES {
        if let Ok(line) = facts.file(path) {
            return match line.contains(DISABLE) {
                true => format!("`sed -i 's/ *{DISABLE}//' {path}` and `reboot`"),
                false => format!("`sed -i '1 s/$/ {ENABLE} cgroup_memory=1/' {path}` and `reboot`"),
            };
        }
    }
    for path in ARMBIAN_FILES {
        if let Ok(text) = facts.file(path) {
            return if text.contains(DISABLE) {
                format!("`sed -i 's/ *{DISABLE}//' {path}` and `reboot`")
            } else if text.lines().any(|line| line.starts_with("extraargs=")) {
                format!("`sed -i 's/^extraargs=.*/& {ENABLE}/' {path}` and `reboot`")
            } else {
                format!("`echo 'extraargs={ENABLE}' >> {path}` and `reboot`")
            };
        }
    }
    if let Ok(text) = facts.file(EXTLINUX) {
        return match text.contains(DISABLE) {
            true => format!("`sed -i 's/ *{DISABLE}//' {EXTLINUX}` and `reboot`"),
            false => format!("`sed -i 's/^ *append .*/& {ENABLE}/' {EXTLINUX}` and `reboot`"),
        };
    }
    match facts.file(GRUB) {
        Ok(text) if text.contains(DISABLE) => {
            format!("`sed -i 's/ *{DISABLE}//' {GRUB}`, `update-grub` and `reboot`")
        }
        Ok(_) => format!(
            "`sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{ENABLE} /' {GRUB}`, `update-grub` and `reboot`"
        ),
        Err(Unread::Missing | Unread::Denied | Unread::Broken) => format!(
            "add `{ENABLE}` to the kernel's boot arguments (none of {}, {}, {EXTLINUX}, \
                {GRUB} is here) and `reboot`",
            FIRMWARE_LINES.join(", "),
            ARMBIAN_FILES.join(", "),
        ),
    }
}

fn version(facts: &Facts) -> Finding {
    match (facts.file(CONTROLLERS), facts.file(CGROUPS)) {
        (Ok(_), _) => ok(VERSION, "v2"),
        (Err(_), Ok(_)) => {
            note(VERSION, "v1").because("works; runc and systemd are about to drop it").mend(
                "boot with `systemd.unified_cgroup_hierarchy=1`, or a newer release of the \
                distribution",
            )
        }
        (Err(_), Err(_)) => unknown(VERSION, "neither /sys/fs/cgroup nor /proc/cgroups says"),
    }
}

fn kernel(facts: &Facts) -> Finding {
    let Some(release) = facts.text(RELEASE) else {
        return unknown(KERNEL, &format!("{RELEASE} is not there"));
    };
    let number = |text: Option<&str>| {
        let digits: String = text?.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    };
    let mut parts = release.split('.');
    let Some(version) = number(parts.next()).zip(number(parts.next())) else {
        return unknown(KERNEL, &format!("`{release}` is no version"));
    };
    const MEND: &str =
        "a newer image of the distribution, such as Armbian with its `current` kernel";
    if version < LEAST_KERNEL {
        problem(KERNEL, release).because("Docker needs 3.10 or newer").mend(MEND)
    } else if version < GOOD_KERNEL {
        warning(KERNEL, release)
            .because(
                "limits and the freezer of cgroup v2 need 5.2, and nobody mends holes in \
                older ones",
            )
            .mend(MEND)
    } else {
        ok(KERNEL, release)
    }
}

#[cfg(test)]
mod tests;
