//! The wire of Keyreeve: generated from `keyreeve/v1/*.proto`, nothing else.
//!
//! No message has `Debug`: prost would derive it over plaintext and keys. Messages get further fields in minor versions: write
//! `..Default::default()` where one is made.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod codec;

/// Package `keyreeve.v1`: messages, client stubs and server traits.
#[allow(clippy::all, clippy::pedantic)]
#[allow(missing_docs)] // what there is comes from the comments of the .proto files
pub mod v1 {
    tonic::include_proto!("keyreeve.v1");
}

/// Encoded `FileDescriptorSet` of the package, for gRPC reflection and `grpcurl -protoset`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keyreeve.v1.bin"));
