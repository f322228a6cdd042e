//! What a worker says every fifth of a second, with or without work: it lives, and what it counted meanwhile.

use std::time::Duration;

use keyreeve_envelope::KeyId;

use super::frame::Malformed;
use crate::token::{KeyUses, Uses};

/// The service takes a worker that is silent for much longer for one that does not run.
pub const PULSE_EVERY: Duration = Duration::from_millis(200);

/// Keys in one frame: 128 KiB.
const KEYS: usize = 4_096;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Increases of [`super::counters`].
    pub counters: Vec<u64>,
    /// Uses of keys since the last pulse.
    pub of_keys: Vec<(KeyId, Uses)>,
    pub of_others: Uses,
}

impl Pulse {
    /// As many as it takes; at least one.
    pub fn all(counters: Vec<u64>, uses: KeyUses) -> Vec<Self> {
        let of_keys: Vec<_> = uses.of_keys.into_iter().collect();
        let mut pulses: Vec<_> = of_keys
            .chunks(KEYS)
            .map(|keys| Self {
                of_keys: keys.to_vec(),
                ..Self::default()
            })
            .collect();
        pulses.push(Self {
            counters,
            of_others: uses.of_others,
            ..Self::default()
        });
        pulses
    }

    /// Appends the body of its frame: `u16 n || n times u64 || uses of others || (key id[16] || uses)*`; uses are two u64.
    pub fn put(&self, out: &mut Vec<u8>) {
        let count = u16::try_from(self.counters.len()).expect("counters are few");
        out.extend_from_slice(&count.to_be_bytes());
        out.extend(self.counters.iter().flat_map(|count| count.to_be_bytes()));
        put_uses(out, self.of_others);
        for (key, uses) in &self.of_keys {
            out.extend_from_slice(key.as_bytes());
            put_uses(out, *uses);
        }
    }

    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let (count, body) = body.split_first_chunk().ok_or(Malformed)?;
        let counters = usize::from(u16::from_be_bytes(*count)) * 8;
        let (counters, body) = body.split_at_checked(counters).ok_or(Malformed)?;
        let (of_others, body) = body.split_first_chunk().ok_or(Malformed)?;
        let (of_keys, []) = body.as_chunks::<32>() else {
            return Err(Malformed);
        };
        let key = |bytes: &[u8; 32]| {
            let (id, uses) = (
                bytes.first_chunk().ok_or(Malformed)?,
                bytes.last_chunk().ok_or(Malformed)?,
            );
            Ok((KeyId::from_bytes(*id), uses_of(uses)))
        };
        Ok(Self {
            counters: counters
                .as_chunks()
                .0
                .iter()
                .map(|count| u64::from_be_bytes(*count))
                .collect(),
            of_keys: of_keys.iter().map(key).collect::<Result<_, _>>()?,
            of_others: uses_of(of_others),
        })
    }
}

fn put_uses(out: &mut Vec<u8>, uses: Uses) {
    out.extend_from_slice(&uses.operations.to_be_bytes());
    out.extend_from_slice(&uses.bytes.to_be_bytes());
}

fn uses_of(bytes: &[u8; 16]) -> Uses {
    let both = u128::from_be_bytes(*bytes);
    Uses {
        operations: (both >> 64) as u64,
        bytes: both as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulses_of_any_number_of_keys_come_out_as_they_went_in() {
        for keys in [0, 1, KEYS, 2 * KEYS + 1] {
            let mut uses = KeyUses::default();
            for number in 0..keys as u128 {
                let of_key = Uses {
                    operations: number as u64 + 1,
                    bytes: u64::MAX - number as u64,
                };
                uses.add(KeyId::from_bytes(number.to_be_bytes()), of_key);
            }
            uses.of_others.bytes = 5;
            let pulses = Pulse::all(vec![3, 0, 9], uses);
            assert_eq!(pulses.iter().map(|pulse| pulse.of_keys.len()).sum::<usize>(), keys);
            for pulse in pulses {
                let mut body = Vec::new();
                pulse.put(&mut body);
                assert!(body.len() < 200_000);
                assert_eq!(Pulse::parse(&body).unwrap(), pulse);
                assert!(Pulse::parse(&body[..body.len() - 1]).is_err());
            }
        }
        assert!(Pulse::parse(&[0, 9]).is_err());
    }
}
