#!/usr/bin/env bash
# Fuzzes every parser of outside bytes for SECONDS each. Fails on the first crash and says where its input is.
#
#   fuzz/run.sh [SECONDS]      default 60
#
# Needs python3, and a C++ compiler (libFuzzer is built from source). Installs cargo-fuzz by cargo if it is not there.
# Runs on the stable compiler: RUSTC_BOOTSTRAP=1 allows the sanitizer flags that would otherwise need nightly.
# Seeds are made from tests/vectors/; what fuzzing finds stays in fuzz/corpus/, which is not committed.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "fuzz/run.sh: SECONDS must be a whole number above 0, not \`$seconds\`" >&2; exit 2; }
command -v c++ >/dev/null || { echo "fuzz/run.sh: no C++ compiler: apt-get install g++" >&2; exit 1; }
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz --version 0.13.2

python3 fuzz/seeds.py
for target in envelope_parse context_canonical blob_parse; do
    echo "== $target, $seconds s"
    # -max_len: above the longest envelope (65,660 B) and context (8,192 B) the parsers answer by length alone.
    RUSTC_BOOTSTRAP=1 cargo fuzz run "$target" -- -max_total_time="$seconds" -max_len=9000 -print_final_stats=1
done
