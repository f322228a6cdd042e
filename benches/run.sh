#!/usr/bin/env bash
# Builds the service and its benchmarks in the release profile and measures one part: service, resilience or clients. Further arguments
# go to its plan (see --help).
set -euo pipefail
cd "$(dirname "$0")/.."
part=service
if [[ ${1:-} == service || ${1:-} == resilience || ${1:-} == clients ]]; then
    part=$1
    shift
fi
cargo build --release --locked --quiet -p keyreeve -p keyreeve-bench
exec target/release/keyreeve-bench "$part" --keyreeve target/release/keyreeve "$@"
