//! GenerateRandom: bytes of the environment's token XOR bytes of the host.

use aws_lc_rs::rand;
use keyreeve_envelope::Plaintext;
use static_assertions::assert_not_impl_any;
use zeroize::Zeroizing;

use super::{Operations, sealing::generator_failed};
use crate::{
    Error, Result,
    audit::{Draft, Outcome},
    model::EnvironmentName,
    policy::{Permit, Recorded, action},
};

/// Most bytes of one call: what a token gives in one.
pub const MAX_RANDOM_LEN: usize = 4_096;

/// A request for random bytes.
#[derive(Debug)]
pub struct GenerateRandom {
    pub environment: EnvironmentName,
    length: usize,
}

/// Random bytes; the caller may make a key of them, so they are wiped on drop.
pub struct RandomBytes(pub Plaintext);

assert_not_impl_any!(RandomBytes: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl GenerateRandom {
    /// `length`: 1 to 4,096 B.
    pub fn new(environment: EnvironmentName, length: u32) -> Result<Self> {
        match length as usize {
            length @ 1..=MAX_RANDOM_LEN => Ok(Self { environment, length }),
            length => Err(Error::invalid(
                "length",
                format_args!("it is {length}: ask for 1 to 4096 bytes"),
            )),
        }
    }
}

impl Operations {
    /// Errors: those of the token; `Internal` if the host's generator fails.
    pub async fn generate_random(
        &self,
        permit: Permit<action::GenerateRandom>,
        request: GenerateRandom,
    ) -> Result<Recorded<RandomBytes>> {
        let result = self.draw(&permit, &request).await;
        permit.complete(result).await
    }

    async fn draw(&self, permit: &Permit<action::GenerateRandom>, request: &GenerateRandom) -> Result<RandomBytes> {
        let token = self.tokens.of(&permit.on().name)?;
        let share = token.random(permit, request.length).await?;
        let mut host = Zeroizing::new(vec![0; request.length]);
        rand::fill(&mut host).map_err(generator_failed)?;
        for (byte, token) in host.iter_mut().zip(share.iter()) {
            *byte ^= token;
        }
        Ok(RandomBytes(Plaintext::new(std::mem::take(&mut *host))))
    }
}

impl Outcome for RandomBytes {
    fn describe(&self, draft: &mut Draft) {
        draft.items = 1;
        draft.bytes_out = self.0.as_bytes().len() as u64;
    }
}
