//! What a token says about itself, and how configuration names one.

use crate::class::Vendor;
use cryptoki_sys::CK_TOKEN_INFO;
use std::fmt;

/// How a token is chosen. Slot numbers change when a token is initialised, so they come last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    Label(String),
    Serial(String),
    Slot(u64),
}

impl Selector {
    pub fn selects(&self, token: &TokenInfo) -> bool {
        token.initialized
            && match self {
                Selector::Label(label) => *label == token.label,
                Selector::Serial(serial) => *serial == token.serial,
                Selector::Slot(slot) => *slot == token.slot,
            }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Label(label) => write!(f, "with label `{label}`"),
            Selector::Serial(serial) => write!(f, "with serial `{serial}`"),
            Selector::Slot(slot) => write!(f, "in slot {slot}"),
        }
    }
}

/// C_GetTokenInfo, as far as Keyreeve uses it. Text is trimmed of the standard's padding and of stray NULs (tpm2-pkcs11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    pub slot: u64,
    pub label: String,
    pub manufacturer: String,
    pub model: String,
    pub serial: String,
    pub firmware: String,
    pub initialized: bool,
    pub login_required: bool,
    pub user_pin_initialized: bool,
    /// A wrong PIN was given since the last right one.
    pub pin_count_low: bool,
    /// One more wrong PIN locks the token.
    pub pin_final_try: bool,
    pub pin_locked: bool,
}

impl TokenInfo {
    /// Whose return codes this token answers with.
    pub fn vendor(&self) -> Vendor {
        if self.manufacturer.starts_with("Mozilla") {
            Vendor::Nss
        } else if self.manufacturer.starts_with("Kryoptic") {
            Vendor::Kryoptic
        } else {
            Vendor::Other
        }
    }

    pub(crate) fn from_raw(slot: u64, info: &CK_TOKEN_INFO) -> TokenInfo {
        let flag = |bit| info.flags & bit != 0;
        TokenInfo {
            slot,
            label: text(&info.label),
            manufacturer: text(&info.manufacturerID),
            model: text(&info.model),
            serial: text(&info.serialNumber),
            firmware: format!("{}.{}", info.firmwareVersion.major, info.firmwareVersion.minor),
            initialized: flag(cryptoki_sys::CKF_TOKEN_INITIALIZED),
            login_required: flag(cryptoki_sys::CKF_LOGIN_REQUIRED),
            user_pin_initialized: flag(cryptoki_sys::CKF_USER_PIN_INITIALIZED),
            pin_count_low: flag(cryptoki_sys::CKF_USER_PIN_COUNT_LOW),
            pin_final_try: flag(cryptoki_sys::CKF_USER_PIN_FINAL_TRY),
            pin_locked: flag(cryptoki_sys::CKF_USER_PIN_LOCKED),
        }
    }
}

fn text(padded: &[u8]) -> String {
    String::from_utf8_lossy(padded).trim_matches([' ', '\0']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_loses_its_padding_and_stray_nuls() {
        assert_eq!(text(b"SoftHSM v2      "), "SoftHSM v2");
        assert_eq!(text(b"SLB9670\0\0\0\0 "), "SLB9670");
    }
}
