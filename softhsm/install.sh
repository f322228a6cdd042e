#!/usr/bin/env bash
# Installs what the development token needs: SoftHSM, and OpenSC's pkcs11-tool and pkcs11-spy to look at it
# with someone else's eyes. Debian and Ubuntu. May run as often as one likes.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
    echo "this script knows apt only. Install SoftHSM 2.6 and OpenSC by hand, then see softhsm/README.md" >&2
    exit 1
fi
exec "$(dirname "$0")/packages.sh" softhsm2 opensc
