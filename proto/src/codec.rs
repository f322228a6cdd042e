//! The protobuf codec with buffers of the size of our messages.
//!
//! tonic's own starts each message with 8 KiB, twice a call; most of ours are a few hundred bytes, and the service wipes what it frees.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::BufferSettings;
use tonic_prost::{ProstDecoder, ProstEncoder};

/// First size of a message's buffer, and the size from which a stream sends what it has gathered. Buffers grow as needed.
const BUFFER_BYTES: usize = 512;
const SEND_FROM_BYTES: usize = 32 * 1024;

/// Encodes `T`, decodes `U`.
pub struct Codec<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> tonic::codec::Codec for Codec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(settings())
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, SEND_FROM_BYTES)
}
