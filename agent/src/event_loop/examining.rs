//! Why an instance ended as soon as it had started, or was refused its start: looked at once per container, and what follows
//! from it. A damaged image is removed when the planner says so, once in this process's life.

use planner::Now;
use planner::node::Finding;
use protocol::id::{ServiceName, Template};
use protocol::reason::Reason;
use protocol::release::{Image, Pin};
use tracing::{info, warn};

use super::acts::Act;
use super::agent::Agent;
use crate::engine::program::{Judged, judge};
use crate::engine::{Autopsy, Container, EngineError};
use crate::observe::gather::Scope;
use crate::observe::memory::{Damaged, Removal};

/// A start that the engine refused with `exec format error`.
#[derive(Debug)]
pub(super) struct RefusedStart {
    pub(super) template: Template,
    pub(super) message: String,
}

impl Agent {
    /// Looks into a container, unless that was done.
    pub(super) fn examine(&mut self, container: &str, refused: Option<RefusedStart>) {
        let known = self.memory.containers.entry(container.to_owned()).or_default();
        if known.is_looked_at && refused.is_none() {
            return;
        }
        known.is_looked_at = true;
        known.finding = Finding::Sought;
        self.examining.insert(container.to_owned(), refused);
        self.acts.push(Act::Examine { container: container.to_owned() });
    }

    /// What there was to see.
    pub(super) fn examined(&mut self, id: &str, result: Result<Autopsy, EngineError>, now: Now) {
        let Some(refused) = self.examining.remove(id) else { return };
        self.decide_by(now);
        let Some(known) = self.memory.containers.get_mut(id) else { return };
        known.finding = Finding::Nothing;
        let Some((container, image)) = self.container(id) else { return };
        let service = container.identity.service;
        let judged = match result {
            Ok(autopsy) => judge(&autopsy, &self.processor(), refused.is_some()),
            Err(error) => {
                warn!(%service, container = container.name, %error, "not looked into");
                if let Some(known) = self.memory.containers.get_mut(id) {
                    known.is_looked_at = false;
                }
                Judged::Sound
            }
        };
        self.memory.service(&service, now).pause_until = None;
        let (reason, message) = match judged {
            Judged::Damaged(what) => return self.found_damaged(service, image, what),
            Judged::OtherMachine { path, machine } => {
                (Reason::WrongPlatform, self.other_machine(&image.pin, &path, machine))
            }
            Judged::Text { path } => (Reason::StartFailed, text_message(&path)),
            Judged::Sound => {
                if let Some(RefusedStart { template, message }) = refused {
                    let failure = (Reason::WrongPlatform, message, true);
                    self.memory.failed(&service, &template, failure, now);
                }
                return;
            }
        };
        warn!(%service, container = container.name, %reason, message, "cannot run here");
        if let Some(RefusedStart { template, .. }) = refused {
            self.memory.failed(&service, &template, (reason, message.clone(), true), now);
        }
        if let Some(known) = self.memory.containers.get_mut(id) {
            known.finding = Finding::Unrunnable { reason, message };
        }
    }

    fn found_damaged(&mut self, service: ServiceName, image: Image, what: String) {
        let is_known = self.memory.damaged.contains_key(&image.pin);
        if is_known {
            return;
        }
        let is_again = self.memory.repaired.contains(&image.pin);
        warn!(%service, image = image.reference, what, is_again, "image damaged on this board");
        let text = format!("{}: {what}: damaged on this board", image.reference);
        self.tell(Some(service), Some(Reason::ImageDamaged), &text);
        self.memory.damaged.insert(image.pin, Damaged { what, removal: Removal::Due });
    }

    /// One that is not here any more is damaged no more.
    pub(super) fn look_at_damage(&mut self) {
        let (facts, looked) = (&self.facts, self.gathering.images_number);
        self.memory.damaged.retain(|pin, damaged| {
            let is_gone = facts.images.get(pin).is_some_and(Option::is_none);
            match damaged.removal {
                Removal::Due | Removal::Refused(_) => !is_gone,
                Removal::Underway => true,
                Removal::Done { seen_from } => looked < seen_from,
            }
        });
    }

    pub(super) fn discard_image(&mut self, image: Image) {
        let Some(damaged) = self.memory.damaged.get_mut(&image.pin) else { return };
        if damaged.removal != Removal::Due {
            return;
        }
        damaged.removal = Removal::Underway;
        info!(image = image.reference, "damaged image removed");
        self.acts.push(Act::DiscardImage(image));
    }

    pub(super) fn image_discarded(&mut self, pin: Pin, result: Result<(), EngineError>, now: Now) {
        let seen_from = self.gathering.next_number();
        let Some(damaged) = self.memory.damaged.get_mut(&pin) else { return };
        damaged.removal = match result {
            Ok(()) => Removal::Done { seen_from },
            // It is away: tried again when it is back.
            Err(EngineError::Unavailable(_)) => Removal::Due,
            Err(error) => {
                warn!(%error, "damaged image not removed");
                Removal::Refused(error.to_string())
            }
        };
        if let Removal::Done { .. } = damaged.removal {
            self.memory.repaired.insert(pin);
        }
        self.gathering.want(Scope { images: true, ..Scope::NOTHING }, now);
        self.decide_by(now);
    }

    /// A rollout's clock counts from its image being here.
    pub(super) fn image_came(&mut self, pin: &Pin, now: Now) {
        let Some(wanted) = &self.wanted else { return };
        for (name, history) in &self.histories {
            let running = history.running.as_ref();
            let release = running.and_then(|kept| wanted.releases.get(&kept.release));
            if release.is_some_and(|release| release.image.pin == *pin) {
                let service = self.memory.service(name, now);
                service.progress_at = service.progress_at.max(now);
            }
        }
    }

    fn container(&self, id: &str) -> Option<(Container, Image)> {
        let container = self.facts.containers.iter().flatten().find(|c| c.id == id)?;
        let release = self.wanted.as_ref()?.releases.get(&container.identity.release)?;
        Some((container.clone(), release.image.clone()))
    }

    fn processor(&self) -> String {
        self.facts.info.as_ref().map(|info| info.architecture.clone()).unwrap_or_default()
    }

    fn other_machine(&self, pin: &Pin, path: &str, machine: &str) -> String {
        let processor = self.processor();
        let image = self.facts.images.get(pin).and_then(Option::as_ref);
        let says = image.map(|image| image.architecture.as_str()).filter(|says| !says.is_empty());
        let although = says.map(|says| format!(", although the image says {says}"));
        format!(
            "{path} in the image is a program for {machine}, this node's processor is {processor}{}",
            although.unwrap_or_default()
        )
    }
}

fn text_message(path: &str) -> String {
    format!(
        "{path} in the image is text without a first line that says what runs it: a script needs one, such as `#!/bin/sh`"
    )
}
