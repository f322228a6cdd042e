#!/usr/bin/env bash
# Builds Kryoptic, the second PKCS#11 soft token the tests run on, and prints the path of its module.
#
# Once per machine (a few minutes); the result is kept outside the repository. Progress goes to stderr,
# so that `export KEYREEVE_KRYOPTIC="$(tests/kryoptic/build.sh)"` works. Several may run at once: one builds, the others wait.
set -euo pipefail

version=1.5.4
# Counted up when the build below changes, so that an older module is not mistaken for this one.
recipe=1
cache="${XDG_CACHE_HOME:-$HOME/.cache}/keyreeve/kryoptic-$version"
module="$cache/$recipe/libkryoptic_pkcs11.so"

say() { echo "kryoptic: $*" >&2; }

if [ -f "$module" ]; then
    echo "$module"
    exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
if ! flock --nonblock 9; then
    say "another build is under way; waiting for it"
    flock 9
fi
if [ -f "$module" ]; then
    echo "$module"
    exit 0
fi

"$(dirname "$0")/../../softhsm/packages.sh" clang libssl-dev libsqlite3-dev pkg-config >&2

# The crate comes through cargo, which checks it against the registry's digest: an empty package that
# depends on it, then `cargo vendor`. The crate's own lock file then pins everything beneath it.
source="$cache/source"
rm -rf "$source" "$cache/target"
mkdir -p "$source/fetch/src"
: >"$source/fetch/src/lib.rs"
cat >"$source/fetch/Cargo.toml" <<EOF
[package]
name = "fetch"
version = "0.0.0"
edition = "2021"

[dependencies]
kryoptic = { version = "=$version", default-features = false }

[workspace]
EOF

say "bringing the source of kryoptic $version"
(cd "$source/fetch" && cargo vendor --quiet --versioned-dirs "$source/vendor" >/dev/null 2>&2)
cp -r "$source/vendor/kryoptic-$version" "$source/kryoptic"

say "building it against the system's OpenSSL (once; some minutes)"
locked=()
[ -f "$source/kryoptic/Cargo.lock" ] && locked=(--locked)
(
    cd "$source/kryoptic"
    # Neither the tests' own flags nor another project's target directory may leak into this build.
    unset CARGO_TARGET_DIR RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    cargo build --release "${locked[@]}" --target-dir "$cache/target" \
        --no-default-features --features minimal,kdf_all,kryoptic-lib/dynamic >&2
)
built="$cache/target/release/libkryoptic_pkcs11.so"
[ -f "$built" ] || { say "cargo finished, but $built is missing"; exit 1; }

# A rename within the cache: the module is there whole or not at all.
mkdir -p "$cache/$recipe"
cp "$built" "$module.part"
mv "$module.part" "$module"
rm -rf "$source" "$cache/target"
say "done"
echo "$module"
