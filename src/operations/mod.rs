//! What callers do with keys: encrypt, decrypt, re-encrypt, data keys, random bytes; alone and in batches.
//!
//! Every operation takes a permit and returns a recorded answer. Requests are built by parsing and are right from then on: limits,
//! checksums and the encryption context are checked before a permit is asked for. Not here: the wire (`grpc`), the token's side of
//! an envelope (`token`), the bytes of an envelope (crate `envelope`).

mod batch;
mod data_key;
mod decrypt;
mod encrypt;
mod input;
mod opening;
mod random;
mod reencrypt;
mod sealing;
mod status;
mod tally;
mod uses;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use keyreeve_envelope::{prf_commit::HedgeKey, subkey::SubkeyBytes};

pub use batch::{
    Batch, BatchDecrypt, BatchEncrypt, BatchGenerateDataKey, BatchUnwrapDataKey, Items, MAX_BYTES, MAX_ITEMS,
};
pub use data_key::{
    DATA_KEY_LEN, DataKey, GenerateDataKey, GenerateDataKeyWithoutPlaintext, UnwrapDataKey, WrapDataKey,
};
pub use decrypt::{Decrypt, Opened};
pub use encrypt::{Encrypt, Sealed};
pub use input::{BoundContext, Message, Opening};
pub use random::{GenerateRandom, MAX_RANDOM_LEN, RandomBytes};
pub use reencrypt::{ReEncrypt, ReEncrypted};
pub use status::{AuditStatus, Me, Status};
pub use uses::Uses;

use crate::{Result, model::Key, token::Token, token::Tokens};

/// The operations, over the tokens of this node.
pub struct Operations {
    tokens: Arc<Tokens>,
    hedge: HedgeKey,
    uses: Uses,
    settings: Settings,
}

/// What may be set.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Opens each new data key with message keys computed again before it is given out: a fault of the token must not cost data.
    pub verify_data_keys: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { verify_data_keys: true }
    }
}

impl Operations {
    /// `hedge`: the service subkey `hedge.v1`. `uses`: counts those of suite 0001.
    pub fn new(tokens: Arc<Tokens>, hedge: &SubkeyBytes, uses: Uses, settings: Settings) -> Self {
        Self {
            tokens,
            hedge: HedgeKey::new(hedge.as_bytes()),
            uses,
            settings,
        }
    }

    fn token_of(&self, key: &Key) -> Result<&Token> {
        self.tokens.of(&key.team.environment.name)
    }
}
