#!/usr/bin/env bash
# Builds the service and its benchmarks in the release profile and measures; further arguments go to the plan (see --help).
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet -p keyreeve -p keyreeve-bench
exec target/release/keyreeve-bench service --keyreeve target/release/keyreeve "$@"
