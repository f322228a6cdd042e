//! The one binary. Everything is in the library: `keyreeve::cli` is where it starts.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    keyreeve::cli::main()
}
