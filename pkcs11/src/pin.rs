//! The user PIN in memory.

use zeroize::Zeroizing;

/// A PIN. Wiped on drop; no `Debug`, `Display`, `Clone`, `PartialEq`.
pub struct Pin(Zeroizing<Vec<u8>>);

static_assertions::assert_not_impl_any!(Pin: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl Pin {
    /// Takes the bytes as they are; strip a file's trailing newline before.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Pin {
        Pin(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
