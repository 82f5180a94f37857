//! Subnets, addresses and names.

use super::*;

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn an_address_that_only_this_machine_reaches_is_none_to_give_to_others() {
    let own = own_address(Some(Ipv4Addr::LOCALHOST.into()));
    assert!(own.is_none_or(|own| !own.is_loopback()), "{own:?}");
}

#[test]
fn a_network_is_read_and_written_with_its_host_bits_cleared() {
    assert_eq!(net("10.213.7.9/16").to_string(), "10.213.0.0/16");
    assert_eq!(net("0.0.0.0/0").to_string(), "0.0.0.0/0");
    for bad in ["10.0.0.0", "10.0.0.0/33", "fd00::/8", "x/8"] {
        assert!(bad.parse::<Ipv4Net>().is_err(), "{bad}");
    }
}

#[test]
fn the_gateway_is_the_first_address() {
    assert_eq!(net("10.213.0.64/26").gateway(), ip("10.213.0.65"));
}

#[test]
fn the_first_subnet_that_nobody_has_is_chosen() {
    let pool = net("10.213.0.0/16");
    assert_eq!(choose_subnet(pool, 26, &[]), Some(net("10.213.0.0/26")));
    let taken = [net("10.213.0.0/26"), net("10.213.0.64/26"), net("172.17.0.0/16")];
    assert_eq!(choose_subnet(pool, 26, &taken), Some(net("10.213.0.128/26")));
}

#[test]
fn a_bigger_and_a_smaller_network_in_the_way_are_gone_around() {
    let pool = net("10.213.0.0/16");
    let taken = [net("10.213.0.0/20"), net("10.213.16.4/32")];
    assert_eq!(choose_subnet(pool, 26, &taken), Some(net("10.213.16.64/26")));
}

#[test]
fn a_pool_that_is_used_up_gives_nothing() {
    assert_eq!(choose_subnet(net("10.213.0.0/16"), 26, &[net("10.0.0.0/8")]), None);
    let halves = [net("10.213.0.0/25"), net("10.213.0.128/25")];
    assert_eq!(choose_subnet(net("10.213.0.0/24"), 26, &halves), None);
    assert_eq!(choose_subnet(net("10.213.0.0/24"), 16, &[]), None);
    let top = net("255.255.255.0/24");
    assert_eq!(choose_subnet(top, 26, &[top]), None);
}

#[test]
fn the_first_instance_follows_the_gateway() {
    assert_eq!(
        choose_address(net("10.213.0.0/26"), &BTreeSet::new(), None),
        Some(ip("10.213.0.2"))
    );
}

#[test]
fn an_address_is_not_reused_at_once() {
    let subnet = net("10.213.0.0/26");
    let last = Some(ip("10.213.0.5"));
    assert_eq!(choose_address(subnet, &BTreeSet::new(), last), Some(ip("10.213.0.6")));
}

#[test]
fn a_used_address_is_stepped_over_and_the_end_wraps_around() {
    let subnet = net("10.213.0.0/29");
    let used = BTreeSet::from([ip("10.213.0.2"), ip("10.213.0.6")]);
    assert_eq!(choose_address(subnet, &used, Some(ip("10.213.0.5"))), Some(ip("10.213.0.3")));
    assert_eq!(choose_address(subnet, &used, Some(ip("10.213.0.6"))), Some(ip("10.213.0.3")));
}

#[test]
fn a_full_subnet_gives_nothing() {
    let used = (2..=6).map(|host| Ipv4Addr::new(10, 213, 0, host)).collect();
    assert_eq!(choose_address(net("10.213.0.0/29"), &used, None), None);
    assert_eq!(choose_address(net("10.213.0.0/29"), &used, Some(ip("10.213.0.6"))), None);
    assert_eq!(choose_address(net("10.213.0.0/31"), &BTreeSet::new(), None), None);
}

#[test]
fn a_last_address_of_another_subnet_does_not_count() {
    let subnet = net("10.213.0.0/26");
    let last = Some(ip("10.9.0.5"));
    assert_eq!(choose_address(subnet, &BTreeSet::new(), last), Some(ip("10.213.0.2")));
}

#[test]
fn host_routes_are_read_without_the_default_one() {
    let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
    assert_eq!(host_routes(text), [net("192.168.0.0/24"), net("172.17.0.0/16")]);
}

#[test]
fn every_service_is_called_by_its_name_in_the_hosts_file() {
    let services = BTreeMap::from([
        ("web".parse().unwrap(), IpAddr::from([10, 213, 0, 1])),
        ("db".parse().unwrap(), IpAddr::from([10, 213, 0, 65])),
    ]);
    assert_eq!(
        hosts_file(&services),
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n\
         10.213.0.65 db\n10.213.0.1 web\n"
    );
}
