//! Writes to the ledger, one after another; nothing acts on a change before it is durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use agent::ledger::{Contents, Pulled};
use agent::observe::gather::Scope;
use planner::Now;
use planner::node::{AfterGivingUp, History, LedgerChange, Wanted};
use protocol::acceptance::{self, Accepted};
use protocol::envelope::Envelope;
use protocol::id::{ReleaseId, ServiceName};
use protocol::manifest::{Assignment, Manifest};
use protocol::release::{Image, Release};

use super::Process;
use crate::board::hardware::{Hardware, Request};

/// A change to write.
#[derive(Debug)]
pub(super) enum Job {
    Accept { accepted: Box<Accepted>, envelope: Envelope },
    Record { service: ServiceName, change: LedgerChange },
    Image { image: Image, is_here: Pulled },
}

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Writing {
    contents: Contents,
    opened_at: Now,
    queue: VecDeque<Job>,
    under_way: Option<(Job, Contents)>,
}

impl Writing {
    pub(super) fn new(board: &Hardware) -> Self {
        let contents = board.disk.clone();
        Self { contents, opened_at: board.local(), queue: VecDeque::new(), under_way: None }
    }

    pub(super) fn histories(&self, board: &Hardware) -> BTreeMap<ServiceName, History> {
        self.contents.histories(&board.boot_id(), self.opened_at)
    }

    pub(super) fn push(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    pub(super) fn is_accepting(&self) -> bool {
        let jobs = self.queue.iter().chain(self.under_way.iter().map(|(job, _)| job));
        jobs.into_iter().any(|job| matches!(job, Job::Accept { .. }))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.under_way.is_none()
    }

    pub(super) fn images_pulled(&self) -> &[Image] {
        self.contents.images_pulled()
    }
}

impl Process {
    pub(super) fn begin_writing(&mut self, board: &mut Hardware) {
        if self.writing.under_way.is_some() || board.kills_now() {
            return;
        }
        let Some(job) = self.writing.queue.pop_front() else { return };
        let before = &self.writing.contents;
        let next = match &job {
            Job::Accept { accepted, envelope } => {
                let in_use = self.facts.releases_in_use();
                before.accept(accepted, envelope.clone(), in_use.as_ref())
            }
            Job::Record { service, change } => {
                before.record(service, change.clone(), None, &board.boot_id())
            }
            Job::Image { image, is_here } => before.set_pulled(image, *is_here),
        };
        // What was verified may be on the disk from now on, whether or not this process hears of it.
        if let Job::Accept { accepted, .. } = &job {
            board.allowed.extend(accepted.releases.keys().cloned());
        }
        if let Job::Record { service, change } = &job {
            board.note_change(service, change);
        }
        board.send(self.run, Request::Disk(Box::new(next.clone())));
        self.writing.under_way = Some((job, next));
    }

    pub(super) fn written(&mut self, board: &mut Hardware, now: Now) {
        let Some((job, contents)) = self.writing.under_way.take() else { return };
        self.writing.contents = contents;
        self.histories = self.writing.histories(board);
        self.seen = self.writing.contents.seen();
        match job {
            Job::Accept { accepted, .. } => self.accepted(&accepted, board, now),
            Job::Record { service, change } => {
                board.act(|| format!("{service}: {} is durable", Self::needed_change(&change)));
                self.recorded(&service, &change, now);
            }
            Job::Image { .. } => {}
        }
        self.decide_by(now);
    }

    fn recorded(&mut self, service: &ServiceName, change: &LedgerChange, now: Now) {
        self.busy.remove(service);
        match change {
            LedgerChange::Begin { .. } => {
                let remembered = self.memory.service(service, now);
                remembered.progress_at = now;
                remembered.failure = None;
            }
            LedgerChange::Complete(_) | LedgerChange::GiveUp { .. } => {}
            LedgerChange::Forget => {
                self.memory.services.remove(service);
                self.last_addresses.remove(service);
                self.seen_from.remove(service);
            }
        }
    }

    fn accepted(&mut self, accepted: &Accepted, board: &mut Hardware, now: Now) {
        let generation = accepted.manifest.version.generation;
        board.act(|| format!("manifest {generation} is durable: {}", told(&accepted.manifest)));
        let before = self.wanted.as_ref().map(|wanted| wanted.assignments.clone());
        self.want(&accepted.manifest, board);
        self.is_undecided = true;
        for assignment in &accepted.manifest.services {
            let before = before.as_ref().and_then(|before| before.get(&assignment.service));
            let remembered = self.memory.service(&assignment.service, now);
            if before.is_some_and(|before| before.paused) && !assignment.paused {
                remembered.progress_at = now;
            }
            let tried = |a: &Assignment| a.candidate.as_ref().map(|c| (c.revision, c.count));
            if before.and_then(tried) != tried(assignment) {
                remembered.candidate_progress_at = now;
            }
        }
        self.gathering.want(Scope { images: true, ..Scope::NOTHING }, now);
    }

    pub(super) fn recall(&mut self, board: &Hardware) {
        let Some(envelope) = self.writing.contents.manifest() else { return };
        let bytes = envelope.to_bytes();
        if let Ok(accepted) = acceptance::reread(&bytes, &board.root, &board.identity) {
            self.want(&accepted.manifest, board);
            self.is_undecided = true;
        }
    }

    fn want(&mut self, manifest: &Manifest, board: &Hardware) {
        let known = self.wanted.take().map(|wanted| wanted.releases).unwrap_or_default();
        let release = |(id, envelope): (&ReleaseId, &Envelope)| -> Option<(_, Arc<Release>)> {
            let release = match known.get(id) {
                Some(release) => Arc::clone(release),
                None => {
                    let fleet = &board.identity.fleet;
                    let verified = acceptance::verify_release(envelope, &board.root, fleet).ok()?;
                    Arc::new(verified.into_inner())
                }
            };
            Some((id.clone(), release))
        };
        let releases = self.writing.contents.releases().iter().filter_map(release).collect();
        let assignments = manifest.services.iter().map(|a| (a.service.clone(), a.clone()));
        let environment = board.identity.environment.clone();
        let hooks = manifest.hooks.iter().map(|h| (h.service.clone(), h.clone())).collect();
        let (assignments, peers) = (assignments.collect(), manifest.peers.clone());
        self.wanted = Some(Wanted { environment, assignments, hooks, releases, peers });
    }
}

fn told(manifest: &Manifest) -> String {
    let one = |a: &Assignment| {
        let held = if a.paused { " held" } else { "" };
        let beside = a.candidate.as_ref().map_or_else(String::new, |c| {
            format!(" + r{} {} x{} share {}", c.revision, c.release.short(), c.count, c.share)
        });
        let (name, release) = (&a.service, a.release.short());
        let Assignment { revision, count, attempt, restarts, .. } = a;
        format!(
            "{name} r{revision} {release} x{count} try {attempt} restarts {restarts}{held}{beside}"
        )
    };
    let services: Vec<String> = manifest.services.iter().map(one).collect();
    format!("{}; removed {:?}", services.join(", "), manifest.removed)
}

impl Hardware {
    /// Remembers what was decided once and for all, for the safety of it.
    fn note_change(&mut self, service: &ServiceName, change: &LedgerChange) {
        if let LedgerChange::GiveUp { failed, then: AfterGivingUp::GoBack, .. } = change {
            let key = (service.clone(), failed.template.clone(), failed.attempt);
            *self.went_back.entry(key).or_default() += 1;
        }
        if *change == LedgerChange::Forget {
            self.went_back.retain(|(name, ..), _| name != service);
        }
    }
}
