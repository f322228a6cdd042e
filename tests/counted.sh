#!/usr/bin/env bash
# counted.sh COMMAND…: runs cargo test, then adds up how many tests all its programs ran. Ends with the exit code of the command.
set -uo pipefail

log="$(mktemp)"
trap 'rm -f "$log"' EXIT

"$@" | tee "$log"
code=$?
# test result: ok. 3 passed; 0 failed; 0 ignored; …
awk '/^test result: / { passed += $4; failed += $6; ignored += $8 }
    END { printf "\ncounted: %d tests passed, %d failed, %d ignored\n", passed, failed, ignored }' "$log"
exit "$code"
