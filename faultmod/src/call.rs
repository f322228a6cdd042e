//! One call into the module, as far as faults and traces need to know it.

use crate::function::Function;
use cryptoki_sys::{
    CK_BYTE, CK_RV, CK_SESSION_HANDLE, CK_ULONG, CKR_ARGUMENTS_BAD, CKR_DEVICE_REMOVED, CKR_OK, CKR_TOKEN_NOT_PRESENT,
};

pub struct Call {
    pub function: Function,
    pub subject: Subject,
    pub output: Output,
}

/// What a call is about: decides how it is answered when the token is gone.
#[derive(Clone, Copy)]
pub enum Subject {
    Library,
    Slot,
    /// C_GetSlotList, with the caller's count.
    Slots(*mut CK_ULONG),
    Session(CK_SESSION_HANDLE),
}

/// Where a call puts the bytes that it returns. The pointers are the caller's, under the rules of PKCS#11: null, or valid
/// until the call returns.
#[derive(Clone, Copy)]
pub enum Output {
    Nothing,
    /// A buffer and its length: room before the call, bytes written after. A null buffer asks for the length.
    Bytes(*mut CK_BYTE, *mut CK_ULONG),
    /// A buffer that the call fills.
    Filled(*mut CK_BYTE, CK_ULONG),
}

impl Call {
    pub fn session(&self) -> Option<CK_SESSION_HANDLE> {
        match self.subject {
            Subject::Session(session) => Some(session),
            _ => None,
        }
    }

    /// The answer when the token is gone; `None` for what is asked of the library alone.
    pub fn refusal(&self) -> Option<CK_RV> {
        match self.subject {
            Subject::Library => None,
            Subject::Slot => Some(CKR_TOKEN_NOT_PRESENT),
            Subject::Session(_) => Some(CKR_DEVICE_REMOVED),
            Subject::Slots(count) if count.is_null() => Some(CKR_ARGUMENTS_BAD),
            Subject::Slots(count) => {
                // SAFETY: not null, so the caller's count, valid until the call returns.
                unsafe { *count = 0 };
                Some(CKR_OK)
            }
        }
    }
}

impl Output {
    /// The bytes that there is room for now; asked before the call.
    pub fn room(self) -> CK_ULONG {
        match self {
            Output::Bytes(buffer, length) if !buffer.is_null() && !length.is_null() => {
                // SAFETY: not null, so it points to the caller's length, which it set to the room of its buffer.
                unsafe { *length }
            }
            Output::Filled(buffer, length) if !buffer.is_null() => length,
            _ => 0,
        }
    }

    /// Flips a bit of what the call wrote; `room` as it was before the call. Says which bit, `None` when there are no bytes.
    pub fn flip(self, room: CK_ULONG, rv: CK_RV, bit: u64) -> Option<u64> {
        if rv != CKR_OK || room == 0 {
            return None;
        }
        let (buffer, written) = match self {
            Output::Nothing => return None,
            // SAFETY: `room` is not 0, so both pointers were valid before the call, and are until it returns.
            Output::Bytes(buffer, length) => (buffer, unsafe { *length }),
            Output::Filled(buffer, length) => (buffer, length),
        };
        // A module that claims more than the buffer holds must not lead outside it.
        let bits = written.min(room).checked_mul(8)?;
        let bit = bit.checked_rem(bits)?;
        // SAFETY: the byte lies within the first `min(written, room)` bytes of the caller's buffer.
        unsafe { *buffer.add((bit / 8) as usize) ^= 1 << (bit % 8) };
        Some(bit)
    }

    /// Says that the call wrote a byte more than there was `room` for. `false` when it wrote nothing.
    pub fn overstate(self, room: CK_ULONG, rv: CK_RV) -> bool {
        match self {
            Output::Bytes(_, length) if rv == CKR_OK && room > 0 => {
                // SAFETY: `room` is not 0, so the caller's length was valid before the call, and is until it returns.
                unsafe { *length = room + 1 };
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki_sys::CKR_BUFFER_TOO_SMALL;
    use std::ptr::null_mut;

    /// Flips a bit after a call that found `room` and says that it wrote `written` bytes. Which bits are set then.
    fn flip(room: CK_ULONG, written: CK_ULONG, rv: CK_RV, bit: u64) -> (Option<u64>, Vec<u64>) {
        let (mut buffer, mut length) = ([0u8; 8], written);
        let flipped = Output::Bytes(buffer.as_mut_ptr(), &mut length).flip(room, rv, bit);
        let set = (0..64).filter(|bit| buffer[*bit as usize / 8] >> (bit % 8) & 1 == 1);
        (flipped, set.collect())
    }

    #[test]
    fn a_flip_stays_within_what_was_written_and_within_the_room() {
        for (room, written, bit, flipped) in [(4, 2, 17, 1), (4, 2, 15, 15), (2, 9, 16, 0), (1, 1, 7, 7)] {
            assert_eq!(flip(room, written, CKR_OK, bit), (Some(flipped), vec![flipped]));
        }
    }

    #[test]
    fn size_queries_failures_and_empty_outputs_are_left_alone() {
        let mut length = 64;
        let query = Output::Bytes(null_mut(), &mut length);
        assert_eq!(query.room(), 0);
        assert_eq!(query.flip(0, CKR_OK, 0), None);
        assert_eq!(flip(8, 8, CKR_BUFFER_TOO_SMALL, 0), (None, vec![]));
        assert_eq!(flip(8, 0, CKR_OK, 0), (None, vec![]));
        assert_eq!(Output::Nothing.flip(8, CKR_OK, 0), None);
    }

    #[test]
    fn a_length_is_overstated_where_bytes_were_returned() {
        let (mut buffer, mut length) = ([0u8; 8], 4);
        let output = Output::Bytes(buffer.as_mut_ptr(), &mut length);
        assert!(!output.overstate(8, CKR_BUFFER_TOO_SMALL) && !output.overstate(0, CKR_OK));
        assert!(output.overstate(8, CKR_OK));
        assert_eq!(length, 9);
    }

    #[test]
    fn the_room_is_what_the_caller_has_before_the_call() {
        let (mut buffer, mut length) = ([0u8; 8], 5);
        assert_eq!(Output::Bytes(buffer.as_mut_ptr(), &mut length).room(), 5);
        assert_eq!(Output::Filled(buffer.as_mut_ptr(), 8).room(), 8);
        assert_eq!(Output::Bytes(buffer.as_mut_ptr(), null_mut()).room(), 0);
    }
}
