//! Who makes the ivs of suite 0001: always the token, 96 random bits. Which way it can is found at start.
//!
//! A counter is never asked for: its state would be lost with each unwrap, and is not shared between tokens.
//! Source: `docs/formats.md`, suite 0001; SP 800-38D, 8.2.2.

use std::collections::HashSet;

use keyreeve_pkcs11::{CallError, Mechanism, ObjectHandle, Session, presets};

use crate::model::IvSource;

/// Ivs that must differ before a token is believed to make random ones.
const PROBED: usize = 1_000;

/// How this token makes ivs; `None` if it does not offer what keys of type 2 need.
pub(super) fn source(session: &Session, offered: &[Mechanism]) -> Option<IvSource> {
    if ![Mechanism::AES_GCM, Mechanism::AES_CMAC]
        .iter()
        .all(|mechanism| offered.contains(mechanism))
    {
        return None;
    }
    let by_message = || {
        with_throwaway_key(session, |key| {
            let (iv, out) = (&mut [0; 12], &mut [0; 16]);
            seal(session, IvSource::TokenMessage, key, iv, &[], &[], out)
        })
    };
    // Whatever it answers but success, the token is asked for random bytes instead. Twice, so that a fault that passes chooses nothing.
    Some(match by_message().or_else(|_| by_message()) {
        Ok(()) => IvSource::TokenMessage,
        Err(_) => IvSource::TokenRandom,
    })
}

/// Seals `plaintext` into `out` as ciphertext and tag, under an iv that the token makes; writes it to `iv`.
pub(super) fn seal(
    session: &Session,
    source: IvSource,
    key: ObjectHandle,
    iv: &mut [u8; 12],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut [u8],
) -> Result<(), CallError> {
    match source {
        IvSource::TokenMessage => session.gcm_seal_with_token_iv(key, iv, aad, plaintext, out),
        IvSource::TokenRandom => {
            session.random_into(iv)?;
            session.gcm_seal_into(key, iv, aad, plaintext, out)
        }
    }
}

/// Whether 1,000 ivs of the token differ, and none is what was in the buffer before.
pub(super) fn differ(session: &Session, offered: &[Mechanism]) -> Result<bool, CallError> {
    let source = source(session, offered).unwrap_or(IvSource::TokenRandom);
    with_throwaway_key(session, |key| {
        let mut seen = HashSet::from([[0; 12]]);
        for _ in 0..PROBED {
            let mut iv = [0; 12];
            match source {
                IvSource::TokenMessage => seal(session, source, key, &mut iv, &[], &[], &mut [0; 16])?,
                IvSource::TokenRandom => session.random_into(&mut iv)?,
            }
            if !seen.insert(iv) {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

fn with_throwaway_key<T>(
    session: &Session,
    work: impl FnOnce(ObjectHandle) -> Result<T, CallError>,
) -> Result<T, CallError> {
    let template = presets::gcm_key_in_use().value_len(32);
    let key = session.generate_key(Mechanism::AES_KEY_GEN, &template)?;
    let done = work(key);
    session.destroy(key)?;
    done
}
