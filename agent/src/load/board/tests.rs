//! Boards as their kernels show them: a Raspberry Pi, one that tells nothing, one with very many cores.

use super::super::testing::Tree;
use super::*;

const ZONE: &str = "/sys/class/thermal/thermal_zone0";

fn stat(busy: u64) -> String {
    format!("cpu  {busy} 0 0 100 0 0 0 0 0 0\ncpu0 {busy} 0 0 100 0 0 0 0 0 0\nintr 1\n")
}

/// A Raspberry Pi 4 with an NVMe disk behind USB, as far as it matters here.
fn pi() -> Tree {
    Tree::new()
        .file("/proc/stat", stat(100))
        .file("/proc/sys/kernel/osrelease", "6.1.0-rpi7-rpi-v8\n")
        .file(
            "/proc/diskstats",
            " 179 0 mmcblk0 1 1 10 1 1 1 20 1 0 1 1\n 254 0 zram0 1 1 1 1 1 1 1 1 0 1 1\n",
        )
        .file("/sys/block/zram0/mm_stat", "4096 1024 2048 0 2048 0 0 0 0\n")
        .file(
            "/proc/net/dev",
            "  eth0: 5 0 0 0 0 0 0 0 6 0 0 0 0 0 0 0\n br-1: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n",
        )
        .file("/sys/class/net/eth0/device/vendor", "0x0\n")
        .file("/proc/pressure/cpu", "some avg10=50.00 avg60=0.00 avg300=0.00 total=1\n")
        .file("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n")
        .file("/proc/pressure/io", "some avg10=1.25 avg60=0.00 avg300=0.00 total=1\n")
        .file(&format!("{FREQUENCY}/policy0/scaling_cur_freq"), "1000000\n")
        .file(&format!("{FREQUENCY}/policy0/cpuinfo_max_freq"), "1500000\n")
        .file(&format!("{ZONE}/type"), "cpu-thermal\n")
        .file(&format!("{ZONE}/temp"), "48312\n")
        .file(&format!("{ZONE}/trip_point_0_type"), "critical\n")
        .file(&format!("{ZONE}/trip_point_0_temp"), "110000\n")
        .file("/sys/class/hwmon/hwmon0/name", "cpu_thermal\n")
        .file("/sys/class/hwmon/hwmon0/temp1_input", "48312\n")
        .file("/sys/class/hwmon/hwmon1/name", "nvme\n")
        .file("/sys/class/hwmon/hwmon1/temp1_label", "Composite\n")
        .file("/sys/class/hwmon/hwmon1/temp1_input", "51850\n")
}

fn tell(board: &mut Board) -> BoardLoad {
    let processor = board.processor();
    let warmth = board.warmth();
    let memory = Memory { total: 900 << 10, available: 600 << 10, swap: (0, 0) };
    board.tell("20.10.24", processor, Some(memory), &warmth, Some((90, 250)))
}

#[test]
fn a_board_tells_all_that_its_kernel_does() {
    let tree = pi();
    let mut board = Board::new(tree.root()).unwrap();
    tree.write("/proc/stat", stat(150).replace("100 0", "150 0"));
    let expected = BoardLoad {
        kernel: Some("6.1.0-rpi7-rpi-v8".to_owned()),
        engine: Some("20.10.24".to_owned()),
        cores: vec![0.5],
        iowait: Some(0.0),
        steal: Some(0.0),
        swap_used: Some(0),
        swap_total: Some(0),
        zram_stored: Some(4096),
        zram_used: Some(2048),
        pressure: Some(Pressure { cpu: 0.5, memory: 0.0, io: 0.0125 }),
        inodes_used: Some(90),
        inodes_total: Some(250),
        disk_read: Some(5120),
        disk_written: Some(10_240),
        net_in: Some(5),
        net_out: Some(6),
        zones: vec![("cpu-thermal".to_owned(), 48.3), ("nvme Composite".to_owned(), 51.9)],
        mhz: Some(1000),
        mhz_max: Some(1500),
        throttled: None,
    };
    assert_eq!(tell(&mut board), expected);
    assert_eq!(hottest(&board.warmth()), Some(51.9));
}

#[test]
fn what_a_kernel_does_not_tell_is_left_out() {
    let mut board = Board::new(Tree::new().file("/proc/stat", stat(1)).root()).unwrap();
    let processor = board.processor();
    let nothing = BoardLoad { inodes_total: Some(0), ..BoardLoad::default() };
    assert_eq!(board.tell("", processor, None, &[], Some((0, 0))), nothing);
    assert!(Board::new(Tree::new().root()).is_none());
}

#[test]
fn a_board_is_slowed_down_where_its_firmware_says_so_or_a_zone_is_beyond_its_point() {
    let is_throttled = |tree: Tree| tell(&mut Board::new(tree.root()).unwrap()).throttled;
    assert_eq!(is_throttled(pi().file(heat::THROTTLED, "50005\n")), Some(true));
    assert_eq!(is_throttled(pi().file(heat::THROTTLED, "50000\n")), Some(false), "it was");
    let of = |milli: &str| {
        pi().file(&format!("{ZONE}/temp"), milli)
            .file(&format!("{ZONE}/trip_point_1_type"), "passive\n")
            .file(&format!("{ZONE}/trip_point_1_temp"), "75000\n")
    };
    assert_eq!(is_throttled(of("74000\n")), Some(false));
    assert_eq!(is_throttled(of("75000\n")), Some(true));
    assert_eq!(is_throttled(of("74000\n").file(heat::THROTTLED, "?\n")), Some(false));
}

#[test]
fn zones_of_one_name_are_told_apart_and_a_sensor_that_does_not_know_is_left_out() {
    let zone = |number: u32, milli: &str| {
        let folder = format!("/sys/class/thermal/thermal_zone{number}");
        [
            (format!("{folder}/type"), "soc\n".to_owned()),
            (format!("{folder}/temp"), milli.to_owned()),
        ]
    };
    let zones = [zone(1, "40000\n"), zone(2, "-273000\n"), zone(3, "41000\n"), zone(4, "")];
    let tree = zones
        .into_iter()
        .flatten()
        .fold(Tree::new().file("/proc/stat", stat(1)), |tree, (path, text)| tree.file(&path, text));
    let zones = tell(&mut Board::new(tree.root()).unwrap()).zones;
    assert_eq!(zones, [("soc".to_owned(), 40.0), ("soc 2".to_owned(), 41.0)]);
}

#[test]
fn a_board_of_very_many_cores_tells_none_of_them() {
    let of = |ticks: u64| {
        let cores = (0..=MAX_CORES).map(|core| format!("cpu{core} {ticks} 0 0 1 0 0 0 0 0 0\n"));
        format!("cpu  {ticks} 0 0 1 0 0 0 0 0 0\n{}", cores.collect::<String>())
    };
    let tree = Tree::new().file("/proc/stat", of(10));
    let mut board = Board::new(tree.root()).unwrap();
    tree.write("/proc/stat", of(20));
    let processor = board.processor();
    assert_eq!(processor.all.map(|all| all.busy), Some(1.0));
    assert!(processor.cores.is_empty());
}
