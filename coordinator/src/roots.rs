//! Changing the trust root: the next version from the current one, and who still has to sign it. Pure.

use std::collections::BTreeMap;

use protocol::envelope::{Envelope, Rejected};
use protocol::id::KeyId;
use protocol::keys::{PublicKey, Role, RoleName, Root};
use protocol::succession::{self, SignedRoot};
use serde::Serialize;

/// One change of who may sign what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootChange {
    /// One key more.
    Add(RoleName, PublicKey),
    /// A key in the place of another; none: of the only one.
    Rotate(RoleName, Option<KeyId>, PublicKey),
    /// A key less, in every role that has it.
    Revoke(KeyId),
    /// So many signatures.
    Threshold(RoleName, u32),
    /// The same keys under a higher epoch: what nodes have seen of the one before counts no more.
    Epoch,
    /// The same under another director, whatever became of those before: the coordinator was lost.
    Recover(PublicKey),
}

/// Why a change makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootChangeError {
    /// There already.
    #[error("key {key} is in role {role} already")]
    Known {
        /// The key.
        key: KeyId,
        /// Its role.
        role: RoleName,
    },
    /// No role has it.
    #[error("no role has key {0}; `pith keys ls` lists them")]
    Unknown(KeyId),
    /// Which of several?
    #[error("role {role} has {count} keys; name the one to replace: pith keys rotate {role} KEYID")]
    Which {
        /// The role.
        role: RoleName,
        /// How many keys.
        count: usize,
    },
    /// The coordinator signs alone.
    #[error("one coordinator signs as director: its threshold stays 1")]
    DirectorSignsAlone,
    /// The result could not work.
    #[error("{0}; {mend}", mend = mend(.0))]
    Unusable(Rejected),
}

const fn mend(reason: &Rejected) -> &'static str {
    if matches!(reason, Rejected::BadRole { .. }) {
        "replace the key with `pith keys rotate`, add one with `pith keys add`, or lower `pith keys threshold` first"
    } else {
        "choose another change"
    }
}

/// The root that follows `current` after `change`, to be signed.
///
/// # Errors
/// Where the change means nothing or leaves a role that cannot work.
pub fn next(current: &Root, change: &RootChange) -> Result<Root, RootChangeError> {
    let mut root = current.clone();
    root.version += 1;
    match change {
        RootChange::Add(name, key) => {
            check_new(current, key)?;
            let new = || Role { keys: Vec::new(), threshold: 1 };
            root.roles.entry(*name).or_insert_with(new).keys.push(key.clone());
        }
        RootChange::Rotate(name, old, key) => {
            check_new(current, key)?;
            rotate(&mut root, *name, old.as_ref(), key)?;
        }
        RootChange::Revoke(id) => {
            let named = |role: &&mut Role| role.keys.iter().any(|key| key.id() == *id);
            let mut having: Vec<&mut Role> = root.roles.values_mut().filter(named).collect();
            if having.is_empty() {
                return Err(RootChangeError::Unknown(id.clone()));
            }
            having.iter_mut().for_each(|role| role.keys.retain(|key| key.id() != *id));
        }
        RootChange::Epoch => root.epoch = root.epoch.saturating_add(1),
        RootChange::Recover(director) => {
            check_new(&root, director)?;
            root.epoch = root.epoch.saturating_add(1);
            root.roles.insert(RoleName::Director, Role::single(director.clone()));
        }
        RootChange::Threshold(RoleName::Director, threshold) if *threshold > 1 => {
            return Err(RootChangeError::DirectorSignsAlone);
        }
        RootChange::Threshold(name, threshold) => {
            let new = || Role { keys: Vec::new(), threshold: 1 };
            root.roles.entry(*name).or_insert_with(new).threshold = *threshold;
        }
    }
    root.check().map_err(RootChangeError::Unusable)?;
    Ok(root)
}

/// One key, one role: what is online must not be what is offline.
fn check_new(root: &Root, key: &PublicKey) -> Result<(), RootChangeError> {
    let having = root.roles.iter().find(|(_, role)| role.keys.contains(key));
    match having {
        Some((role, _)) => Err(RootChangeError::Known { key: key.id(), role: *role }),
        None => Ok(()),
    }
}

fn rotate(
    root: &mut Root,
    name: RoleName,
    old: Option<&KeyId>,
    key: &PublicKey,
) -> Result<(), RootChangeError> {
    let role = root.roles.entry(name).or_insert_with(|| Role::single(key.clone()));
    let place = match (old, role.keys.as_slice()) {
        (None, [_]) => Some(0),
        (None, several) => {
            return Err(RootChangeError::Which { role: name, count: several.len() });
        }
        (Some(old), keys) => keys.iter().position(|key| key.id() == *old),
    };
    match (place.and_then(|place| role.keys.get_mut(place)), old) {
        (Some(slot), _) => *slot = key.clone(),
        (None, Some(old)) => return Err(RootChangeError::Unknown(old.clone())),
        (None, None) => {}
    }
    Ok(())
}

/// Puts trust roots that were found here and there in a row: each follows the one before it, the newest last. A single one is its own proof alone.
///
/// # Errors
/// In words, where there is none, one is not signed by its own root role, two are of different fleets or say different things under one number, or
/// one does not follow: whoever holds a board can make up a newest one, but none that follows.
pub fn line_up(found: &[Envelope]) -> Result<Vec<SignedRoot>, String> {
    let mut by_version: BTreeMap<u64, SignedRoot> = BTreeMap::new();
    for envelope in found {
        let root = succession::first(envelope).map_err(|e| e.to_string())?.into_inner();
        let version = root.version;
        let one = SignedRoot { root, envelope: envelope.clone() };
        let first = by_version.values().next();
        if first.is_some_and(|first| first.root.fleet != one.root.fleet) {
            return Err("these are trust roots of two fleets".to_owned());
        }
        let known = by_version.entry(version).or_insert_with(|| one.clone());
        if known.root != one.root {
            return Err(format!("two different trust roots {version} are among these"));
        }
    }
    let mut row: Vec<SignedRoot> = Vec::new();
    for one in by_version.into_values().rev() {
        let leads =
            row.last().is_none_or(|next| succession::succeed(&one.root, &next.envelope).is_ok());
        if !leads {
            let (older, newer) = (one.root.version, row.last().map_or(0, |next| next.root.version));
            return Err(format!(
                "trust root {newer} does not follow {older}: leave the false one out, or bring what lies between"
            ));
        }
        row.push(one);
    }
    row.reverse();
    if row.is_empty() { Err("no trust root is in it".to_owned()) } else { Ok(row) }
}

/// Signatures that a root still lacks under one version's root role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Whose root role.
    pub under: u64,
    /// How many more are needed.
    pub needed: u32,
    /// The keys that have not signed.
    pub keys: Vec<KeyId>,
}

/// What a root lacks: under its own root role, and under that of the root before where there is one.
///
/// # Errors
/// Where it is no envelope of a root.
pub fn missing(
    before: Option<&Root>,
    next: &Root,
    envelope: &Envelope,
) -> Result<Vec<Missing>, Rejected> {
    let signed = match envelope.signatures.as_slice() {
        [] => None,
        [_, ..] => Some(envelope.open::<Root>()?),
    };
    let roles = before.into_iter().chain(std::iter::once(next));
    let lacks = |root: &Root| {
        let role = root.roles.get(&RoleName::Root)?;
        let signers = signed.as_ref().map(|signed| signed.signers(role)).unwrap_or_default();
        let valid = u32::try_from(signers.len()).unwrap_or(u32::MAX);
        let needed = role.threshold.max(1).saturating_sub(valid);
        let silent = role.distinct().into_iter().filter(|key| !signers.contains(key));
        let keys = silent.map(PublicKey::id).collect();
        (needed > 0).then_some(Missing { under: root.version, needed, keys })
    };
    Ok(roles.filter_map(lacks).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::keys::SecretKey;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn root() -> Root {
        let roles = BTreeMap::from([
            (
                RoleName::Root,
                Role { keys: [1, 2, 3].map(|k| key(k).public()).into(), threshold: 2 },
            ),
            (RoleName::Release, Role::single(key(4).public())),
            (RoleName::Director, Role::single(key(5).public())),
        ]);
        let fleet = protocol::id::FleetId::from_random([7; 16]);
        Root { format: 1, fleet, version: 1, epoch: 1, roles }
    }

    #[track_caller]
    fn check_refused(change: RootChange, says: &str) {
        let refused = next(&root(), &change).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }

    #[test]
    fn each_change_makes_the_next_version() {
        let after = |change| next(&root(), &change).unwrap();
        let new = || key(9).public();
        let added = after(RootChange::Add(RoleName::AgentRelease, new()));
        assert_eq!((added.version, &added.roles[&RoleName::AgentRelease].keys), (2, &vec![new()]));
        let rotated = after(RootChange::Rotate(RoleName::Director, None, new()));
        assert_eq!(rotated.roles[&RoleName::Director], Role::single(new()));
        let one = key(2).public().id();
        let rotated = after(RootChange::Rotate(RoleName::Root, Some(one.clone()), new()));
        let keys = [key(1).public(), new(), key(3).public()];
        assert_eq!(rotated.roles[&RoleName::Root].keys, keys);
        assert_eq!(after(RootChange::Revoke(one)).roles[&RoleName::Root].keys.len(), 2);
        assert_eq!(
            after(RootChange::Threshold(RoleName::Root, 3)).roles[&RoleName::Root].threshold,
            3
        );
    }

    #[test]
    fn a_higher_epoch_changes_no_key() {
        let before = root();
        let after = next(&before, &RootChange::Epoch).unwrap();
        assert_eq!((after.version, after.epoch, &after.roles), (2, 2, &before.roles));
        let signed = Envelope::sign(&after, &[&key(1)]);
        assert!(succession::succeed(&before, &signed).is_err(), "one of two");
        let signed = Envelope::sign(&after, &[&key(1), &key(3)]);
        assert!(succession::succeed(&before, &signed).is_ok());
    }

    #[test]
    fn a_recovery_changes_the_director_and_raises_the_epoch() {
        let before = root();
        let after = next(&before, &RootChange::Recover(key(9).public())).unwrap();
        assert_eq!((after.version, after.epoch), (2, 2));
        let mut roles = before.roles.clone();
        roles.insert(RoleName::Director, Role::single(key(9).public()));
        assert_eq!(after.roles, roles);
        check_refused(RootChange::Recover(key(1).public()), "in role root already");
    }

    #[test]
    fn roots_found_here_and_there_stand_in_a_row_up_to_the_newest() {
        let sign = |root: &Root| Envelope::sign(root, &[&key(1), &key(2)]);
        let second = next(&root(), &RootChange::Epoch).unwrap();
        let third = next(&second, &RootChange::Epoch).unwrap();
        let versions = |found: &[&Root]| {
            let found: Vec<Envelope> = found.iter().map(|root| sign(root)).collect();
            let row = line_up(&found)?;
            Ok::<_, String>(row.iter().map(|one| one.root.version).collect::<Vec<_>>())
        };
        assert_eq!(versions(&[&third, &root(), &second, &third]), Ok(vec![1, 2, 3]));
        assert_eq!(versions(&[&third]), Ok(vec![3]), "by its own proof alone");
        assert!(versions(&[&root(), &third]).unwrap_err().contains("3 does not follow 1"));
        assert!(versions(&[]).unwrap_err().contains("no trust root"));
        let other = Root { epoch: 9, ..second.clone() };
        assert!(versions(&[&second, &other]).unwrap_err().contains("two different"));
        let foreign = Root { fleet: protocol::id::FleetId::from_random([1; 16]), ..third };
        assert!(versions(&[&root(), &foreign]).unwrap_err().contains("two fleets"));
        let unsigned = Envelope::sign(&root(), &[&key(1)]);
        assert!(line_up(&[unsigned]).unwrap_err().contains("1 of 2"));
    }

    #[test]
    fn a_change_that_means_nothing_or_locks_everybody_out_is_refused() {
        let new = || key(9).public();
        check_refused(RootChange::Add(RoleName::Release, key(1).public()), "in role root already");
        check_refused(RootChange::Rotate(RoleName::Root, None, new()), "has 3 keys");
        check_refused(RootChange::Rotate(RoleName::Root, Some(new().id()), new()), "no role has");
        check_refused(RootChange::Revoke(new().id()), "no role has key");
        check_refused(RootChange::Revoke(key(4).public().id()), "pith keys rotate");
        check_refused(RootChange::Threshold(RoleName::Root, 4), "cannot give 4 signatures");
        check_refused(RootChange::Threshold(RoleName::Root, 0), "threshold of 0");
        check_refused(RootChange::Threshold(RoleName::Director, 2), "stays 1");
    }

    #[test]
    fn who_has_still_to_sign_is_named_under_both_roots() {
        let before = root();
        let after = next(&before, &RootChange::Revoke(key(1).public().id())).unwrap();
        let mut envelope = Envelope::sign(&after, &[&key(1)]);
        let lacking = missing(Some(&before), &after, &envelope).unwrap();
        let needed: Vec<(u64, u32)> = lacking.iter().map(|m| (m.under, m.needed)).collect();
        assert_eq!(needed, [(1, 1), (2, 2)], "who is revoked does not sign the new one");
        envelope.sign_too::<Root>(&key(2)).unwrap();
        envelope.sign_too::<Root>(&key(2)).unwrap();
        let lacking = missing(Some(&before), &after, &envelope).unwrap();
        assert_eq!(lacking.len(), 1);
        assert_eq!((lacking[0].under, &lacking[0].keys), (2, &vec![key(3).public().id()]));
        envelope.sign_too::<Root>(&key(3)).unwrap();
        assert_eq!(missing(Some(&before), &after, &envelope).unwrap(), []);
        assert!(succession::succeed(&before, &envelope).is_ok());
    }
}
