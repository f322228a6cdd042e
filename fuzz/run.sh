#!/usr/bin/env bash
# Fuzzes every parser of outside bytes for SECONDS each. Fails on the first crash and says where its input is.
#
#   fuzz/run.sh [SECONDS]      default 60
#
# Needs python3, and a C++ compiler (libFuzzer is built from source). Plain cargo on the stable compiler: the parsers
# are safe Rust, so the memory sanitizers that cargo-fuzz would add, and that need nightly, have nothing to find in them.
# Seeds are made from tests/vectors/ and by seeds.py; what fuzzing finds stays in fuzz/corpus/, which is not committed.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "fuzz/run.sh: SECONDS must be a whole number above 0, not \`$seconds\`" >&2; exit 2; }
command -v c++ >/dev/null || { echo "fuzz/run.sh: no C++ compiler: apt-get install g++" >&2; exit 1; }

# How the code tells libFuzzer what it reached and compared (LLVM, SanitizerCoverage), and checks that release leaves out.
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
    -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks --cfg=fuzzing)
host=$(rustc -vV | sed -n 's/^host: //p')

python3 fuzz/seeds.py
# --target: build scripts are built without the flags. A target directory of its own: nothing else is built anew.
RUSTFLAGS="${flags[*]}" cargo build --locked --release --manifest-path fuzz/Cargo.toml --target "$host" --target-dir fuzz/target
for target in envelope_parse context_canonical blob_parse sealed_header ceremony_files; do
    echo "== $target, $seconds s"
    mkdir -p "fuzz/artifacts/$target"
    # -max_len: above the longest envelope (65,660 B), context (8,192 B) and header (65,536 B) the parsers answer by length alone; the
    # files of a ceremony are read with a limit. -rss_limit_mb: what allocates by what the input says is found.
    "fuzz/target/$host/release/$target" "fuzz/corpus/$target" -artifact_prefix="fuzz/artifacts/$target/" \
        -max_total_time="$seconds" -max_len=9000 -rss_limit_mb=512 -verbosity=0 -print_final_stats=1
done
