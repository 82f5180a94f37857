//! A bridge with containers, as a kernel shows it.

use super::super::testing::Tree;
use super::*;

const BRIDGE: &str = "/sys/class/net/br-0a1b2c3d4e5f";
const ARP: &str = "IP address       HW type     Flags       HW address            Mask     Device\n\
    10.213.0.2       0x1         0x2         02:42:0a:d5:00:02     *        br-0a1b2c3d4e5f\n\
    10.213.0.3       0x1         0x2         02:42:0a:d5:00:03     *        br-0a1b2c3d4e5f\n";

/// As a kernel 6.1 has them: the address, the port, whether it is the bridge's own end, the age, and the port's upper byte.
fn entry(last: u8, port: u16, is_local: bool) -> [u8; ENTRY_BYTES] {
    let [low, high] = port.to_le_bytes();
    let local = u8::from(is_local);
    [0x02, 0x42, 0x0a, 0xd5, 0x00, last, low, local, 0x10, 0, 0, 0, high, 0, 0, 0]
}

fn tree() -> Tree {
    let brforward = [entry(9, 1, true), entry(3, 1, false), entry(2, 0x102, false)].concat();
    Tree::new()
        .file(&format!("{BRIDGE}/brforward"), brforward)
        .file(&format!("{BRIDGE}/brif/veth1a2b3c4/port_no"), "0x1\n")
        .file(&format!("{BRIDGE}/brif/veth5d6e7f8/port_no"), "0x102\n")
        .file("/sys/class/net/veth5d6e7f8/statistics/rx_bytes", "700\n")
        .file("/sys/class/net/veth5d6e7f8/statistics/tx_bytes", "90210\n")
}

#[test]
fn the_bridge_knows_which_interface_leads_to_a_container_and_what_that_sends_the_container_gets() {
    let tree = tree();
    let link = Link::find(&tree.root(), ARP, [10, 213, 0, 2].into()).unwrap();
    assert_eq!(link, Link("veth5d6e7f8".to_owned()));
    assert_eq!(link.bytes(&tree.root()), Some((90_210, 700)));
    tree.remove("/sys/class/net/veth5d6e7f8");
    assert_eq!(link.bytes(&tree.root()), None, "gone with its container");
}

#[test]
fn a_container_that_nobody_has_spoken_to_is_not_known() {
    let tree = tree();
    let find = |arp, address: [u8; 4]| Link::find(&tree.root(), arp, address.into());
    assert_eq!(find(ARP, [10, 213, 0, 4]), None);
    assert_eq!(find("", [10, 213, 0, 2]), None);
    tree.write(&format!("{BRIDGE}/brforward"), entry(2, 1, true));
    assert_eq!(find(ARP, [10, 213, 0, 2]), None, "the bridge's own end is no container");
}
