#!/usr/bin/env bash
# test.sh [EXAMPLE ...]: mypy and pytest in each example, or in those that are named. `../test.sh` runs it with the wheel that it built.
# One virtual environment for all under target/; each example is tested in a process of its own. KEYREEVE_BIN, PYTHON: as in ../test.sh.
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
repository="$(cd "$here/../../.." && pwd)"
python="${PYTHON:-python3}"
version="$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')"
place="$repository/target/python/examples-$version"

wheel=("$repository/target/python/$version"/wheel/keyreeve-*.whl)
[ -f "${wheel[0]}" ] || { echo "no wheel yet: run clients/python/test.sh first" >&2; exit 1; }
export KEYREEVE_BIN="${KEYREEVE_BIN:-${CARGO_TARGET_DIR:-$repository/target}/debug/keyreeve}"

[ -x "$place/bin/python" ] || "$python" -m venv "$place"
pip=("$place/bin/python" -m pip --quiet --disable-pip-version-check)
needs=()
for file in "$here"/requirements-test.txt "$here"/*/requirements.txt; do needs+=(-r "$file"); done
"${pip[@]}" install "${wheel[0]}" "${needs[@]}"
"${pip[@]}" install --force-reinstall --no-deps "${wheel[0]}"

[ $# -gt 0 ] || set -- "$here"/*/requirements.txt
for example in "$@"; do
    example="$(basename "${example%/requirements.txt}")"
    echo "example $example"
    cd "$here/$example"
    PYTHONPATH=. "$place/bin/mypy" --cache-dir "$place/mypy/$example" .
    "$place/bin/python" -m pytest
done
