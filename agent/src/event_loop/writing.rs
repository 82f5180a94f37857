//! Writes to the ledger, one after another. The ledger is away while it is written; decisions go on from what was
//! durable last, and nothing acts on a change before it is back.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use planner::Now;
use planner::node::{LedgerChange, Wanted};
use protocol::acceptance::{self, Accepted};
use protocol::envelope::Envelope;
use protocol::id::{ReleaseId, ServiceName};
use protocol::manifest::{Assignment, Manifest};
use protocol::release::Image;
use protocol::report::Evidence;
use tracing::{error, info};

use super::agent::Agent;
use super::{Event, tell};
use crate::engine::Engine;
use crate::failpoint;
use crate::ledger::{Ledger, LedgerError, Pulled};
use crate::observe::gather::Scope;

/// After a write that failed. Nothing of the node moves meanwhile: what is not durable is not acted on.
const RETRY_MS: u64 = 2_000;

/// A change to write.
#[derive(Debug)]
pub(crate) enum Job {
    /// A manifest.
    Accept {
        /// It, with its releases.
        accepted: Box<Accepted>,
        /// As it is kept.
        envelope: Envelope,
    },
    /// What the planner decided for a service.
    Record {
        /// The service.
        service: ServiceName,
        /// The step's number, for failpoints.
        number: u64,
        /// The change.
        change: LedgerChange,
        /// What was seen of the failure.
        evidence: Option<Evidence>,
    },
    /// An image was pulled or removed.
    Image {
        /// Which.
        image: Image,
        /// Which of the two.
        is_here: Pulled,
    },
}

/// The ledger and what waits to be written.
#[derive(Debug)]
pub(super) struct Writing {
    /// None while a write is under way.
    ledger: Option<Ledger>,
    queue: VecDeque<Job>,
    is_accepting: bool,
    retry_at: Option<Now>,
    trouble: Option<String>,
    images_pulled: Vec<Image>,
}

impl Writing {
    pub(super) fn new(ledger: Ledger) -> Self {
        let images_pulled = ledger.images_pulled().to_vec();
        let queue = VecDeque::new();
        Self {
            ledger: Some(ledger),
            queue,
            is_accepting: false,
            retry_at: None,
            trouble: None,
            images_pulled,
        }
    }

    /// At most one job per service, one per image and one manifest wait: the queue needs no other bound.
    pub(super) fn push(&mut self, job: Job) {
        self.is_accepting |= matches!(job, Job::Accept { .. });
        self.queue.push_back(job);
    }

    /// Whether a manifest is on its way to the disk.
    pub(super) fn is_accepting(&self) -> bool {
        self.is_accepting
    }

    pub(super) fn images_pulled(&self) -> &[Image] {
        &self.images_pulled
    }

    /// Why the last write failed.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn wake_at(&self) -> Option<Now> {
        self.retry_at
    }
}

async fn write(
    ledger: &mut Ledger,
    job: &Job,
    in_use: Option<&BTreeSet<ReleaseId>>,
) -> Result<(), LedgerError> {
    match job {
        Job::Accept { accepted, envelope } => {
            ledger.accept(accepted, envelope.clone(), in_use).await
        }
        Job::Record { service, change, evidence, .. } => {
            ledger.record(service, change.clone(), evidence.clone()).await
        }
        Job::Image { image, is_here } => ledger.set_pulled(image, *is_here).await,
    }
}

impl<E: Engine> Agent<E> {
    pub(super) fn begin_writing(&mut self, now: Now) {
        if self.writing.retry_at.is_some_and(|at| now < at) || self.writing.queue.is_empty() {
            return;
        }
        let Some(mut ledger) = self.writing.ledger.take() else { return };
        let Some(job) = self.writing.queue.pop_front() else { return };
        self.writing.retry_at = None;
        let events = self.events.clone();
        let in_use = self.facts.releases_in_use();
        tokio::task::spawn_local(async move {
            let result = write(&mut ledger, &job, in_use.as_ref()).await;
            tell(&events, Event::Written { ledger: Box::new(ledger), job, result }).await;
        });
    }

    pub(super) fn written(
        &mut self,
        ledger: Ledger,
        job: Job,
        result: Result<(), LedgerError>,
        now: Now,
    ) {
        self.histories = ledger.histories();
        self.seen = ledger.seen();
        self.writing.images_pulled = ledger.images_pulled().to_vec();
        self.writing.ledger = Some(ledger);
        if let Err(reason) = result {
            error!(%reason, "the ledger cannot be written: nothing moves until it can");
            if self.writing.trouble.is_none() {
                self.voice.event(None, None, &format!("the ledger cannot be written: {reason}"));
            }
            self.writing.trouble = Some(reason.to_string());
            self.writing.queue.push_front(job);
            self.writing.retry_at = Some(now.plus(RETRY_MS));
            return;
        }
        self.writing.trouble = None;
        match job {
            Job::Accept { accepted, .. } => {
                self.writing.is_accepting = false;
                self.accepted(&accepted, now);
            }
            Job::Record { service, number, change, .. } => {
                failpoint::after(number);
                self.recorded(&service, change, now);
            }
            Job::Image { .. } => {}
        }
        self.decide_by(now);
    }

    fn accepted(&mut self, accepted: &Accepted, now: Now) {
        let version = accepted.manifest.version;
        let services = accepted.manifest.services.len();
        info!(
            epoch = version.epoch,
            generation = version.generation,
            services,
            "manifest accepted"
        );
        let before = self.wanted.as_ref().map(|wanted| wanted.assignments.clone());
        self.want(&accepted.manifest);
        self.is_undecided = true;
        for assignment in &accepted.manifest.services {
            let before = before.as_ref().and_then(|before| before.get(&assignment.service));
            let remembered = self.memory.service(&assignment.service, now);
            // A hold stops the clock of what is held.
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

    /// At the start: the manifest that was accepted last, verified again.
    pub(super) fn recall(&mut self) {
        let Some(envelope) = self.writing.ledger.as_ref().and_then(Ledger::manifest) else {
            info!("no manifest yet: nothing is touched until one comes");
            return;
        };
        match acceptance::reread(&envelope.to_bytes(), &self.root, &self.node) {
            Ok(accepted) => {
                self.want(&accepted.manifest);
                self.is_undecided = true;
            }
            Err(reason) => {
                error!(%reason, "the manifest in the ledger is not trusted any more: what runs goes on untouched");
            }
        }
    }

    fn want(&mut self, manifest: &Manifest) {
        let Some(ledger) = &self.writing.ledger else { return };
        let verify = |envelope| acceptance::verify_release(envelope, &self.root, &self.node.fleet);
        let known = self.wanted.take().map(|wanted| wanted.releases).unwrap_or_default();
        let mut releases = std::collections::BTreeMap::new();
        for (id, envelope) in ledger.releases() {
            let release = match known.get(id) {
                Some(release) => Ok(Arc::clone(release)),
                None => verify(envelope).map(|release| Arc::new(release.into_inner())),
            };
            match release {
                Ok(release) => {
                    releases.insert(id.clone(), release);
                }
                Err(reason) => {
                    error!(release = id.short(), %reason, "release not trusted any more")
                }
            }
        }
        // What nobody wants any more and still runs is drained as its own release says.
        let still_here = |id: &ReleaseId| {
            self.facts.containers.iter().flatten().any(|c| c.identity.release == *id)
        };
        for (id, release) in known.into_iter().filter(|(id, _)| still_here(id)) {
            releases.entry(id).or_insert(release);
        }
        let assignments = manifest.services.iter().map(|a| (a.service.clone(), a.clone()));
        self.wanted = Some(Wanted {
            environment: self.node.environment.clone(),
            assignments: assignments.collect(),
            hooks: manifest.hooks.iter().map(|h| (h.service.clone(), h.clone())).collect(),
            releases,
            peers: manifest.peers.clone(),
        });
    }
}
