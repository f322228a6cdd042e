//! Watch: who waits for changes of a key is told of each, as the key is then, under a permit and with a record of its own.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;

use super::Keys;
use crate::{
    Error, Result,
    audit::{Draft, Outcome},
    model::{Key, KeyName},
    policy::{Permit, Recorded, action},
    store::{Applied, ChangedSince},
};

/// Keys that one caller may wait for at once.
const MAX_KEYS: usize = 256;

/// Which keys, and since when.
pub struct WatchRequest {
    /// At least one.
    pub keys: BTreeSet<KeyName>,
    /// `None`: from now on.
    pub after: Option<Applied>,
}

/// What is told at once: at first a place in the chain of changes, then one key.
pub struct Told {
    /// Everything up to here was told.
    pub position: Applied,
    pub key: Option<Arc<Key>>,
}

impl WatchRequest {
    pub fn new(keys: BTreeSet<KeyName>, after: Option<Applied>) -> Result<Self> {
        match keys.len() {
            0 => Err(Error::invalid("names", "there is none: name the keys to watch")),
            1..=MAX_KEYS => Ok(Self { keys, after }),
            _ => Err(Error::invalid(
                "names",
                format_args!("at most {MAX_KEYS} keys on one stream: open another"),
            )),
        }
    }
}

impl Keys {
    /// Begins for one key. Errors: `PositionUnknown` if `after` is of another store, or of one that was restored meanwhile.
    pub async fn begin_watch(
        &self,
        permit: Permit<action::WatchKey>,
        after: Option<Applied>,
    ) -> Result<Recorded<Told>> {
        let begin = async {
            let position = match after {
                Some(after) => self.directory.check_place(&after).await.map(|()| after)?,
                None => self.directory.head().await?,
            };
            Ok(Told { position, key: None })
        };
        permit.complete(begin.await).await
    }

    /// Names of the keys that have changed since, of all: what is told of them needs a permit each.
    pub async fn changed_since(&self, place: &Applied) -> Result<ChangedSince> {
        self.directory.changed_since(place).await
    }

    /// Told after each change of the store.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.directory.commits()
    }

    /// Tells of the permit's key.
    pub async fn tell(&self, permit: Permit<action::WatchKey>, position: Applied) -> Result<Recorded<Told>> {
        let key = Some(permit.on().clone());
        permit.complete(Ok(Told { position, key })).await
    }
}

impl Outcome for Told {
    fn describe(&self, draft: &mut Draft) {
        draft.items = 1;
        if let Some(key) = &self.key {
            key.describe(draft);
        }
    }
}
