//! The one binary. Everything is in the library: `keyreeve::cli` is where it starts.
#![forbid(unsafe_code)]

use std::alloc::System;

use zeroizing_alloc::ZeroAlloc;

/// Wipes all memory when it is freed: buffers of TLS, HTTP/2 and protobuf hold plaintext, and are not ours to wipe one by one
/// (`SECURITY.md`).
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> std::process::ExitCode {
    keyreeve::cli::main()
}
