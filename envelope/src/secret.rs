//! A fixed number of secret bytes.

use zeroize::Zeroizing;

/// `N` secret bytes on the heap, wiped on drop. On the heap because a value that moves leaves copies of itself behind,
/// and these are moved between threads. No `Debug`, `Display`, `Clone`, `PartialEq`.
pub(crate) struct SecretBytes<const N: usize>(Box<Zeroizing<[u8; N]>>);

static_assertions::assert_not_impl_any!(SecretBytes<32>: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl<const N: usize> SecretBytes<N> {
    /// Lets `fill` write the secret in place.
    pub(crate) fn fill_with<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Box::new(Zeroizing::new([0; N]));
        fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Copies `bytes`; the caller wipes his own copy.
    pub(crate) fn copied(bytes: &[u8; N]) -> Self {
        let mut secret = Box::new(Zeroizing::new([0; N]));
        secret.copy_from_slice(bytes);
        Self(secret)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}
