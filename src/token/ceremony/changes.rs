//! What one manifest changes of another, in words: what a custodian is about to sign.

use super::statements::Role;
use crate::token::manifest::{Manifest, Member};

/// Every difference, tokens first. Anything that is not in here is the same, byte for byte.
pub fn changes(previous: &Manifest, next: &Manifest) -> Vec<String> {
    let mut changes = Vec::new();
    if previous.group != next.group {
        changes.push(format!("group is {} instead of {}", next.group, previous.group));
    }
    for (role, token) in tokens(previous) {
        if !tokens(next).any(|(_, other)| other.serial == token.serial) {
            changes.push(format!("{} {} is removed", role.as_str(), token.serial));
        }
    }
    for (role, token) in tokens(next) {
        match tokens(previous).find(|(_, other)| other.serial == token.serial) {
            None => changes.push(format!(
                "{} {} is added, TRANSPORT {}",
                role.as_str(),
                token.serial,
                token.transport_fingerprint().unwrap_or_default()
            )),
            Some(before) if before == (role, token) => {}
            Some(_) => changes.push(format!(
                "{} {} IS ANOTHER THAN BEFORE, TRANSPORT {}",
                role.as_str(),
                token.serial,
                token.transport_fingerprint().unwrap_or_default()
            )),
        }
    }
    for epoch in &previous.epochs {
        if !next.epochs.contains(epoch) {
            changes.push(format!("epoch {} IS REMOVED OR CHANGED", epoch.epoch));
        }
    }
    for epoch in &next.epochs {
        if !previous.epochs.contains(epoch) {
            changes.push(format!("epoch {} is added, KEK {}", epoch.epoch, epoch.kek_id));
        }
    }
    changes
}

fn tokens(manifest: &Manifest) -> impl Iterator<Item = (Role, &Member)> {
    let members = manifest.members.iter().map(|token| (Role::Member, token));
    members.chain(manifest.recovery.iter().map(|token| (Role::Recovery, token)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::manifest::{Checks, Epoch};

    fn token(serial: &str) -> Member {
        Member {
            serial: serial.into(),
            model: String::new(),
            firmware: String::new(),
            transport_spki: String::new(),
            audit_spki: String::new(),
            canary: String::new(),
            probes: vec![],
            oaep_hash: None,
        }
    }

    fn epoch(number: u32) -> Epoch {
        let check = "00".repeat(16);
        Epoch {
            kek_id: format!("{number:032x}"),
            epoch: number,
            check: Checks {
                kek: check.clone(),
                bind: check.clone(),
                svc: check,
            },
        }
    }

    #[test]
    fn every_difference_is_told_and_what_is_the_same_is_not() {
        let before = Manifest {
            v: 1,
            group: "ab".repeat(16),
            seq: 1,
            prev: "0".repeat(64),
            members: vec![token("a"), token("b"), token("c")],
            recovery: vec![token("r")],
            epochs: vec![epoch(1), epoch(2)],
        };
        assert_eq!(changes(&before, &before), Vec::<String>::new());
        let mut after = before.clone();
        after.members.remove(0);
        after.members[0].transport_spki = "00".into();
        after.members.push(token("d"));
        after.members.push(after.recovery.remove(0));
        after.epochs = vec![epoch(1), epoch(3)];
        let told = changes(&before, &after);
        for expected in [
            "member a is removed",
            "member b IS ANOTHER",
            "member d is added",
            "member r IS ANOTHER",
            "epoch 2 IS REMOVED",
            "epoch 3 is added",
        ] {
            assert!(
                told.iter().any(|change| change.starts_with(expected)),
                "{expected}: {told:?}"
            );
        }
        assert_eq!(told.len(), 6);
    }
}
