//! A key by its name, at a client, and the id by which a message names it.

use std::sync::{Arc, Mutex, PoisonError};

use keyreeve_envelope::KeyId;

use super::DataKeys;
use crate::ClientError;

/// One of the keys that a sealer or opener works with.
pub(super) struct NamedKey {
    pub source: Arc<dyn DataKeys>,
    pub name: String,
    /// It is of another service than the sealer's first key.
    pub elsewhere: bool,
    id: Mutex<Option<KeyId>>,
}

impl NamedKey {
    pub fn new(source: Arc<dyn DataKeys>, name: String) -> Self {
        Self {
            source,
            name,
            elsewhere: false,
            id: Mutex::new(None),
        }
    }

    pub fn pinned(source: Arc<dyn DataKeys>, name: String, id: KeyId) -> Self {
        let key = Self::new(source, name);
        key.learn(id);
        key
    }

    /// The id, once it is known.
    pub fn known_id(&self) -> Option<KeyId> {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an envelope of the service said. A name that was made anew has another id than before.
    pub fn learn(&self, id: KeyId) {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }

    /// The id, asked for if need be, and once: what opens is the key that bore the name then (T29). Asking needs the right to read
    /// the key.
    pub async fn id(&self) -> Result<KeyId, ClientError> {
        if let Some(id) = self.known_id() {
            return Ok(id);
        }
        let id = self.source.key_id(&self.name).await?;
        self.learn(id);
        Ok(id)
    }
}
