#!/usr/bin/env bash
# packages.sh NAME…: installs the Debian packages of these names that are not installed yet.
# Needs root, or sudo. Says what it installs, and nothing when there is nothing to do.
set -euo pipefail

missing=()
for name in "$@"; do
    if [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null)" != installed ]; then
        missing+=("$name")
    fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif command -v sudo >/dev/null; then
    as_root=(sudo)
else
    echo "needed, not installed: ${missing[*]}. Run as root: apt-get install ${missing[*]}" >&2
    exit 1
fi

echo "installing ${missing[*]}"
# Package lists may be missing (a fresh image) or stale: refresh once when the first try fails.
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}")
if ! "${install[@]}" >/dev/null 2>&1; then
    "${as_root[@]}" apt-get update --quiet=2
    "${install[@]}" >/dev/null
fi
