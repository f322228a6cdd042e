//! Service subkeys: 32-byte keys in host memory, derived at start from the token group's SVC secret.
//!
//! Subkey = first 32 bytes of `HMAC-SHA-512(SVC, u32(1) || label || 00 || context || u32(512))`, the HMAC in the token.
//! They protect the store against its own writers, not against the host.
//! Source: SP 800-108r1 (counter mode, one block); `docs/formats.md`, service subkeys.

use crate::secret::SecretBytes;
use static_assertions::assert_not_impl_any;

/// Which subkey. Only `Redact` has a context, so no two of them can have the same input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subkey<'a> {
    /// `row.v1`: MACs of rows that carry authority.
    Row,
    /// `cred.v1`: stored hashes of credentials.
    Credential,
    /// `redact.v1`: MACs of encryption contexts in audit records, one key per log.
    Redact {
        /// Origin of the log, `<cluster>/audit/<node>/<epoch>`.
        log_origin: &'a str,
    },
    /// `page.v1`: page tokens of lists.
    Page,
    /// `hedge.v1`: hedged salts of suite 0002.
    Hedge,
}

impl<'a> Subkey<'a> {
    /// The label, which carries the format's version.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Row => "row.v1",
            Self::Credential => "cred.v1",
            Self::Redact { .. } => "redact.v1",
            Self::Page => "page.v1",
            Self::Hedge => "hedge.v1",
        }
    }

    /// What the token is asked to HMAC.
    pub fn input(self) -> Vec<u8> {
        let (label, context) = (self.label(), self.context());
        let mut input = Vec::with_capacity(9 + label.len() + context.len());
        input.extend_from_slice(&1_u32.to_be_bytes());
        input.extend_from_slice(label.as_bytes());
        input.push(0);
        input.extend_from_slice(context.as_bytes());
        input.extend_from_slice(&512_u32.to_be_bytes());
        input
    }

    const fn context(self) -> &'a str {
        match self {
            Self::Redact { log_origin } => log_origin,
            Self::Row | Self::Credential | Self::Page | Self::Hedge => "",
        }
    }
}

/// A subkey's 32 bytes. Wiped on drop; no `Debug`, `Display`, `Clone`, `PartialEq`.
pub struct SubkeyBytes(SecretBytes<32>);

assert_not_impl_any!(SubkeyBytes: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);

impl SubkeyBytes {
    /// The first 32 bytes of the token's answer to [`Subkey::input`]; the caller wipes his own copy.
    pub fn from_hmac_output(output: &[u8; 64]) -> Self {
        Self(SecretBytes::copied(output.first_chunk().expect("64 is more than 32")))
    }

    /// The key, to be made into an HMAC key at once.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{array, bytes, hmac_sha256, hmac_sha512, section};

    fn derive(svc: &[u8], subkey: Subkey<'_>) -> SubkeyBytes {
        SubkeyBytes::from_hmac_output(&hmac_sha512(svc, &subkey.input()))
    }

    #[test]
    fn the_published_subkeys_come_out_byte_for_byte() {
        let vector = section("service_subkeys");
        let svc = bytes(&vector["svc"]);
        for subkey in [Subkey::Row, Subkey::Credential, Subkey::Page, Subkey::Hedge] {
            assert_eq!(
                derive(&svc, subkey).as_bytes(),
                &array(&vector[subkey.label()]),
                "{subkey:?}"
            );
        }
        let log_origin = vector["redact.v1"]["context"].as_str().unwrap();
        let redact = derive(&svc, Subkey::Redact { log_origin });
        assert_eq!(redact.as_bytes(), &array(&vector["redact.v1"]["key"]));

        let mac = hmac_sha256(redact.as_bytes(), &bytes(&vector["ec_mac"]["context"]));
        assert_eq!(mac, array(&vector["ec_mac"]["mac"]));
    }

    #[test]
    fn no_two_subkeys_share_an_input() {
        let origins = ["", "a", "hedge.v1"].map(|log_origin| Subkey::Redact { log_origin });
        let subkeys = [Subkey::Row, Subkey::Credential, Subkey::Page, Subkey::Hedge];
        let mut inputs: Vec<_> = subkeys.into_iter().chain(origins).map(Subkey::input).collect();
        inputs.sort();
        inputs.dedup();
        assert_eq!(inputs.len(), 7);
    }
}
