//! Work of the service itself in the token, at start: subkeys, the known answer, the self-test of the generator.
//!
//! Named by start-up code only (`tests/layout.rs`): everything done for a caller goes through [`super::Token`] and a permit.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use keyreeve_envelope::subkey::SubkeyBytes;
use zeroize::Zeroizing;

use super::{Answer, Call, Lane, Members, TokenError, host::SubkeyLabel};

/// One call at start may take this long; a token that needs more will not serve either.
const CALL_WITHIN: Duration = Duration::from_secs(10);

/// The token without a caller.
pub struct Root {
    members: Arc<Members>,
}

impl Root {
    pub fn new(members: Arc<Members>) -> Self {
        Self { members }
    }

    /// A service subkey, to be made into a MAC key at once.
    pub async fn subkey(&self, label: SubkeyLabel) -> Result<SubkeyBytes, TokenError> {
        match self.run(Call::Subkey(label)).await? {
            Answer::Subkey(subkey) => Ok(subkey),
            _ => Err(TokenError::WrongAnswer("not a subkey".into())),
        }
    }

    /// Is this the token it was, and does it work? Asks for the known answer of CANARY.
    pub async fn probe(&self) -> Result<(), TokenError> {
        self.run(Call::Probe).await.map(drop)
    }

    /// Random bytes for a self-test of the generator; at most 4,096.
    pub async fn random(&self, length: usize) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        match self.run(Call::Random { length }).await? {
            Answer::Random(bytes) if bytes.len() == length => Ok(bytes),
            _ => Err(TokenError::WrongAnswer("random bytes of another number".into())),
        }
    }

    async fn run(&self, call: Call) -> Result<Answer, TokenError> {
        let worked = self.members.run(call, Lane::OWN, Instant::now() + CALL_WITHIN).await?;
        Ok(worked.answer)
    }
}
