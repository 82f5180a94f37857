//! What each instance does: its cgroup and its link are found at its start and read from then on.

use std::collections::BTreeMap;

use planner::Now;
use planner::node::{Instance, Life};
use protocol::id::ServiceName;
use protocol::load::InstanceLoad;

use super::cgroup::{Group, Groups, Usage};
use super::link::Link;
use super::proc::Bytes;
use super::{MAX_INSTANCES, Root, round};

/// Looks at instances.
#[derive(Debug)]
pub struct Instances {
    root: Root,
    groups: Groups,
    /// By the engine's id.
    known: BTreeMap<String, Known>,
}

/// One start of a container.
#[derive(Debug, Default)]
struct Known {
    since: Option<Now>,
    /// None: it is nowhere, and not looked for again.
    group: Option<Group>,
    link: Option<Link>,
    /// Its processor's time, microseconds, at the last look.
    cpu_us: Option<(u64, Now)>,
}

impl Instances {
    /// Has seen none.
    #[must_use]
    pub fn new(root: Root) -> Self {
        Self { groups: Groups::new(root.clone()), root, known: BTreeMap::new() }
    }

    /// What they do at `now`, at most [`MAX_INSTANCES`]; the others are forgotten.
    pub fn look(&mut self, instances: &[(&ServiceName, &Instance)], now: Now) -> Vec<InstanceLoad> {
        let instances = &instances[..instances.len().min(MAX_INSTANCES)];
        let is_told = |id: &String| instances.iter().any(|(_, one)| one.container == *id);
        self.known.retain(|id, _| is_told(id));
        // Read for the first that needs it.
        let mut arp = None;
        instances.iter().map(|(service, one)| self.one(service, one, &mut arp, now)).collect()
    }

    fn one(
        &mut self,
        service: &ServiceName,
        instance: &Instance,
        arp: &mut Option<String>,
        now: Now,
    ) -> InstanceLoad {
        let (usage, cpu, bytes) = match &instance.life {
            Life::Running { since } => self.running(instance, Some(*since), arp, now),
            // It runs on from the start that is known.
            Life::Stopping { .. } => self.running(instance, None, arp, now),
            Life::Created | Life::Exited(_) => {
                self.known.remove(&instance.container);
                (Usage::default(), None, None)
            }
        };
        InstanceLoad {
            service: service.clone(),
            instance: instance.name.clone(),
            cpu,
            mem_used: usage.mem_used,
            mem_max: usage.mem_max,
            net_in: bytes.map(|(received, _)| received),
            net_out: bytes.map(|(_, sent)| sent),
            restarts: u64::from(instance.exits),
            ooms: usage.ooms,
        }
    }

    fn running(
        &mut self,
        instance: &Instance,
        since: Option<Now>,
        arp: &mut Option<String>,
        now: Now,
    ) -> (Usage, Option<f32>, Option<Bytes>) {
        let id = &instance.container;
        let is_new = |known: &Known| since.is_some() && known.since != since;
        if self.known.get(id).is_none_or(is_new) {
            let group = self.groups.find(id);
            self.known.insert(id.clone(), Known { since, group, ..Known::default() });
        }
        let Some(known) = self.known.get_mut(id) else { return Default::default() };
        let usage = known.group.as_ref().map(|group| self.groups.usage(group)).unwrap_or_default();
        let before = std::mem::replace(&mut known.cpu_us, usage.cpu_us.map(|us| (us, now)));
        let cpu = before.zip(usage.cpu_us).and_then(|((before_us, at), us)| {
            let elapsed_ms = now.0.checked_sub(at.0).filter(|ms| *ms > 0)?;
            // Less than before: another start.
            let used_us = us.checked_sub(before_us)?;
            Some(round(used_us as f32 / 1000.0 / elapsed_ms as f32, 1000.0))
        });
        (usage, cpu, bytes(&self.root, known, instance, arp))
    }
}

/// The link is looked for until it is found: at first nobody may have spoken to the container.
fn bytes(
    root: &Root,
    known: &mut Known,
    instance: &Instance,
    arp: &mut Option<String>,
) -> Option<Bytes> {
    if let Some(bytes) = known.link.as_ref().and_then(|link| link.bytes(root)) {
        return Some(bytes);
    }
    let arp = arp.get_or_insert_with(|| root.text("/proc/net/arp").unwrap_or_default());
    known.link = Link::find(root, arp, instance.address?);
    known.link.as_ref()?.bytes(root)
}

#[cfg(test)]
mod tests;
