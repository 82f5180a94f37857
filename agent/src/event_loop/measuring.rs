//! Before a load that a canary is judged by: the proxy's counters and the memory of what is judged are asked for.

use std::collections::BTreeMap;

use planner::Now;
use planner::node::Life;
use protocol::hello::Traffic;
use protocol::manifest::{Assignment, Candidate};

use super::acts::Act;
use super::agent::Agent;
use crate::observe::gather::Scope;
use crate::traffic;

/// Percent of its limit that each measured container uses.
pub type MemoryPercents = BTreeMap<String, u8>;

impl Agent {
    /// Asks; the answers come as events.
    pub(super) fn begin_measuring(&mut self, now: Now) {
        self.gathering.want(Scope { proxy: true, ..Scope::NOTHING }, now);
        self.acts.push(Act::Measure(self.judged_containers()));
    }

    /// What the proxy counted of services with a candidate that takes requests, which is judged by it; `of_all`: of every other
    /// service too, for whoever looks.
    pub(super) fn traffic(&self, of_all: bool) -> Vec<Traffic> {
        let (environment, snapshot) = (&self.node.environment, self.facts.proxy.as_ref());
        let percent = |container: &str| self.memory_percents.get(container).copied();
        let of_both = |(assignment, candidate): (&Assignment, &Candidate)| {
            let service = &assignment.service;
            [&assignment.release, &candidate.release].map(|release| {
                traffic::of(environment, snapshot, &self.observed, (service, release), percent)
            })
        };
        let mut traffic: Vec<Traffic> = self.judged().flat_map(of_both).collect();
        if of_all {
            let others = self.wanted.iter().flat_map(|wanted| wanted.assignments.values());
            let others = others.filter(|a| a.candidate.as_ref().is_none_or(|c| c.share == 0));
            traffic.extend(others.map(|assignment| {
                let of = (&assignment.service, &assignment.release);
                traffic::of(environment, snapshot, &self.observed, of, percent)
            }));
        }
        traffic
    }

    /// Services with a candidate that takes requests.
    pub(super) fn judged(&self) -> impl Iterator<Item = (&Assignment, &Candidate)> {
        let assignments = self.wanted.iter().flat_map(|wanted| wanted.assignments.values());
        let candidates = assignments.filter_map(|a| Some((a, a.candidate.as_ref()?)));
        candidates.filter(|(_, candidate)| candidate.share > 0)
    }

    /// Running instances of those services that have a memory limit.
    fn judged_containers(&self) -> Vec<String> {
        let Some(wanted) = &self.wanted else { return Vec::new() };
        let of_service = |(assignment, _): (&Assignment, &Candidate)| {
            let facts = self.observed.services.get(&assignment.service);
            facts.map_or(&[][..], |facts| &facts.instances)
        };
        let is_limited = |instance: &&planner::node::Instance| {
            let release = wanted.releases.get(&instance.release);
            let limits = release.map(|r| r.spec(&self.node.environment).resources.limits);
            matches!(instance.life, Life::Running { .. })
                && limits.is_some_and(|limits| limits.memory.is_some())
        };
        let instances = self.judged().flat_map(of_service).filter(is_limited);
        instances.map(|instance| instance.container.clone()).collect()
    }
}
