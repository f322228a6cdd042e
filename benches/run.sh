#!/usr/bin/env bash
# Builds the service and its benchmarks in the release profile and measures one part: service, resilience, clients or python. Further
# arguments go to its plan (see --help).
set -euo pipefail
cd "$(dirname "$0")/.."
part=service
case "${1:-}" in
service | resilience | clients | python)
    part=$1
    shift
    ;;
esac
cargo build --release --locked --quiet -p keyreeve -p keyreeve-bench
if [[ $part != python ]]; then
    exec target/release/keyreeve-bench "$part" --keyreeve target/release/keyreeve "$@"
fi

# The client as an application has it: its wheel, in a virtual environment of its own.
place=target/bench/python
[ -x "$place/bin/python" ] || "${PYTHON:-python3}" -m venv "$place"
pip=("$place/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install -r benches/python/requirements.txt
rm -rf "$place/wheel"
"${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$place/wheel" clients/python
"${pip[@]}" install "$place"/wheel/keyreeve-*.whl
"${pip[@]}" install --force-reinstall --no-deps "$place"/wheel/keyreeve-*.whl
exec "$place/bin/python" benches/python/run.py --keyreeve target/release/keyreeve --bench target/release/keyreeve-bench "$@"
