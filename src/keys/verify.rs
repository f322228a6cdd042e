//! Verify: every token of the group unwraps every version of a team's keys, page by page. It finds what a restore drill would find too
//! late: a row that was changed, a token that lost an epoch or computes wrongly.

use std::sync::Arc;

use super::{Keys, ListRequest, Listed};
use crate::{
    Error, Result,
    audit::{Draft, Outcome},
    model::{Key, Version},
    policy::{Permit, Recorded, action},
    token::TokenError,
};

/// A version that was checked.
pub struct Checked {
    pub key: Arc<Key>,
    pub version: Arc<Version>,
    pub faults: Vec<VersionFault>,
}

/// Why one token did not confirm a version.
pub struct VersionFault {
    pub token_serial: Arc<str>,
    pub problem: String,
    /// The token could not be asked: nothing is known of the version there.
    pub token_unavailable: bool,
}

impl Keys {
    /// Checks the versions that still hold a key, of one page of the keys of the permit's team, one after the other, so that it has one place in the queue.
    ///
    /// Errors: `DeadlineExceeded`, `Overloaded`: ask again, with a smaller page. A token's own failure is no error but a finding.
    pub async fn verify_keys(
        &self,
        permit: Permit<action::VerifyKeys>,
        request: ListRequest,
    ) -> Result<Recorded<Listed<Checked>>> {
        let result = self.check_page(&permit, &request).await;
        permit.complete(result).await
    }

    async fn check_page(&self, permit: &Permit<action::VerifyKeys>, request: &ListRequest) -> Result<Listed<Checked>> {
        let team = permit.on();
        let token = self.tokens.of(&team.environment.name)?;
        let page = self.keys_of(permit, team, request).await?;
        let mut items = Vec::new();
        for key in page.items {
            for version in key.versions.iter().filter(|version| version.blob.is_some()) {
                let mut faults = Vec::new();
                for (serial, outcome) in token.check(permit, &key, version).await? {
                    match outcome {
                        Ok(()) => {}
                        Err(error @ (TokenError::Expired | TokenError::Overloaded { .. })) => {
                            return Err(Error::from(error));
                        }
                        Err(error) => faults.push(VersionFault {
                            token_serial: serial,
                            problem: error.to_string(),
                            token_unavailable: matches!(error, TokenError::Unavailable(_)),
                        }),
                    }
                }
                let (key, version) = (key.clone(), version.clone());
                items.push(Checked { key, version, faults });
            }
        }
        Ok(Listed { items, next: page.next })
    }
}

impl Outcome for Listed<Checked> {
    fn describe(&self, draft: &mut Draft) {
        let faulty = self.items.iter().filter(|checked| !checked.faults.is_empty());
        draft.items = u32::try_from(self.items.len()).unwrap_or(u32::MAX);
        draft.failed = u32::try_from(faulty.count()).unwrap_or(u32::MAX);
    }
}
