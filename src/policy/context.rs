//! What policies may know of a request beside caller, action and resource; records take the same.

use std::collections::{BTreeSet, HashSet};

use keyreeve_envelope::context::EncryptionContext;

/// Facts of one request. Values of the encryption context are not among them: records hold those only as a MAC. Its
/// canonical bytes hold them, hence no `Debug`.
#[derive(Clone, Default)]
pub struct Context {
    /// Of all items together; ascending, each once.
    pub(super) ec_keys: Vec<String>,
    /// Of a batch: the distinct sets of keys that its items have. Otherwise none, and `ec_keys` is the only set.
    pub(super) key_sets: Vec<Vec<String>>,
    /// Canonical bytes of the distinct encryption contexts, one after the other; `None` if there is none.
    pub(super) ec: Option<Vec<u8>>,
    pub(super) items: u32,
    pub(super) plaintext_bytes: u64,
}

static_assertions::assert_not_impl_any!(Context: std::fmt::Debug, std::fmt::Display);

impl Context {
    /// Of a call that carries no data.
    pub fn none() -> Self {
        Self::default()
    }

    /// Of a call with one item. Allocates nothing for the empty encryption context.
    pub fn of(encryption_context: &EncryptionContext) -> Self {
        let mut context = Self {
            items: 1,
            ..Self::default()
        };
        if !encryption_context.is_empty() {
            context.ec_keys = encryption_context.keys().map(str::to_owned).collect();
            context.ec = Some(encryption_context.canonical().to_vec());
        }
        context
    }

    /// Of a batch.
    pub fn of_items<'a>(encryption_contexts: impl IntoIterator<Item = &'a EncryptionContext>) -> Self {
        let (mut seen, mut keys, mut sets) = (HashSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut context = Self::default();
        for item in encryption_contexts {
            context.items += 1;
            if item.is_empty() {
                sets.insert(Vec::new());
            } else if seen.insert(item.canonical()) {
                keys.extend(item.keys());
                sets.insert(item.keys().collect());
                context.ec.get_or_insert_default().extend_from_slice(item.canonical());
            }
        }
        let owned = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect();
        context.ec_keys = keys.into_iter().map(str::to_owned).collect();
        context.key_sets = sets.into_iter().map(owned).collect();
        context
    }

    /// The sets of keys to decide on, at least one. Each has to be allowed: a policy that wants a key wants it of every item.
    pub(super) fn key_sets(&self) -> impl Iterator<Item = &[String]> {
        let alone = self.key_sets.is_empty().then_some(self.ec_keys.as_slice());
        alone.into_iter().chain(self.key_sets.iter().map(Vec::as_slice))
    }

    /// Bytes of plaintext, of all items together.
    #[must_use]
    pub fn plaintext(mut self, bytes: usize) -> Self {
        self.plaintext_bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&'static str, &'static str)]) -> EncryptionContext {
        EncryptionContext::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn a_batch_shows_each_context_and_each_key_once() {
        let (orders, refunds) = (
            pairs(&[("table", "orders")]),
            pairs(&[("table", "refunds"), ("row", "7")]),
        );
        let items = [&orders, &refunds, &orders, &EncryptionContext::empty()];
        let context = Context::of_items(items).plaintext(40);
        assert_eq!(context.items, 4);
        assert_eq!(context.ec_keys, ["row", "table"]);
        let sets: Vec<&[String]> = context.key_sets().collect();
        let expected: [&[&str]; 3] = [&[], &["row", "table"], &["table"]];
        assert_eq!(sets, expected);
        assert_eq!(context.ec.unwrap(), [orders.canonical(), refunds.canonical()].concat());
    }

    #[test]
    fn the_empty_context_is_recorded_as_none() {
        assert!(Context::of(&EncryptionContext::empty()).ec.is_none());
        assert!(Context::of_items([&EncryptionContext::empty()]).ec.is_none());
    }
}
