//! Writes to the ledger, one after another. While one is under way decisions go on from what was durable last, and nothing
//! acts on a change before it is durable itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use planner::Now;
use planner::node::{LedgerChange, Wanted};
use protocol::acceptance::{self, Accepted};
use protocol::envelope::Envelope;
use protocol::id::{ReleaseId, ServiceName};
use protocol::keys::Root;
use protocol::manifest::{Assignment, Manifest};
use protocol::reason::Reason;
use protocol::release::Image;
use protocol::report::Evidence;
use tracing::{error, info};

use super::acts::Act;
use super::agent::Agent;
use super::asking::Holding;
use crate::ledger::{Contents, Hold, LedgerError, Pulled};
use crate::observe::gather::Scope;
use crate::report::Obstacle;

/// After a write that failed. Nothing of the node moves meanwhile: what is not durable is not acted on.
const RETRY_MS: u64 = 2_000;

/// A change to write.
#[derive(Debug)]
pub enum Job {
    /// A manifest.
    Accept {
        /// It, with its releases.
        accepted: Box<Accepted>,
        /// As it is kept.
        envelope: Envelope,
    },
    /// The next trust root.
    Succeed {
        /// It.
        root: Box<Root>,
        /// The one trusted until then.
        before: Box<Root>,
        /// What proves it and those between, oldest first.
        proofs: Vec<Envelope>,
    },
    /// What the planner decided for a service.
    Record {
        /// The service.
        service: ServiceName,
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
    /// Root of the board holds a service, or releases it.
    Hold(Box<Holding>),
    /// Nothing but the floor of the time, which every change carries.
    Floor,
}

/// A change, and the ledger with it: durable before anything acts on it.
#[derive(Debug)]
pub struct Write {
    /// The change.
    pub job: Job,
    /// Everything that is to be on the disk then.
    pub contents: Arc<Contents>,
}

/// What is durable and what waits to be.
#[derive(Debug)]
pub(super) struct Writing {
    contents: Arc<Contents>,
    boot_id: String,
    opened_at: Now,
    queue: VecDeque<Job>,
    is_under_way: bool,
    is_accepting: bool,
    retry_at: Option<Now>,
    obstacle: Option<Obstacle>,
}

impl Writing {
    pub(super) fn new(contents: Arc<Contents>, boot_id: String, opened_at: Now) -> Self {
        Self {
            contents,
            boot_id,
            opened_at,
            queue: VecDeque::new(),
            is_under_way: false,
            is_accepting: false,
            retry_at: None,
            obstacle: None,
        }
    }

    /// At most one job per service, one per image, one floor, one manifest or root and one hold per local conversation wait:
    /// the queue needs no other bound.
    pub(super) fn push(&mut self, job: Job) {
        self.is_accepting |= matches!(job, Job::Accept { .. } | Job::Succeed { .. });
        self.queue.push_back(job);
    }

    /// Whether a manifest or a trust root is on its way to the disk.
    pub(super) const fn is_accepting(&self) -> bool {
        self.is_accepting
    }

    /// Whether everything is durable.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_under_way
    }

    pub(super) fn holds(&self) -> BTreeMap<ServiceName, Hold> {
        self.contents.holds()
    }

    pub(super) fn images_pulled(&self) -> &[Image] {
        self.contents.images_pulled()
    }

    /// Why nothing moves: the last write failed.
    pub(super) fn obstacle(&self) -> Option<&Obstacle> {
        self.obstacle.as_ref()
    }

    pub(super) const fn wake_at(&self) -> Option<Now> {
        self.retry_at
    }

    /// The floor of the time that is durable.
    pub(super) fn floor_s(&self) -> u64 {
        self.contents.floor_s()
    }

    fn with(&self, job: &Job, in_use: Option<&BTreeSet<ReleaseId>>, floor_s: u64) -> Contents {
        let next = match job {
            Job::Accept { accepted, envelope } => {
                self.contents.accept(accepted, envelope.clone(), in_use)
            }
            Job::Succeed { root, before, proofs } => {
                self.contents.succeed(root, before).prove(proofs)
            }
            Job::Record { service, change, evidence } => {
                self.contents.record(service, change.clone(), evidence.clone(), &self.boot_id)
            }
            Job::Image { image, is_here } => self.contents.set_pulled(image, *is_here),
            Job::Hold(holding) => self.contents.hold(&holding.service, holding.hold.as_ref()),
            Job::Floor => Contents::clone(&self.contents),
        };
        next.raise_floor(floor_s)
    }
}

impl Agent {
    pub(super) fn begin_writing(&mut self, now: Now) {
        let is_paused = self.writing.retry_at.is_some_and(|at| now < at);
        if is_paused || self.writing.is_under_way {
            return;
        }
        let Some(job) = self.writing.queue.pop_front() else { return };
        self.writing.retry_at = None;
        self.writing.is_under_way = true;
        let in_use = self.facts.releases_in_use();
        let floor_s = self.settings.between.floor.unix_s();
        let contents = Arc::new(self.writing.with(&job, in_use.as_ref(), floor_s));
        self.acts.push(Act::Write(Box::new(Write { job, contents })));
    }

    pub(super) fn written(&mut self, write: Write, result: Result<(), LedgerError>, now: Now) {
        let Write { job, contents } = write;
        self.writing.is_under_way = false;
        if let Err(reason) = result {
            error!(%reason, "the ledger cannot be written: nothing moves until it can");
            let obstacle = Obstacle {
                reason: if reason.is_no_room() { Reason::NoSpace } else { Reason::DiskFailed },
                message: format!("the ledger cannot be written: {reason}"),
            };
            if self.writing.obstacle.is_none() {
                self.tell(None, None, &obstacle.message);
            }
            self.writing.obstacle = Some(obstacle);
            self.writing.queue.push_front(job);
            self.writing.retry_at = Some(now.plus(RETRY_MS));
            return;
        }
        self.histories = contents.histories(&self.writing.boot_id, self.writing.opened_at);
        self.seen = contents.seen();
        self.floors.clone_from(contents.floors());
        self.writing.contents = contents;
        self.writing.obstacle = None;
        match job {
            Job::Accept { accepted, .. } => {
                self.writing.is_accepting = false;
                self.trust_as_kept();
                self.accepted(&accepted, now);
            }
            Job::Succeed { root, .. } => {
                self.writing.is_accepting = false;
                self.trust_as_kept();
                info!(version = root.version, epoch = root.epoch, "trust root accepted");
                self.tell(None, None, &format!("trust root {} accepted", root.version));
                self.voice.greet_again(now);
            }
            Job::Record { service, change, .. } => self.recorded(&service, change, now),
            Job::Hold(holding) => self.holding_written(*holding, now),
            Job::Image { .. } | Job::Floor => {}
        }
        self.decide_by(now);
    }

    /// The trust that is durable now. What was accepted before it stays accepted: nothing that runs ends by it.
    fn trust_as_kept(&mut self) {
        let trust = self.writing.contents.trust(&self.first_root);
        if let Some(early) = self.inbox.set_trust(trust) {
            self.manifests.push_front(early);
        }
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
        let contents = Arc::clone(&self.writing.contents);
        let Some(envelope) = contents.manifest() else {
            info!("no manifest yet: nothing is touched until one comes");
            return;
        };
        match acceptance::reread(&envelope.to_bytes(), self.inbox.trust(), &self.node) {
            Ok(accepted) => {
                self.want(&accepted.manifest);
                self.is_undecided = true;
            }
            Err(reason) => {
                error!(%reason, "the manifest in the ledger is not trusted any more: what runs goes on untouched");
            }
        }
    }

    /// Finds the copies that open; each stays sealed until a container is started with it.
    fn open_copies(&mut self) {
        self.copies.clear();
        self.logins.clear();
        for copy in self.writing.contents.secrets() {
            match (self.settings.vault.open(&self.node, copy), &copy.registry) {
                (Ok(_), None) => {
                    self.copies.insert((copy.name.clone(), copy.version), copy.clone());
                }
                (Ok(_), Some(registry)) => {
                    self.logins.insert(registry.clone(), copy.clone());
                }
                (Err(reason), _) => {
                    error!(secret = %copy.name, version = copy.version, %reason, "secret not opened");
                }
            }
        }
    }

    fn want(&mut self, manifest: &Manifest) {
        self.open_copies();
        let (trust, fleet) = (self.inbox.trust(), &self.node.fleet);
        let verify = |envelope| acceptance::verify_held_release(envelope, trust, fleet);
        let known = self.wanted.take().map(|wanted| wanted.releases).unwrap_or_default();
        let mut releases = std::collections::BTreeMap::new();
        for (id, envelope) in self.writing.contents.releases() {
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
            held: self.held(),
            hooks: manifest.hooks.iter().map(|h| (h.service.clone(), h.clone())).collect(),
            releases,
            floors: self.floors.clone(),
            peers: manifest.peers.clone(),
        });
    }
}
