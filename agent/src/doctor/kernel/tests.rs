//! Boots of real boards, and whether the mends that are told do what they say.

use super::super::testing::{Tree, check_findings};
use super::*;
use protocol::doctor::Severity::{Note, Ok as Well, Problem, Unknown, Warning};

/// A Raspberry Pi OS on which the firmware's device tree switches it off.
const PI_CMDLINE: &str = "coherent_pool=1M 8250.nr_uarts=0 snd_bcm2835.enable_headphones=0 cgroup_disable=memory \
    console=ttyS0,115200 root=PARTUUID=1f3c-02 rootfstype=ext4 rootwait\n";
const PI_FILE: &str =
    "console=serial0,115200 console=tty1 root=PARTUUID=1f3c-02 rootfstype=ext4 rootwait\n";
const V1: &str = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t9\t3\t1\nmemory\t0\t57\t0\npids\t8\t60\t1\n";

fn v2(controllers: &str) -> Tree {
    Tree::new().file(CONTROLLERS, controllers).file(RELEASE, "6.6.31+rpt-rpi-v8\n")
}

fn off() -> Tree {
    v2("cpuset cpu io pids\n").file(CMDLINE, PI_CMDLINE)
}

#[test]
fn a_healthy_kernel_is_ok() {
    let facts = v2("cpuset cpu io memory pids\n").facts();
    check_findings(
        &check(&facts),
        &[
            (MEMORY, Well, "on", ""),
            (VERSION, Well, "v2", ""),
            (KERNEL, Well, "6.6.31+rpt-rpi-v8", ""),
        ],
    );
}

#[test]
fn the_memory_cgroup_is_turned_on_in_the_file_that_the_board_boots_from() {
    let files: [(&str, &str, &str); 9] = [
        (
            FIRMWARE_LINES[0],
            PI_FILE,
            "sed -i '1 s/$/ cgroup_enable=memory cgroup_memory=1/' /boot/firmware/cmdline.txt",
        ),
        (FIRMWARE_LINES[1], PI_FILE, "cgroup_memory=1/' /boot/cmdline.txt"),
        (
            FIRMWARE_LINES[1],
            "rootwait cgroup_disable=memory\n",
            "sed -i 's/ *cgroup_disable=memory//' /boot/cmdline.txt",
        ),
        (
            ARMBIAN_FILES[0],
            "verbosity=1\nextraargs=net.ifnames=0\n",
            "sed -i 's/^extraargs=.*/& cgroup_enable=memory/' /boot/armbianEnv.txt",
        ),
        (
            ARMBIAN_FILES[0],
            "verbosity=1\n",
            "echo 'extraargs=cgroup_enable=memory' >> /boot/armbianEnv.txt",
        ),
        (ARMBIAN_FILES[1], "extraargs=cma=64M\n", "/boot/orangepiEnv.txt"),
        (EXTLINUX, "label l0\n  append root=/dev/mmcblk0p1\n", "/boot/extlinux/extlinux.conf"),
        (GRUB, "GRUB_CMDLINE_LINUX=\"quiet\"\n", "update-grub"),
        (
            GRUB,
            "GRUB_CMDLINE_LINUX=\"cgroup_disable=memory\"\n",
            "sed -i 's/ *cgroup_disable=memory//' /etc/default/grub",
        ),
    ];
    for (path, text, mend) in files {
        let found = check(&off().file(path, text).facts());
        check_findings(
            &found[..1],
            &[(MEMORY, Problem, "booted with `cgroup_disable=memory`", mend)],
        );
    }
    let found = check(&off().facts());
    check_findings(
        &found[..1],
        &[(MEMORY, Problem, "off", "add `cgroup_enable=memory` to the kernel's boot arguments")],
    );
}

/// What is written is tried on the file itself.
#[test]
fn the_mends_of_the_memory_cgroup_do_what_they_say() {
    let cases = [
        (FIRMWARE_LINES[0], PI_FILE, "rootwait cgroup_enable=memory cgroup_memory=1\n"),
        (FIRMWARE_LINES[1], "rootwait cgroup_disable=memory\n", "rootwait\n"),
        (
            ARMBIAN_FILES[0],
            "extraargs=net.ifnames=0\n",
            "extraargs=net.ifnames=0 cgroup_enable=memory\n",
        ),
        (ARMBIAN_FILES[0], "verbosity=1\n", "verbosity=1\nextraargs=cgroup_enable=memory\n"),
        (
            EXTLINUX,
            "  append root=/dev/mmcblk0p1\n",
            "  append root=/dev/mmcblk0p1 cgroup_enable=memory\n",
        ),
        (
            GRUB,
            "GRUB_CMDLINE_LINUX=\"quiet\"\n",
            "GRUB_CMDLINE_LINUX=\"cgroup_enable=memory quiet\"\n",
        ),
    ];
    for (path, text, after) in cases {
        let tree = off().file(path, text);
        let mend = check(&tree.facts())[0].mend.clone().unwrap();
        let command = mend.split('`').nth(1).unwrap();
        let real = tree.root().join(path.trim_start_matches('/'));
        let command = command.replace(path, &real.to_string_lossy());
        let status = std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
        let now = std::fs::read_to_string(real).unwrap();
        assert!(status.success() && now.ends_with(after), "{command}: {now}");
    }
}

#[test]
fn cgroup_v1_is_noted_and_its_table_says_whether_memory_is_on() {
    let old = Tree::new().file(CGROUPS, V1).file(RELEASE, "4.9.170-sun50iw9\n");
    check_findings(
        &check(&old.facts()),
        &[
            (MEMORY, Problem, "off", "boot arguments"),
            (VERSION, Note, "v1", "systemd.unified_cgroup_hierarchy=1"),
            (KERNEL, Warning, "4.9.170", "Armbian"),
        ],
    );
    let on = Tree::new().file(CGROUPS, &V1.replace("57\t0", "57\t1"));
    assert_eq!(has_memory(&on.facts()), Some(true));
    let ancient = Tree::new().file(RELEASE, "3.4.39");
    check_findings(
        &check(&ancient.facts()),
        &[
            (MEMORY, Unknown, "cannot be read here", "sudo"),
            (VERSION, Unknown, "cannot be read here", ""),
            (KERNEL, Problem, "3.4.39", "Armbian"),
        ],
    );
}
