#!/usr/bin/env bash
# test.sh [PYTEST ARGUMENTS]: builds the wheel, installs it into a virtual environment under target/, then ruff, mypy and pytest;
# without arguments the examples too.
# The service is `keyreeve dev` of $KEYREEVE_BIN, or of this build, with examples/parity beside it; the Rust double is $KEYREEVE_DOUBLE_BIN, or
# keyreeve-double of this build (where there is none, what compares with it is skipped); PYTHON is the interpreter (3.10 or newer).
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
repository="$(cd "$here/../.." && pwd)"
python="${PYTHON:-python3}"
place="$repository/target/python/$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')"

if [ -z "${KEYREEVE_BIN:-}" ]; then
    (cd "$repository" && cargo build --locked --quiet -p keyreeve -p keyreeve-client -p keyreeve-testing --bins --example parity)
    built="${CARGO_TARGET_DIR:-$repository/target}/debug"
    export KEYREEVE_BIN="$built/keyreeve" KEYREEVE_DOUBLE_BIN="$built/keyreeve-double"
fi

[ -x "$place/bin/python" ] || "$python" -m venv "$place"
pip=("$place/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install "hatchling>=1.27" "grpcio-tools==1.76.0"
rm -rf "$place/wheel"
"${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$place/wheel" "$here"
wheel=("$place"/wheel/keyreeve-*.whl)
"${pip[@]}" install "${wheel[0]}[test]"
"${pip[@]}" install --force-reinstall --no-deps "${wheel[0]}"

cd "$here"
"$place/bin/ruff" check --quiet
"$place/bin/ruff" format --check --quiet
"$place/bin/mypy"
"$place/bin/python" -m pytest "$@"
[ $# -gt 0 ] || "$here/examples/test.sh"
