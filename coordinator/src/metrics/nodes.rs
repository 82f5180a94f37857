//! The series of one node: what it is, and what its board did when it was sampled last.

use protocol::hello::Load;
use protocol::load::{BoardLoad, InstanceLoad};

use super::exposition::{Family, Page, Value};
use super::families as of;
use crate::state::measured::NodeMeasured;

const HERTZ_PER_MHZ: u64 = 1_000_000;

/// Adds what is known of a node; of one that is not heard of only what it is and since when.
pub(super) fn add(page: &mut Page, node: &NodeMeasured) {
    let shown = &node.shown;
    let name = [("node", shown.name.as_str())];
    add_description(page, node);
    page.add(&of::NODE_UP, &name, Value::Whole(u64::from(node.online)));
    page.add(&of::NODE_STATUS, &[name[0], ("status", &shown.status)], Value::Whole(1));
    page.add(&of::NODE_HEARD, &name, Value::Milli(shown.heard_ms));
    if let Some(until) = shown.certificate_expires_at {
        let labels = [("holder", "node"), ("name", shown.name.as_str())];
        page.add(&of::CERTIFICATE, &labels, Value::Whole(until));
    }
    if !node.online {
        return;
    }
    for alarm in &shown.alarms {
        let reason = alarm.reason.to_string();
        page.add(&of::NODE_ALARM, &[name[0], ("reason", &reason)], Value::Whole(1));
    }
    page.add(&of::NODE_CORES, &name, Value::Whole(shown.capacity.cores.into()));
    let Some(load) = &shown.load else { return };
    add_load(page, name[0].1, load);
    if let Some(board) = &load.board {
        add_board(page, name[0].1, board);
    }
    for instance in &load.instances {
        add_instance(page, name[0].1, instance);
    }
}

fn add_description(page: &mut Page, node: &NodeMeasured) {
    let shown = &node.shown;
    let board = shown.load.as_ref().and_then(|load| load.board.as_ref());
    let mut labels = vec![
        ("node", shown.name.as_str()),
        ("environment", shown.environment.as_str()),
        ("agent_version", &shown.agent_version),
        ("architecture", &shown.capacity.architecture),
    ];
    let kernel = board.and_then(|board| board.kernel.as_deref());
    labels.extend(kernel.map(|kernel| ("kernel", kernel)));
    let engine = board.and_then(|board| board.engine.as_deref());
    labels.extend(engine.map(|engine| ("engine", engine)));
    page.add(&of::NODE, &labels, Value::Whole(1));
}

fn add_load(page: &mut Page, node: &str, load: &Load) {
    let name = [("node", node)];
    page.add(&of::NODE_UPTIME, &name, Value::Whole(load.up_s));
    let wholes: [(&'static Family, Option<u64>); 4] = [
        (&of::NODE_MEMORY_USED, load.mem_used),
        (&of::NODE_MEMORY, load.mem_total),
        (&of::NODE_DISK_USED, load.disk_used),
        (&of::NODE_DISK, load.disk_total),
    ];
    let reals: [(&'static Family, Option<f32>); 3] = [
        (&of::NODE_CPU, load.cpu),
        (&of::NODE_LOAD1, load.load1),
        (&of::NODE_HOTTEST, load.temp_c),
    ];
    add_all(page, &name, &wholes, &reals);
}

fn add_board(page: &mut Page, node: &str, board: &BoardLoad) {
    let name = [("node", node)];
    let hertz = |mhz: Option<u32>| mhz.map(|mhz| u64::from(mhz) * HERTZ_PER_MHZ);
    let wholes: [(&'static Family, Option<u64>); 13] = [
        (&of::NODE_SWAP_USED, board.swap_used),
        (&of::NODE_SWAP, board.swap_total),
        (&of::NODE_ZRAM_STORED, board.zram_stored),
        (&of::NODE_ZRAM_USED, board.zram_used),
        (&of::NODE_INODES_USED, board.inodes_used),
        // 0: they are made as they are needed, and are no limit.
        (&of::NODE_INODES, board.inodes_total.filter(|total| *total > 0)),
        (&of::NODE_DISK_READ, board.disk_read),
        (&of::NODE_DISK_WRITTEN, board.disk_written),
        (&of::NODE_RECEIVED, board.net_in),
        (&of::NODE_SENT, board.net_out),
        (&of::NODE_HERTZ, hertz(board.mhz)),
        (&of::NODE_HERTZ_MAX, hertz(board.mhz_max)),
        (&of::NODE_THROTTLED, board.throttled.map(u64::from)),
    ];
    let reals = [(&of::NODE_IOWAIT, board.iowait), (&of::NODE_STEAL, board.steal)];
    add_all(page, &name, &wholes, &reals);
    if let Some(pressure) = board.pressure {
        let all = [("cpu", pressure.cpu), ("memory", pressure.memory), ("io", pressure.io)];
        for (resource, share) in all {
            let labels = [name[0], ("resource", resource)];
            page.add(&of::NODE_PRESSURE, &labels, Value::Real(share));
        }
    }
    for (zone, celsius) in &board.zones {
        page.add(&of::NODE_TEMPERATURE, &[name[0], ("zone", zone)], Value::Real(*celsius));
    }
}

fn add_instance(page: &mut Page, node: &str, load: &InstanceLoad) {
    // Not `instance`: Prometheus calls its targets so.
    let labels =
        [("node", node), ("service", load.service.as_str()), ("container", load.instance.as_str())];
    let wholes: [(&'static Family, Option<u64>); 5] = [
        (&of::INSTANCE_MEMORY, load.mem_used),
        (&of::INSTANCE_MEMORY_LIMIT, load.mem_max),
        (&of::INSTANCE_RECEIVED, load.net_in),
        (&of::INSTANCE_SENT, load.net_out),
        (&of::INSTANCE_OOMS, load.ooms),
    ];
    add_all(page, &labels, &wholes, &[(&of::INSTANCE_CPU, load.cpu)]);
}

fn add_all(
    page: &mut Page,
    labels: &[(&'static str, &str)],
    wholes: &[(&'static Family, Option<u64>)],
    reals: &[(&'static Family, Option<f32>)],
) {
    for (family, value) in wholes {
        page.add_known(family, labels, value.map(Value::Whole));
    }
    for (family, value) in reals {
        page.add_known(family, labels, value.map(Value::Real));
    }
}
