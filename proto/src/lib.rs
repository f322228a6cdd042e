//! The wire of Keyreeve: generated from `keyreeve/v1/*.proto`, nothing else.
//!
//! No message has `Debug`: prost would derive it over plaintext and keys.
#![forbid(unsafe_code)]

mod codec;

/// Package `keyreeve.v1`: messages, client stubs and server traits.
#[allow(clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("keyreeve.v1");
}

/// Encoded `FileDescriptorSet` of the package, for gRPC reflection and `grpcurl -protoset`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keyreeve.v1.bin"));
