//! Nodes as a coordinator shows them, for tests of what is made of them.

use protocol::hello::{Capacity, Load};
use protocol::load::{BoardLoad, InstanceLoad, Pressure};
use protocol::manifest::Version;

use crate::state::shown::NodeShown;

/// When these tests are.
pub(crate) const NOW_MS: u64 = 1_795_434_151_000;

/// A board that tells the least.
pub(crate) fn node(number: u8, cpu: Option<f32>) -> NodeShown {
    NodeShown {
        id: format!("{number:032}").parse().unwrap(),
        name: format!("opi-{number}").parse().unwrap(),
        environment: "default".parse().unwrap(),
        status: "ready".to_owned(),
        labels: std::collections::BTreeMap::new(),
        address: format!("10.0.0.{number}"),
        policy: None,
        agent_version: "0.1.0".to_owned(),
        agent_target: None,
        capacity: Capacity { architecture: "arm64".to_owned(), cores: 4, memory_bytes: 985 << 20 },
        load: Some(load(cpu, 1_000)),
        heard_ms: NOW_MS,
        seen: Version::default(),
        generation: 0,
        refused: std::collections::BTreeMap::new(),
        services: vec!["web".parse().unwrap()],
        held: std::collections::BTreeMap::new(),
        alarms: Vec::new(),
        cloned: false,
        conflict: None,
        certificate_expires_at: None,
    }
}

/// The same, not heard of for three minutes.
pub(crate) fn offline(number: u8) -> NodeShown {
    let heard_ms = NOW_MS - 200_000;
    NodeShown { status: "offline".to_owned(), heard_ms, ..node(number, Some(0.99)) }
}

/// The least that a node tells.
pub(crate) fn load(cpu: Option<f32>, up_s: u64) -> Load {
    Load {
        cpu,
        load1: Some(0.42),
        mem_used: Some(312 << 20),
        mem_total: Some(985 << 20),
        disk_used: Some(12 << 30),
        disk_total: Some(29 << 30),
        temp_c: Some(54.3),
        up_s,
        ..Load::default()
    }
}

/// All that a node tells, with counters that grow with its uptime: a thousand bytes a second, two thousand out.
pub(crate) fn detailed(up_s: u64) -> Load {
    let board = BoardLoad {
        kernel: Some("6.1.0".to_owned()),
        engine: Some("20.10.24".to_owned()),
        cores: vec![0.12, 0.45, 0.0, 1.0],
        iowait: Some(0.01),
        steal: Some(0.0),
        swap_used: Some(12 << 20),
        swap_total: Some(512 << 20),
        zram_stored: Some(12 << 20),
        zram_used: Some(4 << 20),
        pressure: Some(Pressure { cpu: 0.12, memory: 0.0, io: 0.034 }),
        inodes_used: Some(228_000),
        inodes_total: Some(1_900_000),
        disk_read: Some(up_s * 1_024),
        disk_written: Some(up_s * 2_048),
        net_in: Some(up_s * 1_024),
        net_out: Some(up_s * 2_048),
        zones: vec![("cpu-thermal".to_owned(), 54.3), ("gpu-thermal".to_owned(), 51.0)],
        mhz: Some(1_200),
        mhz_max: Some(1_800),
        throttled: Some(true),
    };
    let instance = InstanceLoad {
        service: "web".parse().unwrap(),
        instance: "pith-web-0".to_owned(),
        cpu: Some(1.25),
        mem_used: Some(45 << 20),
        mem_max: Some(128 << 20),
        net_in: Some(up_s * 1_024),
        net_out: Some(up_s * 1_024),
        restarts: 3,
        ooms: Some(1),
    };
    let silent = InstanceLoad {
        instance: "pith-web-1".to_owned(),
        cpu: None,
        mem_used: None,
        mem_max: None,
        net_in: None,
        net_out: None,
        restarts: 0,
        ooms: None,
        ..instance.clone()
    };
    let board = Some(Box::new(board));
    Load { board, instances: vec![instance, silent], ..load(Some(0.39), up_s) }
}
