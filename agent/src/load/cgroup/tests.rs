//! Containers under both versions and both drivers, and below another.

use super::super::testing::Tree;
use super::*;

const ID: &str = "4f1e0a7c2b9d8e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f";
const OTHER: &str = "a0000000002b9d8e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e";

fn v2(folder: &str) -> Tree {
    Tree::new()
        .file("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
        .file(
            &format!("{folder}/cpu.stat"),
            "usage_usec 9120441\nuser_usec 7020110\nsystem_usec 2100331\nnr_periods 0\n",
        )
        .file(&format!("{folder}/memory.current"), "25165824\n")
        .file(
            &format!("{folder}/memory.stat"),
            "anon 10485760\nfile 8388608\ninactive_anon 0\nactive_anon 10485760\ninactive_file 4194304\n",
        )
        .file(&format!("{folder}/memory.max"), "67108864\n")
        .file(
            &format!("{folder}/memory.events"),
            "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
        )
}

fn v1(memory: &str, cpu: &str) -> Tree {
    Tree::new()
        .file(&format!("{cpu}/cpuacct.usage"), "9120441999\n")
        .file(&format!("{memory}/memory.usage_in_bytes"), "25165824\n")
        .file(
            &format!("{memory}/memory.stat"),
            "cache 8388608\ninactive_file 1\ntotal_cache 8388608\ntotal_inactive_file 4194304\n",
        )
        .file(&format!("{memory}/memory.limit_in_bytes"), "9223372036854771712\n")
        .file(
            &format!("{memory}/memory.oom_control"),
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        )
}

fn check(tree: &Tree, mem_max: Option<u64>) {
    let mut groups = Groups::new(tree.root());
    let group = groups.find(ID).expect("found");
    let expected =
        Usage { cpu_us: Some(9_120_441), mem_used: Some(20_971_520), mem_max, ooms: Some(2) };
    assert_eq!(groups.usage(&group), expected);
    assert_eq!(groups.find(OTHER), None);
}

#[test]
fn a_container_of_version_2_is_read_under_both_drivers() {
    let driven = [format!("system.slice/docker-{ID}.scope"), format!("docker/{ID}")];
    for folder in driven {
        check(&v2(&format!("/sys/fs/cgroup/{folder}")), Some(67_108_864));
    }
}

#[test]
fn a_container_of_version_1_is_read_and_its_huge_limit_is_none() {
    for cpu in ["cpuacct", "cpu,cpuacct"] {
        let base = "/sys/fs/cgroup";
        check(
            &v1(&format!("{base}/memory/docker/{ID}"), &format!("{base}/{cpu}/docker/{ID}")),
            None,
        );
    }
}

#[test]
fn a_container_below_another_is_found_once_and_the_next_one_at_once() {
    let below = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice";
    let tree = v2(&format!("{below}/docker-{ID}.scope"))
        .file(&format!("{below}/docker-{OTHER}.scope/cpu.stat"), "usage_usec 5\n");
    let mut groups = Groups::new(tree.root());
    assert!(groups.find(ID).is_some());
    assert_eq!(groups.forms.len(), FORMS.len() + 1);
    let other = groups.find(OTHER).expect("by the same form");
    assert_eq!(groups.usage(&other).cpu_us, Some(5));
    assert_eq!(groups.forms.len(), FORMS.len() + 1, "nothing was searched");
}

#[test]
fn what_the_kernel_does_not_count_is_not_known() {
    // Raspberry Pi OS starts without the memory controller unless told otherwise.
    let folder = format!("/sys/fs/cgroup/system.slice/docker-{ID}.scope");
    let tree = Tree::new()
        .file("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
        .file(&format!("{folder}/cpu.stat"), "usage_usec 9120441\n");
    let mut groups = Groups::new(tree.root());
    let group = groups.find(ID).unwrap();
    let expected = Usage { cpu_us: Some(9_120_441), ..Usage::default() };
    assert_eq!(groups.usage(&group), expected);
    assert_eq!(Groups::new(Tree::new().root()).find(ID), None);
    assert_eq!(groups.find("docker"), None, "no id");
}

#[test]
fn a_memory_max_without_a_limit_is_none() {
    let folder = format!("/sys/fs/cgroup/docker/{ID}");
    check(&v2(&folder).file(&format!("{folder}/memory.max"), "max\n"), None);
}
