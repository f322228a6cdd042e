//! What stands before the chunks of a message: header, salt, commitment.

use std::io::{self, Read};

use keyreeve_envelope::{
    DecryptFailed, MessageId,
    sealed::{Commitment, Header, Identity, PAYLOAD_PREFIX_LEN, PREFIX_LEN, Prefix, SALT_LEN},
};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::ClientError;

/// A header and the start of its payload, parsed and not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    pub(super) header: Header,
    pub(super) payload: [u8; PAYLOAD_PREFIX_LEN],
}

impl Front {
    /// Takes it off a message in memory; the rest are the chunks.
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), ClientError> {
        let (header, payload) = Header::split(message)?;
        let (payload, chunks) = payload.split_first_chunk().ok_or(DecryptFailed)?;
        let payload = *payload;
        Ok((Self { header, payload }, chunks))
    }

    /// Reads it off `input` and not a byte more. A stream that ends early fails like any other message.
    pub fn read(input: &mut impl Read) -> Result<Self, ClientError> {
        let mut prefix = [0; PREFIX_LEN];
        input.read_exact(&mut prefix).map_err(cut_off)?;
        let mut bytes = room(&prefix)?;
        input.read_exact(&mut bytes[PREFIX_LEN..]).map_err(cut_off)?;
        Self::of(&bytes)
    }

    /// As [`Self::read`].
    pub async fn read_async(input: &mut (impl AsyncRead + Unpin)) -> Result<Self, ClientError> {
        let mut prefix = [0; PREFIX_LEN];
        input.read_exact(&mut prefix).await.map_err(cut_off)?;
        let mut bytes = room(&prefix)?;
        input.read_exact(&mut bytes[PREFIX_LEN..]).await.map_err(cut_off)?;
        Self::of(&bytes)
    }

    /// The header: what anyone can see of a message. None of it is confirmed before the message is unlocked.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the message says it is; confirmed once it is unlocked.
    pub fn identity(&self) -> Identity {
        Identity {
            message_id: self.header.message_id(),
            commitment: *self.commitment(),
        }
    }

    /// The message id.
    pub fn message_id(&self) -> MessageId {
        self.header.message_id()
    }

    /// Bytes before the first chunk.
    pub fn encoded_len(&self) -> usize {
        self.header.encoded_len() + PAYLOAD_PREFIX_LEN
    }

    pub(super) fn commitment(&self) -> &Commitment {
        self.payload[SALT_LEN..].try_into().expect("56 less 24 is 32")
    }

    fn of(bytes: &[u8]) -> Result<Self, ClientError> {
        Ok(Self::split(bytes)?.0)
    }
}

/// Room for the whole front, which starts with `prefix`: at most 64 KiB and 56 bytes, whatever the prefix says.
fn room(prefix: &[u8; PREFIX_LEN]) -> Result<Vec<u8>, ClientError> {
    let mut bytes = vec![0; Prefix::parse(prefix)?.header_len() + PAYLOAD_PREFIX_LEN];
    bytes[..PREFIX_LEN].copy_from_slice(prefix);
    Ok(bytes)
}

fn cut_off(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => DecryptFailed.into(),
        _ => ClientError::from_io(error),
    }
}
