//! What a release did with its requests, from the proxy's counters and what was seen of its instances.

use planner::node::{Instance, Observed};
use protocol::hello::Traffic;
use protocol::id::{EnvironmentName, ReleaseId, ServiceName};
use proxy::{Counter, Snapshot};

use crate::routes;

/// Sums over the service's ports.
#[must_use]
pub fn of(
    environment: &EnvironmentName,
    snapshot: Option<&Snapshot>,
    observed: &Observed,
    (service, release): (&ServiceName, &ReleaseId),
    memory_percent: impl Fn(&str) -> Option<u8>,
) -> Traffic {
    let mut traffic = Traffic {
        service: service.clone(),
        release: release.clone(),
        requests: 0,
        errors: 0,
        latency_ms: Vec::new(),
        restarts: 0,
        unready: 0,
        memory_percent: None,
    };
    let is_its = |counter: &&Counter| {
        let route = routes::parse_route_id(environment, &counter.route);
        route.is_some_and(|(name, _)| name == *service) && counter.release == release.as_str()
    };
    for counter in snapshot.iter().flat_map(|snapshot| &snapshot.counters).filter(is_its) {
        traffic.requests += counter.requests;
        traffic.errors += counter.errors_5xx + counter.errors_connect;
        for (bound, count) in counter.latency.iter().filter(|(_, count)| *count > 0) {
            match traffic.latency_ms.iter_mut().find(|(known, _)| known == bound) {
                Some((_, sum)) => *sum += count,
                None => traffic.latency_ms.push((*bound, *count)),
            }
        }
    }
    let instances = observed.services.get(service).map_or(&[][..], |facts| &facts.instances);
    for instance in instances.iter().filter(|i: &&Instance| i.release == *release) {
        traffic.restarts += u64::from(instance.exits);
        traffic.unready += u64::from(instance.probed.unready_since.is_some());
        traffic.memory_percent = traffic.memory_percent.max(memory_percent(&instance.container));
    }
    traffic
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(route: &str, release: &ReleaseId, requests: u64) -> Counter {
        Counter {
            route: route.to_owned(),
            release: release.to_string(),
            requests,
            errors_5xx: 1,
            errors_connect: 0,
            latency: vec![(10, requests), (20, 0)],
            latency_sum_us: 0,
        }
    }

    #[test]
    fn a_release_is_counted_over_its_services_ports_and_no_other_is() {
        let [ours, theirs] = [1, 2].map(|n| ReleaseId::of_payload(&[n]));
        let snapshot = Snapshot {
            table: proxy::Table::default(),
            backends: Vec::new(),
            counters: vec![
                counter("default/web/http", &ours, 10),
                counter("default/web/admin", &ours, 5),
                counter("default/web/http", &theirs, 100),
                counter("default/chat/http", &ours, 1_000),
            ],
            listening: Vec::new(),
            held: Vec::new(),
            pid: 1,
            started_ms: 0,
        };
        let (environment, service) = ("default".parse().unwrap(), "web".parse().unwrap());
        let traffic =
            of(&environment, Some(&snapshot), &Observed::default(), (&service, &ours), |_| None);
        assert_eq!((traffic.requests, traffic.errors), (15, 2));
        assert_eq!(traffic.latency_ms, [(10, 15)]);
    }
}
