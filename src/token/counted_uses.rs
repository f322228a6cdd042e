//! Uses of a version of suite 0001, counted before they are made: there is no way to seal in the token but with [`CountedUses`], and no
//! way to those but through a committed and recorded change of the counter.

use std::ops::Range;

use keyreeve_envelope::{KeyId, KeyVersion};

use crate::{
    Error, Result,
    audit::{Draft, Outcome},
    model::{UseCounter, Version},
    policy::{Permit, action},
    store::Change,
};

/// Uses that are reserved and not made yet.
pub struct ReservedUses(Block);

/// Leave to seal so many messages under one version, once.
pub struct CountedUses(Block);

static_assertions::assert_not_impl_any!(ReservedUses: Clone);
static_assertions::assert_not_impl_any!(CountedUses: Clone);

/// Numbers of uses of one version; no other block of it holds them.
struct Block {
    key: KeyId,
    version: KeyVersion,
    numbers: Range<u64>,
}

/// Reserves the next block of `counter`, which must be of the permit's key. `log_epoch`: the one in use.
///
/// Errors: `MustRotate`; `Conflict` if another node was faster: read the counter again.
pub async fn reserve(
    permit: Permit<action::ReserveUses>,
    counter: &UseCounter,
    log_epoch: u64,
) -> Result<ReservedUses> {
    let result = next_block(&permit, counter, log_epoch);
    let recorded = permit.complete_with(result).await?;
    let Block { key, version, numbers } = recorded.as_ref();
    Ok(ReservedUses(Block {
        key: *key,
        version: *version,
        numbers: numbers.clone(),
    }))
}

fn next_block(permit: &Permit<action::ReserveUses>, counter: &UseCounter, log_epoch: u64) -> Result<(Block, Change)> {
    let (key, version) = (permit.on(), counter.number);
    if counter.key != key.id {
        return Err(Error::Conflict(key.name.to_string())); // the name is another key's by now
    }
    let (numbers, after) = counter.reserve(log_epoch).map_err(|why| Error::MustRotate {
        key: key.name.clone(),
        version: version.number(),
        why,
    })?;
    let key = counter.key;
    Ok((Block { key, version, numbers }, Change::new().update(&after)))
}

impl ReservedUses {
    /// Takes `count` uses; `None` if fewer are left.
    pub fn take(&mut self, count: usize) -> Option<CountedUses> {
        let Block { key, version, numbers } = &mut self.0;
        let end = numbers.start.checked_add(u64::try_from(count).ok()?)?;
        (end <= numbers.end).then(|| {
            let taken = numbers.start..end;
            numbers.start = end;
            CountedUses(Block {
                key: *key,
                version: *version,
                numbers: taken,
            })
        })
    }
}

impl CountedUses {
    /// Whether they are for `count` messages under `version`.
    pub(super) fn cover(&self, version: &Version, count: usize) -> bool {
        let Block {
            key,
            version: number,
            numbers,
        } = &self.0;
        (*key, *number) == (version.key, version.number) && usize::try_from(numbers.end - numbers.start) == Ok(count)
    }

    /// Their numbers, from 0.
    pub fn numbers(&self) -> Range<u64> {
        self.0.numbers.clone()
    }
}

impl Outcome for Block {
    fn describe(&self, draft: &mut Draft) {
        draft.key = Some((self.key, self.version.number()));
        draft.became = Some(format!("from={} to={}", self.numbers.start, self.numbers.end - 1));
    }
}
