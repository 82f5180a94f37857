//! Secrets as the coordinator has them: sealed copies that it cannot open, handed to nodes in their manifests.
//!
//! ```text
//! pith secret set -> one copy per node and per release key -> kept -> rollouts of what uses it -> manifests
//! a node that came later -> no copy -> waits -> pith secret sync -> the copy -> its manifest
//! ```
//! A version's value never changes. Versions that something may still run or go back to are kept, the others forgotten.

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::{EnvironmentName, NodeId, SecretName, ServiceId, ServiceName};
use protocol::join::SealKey;
use protocol::keys::{PublicKey, RoleName};
use protocol::registries::registry_of;
use protocol::release::Release;
use protocol::secret::{self, SecretVersions};
use protocol::spec::ServiceSpec;

use super::deploy::Again;
use super::records::{Change, Intent, NodeRecord, OperatorCopy, SecretRecord, VersionRecord};
use super::requests::{AddCopies, Refused, SetSecret};
use super::shown::{
    LackingShown, RecipientShown, SecretRemoved, SecretSet, SecretShown, SecretToRotate,
    SecretsShown, SyncShown, UnsyncedShown,
};
use super::{At, State};

/// Secrets of one environment.
pub(super) const MAX_SECRETS: usize = 256;

type SecretKey = (EnvironmentName, SecretName);

impl State {
    /// Takes the sealed copies of a new version, and rolls out every service that uses the secret.
    ///
    /// # Errors
    /// Where somebody was faster, a node's manifest would be too large, or a rollout cannot begin; then nothing is kept.
    pub fn set_secret(
        &mut self,
        environment: &EnvironmentName,
        name: &SecretName,
        set: SetSecret,
        at: At,
    ) -> Result<SecretSet, Refused> {
        let key = (environment.clone(), name.clone());
        let before = self.secrets.get(&key).cloned();
        let exists = before.as_ref().is_some_and(SecretRecord::exists);
        if set.must_exist && !exists {
            return Err(Refused::NoSecret(name.clone(), environment.clone()));
        }
        if let Some(before) = before.as_ref().filter(|b| exists && b.registry != set.registry) {
            return Err(Refused::SecretKind { name: name.clone(), is: before.purpose() });
        }
        let of_it = self.secrets.values().filter(|s| s.environment == *environment && s.exists());
        if !exists && of_it.count() >= MAX_SECRETS {
            return Err(Refused::TooManySecrets(MAX_SECRETS));
        }
        let mut record = before.clone().unwrap_or_else(|| SecretRecord::new(&key));
        let (newest, expected) = (record.newest, set.version);
        if expected != newest + 1 {
            return Err(Refused::SecretChanged { name: name.clone(), newest });
        }
        self.check_copies(&set.operators, set.nodes.iter().map(|copy| &copy.node), environment)?;
        let version = VersionRecord {
            at_ms: at.unix_ms,
            by: set.by.clone(),
            operators: set.operators,
            nodes: set.nodes.into_iter().map(|copy| (copy.node.clone(), copy)).collect(),
        };
        record.newest = expected;
        record.registry = set.registry;
        record.versions.insert(expected, version);
        self.secrets.insert(key.clone(), record);
        let users = self.users_of(&key);
        if let Err(refused) = self.check_room(&users, at) {
            match before {
                Some(before) => drop(self.secrets.insert(key, before)),
                None => drop(self.secrets.remove(&key)),
            }
            return Err(refused);
        }
        let cause = set.cause.unwrap_or_else(|| format!("secret {name} version {expected}"));
        let mut rollouts = Vec::new();
        let mut failed = Vec::new();
        let is_login = self.secrets.get(&key).is_some_and(|secret| secret.registry.is_some());
        if is_login {
            self.tell_nodes_of(&users);
        }
        // A login changes nothing that runs.
        for id in users.into_iter().filter(|_| !is_login) {
            let again = Again { cause: Some(cause.clone()), by: set.by.clone(), restarts: 0 };
            match self.begin_again(&id, again, at) {
                Ok(accepted) => rollouts.push(accepted),
                Err(refused) => failed.push((id.name.clone(), refused.to_string())),
            }
        }
        self.forget_old_versions(&key);
        self.note_secret(&key, format!("secret {name} version {expected} set by {}", set.by), at);
        let lacking = self.lacking_of(&key);
        Ok(SecretSet {
            name: name.clone(),
            environment: environment.clone(),
            version: expected,
            rollouts,
            failed,
            lacking,
        })
    }

    /// Forgets a secret. Its number goes on counting: a version is one value for ever.
    ///
    /// # Errors
    /// Where there is none, or a service uses it.
    pub fn remove_secret(
        &mut self,
        environment: &EnvironmentName,
        name: &SecretName,
        at: At,
    ) -> Result<SecretRemoved, Refused> {
        let key = (environment.clone(), name.clone());
        if !self.secrets.get(&key).is_some_and(SecretRecord::exists) {
            return Err(Refused::NoSecret(name.clone(), environment.clone()));
        }
        let users = self.users_of(&key);
        let is_login = self.secrets.get(&key).is_some_and(|secret| secret.registry.is_some());
        if let Some(user) = users.first().filter(|_| !is_login) {
            return Err(Refused::SecretUsed { name: name.clone(), by: user.name.clone() });
        }
        self.tell_nodes_of(&users);
        if let Some(record) = self.secrets.get_mut(&key) {
            record.versions.clear();
        }
        self.keep_secret(&key);
        self.note_secret(&key, format!("secret {name} removed"), at);
        Ok(SecretRemoved { name: name.clone(), environment: environment.clone() })
    }

    /// Secrets of an environment, and whom a new one is sealed to.
    #[must_use]
    pub fn show_secrets(&self, environment: &EnvironmentName) -> SecretsShown {
        let of_it = self.secrets.iter().filter(|((env, _), s)| env == environment && s.exists());
        let secret = |(key, record): (&SecretKey, &SecretRecord)| {
            let newest = record.versions.get(&record.newest);
            SecretShown {
                name: record.name.clone(),
                environment: environment.clone(),
                registry: record.registry.clone(),
                version: record.newest,
                set_ms: newest.map_or(0, |version| version.at_ms),
                by: newest.map(|version| version.by.clone()).unwrap_or_default(),
                used_by: self.users_of(key).into_iter().map(|id| id.name).collect(),
                lacking: self.lacking_of(key),
            }
        };
        let known = self.secrets.iter().filter(|((env, _), _)| env == environment);
        SecretsShown {
            environment: environment.clone(),
            secrets: of_it.map(secret).collect(),
            newest: known.map(|((_, name), record)| (name.clone(), record.newest)).collect(),
            recipients: self.recipients(environment),
            root_version: self.director.root.version,
        }
    }

    /// What somebody with a release key has to seal again: every version that is kept, for nodes and release keys that have no
    /// copy of it.
    #[must_use]
    pub fn show_unsynced(&self, environment: &EnvironmentName) -> UnsyncedShown {
        let recipients = self.recipients(environment);
        let release_keys = self.release_keys();
        let mut lacking = Vec::new();
        for record in self.secrets.values().filter(|record| record.environment == *environment) {
            for (number, version) in &record.versions {
                let has = |one: &&RecipientShown| {
                    let copy = version.nodes.get(&one.node);
                    copy.is_none_or(|copy| Some(&copy.key) != one.seal_key.as_ref())
                };
                let nodes: Vec<NodeId> = recipients
                    .iter()
                    .filter(|one| one.seal_key.is_some())
                    .filter(has)
                    .map(|one| one.node.clone())
                    .collect();
                let has_copy = |key: &&PublicKey| version.operators.iter().any(|c| c.key == **key);
                let keys: Vec<PublicKey> =
                    release_keys.iter().filter(|key| !has_copy(key)).cloned().collect();
                if !nodes.is_empty() || !keys.is_empty() {
                    let (name, operators) = (record.name.clone(), version.operators.clone());
                    lacking.push(LackingShown { name, version: *number, operators, nodes, keys });
                }
            }
        }
        UnsyncedShown { environment: environment.clone(), lacking, recipients }
    }

    /// Takes copies for nodes and release keys that came later.
    ///
    /// # Errors
    /// Where one is of a version that is not kept, or for somebody else.
    pub fn add_copies(
        &mut self,
        environment: &EnvironmentName,
        add: AddCopies,
        at: At,
    ) -> Result<SyncShown, Refused> {
        for one in &add.copies {
            let key = (environment.clone(), one.name.clone());
            let kept = self.secrets.get(&key).and_then(|s| s.versions.get(&one.version));
            if kept.is_none() {
                return Err(Refused::NoSecret(one.name.clone(), environment.clone()));
            }
            self.check_copies(&one.operators, one.nodes.iter().map(|c| &c.node), environment)?;
        }
        let (mut copies, mut nodes) = (0, BTreeSet::new());
        for one in add.copies {
            let key = (environment.clone(), one.name.clone());
            let kept = self.secrets.get_mut(&key).and_then(|s| s.versions.get_mut(&one.version));
            let Some(kept) = kept else { continue };
            copies += one.nodes.len() + one.operators.len();
            kept.operators.retain(|known| one.operators.iter().all(|new| new.key != known.key));
            kept.operators.extend(one.operators);
            for copy in one.nodes {
                nodes.insert(copy.node.clone());
                kept.nodes.insert(copy.node.clone(), copy);
            }
            self.keep_secret(&key);
        }
        for node in &nodes {
            let Some(known) = self.nodes.get(node) else { continue };
            if !self.copies_for(&known.record, &known.intent).is_empty() {
                self.touched.insert(node.clone());
            }
        }
        let names = nodes.iter().filter_map(|id| Some(self.nodes.get(id)?.record.name.clone()));
        let names: Vec<_> = names.collect();
        if copies > 0 {
            let message =
                format!("{copies} copies of secrets of {environment} sealed by {}", add.by);
            self.note_fleet(message, at);
        }
        Ok(SyncShown { environment: environment.clone(), copies, nodes: names })
    }

    /// The newest versions of what a spec names.
    ///
    /// # Errors
    /// Where one has no value.
    pub(super) fn secret_versions(
        &self,
        environment: &EnvironmentName,
        spec: &ServiceSpec,
    ) -> Result<SecretVersions, Refused> {
        let version = |name: &SecretName| {
            let record = self.secrets.get(&(environment.clone(), name.clone()));
            let record = record.filter(|record| record.exists());
            let record =
                record.ok_or_else(|| Refused::NoSecret(name.clone(), environment.clone()))?;
            if let Some(registry) = record.registry.clone() {
                return Err(Refused::SecretOfRegistry { name: name.clone(), registry });
            }
            Ok((name.clone(), record.newest))
        };
        spec.secret_names().map(version).collect()
    }

    /// The copies that a node's manifest carries: of what its services are made with, and logins for what it pulls.
    pub(super) fn copies_for(&self, record: &NodeRecord, intent: &Intent) -> Vec<secret::Copy> {
        let own_key = self.seal_key_of(&record.id);
        let named: BTreeSet<(&SecretName, u64)> =
            intent.secrets().flatten().map(|(name, version)| (name, *version)).collect();
        let registries: BTreeSet<&str> = intent
            .releases()
            .filter_map(|id| self.releases.get(id))
            .map(|stored| registry_of(&stored.release.image.reference))
            .collect();
        let is_pulled = |secret: &&SecretRecord| {
            let registry = secret.registry.as_deref();
            secret.environment == record.environment
                && registry.is_some_and(|registry| registries.contains(registry))
        };
        let logins = self.secrets.values().filter(is_pulled).map(|one| (&one.name, one.newest));
        let copy = |(name, version): (&SecretName, u64)| {
            let kept = self.secrets.get(&(record.environment.clone(), name.clone()))?;
            let copy = kept.versions.get(&version)?.nodes.get(&record.id)?;
            // A board with a new key cannot open what was sealed to the one before.
            let fits = own_key.as_ref() == Some(&copy.key);
            let (sealed, registry) = (copy.sealed.clone(), kept.registry.clone());
            fits.then(|| secret::Copy { name: name.clone(), version, sealed, registry })
        };
        named.into_iter().chain(logins).filter_map(copy).collect()
    }

    /// The manifests of all that run one of these are composed again.
    fn tell_nodes_of(&mut self, services: &[ServiceId]) {
        let runs = |node: &&super::Node| {
            let is_run = |id: &ServiceId| {
                id.environment == node.record.environment
                    && node.intent.assigned.contains_key(&id.name)
            };
            services.iter().any(is_run)
        };
        let told: Vec<NodeId> =
            self.nodes.values().filter(runs).map(|node| node.record.id.clone()).collect();
        self.touched.extend(told);
    }

    /// Secrets that were sealed to a node, newest versions only: whoever has the board may have read them.
    pub(super) fn sealed_to(&self, node: &NodeId) -> Vec<SecretToRotate> {
        let is_sealed = |record: &&SecretRecord| {
            let newest = record.versions.get(&record.newest);
            newest.is_some_and(|version| version.nodes.contains_key(node))
        };
        let sealed = self.secrets.values().filter(is_sealed);
        let to_rotate = |record: &SecretRecord| SecretToRotate {
            environment: record.environment.clone(),
            name: record.name.clone(),
        };
        sealed.map(to_rotate).collect()
    }

    fn seal_key_of(&self, node: &NodeId) -> Option<SealKey> {
        let said = self.nodes.get(node).and_then(|node| node.record.seal_key.clone());
        said.or_else(|| self.members.get(node)?.seal_key.clone())
    }

    /// Everyone of an environment who may come to run something that needs a secret.
    fn recipients(&self, environment: &EnvironmentName) -> Vec<RecipientShown> {
        let of_it = self.nodes.values().filter(|node| {
            node.record.environment == *environment && self.is_admitted(&node.record.id)
        });
        let recipient = |node: &super::Node| RecipientShown {
            name: node.record.name.clone(),
            node: node.record.id.clone(),
            seal_key: self.seal_key_of(&node.record.id),
        };
        of_it.map(recipient).collect()
    }

    fn release_keys(&self) -> Vec<PublicKey> {
        let role = self.director.root.roles.get(&RoleName::Release);
        role.map(|role| role.distinct().into_iter().cloned().collect()).unwrap_or_default()
    }

    /// Services of an environment whose current revision uses a secret, or is pulled with it.
    fn users_of(&self, key: &SecretKey) -> Vec<ServiceId> {
        let (environment, name) = key;
        let registry = self.secrets.get(key).and_then(|secret| secret.registry.as_deref());
        let is_used = |release: &Release| match registry {
            Some(registry) => registry_of(&release.image.reference) == registry,
            None => release.spec(environment).secret_names().any(|used| used == name),
        };
        let uses = |id: &ServiceId, service: &super::Service| {
            let release = service.current().and_then(|now| self.releases.get(&now.release));
            id.environment == *environment && release.is_some_and(|stored| is_used(&stored.release))
        };
        let users = self.services.iter().filter(|(id, service)| uses(id, service));
        users.map(|(id, _)| id.clone()).collect()
    }

    /// Nodes that run something with the secret and have no copy of its newest version.
    fn lacking_of(&self, key: &SecretKey) -> Vec<protocol::id::NodeName> {
        let Some(newest) = self.secrets.get(key).and_then(|s| s.versions.get(&s.newest)) else {
            return Vec::new();
        };
        let users: Vec<ServiceName> = self.users_of(key).into_iter().map(|id| id.name).collect();
        let lacks = |node: &&super::Node| {
            let copy = newest.nodes.get(&node.record.id);
            node.record.environment == key.0
                && self.is_admitted(&node.record.id)
                && users.iter().any(|user| node.intent.assigned.contains_key(user))
                && copy
                    .is_none_or(|copy| self.seal_key_of(&node.record.id) != Some(copy.key.clone()))
        };
        self.nodes.values().filter(lacks).map(|node| node.record.name.clone()).collect()
    }

    fn check_copies<'a>(
        &self,
        operators: &[OperatorCopy],
        nodes: impl Iterator<Item = &'a NodeId>,
        environment: &EnvironmentName,
    ) -> Result<(), Refused> {
        let release_keys = self.release_keys();
        let is_stranger = |copy: &&OperatorCopy| !release_keys.contains(&copy.key);
        if let Some(copy) = operators.iter().find(is_stranger) {
            return Err(Refused::NotAReader(copy.key.id().to_string()));
        }
        let recipients = self.recipients(environment);
        let mut strangers = nodes.filter(|id| recipients.iter().all(|one| one.node != **id));
        match strangers.next() {
            Some(id) => Err(Refused::NotAReader(id.to_string())),
            None => Ok(()),
        }
    }

    /// Whether the manifests of all that run a user still fit, once they carry both versions.
    fn check_room(&self, users: &[ServiceId], at: At) -> Result<(), Refused> {
        for id in users {
            let Some(current) = self.services.get(id).and_then(super::Service::current) else {
                continue;
            };
            let Some(stored) = self.releases.get(&current.release) else { continue };
            let spec = stored.release.spec(&id.environment);
            let secrets = self.secret_versions(&id.environment, spec)?;
            for node in self.nodes.values() {
                let Some(assigned) = node.intent.assigned.get(&id.name) else { continue };
                if node.record.environment != id.environment {
                    continue;
                }
                let mut assigned = assigned.clone();
                assigned.secrets.clone_from(&secrets);
                let (node, release) = (&node.record.id, &stored.envelope);
                self.check_manifest_fits(node, &id.name, &assigned, release, at)?;
            }
        }
        Ok(())
    }

    /// Keeps the newest version, and those that something runs or may go back to.
    fn forget_old_versions(&mut self, key: &SecretKey) {
        let (environment, name) = key;
        let of_services = self.services.iter().filter(|(id, _)| id.environment == *environment);
        let of_services = of_services.flat_map(|(_, service)| {
            let from = service.current().and_then(|current| current.from);
            let numbers = [service.record.stable, service.active(), service.watched(), from];
            numbers.into_iter().flatten().filter_map(move |number| service.revisions.get(&number))
        });
        let of_nodes = self.nodes.values().flat_map(|node| node.intent.secrets());
        let of_services = of_services.map(|revision| &revision.secrets);
        let named: BTreeSet<u64> = of_services
            .chain(of_nodes)
            .filter_map(|versions| versions.get(name).copied())
            .collect();
        if let Some(record) = self.secrets.get_mut(key) {
            let newest = record.newest;
            record.versions.retain(|number, _| *number == newest || named.contains(number));
        }
        self.keep_secret(key);
    }

    pub(super) fn keep_secret(&mut self, key: &SecretKey) {
        if let Some(record) = self.secrets.get(key) {
            self.effects.changes.push(Change::Secret(Box::new(record.clone())));
            self.effects.visible = true;
        }
    }

    fn note_secret(&mut self, (environment, _): &SecretKey, message: String, at: At) {
        self.note(super::Happened {
            id: 0,
            at_ms: at.unix_ms,
            environment: Some(environment.clone()),
            service: None,
            node: None,
            reason: None,
            message,
        });
    }
}

impl SecretRecord {
    pub(super) fn new((environment, name): &SecretKey) -> Self {
        Self {
            environment: environment.clone(),
            name: name.clone(),
            registry: None,
            newest: 0,
            versions: BTreeMap::new(),
        }
    }

    /// What it is for, as a sentence goes on.
    fn purpose(&self) -> String {
        match &self.registry {
            Some(registry) => format!("a login for pulls from {registry}"),
            None => "for services".to_owned(),
        }
    }

    /// Whether it has a value; one that was removed is only counted on.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.versions.contains_key(&self.newest)
    }
}
