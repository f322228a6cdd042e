//! Compiles the `.proto` files with protox (no protoc needed) and keeps the descriptor set for reflection.

use std::{env, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "keyreeve/v1/crypto.proto",
        "keyreeve/v1/events.proto",
        "keyreeve/v1/keys.proto",
        "keyreeve/v1/system.proto",
    ];
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("keyreeve.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".keyreeve.v1")
        .codec_path("crate::codec::Codec")
        .skip_debug([".keyreeve.v1"])
        .compile_fds(descriptors)?;
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
