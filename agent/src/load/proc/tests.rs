//! Real texts, of a Raspberry Pi and of a virtual machine.

use super::*;

/// A Raspberry Pi 4, 6.1.0-rpi7-rpi-v8, two moments of it.
const PI: [&str; 2] = [
    "cpu  25411 12 9020 7301182 2210 0 388 0 0 0\n\
     cpu0 6702 3 2612 1823910 640 0 301 0 0 0\n\
     cpu1 6181 4 2120 1826120 521 0 40 0 0 0\n\
     cpu2 6288 2 2151 1825801 530 0 26 0 0 0\n\
     cpu3 6240 3 2137 1825351 519 0 21 0 0 0\n\
     intr 4911280 0 0 2417722 0 0\nctxt 8120411\nbtime 1733321100\nprocesses 4403\n",
    "cpu  25711 12 9120 7301682 2310 0 388 0 0 0\n\
     cpu0 6902 3 2612 1823910 640 0 301 0 0 0\n\
     cpu1 6231 4 2220 1826120 571 0 40 0 0 0\n\
     cpu2 6338 2 2151 1825901 580 0 26 0 0 0\n\
     cpu3 6240 3 2137 1825551 519 0 21 0 0 0\n\
     intr 4913380 0 0 2418722 0 0\nctxt 8122011\nbtime 1733321100\nprocesses 4410\n",
];

#[test]
fn shares_of_the_processor_are_those_between_two_looks() {
    let [before, now] = PI.map(|text| Stat::of(text).unwrap());
    let all = now.all.since(before.all).unwrap();
    assert_eq!(all, Shares { busy: 0.4, iowait: 0.1, steal: 0.0 });
    assert_eq!(now.cores_since(&before), [1.0, 0.75, 0.25, 0.0]);
    assert_eq!(now.all.since(now.all), None, "no tick has passed");
}

#[test]
fn what_a_hypervisor_took_is_not_busy_and_guests_do_not_count_twice() {
    let of = |text: &str| Stat::of(text).unwrap().all;
    let before = of("cpu  267888 14694 40275 76895 580 0 241 161 500 0\n");
    let now = of("cpu  267938 14694 40275 76920 580 0 241 186 550 0\n");
    assert_eq!(now.since(before), Some(Shares { busy: 0.5, iowait: 0.0, steal: 0.25 }));
    let taken_back = of("cpu  267938 14694 40275 76920 570 0 241 286 550 0\n");
    assert_eq!(taken_back.since(now), Some(Shares { busy: 0.0, iowait: 0.0, steal: 1.0 }));
}

#[test]
fn cores_are_matched_by_number_and_a_new_one_leaves_them_unknown_once() {
    let of = |text: &str| Stat::of(text).unwrap();
    let all = "cpu  30 0 0 30 0 0 0 0 0 0\n";
    let [one, two, three] = [
        "cpu0 10 0 0 10 0 0 0 0 0 0\ncpu1 10 0 0 10 0 0 0 0 0 0\n",
        "cpu1 20 0 0 10 0 0 0 0 0 0\n",
        "cpu0 20 0 0 20 0 0 0 0 0 0\ncpu1 20 0 0 20 0 0 0 0 0 0\n",
    ]
    .map(|cores| of(&format!("{all}{cores}")));
    assert_eq!(two.cores_since(&one), [1.0], "core 0 was switched off");
    assert_eq!(three.cores_since(&two), [0.0; 0]);
    assert_eq!(Stat::of("intr 1\n"), None);
}

#[test]
fn pressure_is_a_share_of_the_last_ten_seconds() {
    let text = "some avg10=62.51 avg60=49.06 avg300=48.45 total=1145610158\n\
        full avg10=1.00 avg60=0.00 avg300=0.00 total=0\n";
    assert_eq!(pressure(text), Some(0.6251));
    assert_eq!(pressure("full avg10=1.00 avg60=0.00 avg300=0.00 total=0\n"), None);
}

#[test]
fn bytes_of_disks_are_those_of_whole_disks_alone() {
    let pi = "   1       0 ram0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
           7       0 loop0 18 0 70 5 0 0 0 0 0 12 5 0 0 0 0 0 0\n\
         179       0 mmcblk0 31210 10311 1802110 28110 20114 18772 802112 190221 0 61240 218331 0 0 0 0 0 0\n\
         179       1 mmcblk0p1 412 1102 10310 211 2 0 2 1 0 180 213 0 0 0 0 0 0\n\
         179       2 mmcblk0p2 30700 9209 1789000 27800 20112 18772 802110 190220 0 61110 218020 0 0 0 0 0 0\n\
         179      32 mmcblk0boot0 2 0 16 1 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
         254       0 zram0 90 0 720 0 512 0 4096 4 0 8 4 0 0 0 0 0 0\n";
    assert_eq!(disks(pi), Some((1_802_110 * 512, 802_112 * 512)));
    assert_eq!(zrams(pi).collect::<Vec<_>>(), ["zram0"]);
    let here = " 254       0 vda 254216 13209 10795690 187513 99924 190173 67601736 224279 0 33280 417807 31785 1 5577064 5414 17432 599\n";
    assert_eq!(disks(here), Some((10_795_690 * 512, 67_601_736 * 512)));
    let whole = ["sda", "sdab", "vdb", "mmcblk1", "nvme0n1"];
    let parts = [
        "sda1",
        "vda2",
        "mmcblk1p1",
        "mmcblk0rpmb",
        "nvme0n1p1",
        "nvme0c0n1",
        "dm-0",
        "md0",
        "sr0",
        "sd",
    ];
    assert!(whole.into_iter().all(is_disk));
    assert!(!parts.into_iter().any(is_disk));
    assert_eq!(
        disks("   7       0 loop0 18 0 70 5 0 0 0 0 0 12 5\n"),
        None,
        "no disk is not 0 bytes"
    );
}

#[test]
fn zram_says_what_lies_in_it_and_what_that_takes() {
    let text =
        "  104857600  26214400  27262976        0 27262976     1204     8192      310        0\n";
    assert_eq!(zram(text), Some((104_857_600, 27_262_976)));
    assert_eq!(zram("104857600\n"), None);
}

#[test]
fn bytes_of_the_network_are_those_of_the_cards_asked_for() {
    let pi = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo: 1204110   9120    0    0    0     0          0         0  1204110    9120    0    0    0     0       0          0\n  \
        eth0: 98210334  118203    0   12    0     0          0      1203  7210443   61120    0    0    0     0       0          0\n \
        wlan0:5  1    0    0    0     0          0         0  6   1    0    0    0     0       0          0\n\
        docker0: 40  1    0    0    0     0          0         0  50   1    0    0    0     0       0          0\n";
    let hardware = |name: &str| ["eth0", "wlan0"].contains(&name);
    assert_eq!(cards(pi, hardware), Some((98_210_339, 7_210_449)));
    assert_eq!(cards(pi, |_| false), None);
}

#[test]
fn a_neighbour_is_known_once_it_has_answered() {
    let arp = "IP address       HW type     Flags       HW address            Mask     Device\n\
        10.213.0.2       0x1         0x2         02:42:0a:d5:00:02     *        br-0a1b2c3d4e5f\n\
        10.213.0.21      0x1         0x0         00:00:00:00:00:00     *        br-0a1b2c3d4e5f\n\
        192.168.1.1      0x1         0x2         9c:3d:cf:00:11:22     *        eth0\n";
    let of = |address: [u8; 4]| neighbour(arp, address.into());
    let known = ([0x02, 0x42, 0x0a, 0xd5, 0x00, 0x02], "br-0a1b2c3d4e5f");
    assert_eq!(of([10, 213, 0, 2]), Some(known));
    assert_eq!(of([10, 213, 0, 21]), None, "asked for and silent");
    assert_eq!(of([10, 213, 0, 3]), None);
}
