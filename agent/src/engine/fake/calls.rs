//! What the fake does when it is called: keeps what Docker keeps, refuses what Docker refuses.

use protocol::id::ServiceName;
use protocol::release::Image;
use protocol::spec::HostAccess;

use super::{
    ARCHITECTURE, Call, Daemon, Damaged, FakeDocker, KILLED_CODE, Kept, Life, PullOutcome,
};
use crate::engine::container::{Container, ContainerSpec, ContainerState};
use crate::engine::error::{EngineError, PullError};
use crate::engine::identity::Ours;
use crate::engine::{
    Action, EngineInfo, ImageFacts, Network, NetworkSpec, Placement, Program, Signal, Survey,
};

/// Docker's init in an image without a shell.
const DAMAGED_CODE: i64 = 127;

/// What the engine does; see [`super::super::Engine`].
impl FakeDocker {
    /// See [`super::super::Engine::info`].
    ///
    /// # Errors
    /// When the daemon is away or the call is made to fail; so do all below.
    pub fn info(&mut self) -> Result<EngineInfo, EngineError> {
        self.check(Call::Observe)?;
        Ok(EngineInfo {
            version: "0.0.0".to_owned(),
            api: "1.41".to_owned(),
            architecture: ARCHITECTURE.to_owned(),
            os: "linux".to_owned(),
            root_dir: "/var/lib/docker".to_owned(),
            cores: 4,
            memory_bytes: 1 << 30,
            placement: Placement::Host,
            limits_memory: true,
            limits_cpu: true,
            live_restore: true,
        })
    }

    /// See [`super::super::Engine::survey`]: nobody else uses it.
    ///
    /// # Errors
    /// As [`FakeDocker::info`].
    pub fn survey(&mut self) -> Result<Survey, EngineError> {
        Ok(Survey {
            info: self.info()?,
            limits_swap: true,
            limits_pids: true,
            log_driver: "json-file".to_owned(),
            is_swarm: false,
            warnings: Vec::new(),
            neighbours: Vec::new(),
        })
    }

    /// See [`super::super::Engine::containers`].
    ///
    /// # Errors
    /// As [`FakeDocker::info`].
    pub fn containers(&mut self, ours: &Ours) -> Result<Vec<Container>, EngineError> {
        self.check(Call::Observe)?;
        let mine = self.containers.iter().filter(|(_, kept)| kept.spec.ours == *ours);
        let mut list: Vec<Container> = mine.map(|(id, kept)| self.seen(id, kept)).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    fn seen(&self, id: &str, kept: &Kept) -> Container {
        let age_ms = |since_ms: u64| self.now_ms.saturating_sub(since_ms);
        let (state, run) = match kept.life {
            Life::Created => (ContainerState::Created, String::new()),
            Life::Running { since_ms, .. } if since_ms > self.now_ms => {
                (ContainerState::Created, String::new())
            }
            Life::Running { since_ms, .. } => {
                (ContainerState::Running { age_ms: age_ms(since_ms) }, since_ms.to_string())
            }
            Life::Exited { started_ms, at_ms, code, oom } => {
                let state = ContainerState::Exited { age_ms: age_ms(at_ms), code, oom };
                (state, started_ms.to_string())
            }
        };
        Container {
            id: id.to_owned(),
            name: kept.spec.name(),
            identity: kept.spec.identity.clone(),
            state,
            address: (!kept.spec.access.host().network).then_some(kept.spec.address),
            run,
        }
    }

    /// See [`super::super::Engine::create`].
    ///
    /// # Errors
    /// As [`super::super::Engine::create`].
    pub fn create(&mut self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.check(Call::Create)?;
        let reference = spec.image.pinned_reference();
        let Some(facts) = self.images.get(&reference) else {
            return Err(EngineError::NotFound(format!("No such image: {reference}")));
        };
        if facts.architecture != ARCHITECTURE {
            return Err(EngineError::WrongPlatform(format!(
                "{reference} is for another processor"
            )));
        }
        let name = spec.name();
        let of_name = self.containers.iter().find(|(_, kept)| kept.spec.name() == name);
        if let Some((id, kept)) = of_name {
            if kept.spec.ours == spec.ours && kept.spec.identity == spec.identity {
                return Ok(id.clone());
            }
            return Err(EngineError::Conflict(format!("the name {name} is in use")));
        }
        if !self.networks.values().any(|network| network.name == spec.network()) {
            return Err(EngineError::NotFound(format!("network {} not found", spec.network())));
        }
        self.volumes.extend(spec.mounts.iter().map(|mount| mount.volume.clone()));
        self.next_id += 1;
        let id = format!("{:064x}", self.next_id);
        self.containers.insert(id.clone(), Kept { spec: spec.clone(), life: Life::Created });
        self.note("create", &id);
        self.tell(&id, Action::Create);
        Ok(id)
    }

    /// See [`super::super::Engine::access`].
    ///
    /// # Errors
    /// When the daemon is away.
    pub fn access(&self, id: &str) -> Result<Option<(ServiceName, HostAccess)>, EngineError> {
        if self.daemon == Daemon::Away {
            return Err(EngineError::Unavailable("the daemon is away".to_owned()));
        }
        let kept = self.containers.get(id).map(|kept| &kept.spec);
        Ok(kept.map(|spec| (spec.identity.service.clone(), spec.access.host().clone())))
    }

    /// See [`super::super::Engine::start`]; returns when it will run.
    ///
    /// # Errors
    /// As [`super::super::Engine::start`].
    pub fn start(&mut self, id: &str) -> Result<u64, EngineError> {
        self.check(Call::Start)?;
        let Some(kept) = self.containers.get(id).cloned() else {
            return Err(EngineError::NotFound(format!("No such container: {id}")));
        };
        if let Life::Running { since_ms, .. } = kept.life {
            return Ok(since_ms);
        }
        let is_rival = |(other, k): (&String, &Kept)| {
            other != id
                && matches!(k.life, Life::Running { .. })
                && k.spec.address == kept.spec.address
        };
        if self.containers.iter().any(is_rival) {
            return Err(EngineError::AddressTaken("Address already in use".to_owned()));
        }
        let behaviour = self.behaviour(&kept.spec.image);
        let since_ms = self.now_ms + behaviour.start_ms;
        let ends_at_ms = match self.damaged.get(&kept.spec.image.pinned_reference()) {
            Some(_) => Some((since_ms, DAMAGED_CODE, false)),
            None => behaviour.ends.map(|e| (since_ms + e.after_ms, e.code, e.oom)),
        };
        if let Some(kept) = self.containers.get_mut(id) {
            kept.life = Life::Running { since_ms, ends_at_ms };
        }
        self.note("start", id);
        self.tell(id, Action::Start);
        Ok(since_ms)
    }

    /// See [`super::super::Engine::signal`].
    ///
    /// # Errors
    /// As [`FakeDocker::info`].
    pub fn signal(&mut self, id: &str, signal: Signal) -> Result<(), EngineError> {
        self.check(Call::Signal)?;
        let Some(kept) = self.containers.get(id).cloned() else { return Ok(()) };
        let Life::Running { since_ms, ends_at_ms } = kept.life else { return Ok(()) };
        let (verb, ending) = match signal {
            Signal::Kill => ("kill", Some((self.now_ms, KILLED_CODE, false))),
            Signal::Term => {
                let after_ms = self.behaviour(&kept.spec.image).stops_after_ms;
                ("term", after_ms.map(|after_ms| (self.now_ms + after_ms, 0, false)))
            }
        };
        self.note(verb, id);
        // What ends it first ends it.
        let first = [ends_at_ms, ending].into_iter().flatten().min();
        if let Some(kept) = self.containers.get_mut(id) {
            kept.life = Life::Running { since_ms, ends_at_ms: first };
        }
        self.advance(0);
        Ok(())
    }

    /// See [`super::super::Engine::remove`].
    ///
    /// # Errors
    /// As [`super::super::Engine::remove`].
    pub fn remove(&mut self, id: &str) -> Result<(), EngineError> {
        self.check(Call::Remove)?;
        match self.containers.get(id).map(|kept| kept.life) {
            None => Ok(()),
            Some(Life::Running { .. }) => {
                Err(EngineError::Conflict("You cannot remove a running container".to_owned()))
            }
            Some(Life::Created | Life::Exited { .. }) => {
                self.note("remove", id);
                self.containers.remove(id);
                self.tell(id, Action::Destroy);
                Ok(())
            }
        }
    }

    /// See [`super::super::Engine::image`].
    ///
    /// # Errors
    /// As [`FakeDocker::info`].
    pub fn image(&mut self, image: &Image) -> Result<Option<ImageFacts>, EngineError> {
        self.check(Call::Observe)?;
        Ok(self.images.get(&image.pinned_reference()).cloned())
    }

    /// What pulling it would come to.
    #[must_use]
    pub fn pull_outcome(&self, image: &Image) -> PullOutcome {
        let reference = image.pinned_reference();
        if self.images.contains_key(&reference) {
            return PullOutcome::Comes { takes_ms: 0, bytes: 0 };
        }
        let missing = PullOutcome::Fails { after_ms: 0, error: PullError::NotFound };
        self.pulls.get(&reference).cloned().unwrap_or(missing)
    }

    /// A pull has ended well.
    pub fn image_comes(&mut self, image: &Image) {
        let reference = image.pinned_reference();
        let facts = ImageFacts {
            id: reference.clone(),
            architecture: ARCHITECTURE.to_owned(),
            os: "linux".to_owned(),
            healthcheck: false,
            size_bytes: 0,
            user: String::new(),
        };
        self.images.insert(reference, facts);
    }

    /// See [`super::super::Engine::remove_image`].
    ///
    /// # Errors
    /// As [`super::super::Engine::remove_image`].
    pub fn remove_image(&mut self, image: &Image) -> Result<(), EngineError> {
        self.check(Call::RemoveImage)?;
        if self.containers.values().any(|kept| kept.spec.image == *image) {
            return Err(EngineError::Conflict("image is being used by a container".to_owned()));
        }
        if self.images.remove(&image.pinned_reference()).is_some() {
            self.changes.push(format!("remove-image {}", image.pinned_reference()));
        }
        Ok(())
    }
}

/// Damage; see [`super::super::Engine`].
impl FakeDocker {
    /// See [`super::super::Engine::discard_image`].
    ///
    /// # Errors
    /// As [`super::super::Engine::discard_image`].
    pub fn discard_image(&mut self, image: &Image) -> Result<(), EngineError> {
        self.remove_image(image)?;
        let reference = image.pinned_reference();
        if self.damaged.get(&reference) == Some(&Damaged::Once) {
            self.damaged.remove(&reference);
        }
        Ok(())
    }

    /// See [`super::super::Engine::programs`]: only of a damaged image there is anything to see.
    ///
    /// # Errors
    /// As [`FakeDocker::info`].
    pub fn programs(&mut self, id: &str) -> Result<Vec<Program>, EngineError> {
        self.check(Call::Observe)?;
        let image = self.containers.get(id).map(|kept| kept.spec.image.pinned_reference());
        let is_damaged = image.is_some_and(|image| self.damaged.contains_key(&image));
        let program = Program { path: "/app".to_owned(), size: 0, head: Vec::new() };
        Ok(is_damaged.then_some(program).into_iter().collect())
    }
}

/// Networks; see [`super::super::Engine`].
impl FakeDocker {
    /// See [`super::super::Engine::networks`].
    ///
    /// # Errors
    /// As [`FakeDocker::info`].
    pub fn networks(&mut self, ours: &Ours) -> Result<Vec<Network>, EngineError> {
        self.check(Call::Observe)?;
        let is_mine = |network: &&Network| self.network_owners.get(&network.id) == Some(ours);
        let mut networks: Vec<Network> = self.networks.values().filter(is_mine).cloned().collect();
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(networks)
    }

    /// See [`super::super::Engine::create_network`].
    ///
    /// # Errors
    /// As [`super::super::Engine::create_network`].
    pub fn create_network(&mut self, spec: &NetworkSpec) -> Result<Network, EngineError> {
        self.check(Call::CreateNetwork)?;
        let name = spec.ours.network_name(&spec.environment, &spec.service);
        if let Some(network) = self.networks.values().find(|network| network.name == name) {
            return Ok(network.clone());
        }
        if self.networks.values().any(|network| network.subnet.overlaps(spec.subnet)) {
            let text = "Pool overlaps with other one on this address space".to_owned();
            return Err(EngineError::AddressTaken(text));
        }
        self.next_id += 1;
        let network = Network {
            id: format!("{:064x}", self.next_id),
            name,
            environment: spec.environment.clone(),
            service: spec.service.clone(),
            subnet: spec.subnet,
            gateway: spec.subnet.gateway(),
        };
        self.networks.insert(network.id.clone(), network.clone());
        self.network_owners.insert(network.id.clone(), spec.ours.clone());
        self.changes.push(format!("create-network {}", network.name));
        Ok(network)
    }

    /// See [`super::super::Engine::remove_network`].
    ///
    /// # Errors
    /// As [`super::super::Engine::remove_network`].
    pub fn remove_network(&mut self, id: &str) -> Result<(), EngineError> {
        self.check(Call::RemoveNetwork)?;
        let Some(network) = self.networks.get(id) else { return Ok(()) };
        let name = network.name.clone();
        let is_user =
            |kept: &Kept| kept.spec.network() == name && matches!(kept.life, Life::Running { .. });
        if self.containers.values().any(is_user) {
            return Err(EngineError::Conflict(format!("network {name} has active endpoints")));
        }
        self.networks.remove(id);
        self.network_owners.remove(id);
        self.changes.push(format!("remove-network {name}"));
        Ok(())
    }
}
