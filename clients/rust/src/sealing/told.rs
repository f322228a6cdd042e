//! What a cache of data keys does when it is told of a change of its keys: see [`KeyWatcher`](crate::KeyWatcher).

use keyreeve_envelope::{KeyId, KeyVersion};

use super::{Opener, Sealer};
use crate::{
    v1::{self, KeyState},
    watch::KeyListener,
};

impl KeyListener for Sealer {
    fn begun(&self, _names: &[String]) {
        self.evict_all();
    }

    /// A key seals as long as its primary version is active, and under that version alone.
    fn changed(&self, key: &v1::Key) {
        match (key.id.parse(), KeyVersion::new(key.primary_version)) {
            (Ok(id), Some(primary)) if key.state() == KeyState::Active => self.primary_changed(id, primary),
            (Ok(id), _) => self.evict(id),
            (Err(_), _) => self.evict_all(),
        }
    }
}

impl KeyListener for Opener {
    fn begun(&self, _names: &[String]) {
        self.evict_all();
    }

    /// A version opens while it is active or deactivated.
    fn changed(&self, key: &v1::Key) {
        let Ok(id) = key.id.parse::<KeyId>() else {
            return self.evict_all();
        };
        let stopped = |version: &&v1::KeyVersion| !matches!(version.state(), KeyState::Active | KeyState::Deactivated);
        for version in key.versions.iter().filter(stopped) {
            match KeyVersion::new(version.version) {
                Some(version) => self.evict_version(id, version),
                None => self.evict(id),
            }
        }
    }
}
