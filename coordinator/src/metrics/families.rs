//! Every metric there is: its name, unit and help. docs/monitoring.md is for people; alerts and dashboard name only these.

use super::exposition::{Family, Kind};

const fn family(
    kind: Kind,
    (name, unit): (&'static str, &'static str),
    help: &'static str,
) -> Family {
    Family { name, kind, unit, help }
}

pub(super) static BUILD: Family =
    family(Kind::Info, ("pith_build", ""), "The coordinator's version.");
pub(super) static API_REQUESTS: Family = family(
    Kind::Counter,
    ("pith_api_requests", ""),
    "Requests that the coordinator's API has answered since its start, by class of their status.",
);
pub(super) static CERTIFICATE: Family = family(
    Kind::Gauge,
    ("pith_certificate_expiry_timestamp_seconds", "seconds"),
    "When a certificate ends: of the coordinator's port, of each node, of whoever scrapes this.",
);
pub(super) static NODE: Family =
    family(Kind::Info, ("pith_node", ""), "A node; 1, for its labels.");
pub(super) static NODE_UP: Family =
    family(Kind::Gauge, ("pith_node_up", ""), "1: the node is heard of. 0: it is not.");
pub(super) static NODE_STATUS: Family = family(
    Kind::Gauge,
    ("pith_node_status", ""),
    "1 for what `pith node ls` says of the node now.",
);
pub(super) static NODE_ALARM: Family = family(
    Kind::Gauge,
    ("pith_node_alarm", ""),
    "1 while a node misses something as a whole, by reason.",
);
pub(super) static NODE_HEARD: Family = family(
    Kind::Gauge,
    ("pith_node_last_heard_timestamp_seconds", "seconds"),
    "When the node was heard last.",
);
pub(super) static NODE_UPTIME: Family =
    family(Kind::Gauge, ("pith_node_uptime_seconds", "seconds"), "Since the board's boot.");
pub(super) static NODE_CORES: Family =
    family(Kind::Gauge, ("pith_node_cpu_cores", "cores"), "Cores that the board has.");
pub(super) static NODE_CPU: Family =
    family(Kind::Gauge, ("pith_node_cpu_ratio", "ratio"), "Busy share of all cores.");
pub(super) static NODE_IOWAIT: Family = family(
    Kind::Gauge,
    ("pith_node_cpu_iowait_ratio", "ratio"),
    "Share of all cores that was idle while a disk was waited for.",
);
pub(super) static NODE_STEAL: Family = family(
    Kind::Gauge,
    ("pith_node_cpu_steal_ratio", "ratio"),
    "Share of all cores that a hypervisor took.",
);
pub(super) static NODE_LOAD1: Family =
    family(Kind::Gauge, ("pith_node_load1", ""), "Load average of one minute.");
pub(super) static NODE_HERTZ: Family = family(
    Kind::Gauge,
    ("pith_node_cpu_frequency_hertz", "hertz"),
    "The fastest core's frequency.",
);
pub(super) static NODE_HERTZ_MAX: Family = family(
    Kind::Gauge,
    ("pith_node_cpu_frequency_max_hertz", "hertz"),
    "What that frequency could be.",
);
pub(super) static NODE_THROTTLED: Family = family(
    Kind::Gauge,
    ("pith_node_cpu_throttled", ""),
    "1 while the processor is slowed down for heat or voltage.",
);
pub(super) static NODE_MEMORY_USED: Family =
    family(Kind::Gauge, ("pith_node_memory_used_bytes", "bytes"), "Memory in use.");
pub(super) static NODE_MEMORY: Family =
    family(Kind::Gauge, ("pith_node_memory_total_bytes", "bytes"), "Memory in all.");
pub(super) static NODE_SWAP_USED: Family =
    family(Kind::Gauge, ("pith_node_swap_used_bytes", "bytes"), "Swap in use.");
pub(super) static NODE_SWAP: Family = family(
    Kind::Gauge,
    ("pith_node_swap_total_bytes", "bytes"),
    "Swap in all; 0 where there is none.",
);
pub(super) static NODE_ZRAM_STORED: Family = family(
    Kind::Gauge,
    ("pith_node_zram_stored_bytes", "bytes"),
    "What lies in zram, as large as it was before.",
);
pub(super) static NODE_ZRAM_USED: Family =
    family(Kind::Gauge, ("pith_node_zram_used_bytes", "bytes"), "Memory that zram takes for it.");
pub(super) static NODE_DISK_USED: Family = family(
    Kind::Gauge,
    ("pith_node_disk_used_bytes", "bytes"),
    "Disk in use where Docker keeps images.",
);
pub(super) static NODE_DISK: Family =
    family(Kind::Gauge, ("pith_node_disk_total_bytes", "bytes"), "That disk's size.");
pub(super) static NODE_INODES_USED: Family =
    family(Kind::Gauge, ("pith_node_inodes_used", ""), "Inodes in use there.");
pub(super) static NODE_INODES: Family = family(
    Kind::Gauge,
    ("pith_node_inodes_limit", ""),
    "Inodes in all there, where the file system has a fixed number.",
);
pub(super) static NODE_DISK_READ: Family = family(
    Kind::Counter,
    ("pith_node_disk_read_bytes", "bytes"),
    "Read from disks since the boot.",
);
pub(super) static NODE_DISK_WRITTEN: Family = family(
    Kind::Counter,
    ("pith_node_disk_written_bytes", "bytes"),
    "Written to disks since the boot.",
);
pub(super) static NODE_RECEIVED: Family = family(
    Kind::Counter,
    ("pith_node_network_receive_bytes", "bytes"),
    "Received by the network cards since the boot.",
);
pub(super) static NODE_SENT: Family = family(
    Kind::Counter,
    ("pith_node_network_transmit_bytes", "bytes"),
    "Sent by the network cards since the boot.",
);
pub(super) static NODE_HOTTEST: Family =
    family(Kind::Gauge, ("pith_node_temperature_max_celsius", "celsius"), "The hottest zone.");
pub(super) static NODE_TEMPERATURE: Family =
    family(Kind::Gauge, ("pith_node_temperature_celsius", "celsius"), "Each zone.");
pub(super) static NODE_PRESSURE: Family = family(
    Kind::Gauge,
    ("pith_node_pressure_ratio", "ratio"),
    "Share of the last ten seconds in which something waited for it.",
);
pub(super) static INSTANCE_CPU: Family =
    family(Kind::Gauge, ("pith_instance_cpu_cores", "cores"), "Cores in use.");
pub(super) static INSTANCE_MEMORY: Family = family(
    Kind::Gauge,
    ("pith_instance_memory_bytes", "bytes"),
    "Memory in use, without files that the kernel can drop.",
);
pub(super) static INSTANCE_MEMORY_LIMIT: Family = family(
    Kind::Gauge,
    ("pith_instance_memory_limit_bytes", "bytes"),
    "Its memory limit, where it has one.",
);
pub(super) static INSTANCE_RECEIVED: Family = family(
    Kind::Counter,
    ("pith_instance_network_receive_bytes", "bytes"),
    "Received since the container's start.",
);
pub(super) static INSTANCE_SENT: Family = family(
    Kind::Counter,
    ("pith_instance_network_transmit_bytes", "bytes"),
    "Sent since the container's start.",
);
pub(super) static INSTANCE_RESTARTS: Family = family(
    Kind::Counter,
    ("pith_instance_restarts", ""),
    "Restarts after a crash or a failed liveness probe, as the agent counts them.",
);
pub(super) static INSTANCE_OOMS: Family = family(
    Kind::Counter,
    ("pith_instance_ooms", ""),
    "Times that the kernel ended something in it for its memory.",
);
pub(super) static SERVICE_INSTANCES: Family = family(
    Kind::Gauge,
    ("pith_service_instances", ""),
    "Instances of a service: desired, ready, and those of its newest revision (updated).",
);
pub(super) static ROLLOUT_STATE: Family = family(
    Kind::Gauge,
    ("pith_rollout_state", ""),
    "1 for where a service's newest rollout stands.",
);
pub(super) static ROLLOUTS: Family = family(
    Kind::Counter,
    ("pith_rollouts", ""),
    "Rollouts that have ended since the coordinator's start, by how.",
);
pub(super) static SERVICE_REQUESTS: Family = family(
    Kind::Counter,
    ("pith_service_requests", ""),
    "Requests answered or broken, while somebody looks or scrapes.",
);
pub(super) static SERVICE_ERRORS: Family = family(
    Kind::Counter,
    ("pith_service_errors", ""),
    "Of them answered with 500 and above, or broken.",
);
pub(super) static SERVICE_LATENCY: Family = family(
    Kind::Histogram,
    ("pith_service_latency_seconds", "seconds"),
    "From a request to the head of its answer.",
);
pub(super) static DROPPED: Family = family(
    Kind::Gauge,
    ("pith_metrics_dropped_series", ""),
    "Series of a node that are not here: too many, or named twice.",
);

/// In the order in which they are told.
pub(super) static ALL: [&Family; 48] = [
    &BUILD,
    &API_REQUESTS,
    &CERTIFICATE,
    &NODE,
    &NODE_UP,
    &NODE_STATUS,
    &NODE_ALARM,
    &NODE_HEARD,
    &NODE_UPTIME,
    &NODE_CORES,
    &NODE_CPU,
    &NODE_IOWAIT,
    &NODE_STEAL,
    &NODE_LOAD1,
    &NODE_HERTZ,
    &NODE_HERTZ_MAX,
    &NODE_THROTTLED,
    &NODE_MEMORY_USED,
    &NODE_MEMORY,
    &NODE_SWAP_USED,
    &NODE_SWAP,
    &NODE_ZRAM_STORED,
    &NODE_ZRAM_USED,
    &NODE_DISK_USED,
    &NODE_DISK,
    &NODE_INODES_USED,
    &NODE_INODES,
    &NODE_DISK_READ,
    &NODE_DISK_WRITTEN,
    &NODE_RECEIVED,
    &NODE_SENT,
    &NODE_HOTTEST,
    &NODE_TEMPERATURE,
    &NODE_PRESSURE,
    &INSTANCE_CPU,
    &INSTANCE_MEMORY,
    &INSTANCE_MEMORY_LIMIT,
    &INSTANCE_RECEIVED,
    &INSTANCE_SENT,
    &INSTANCE_RESTARTS,
    &INSTANCE_OOMS,
    &SERVICE_INSTANCES,
    &ROLLOUT_STATE,
    &ROLLOUTS,
    &SERVICE_REQUESTS,
    &SERVICE_ERRORS,
    &SERVICE_LATENCY,
    &DROPPED,
];
