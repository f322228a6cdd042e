//! The job that destroys versions whose waiting period has ended: looked for every minute on the service's clock.
//!
//! It asks the gate like anyone else, under its own name, and each destruction is recorded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Error, Result,
    identity::{Caller, RequestFacts},
    keys::{ERASE_JOB, Keys},
    model::KeyName,
    policy::{Context, Gate, action},
};

const EVERY: Duration = Duration::from_secs(60);
/// For one key.
const WITHIN: Duration = Duration::from_secs(30);

/// Runs for ever. What fails is tried again a minute later.
pub async fn run(keys: Arc<Keys>, gate: Gate) {
    loop {
        destroy_due(&keys, &gate).await;
        tokio::time::sleep(EVERY).await;
    }
}

/// One round.
pub async fn destroy_due(keys: &Keys, gate: &Gate) {
    let due = match keys.due_for_destruction().await {
        Ok(due) => due,
        Err(error) => return failed(&error, None),
    };
    for name in due {
        // What lives in a token is destroyed in the store, and then removed.
        let mut is_unfinished = true;
        while is_unfinished {
            is_unfinished = match destroy(keys, gate, &name).await {
                Ok(is_unfinished) => {
                    tracing::info!(key = name.as_str(), "destroyed what was due");
                    is_unfinished
                }
                // Cancelled or done since the look.
                Err(Error::StateForbids { .. } | Error::Conflict(_)) => false,
                Err(error) => {
                    failed(&error, Some(&name));
                    false
                }
            };
        }
    }
}

/// Whether something is left to do at once.
async fn destroy(keys: &Keys, gate: &Gate, name: &KeyName) -> Result<bool> {
    let started = Instant::now();
    let facts = RequestFacts {
        request_id: uuid::Uuid::now_v7().to_string().into(),
        trace: None,
        peer: None,
        deadline: started + WITHIN,
        started,
    };
    let caller = Caller::job(ERASE_JOB, facts);
    let permit = gate.permit::<action::EraseKey>(&caller, name, Context::none()).await?;
    let changed = keys.erase_key(permit).await?;
    Ok(changed.as_ref().is_unfinished())
}

fn failed(error: &Error, key: Option<&KeyName>) {
    let error: &(dyn std::error::Error + 'static) = error;
    tracing::error!(
        error,
        key = key.map(KeyName::as_str),
        "cannot destroy what is due; tried again in a minute"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::{DestroyKey, Reason, RequestId},
        model::{KeyState, Residency, Suite},
        operations::testing::Site,
        token::TokenError,
    };

    const DAY_MS: i64 = 86_400_000;
    const DUE: &str = "dev/shop/orders";
    const LATER: &str = "dev/shop/invoices";

    async fn schedule(site: &Site, key: &str, days: u32) {
        let key: KeyName = key.parse().unwrap();
        let permit = site.permit::<action::DestroyKey>(&key).await.unwrap();
        let (reason, id) = (Reason::default(), RequestId::default());
        let request = DestroyKey::new(key, None, days, reason, id).unwrap();
        site.keys.destroy_key(permit, request).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_due_is_destroyed_and_recorded_and_nothing_else_is() {
        let site = Site::new().await;
        site.create_key(LATER).await.unwrap();
        schedule(&site, DUE, 7).await;
        schedule(&site, LATER, 8).await;

        site.place.clock.advance_ms(7 * DAY_MS - 1);
        destroy_due(&site.keys, &site.gate).await;
        assert_eq!(
            site.key(DUE).await.state(),
            KeyState::PendingDestruction,
            "1 ms too early"
        );

        site.place.clock.advance_ms(1);
        destroy_due(&site.keys, &site.gate).await;
        assert_eq!(site.key(DUE).await.state(), KeyState::Destroyed);
        assert_eq!(site.key(LATER).await.state(), KeyState::PendingDestruction);
        assert_eq!(site.last_record().actor.id, ERASE_JOB);
        let records = site.record_count();

        destroy_due(&site.keys, &site.gate).await;
        assert_eq!(site.record_count(), records, "once is enough");
    }

    #[tokio::test]
    async fn what_lives_in_the_token_is_removed_in_the_same_round_and_tried_again_if_the_token_fails() {
        let site = Site::with(Suite::TokenGcm, Residency::TokenResident).await;
        site.create_key(LATER).await.unwrap();
        schedule(&site, DUE, 7).await;
        schedule(&site, LATER, 7).await;
        site.place.clock.advance_ms(7 * DAY_MS);
        site.host.fail_with(Some(TokenError::Unavailable("gone".into())));
        destroy_due(&site.keys, &site.gate).await;
        for key in [DUE, LATER] {
            assert_eq!(site.key(key).await.state(), KeyState::Destroyed);
        }
        assert_eq!(site.host.objects(), 2);

        site.host.fail_with(None);
        destroy_due(&site.keys, &site.gate).await;
        assert_eq!(site.host.objects(), 0);
        let records = site.record_count();
        destroy_due(&site.keys, &site.gate).await;
        assert_eq!(site.record_count(), records, "once is enough");
    }
}
