//! Counted uses for whoever seals under suite 0001: a block at a time is reserved in the store, ahead of its use.
//!
//! One block per version is held in memory; what is left of it when the process ends is never used. Several nodes, or several tokens,
//! reserve different blocks: the counter's row is compared and set. Source: `docs/formats.md`, suite 0001; `docs/adr/0005`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use moka::sync::Cache;

use crate::{
    Error, Result,
    identity::{Caller, RequestFacts},
    model::{Key, KeyId, KeyVersion, Version},
    policy::{Context, Gate, action},
    store::Directory,
    token::{self, CountedUses, ReservedUses},
};

/// The name of the job that reserves, as the audit log shows it.
const JOB: &str = "count-uses";
/// Versions whose blocks are held. One that is pushed out loses the rest of its block, and reserves another.
const MOST_OPEN: u64 = 100_000;
/// Other nodes may be faster so often in a row.
const TRIES: u32 = 8;

/// The blocks of this process.
pub struct Uses {
    counters: Counters,
    open: Cache<(KeyId, KeyVersion), Arc<Held>>,
}

/// What is left of a version's block.
#[derive(Default)]
struct Held {
    block: Mutex<Option<ReservedUses>>,
    /// Whoever holds this reserves the next one; the others wait and share it.
    reserving: Arc<tokio::sync::Mutex<()>>,
}

/// The way to the counters in the store. Cheap to clone.
#[derive(Clone)]
struct Counters {
    gate: Gate,
    directory: Directory,
    log_epoch: u64,
}

impl Uses {
    /// `log_epoch`: of the audit log in use. A version that was made in another one seals no more.
    pub fn new(gate: Gate, directory: Directory, log_epoch: u64) -> Self {
        Self {
            counters: Counters {
                gate,
                directory,
                log_epoch,
            },
            open: Cache::new(MOST_OPEN),
        }
    }

    /// Leave to seal `count` messages (at most a batch) under `version` of `key`. `caller`: in whose request a block may have to be reserved.
    ///
    /// Errors: `MustRotate`; those of the gate and of the store.
    pub async fn take(&self, caller: &Caller, key: &Arc<Key>, version: &Version, count: usize) -> Result<CountedUses> {
        let held = self.open.get_with((version.key, version.number), Arc::default);
        loop {
            if let Some(uses) = held.take(count) {
                return Ok(uses);
            }
            let turn = tokio::time::timeout_at(caller.facts().deadline.into(), held.reserving.clone().lock_owned());
            let turn = turn.await.map_err(|_| Error::DeadlineExceeded)?;
            if let Some(uses) = held.take(count) {
                return Ok(uses);
            }
            // In a task of its own: a caller who goes away meanwhile must not take a block with him.
            let (counters, held) = (self.counters.clone(), held.clone());
            let (caller, key, number) = (caller.clone(), key.clone(), version.number);
            let reserved = tokio::spawn(async move {
                let _turn = turn;
                let block = counters.reserve(&caller, &key, number).await?;
                *lock(&held.block) = Some(block);
                Ok::<_, Error>(())
            });
            reserved.await.map_err(Error::internal)??;
        }
    }

    /// Number of versions that should be rotated, or must be.
    pub async fn due_for_rotation(&self) -> Result<u64> {
        let Counters {
            directory, log_epoch, ..
        } = &self.counters;
        directory.due_for_rotation(*log_epoch).await
    }
}

impl Counters {
    async fn reserve(&self, caller: &Caller, key: &Key, number: KeyVersion) -> Result<ReservedUses> {
        let mut tries = 0;
        loop {
            let counter = self.directory.use_counter(key.id, number).await?;
            if counter.is_high() || counter.log_epoch != self.log_epoch {
                let (key, key_version, count) = (key.name.as_str(), number.number(), counter.reserved);
                tracing::warn!(
                    key,
                    key_version,
                    count,
                    "this version sealed many messages, or was restored: rotate the key"
                );
            }
            // A second place in the log, while the caller's own permit holds one: given up at his deadline.
            let facts = RequestFacts {
                started: Instant::now(),
                ..caller.facts().clone()
            };
            let job = Caller::job(JOB, facts);
            let permit = self
                .gate
                .permit::<action::ReserveUses>(&job, &key.name, Context::none());
            match token::reserve(permit.await?, &counter, self.log_epoch).await {
                Err(Error::Conflict(_)) if tries < TRIES => tries += 1,
                reserved => return reserved,
            }
        }
    }
}

impl Held {
    fn take(&self, count: usize) -> Option<CountedUses> {
        lock(&self.block).as_mut()?.take(count)
    }
}

/// What it guards changes in single steps: a panic leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        audit::Verdict,
        model::{MOST_USES, ROTATE_AT, Suite, USE_BLOCK, UseCounter},
        operations::testing::{LOG_EPOCH, Site, app, reason},
        store::{Change, testing::commit},
    };

    const CARDS: &str = "dev/shop/orders";

    async fn site() -> Site {
        Site::of(Suite::TokenGcm).await
    }

    fn uses(site: &Site, log_epoch: u64) -> Uses {
        Uses::new(site.gate.clone(), site.directory.clone(), log_epoch)
    }

    async fn take(uses: &Uses, site: &Site, count: usize) -> Result<std::ops::Range<u64>> {
        let key = site.key(CARDS).await;
        let taken = uses.take(&app(), &key, key.primary_version(), count).await;
        taken.map(|uses| uses.numbers())
    }

    /// Sets the counter of the primary version.
    async fn count_from(site: &Site, reserved: u64) {
        let key = site.key(CARDS).await;
        let counter = site.directory.use_counter(key.id, key.primary).await.unwrap();
        let counter = UseCounter { reserved, ..counter };
        commit(&mut *site.committer.lock().await, Change::new().update(&counter))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn two_hosts_that_share_a_store_never_use_a_number_twice() {
        let site = site().await;
        let (one, other) = (uses(&site, LOG_EPOCH), uses(&site, LOG_EPOCH));
        let mut taken = Vec::new();
        for _ in 0..70 {
            let (a, b) = tokio::join!(take(&one, &site, 1_000), take(&other, &site, 1_000));
            taken.extend([a.unwrap(), b.unwrap()]);
        }
        taken.sort_by_key(|numbers| numbers.start);
        assert!(taken.windows(2).all(|pair| pair[0].end <= pair[1].start), "{taken:?}");
        // 65 batches fit a block: each host needed two.
        let key = site.key(CARDS).await;
        let counter = site.directory.use_counter(key.id, key.primary).await.unwrap();
        assert_eq!(counter.reserved, 4 * USE_BLOCK);
    }

    #[tokio::test]
    async fn a_restart_skips_to_a_new_block() {
        let site = site().await;
        assert_eq!(take(&uses(&site, LOG_EPOCH), &site, 3).await.unwrap(), 0..3);
        let restarted = uses(&site, LOG_EPOCH);
        assert_eq!(take(&restarted, &site, 3).await.unwrap(), USE_BLOCK..USE_BLOCK + 3);
        assert_eq!(take(&restarted, &site, 1).await.unwrap(), USE_BLOCK + 3..USE_BLOCK + 4);
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_while_a_block_is_reserved_takes_none_with_him() {
        let site = site().await;
        let (uses, key) = (uses(&site, LOG_EPOCH), site.key(CARDS).await);
        // Dropped at many moments: while the counter is read, while the permit is asked for, while the change is committed.
        for step in 0..40 {
            let app = app();
            let call = uses.take(&app, &key, key.primary_version(), 1);
            let _ = tokio::time::timeout(Duration::from_micros(50 * step), call).await;
        }
        assert!(take(&uses, &site, 1).await.is_ok());
        let counter = site.directory.use_counter(key.id, key.primary).await.unwrap();
        assert_eq!(counter.reserved, USE_BLOCK);
    }

    #[tokio::test]
    async fn many_at_once_reserve_one_block_and_its_record_names_the_job_and_the_request() {
        let site = Arc::new(site().await);
        let before = site.record_count();
        let calls = (0..50).map(|_| {
            let site = site.clone();
            tokio::spawn(async move { site.encrypt(CARDS, b"hello", &[]).await.map(drop) })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
        let records = site.records_after(before);
        let reserved: Vec<_> = records
            .iter()
            .filter(|record| record.operation == "ReserveUses")
            .collect();
        assert_eq!((records.len(), reserved.len()), (51, 1));
        assert_eq!(reserved[0].actor.id, JOB);
        assert_eq!(reserved[0].became.as_deref(), Some("from=0 to=65535"));
        assert_eq!(reserved[0].key, Some((site.key(CARDS).await.id, 1)));
    }

    #[tokio::test]
    async fn at_2_to_the_31_it_says_rotate_and_at_2_to_the_32_it_encrypts_no_more_until_rotated() {
        let site = site().await;
        let due = async || site.operations.uses.due_for_rotation().await.unwrap();
        let sealed = site.encrypt(CARDS, b"hello", &[]).await.unwrap();
        count_from(&site, ROTATE_AT).await;
        assert_eq!(due().await, 0);
        let restarted = uses(&site, LOG_EPOCH);
        assert!(take(&restarted, &site, 1).await.is_ok(), "it goes on");
        assert_eq!(due().await, 1);

        count_from(&site, MOST_USES - USE_BLOCK).await;
        let last = uses(&site, LOG_EPOCH);
        let numbers = take(&last, &site, USE_BLOCK as usize).await.unwrap();
        assert_eq!(numbers.end, MOST_USES);
        assert_eq!(reason(take(&last, &site, 1).await), "ROTATION_REQUIRED");
        let record = site.last_record();
        assert_eq!((record.verdict, record.code), (Verdict::Error, "ROTATION_REQUIRED"));
        assert_eq!(
            site.decrypt(CARDS, &sealed, &[]).await.unwrap(),
            b"hello",
            "it still opens"
        );

        site.rotate_key(CARDS).await;
        assert_eq!(take(&last, &site, 1).await.unwrap(), 0..1);
        assert_eq!(due().await, 0);
    }

    #[tokio::test]
    async fn after_a_restore_it_encrypts_no_more_until_rotated() {
        let site = site().await;
        take(&uses(&site, LOG_EPOCH), &site, 1).await.unwrap();
        // What a restore does: the store is an older one, and the log goes on in another epoch.
        let restored = uses(&site, LOG_EPOCH + 1);
        let error = take(&restored, &site, 1).await.unwrap_err();
        assert_eq!(error.reason(), "ROTATION_REQUIRED");
        assert!(error.to_string().contains("restored"), "{error}");
        assert_eq!(restored.due_for_rotation().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_counter_that_is_missing_is_tampering() {
        let site = site().await;
        site.place.tamper("DELETE FROM use_counters").await;
        assert_eq!(reason(site.encrypt(CARDS, b"hello", &[]).await), "INTEGRITY_FAILED");
    }
}
