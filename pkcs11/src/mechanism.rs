//! Mechanism numbers that Keyreeve uses, by the standard's names. Parameters: `gcm.rs`.

use std::fmt;

/// A `CK_MECHANISM_TYPE`; any number can be named, also those that `cryptoki` refuses (0x210B).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mechanism(pub u64);

macro_rules! mechanisms {
    ($($name:ident = $value:literal),* $(,)?) => {
        impl Mechanism {
            $(pub const $name: Mechanism = Mechanism($value);)*

            /// The standard's name, `None` for a number not listed here.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(concat!("CKM_", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

mechanisms! {
    RSA_PKCS_KEY_PAIR_GEN = 0x0,
    RSA_PKCS = 0x1,
    RSA_PKCS_OAEP = 0x9,
    RSA_PKCS_PSS = 0xd,
    SHA256 = 0x250,
    SHA256_HMAC = 0x251,
    SHA512 = 0x270,
    SHA512_HMAC = 0x271,
    GENERIC_SECRET_KEY_GEN = 0x350,
    EC_KEY_PAIR_GEN = 0x1040,
    ECDSA = 0x1041,
    ECDSA_SHA256 = 0x1044,
    EC_EDWARDS_KEY_PAIR_GEN = 0x1055,
    EDDSA = 0x1057,
    AES_KEY_GEN = 0x1080,
    AES_ECB = 0x1081,
    AES_CBC = 0x1082,
    AES_CBC_PAD = 0x1085,
    AES_GCM = 0x1087,
    AES_CMAC = 0x108a,
    // RFC 3394.
    AES_KEY_WRAP = 0x2109,
    // Ambiguous between vendors: PKCS#5 or RFC 5649 padding. Only a known answer tells.
    AES_KEY_WRAP_PAD = 0x210a,
    // RFC 5649.
    AES_KEY_WRAP_KWP = 0x210b,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "mechanism {:#x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_the_header() {
        assert_eq!(Mechanism::SHA512_HMAC.0, cryptoki_sys::CKM_SHA512_HMAC);
        assert_eq!(Mechanism::SHA256_HMAC.0, cryptoki_sys::CKM_SHA256_HMAC);
        assert_eq!(Mechanism::AES_KEY_WRAP.0, cryptoki_sys::CKM_AES_KEY_WRAP);
        assert_eq!(Mechanism::AES_KEY_WRAP_PAD.0, cryptoki_sys::CKM_AES_KEY_WRAP_PAD);
        assert_eq!(Mechanism::AES_KEY_WRAP_KWP.0, cryptoki_sys::CKM_AES_KEY_WRAP_KWP);
        assert_eq!(Mechanism::AES_CMAC.0, cryptoki_sys::CKM_AES_CMAC);
        assert_eq!(Mechanism::EDDSA.0, cryptoki_sys::CKM_EDDSA);
        assert_eq!(Mechanism::ECDSA.0, cryptoki_sys::CKM_ECDSA);
        assert_eq!(
            Mechanism::EC_EDWARDS_KEY_PAIR_GEN.0,
            cryptoki_sys::CKM_EC_EDWARDS_KEY_PAIR_GEN
        );
        assert_eq!(Mechanism::EC_KEY_PAIR_GEN.0, cryptoki_sys::CKM_EC_KEY_PAIR_GEN);
        assert_eq!(
            Mechanism::GENERIC_SECRET_KEY_GEN.0,
            cryptoki_sys::CKM_GENERIC_SECRET_KEY_GEN
        );
        assert_eq!(Mechanism::AES_GCM.0, cryptoki_sys::CKM_AES_GCM);
        assert_eq!(Mechanism::AES_KEY_GEN.0, cryptoki_sys::CKM_AES_KEY_GEN);
    }
}
