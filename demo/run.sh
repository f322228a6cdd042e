#!/usr/bin/env bash
# Shows Keyreeve at work, in about a minute once it is built. Every step is checked; exit 0 only if each did what it should.
# Leaves nothing behind but packages and target/.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '   $ %s\n' "$*"; }
fail() { printf '\nthe demo FAILED: %s\n' "$*" >&2; exit 1; }

if ! command -v pkcs11-tool >/dev/null || ! ls /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so >/dev/null 2>&1; then
    say "Installing SoftHSM and OpenSC"
    softhsm/install.sh
fi

say "Building (the first time takes some minutes)"
cargo build --locked --package keyreeve
keyreeve() { "${CARGO_TARGET_DIR:-target}/debug/keyreeve" "$@"; }

work="$(mktemp -d)"
dir="$work/dev"
server=
clean() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean EXIT

say "Starting a throwaway server: software token, certificates, policies"
: >"$work/server.log"
"${CARGO_TARGET_DIR:-target}/debug/keyreeve" dev --dir "$dir" --listen 127.0.0.1:0 --local 127.0.0.1:0 2>"$work/server.log" &
server=$!
until grep -q 'is serving on' "$work/server.log"; do
    kill -0 "$server" 2>/dev/null || fail "the server did not start: $(cat "$work/server.log")"
    sleep 0.1
done
grep 'is serving on' "$work/server.log"
# shellcheck disable=SC1091
. "$dir/env"

say "1. Who am I, as the service sees my certificate?"
show keyreeve whoami
keyreeve whoami

say "2. A key: made in the token, kept outside only wrapped under the token's master key"
show keyreeve keys create dev/shop/orders
keyreeve keys create dev/shop/orders

say "3. Encrypt and decrypt"
printf 'order 4711: two espresso cups' >"$work/plain"
show "keyreeve encrypt dev/shop/orders --context table=orders --in plain --out sealed"
keyreeve encrypt dev/shop/orders --context table=orders --in "$work/plain" --out "$work/sealed"
show "keyreeve decrypt dev/shop/orders --context table=orders --in sealed --out opened"
keyreeve decrypt dev/shop/orders --context table=orders --in "$work/sealed" --out "$work/opened"
cmp -s "$work/plain" "$work/opened" || fail "what was decrypted is not what was encrypted"
if grep -qa 'espresso' "$work/sealed"; then fail "the ciphertext shows the plaintext"; fi
echo "   the same $(wc -c <"$work/plain") bytes came back; sealed they are $(wc -c <"$work/sealed")"

say "4. With another context it does not open"
show "keyreeve decrypt dev/shop/orders --context table=refunds --in sealed"
if keyreeve decrypt dev/shop/orders --context table=refunds --in "$work/sealed" 2>"$work/refusal"; then
    fail "it opened with the wrong context"
fi
grep -q DECRYPT_FAILED "$work/refusal" || fail "another error than expected: $(cat "$work/refusal")"
sed 's/^/   /' "$work/refusal"

say "5. A data key, to encrypt locally: in clear for now, and as an envelope to keep"
show "keyreeve datakey dev/shop/orders --out key.sealed --plaintext-out key"
keyreeve datakey dev/shop/orders --out "$work/key.sealed" --plaintext-out "$work/key"
keyreeve unwrap dev/shop/orders --in "$work/key.sealed" --out "$work/key.again"
[ "$(wc -c <"$work/key")" = 32 ] || fail "the data key is not 32 bytes long"
cmp -s "$work/key" "$work/key.again" || fail "the data key does not come back"
echo "   32 bytes, and its envelope of $(wc -c <"$work/key.sealed") bytes opens to the same key"

say "6. A refusal: an application that may only encrypt tries to decrypt"
(
    # shellcheck disable=SC1091
    . "$dir/env-app"
    show "keyreeve decrypt dev/shop/orders --context table=orders --in sealed     # as spiffe://keyreeve.dev/app"
    if keyreeve decrypt dev/shop/orders --context table=orders --in "$work/sealed" 2>"$work/refusal"; then exit 1; fi
) || fail "the application was allowed to decrypt"
grep -q PERMISSION_DENIED "$work/refusal" || fail "another error than expected: $(cat "$work/refusal")"
sed 's/^/   /' "$work/refusal"

say "7. Someone else's tool looks at the master key (OpenSC pkcs11-tool, with the right PIN)"
module="$(sed -n 's/^module = "\(.*\)"$/\1/p' "$dir/keyreeve.toml")"
KEYREEVE_DEMO_PIN="$(cat "$dir/pin")"
export KEYREEVE_DEMO_PIN
tool() { pkcs11-tool --module "$module" --token-label keyreeve-dev --login --pin env:KEYREEVE_DEMO_PIN "$@"; }
show "pkcs11-tool --login --list-objects --type secrkey     # of which the master key:"
tool --list-objects --type secrkey 2>/dev/null | grep -A 3 'kek.v1' | tee "$work/kek" | sed 's/^/ /'
for word in 'always sensitive' 'never extractable' 'local'; do
    grep -q "$word" "$work/kek" || fail "the token does not report the master key as: $word"
done
show "pkcs11-tool --login --read-object --type secrkey --label kek.v1"
tool --read-object --type secrkey --label kek.v1 --output-file "$work/stolen" >"$work/read" 2>&1 || true
[ ! -s "$work/stolen" ] || fail "the master key was read"
grep -q CKR_ATTRIBUTE_SENSITIVE "$work/read" || fail "another answer than expected: $(cat "$work/read")"
grep -v '^Using slot' "$work/read" | sed 's/^/   /'
unset KEYREEVE_DEMO_PIN

say "8. The audit log: who did what, every record chained to the one before, every row of the store checked"
show keyreeve audit tail --count 6
keyreeve audit tail --count 6
show keyreeve audit verify --with-token
keyreeve audit verify --with-token | tee "$work/verified" || fail "the log does not verify"
grep -q '^fault  *none found' "$work/verified" || fail "not everything was verified"
grep -q '^store .*no fault' "$work/verified" || fail "the store was not verified"

kill "$server"
wait "$server" || fail "the server did not stop cleanly: $(tail -n 5 "$work/server.log")"
server=
[ ! -e "$dir" ] || fail "the throwaway directory is still there"

say "What you saw"
cat <<'END'
  - A server took calls over mutual TLS 1.3; the caller is who the certificate says.
  - The master key was made in a PKCS#11 token and cannot be read out, not even with the PIN.
    (The token here is SoftHSM, a software token: it shows how it works, it is no hardware.)
  - A key encrypted and decrypted; a wrong context, and a caller without the right, were refused with a reason.
  - Every call, refused ones too, was in the log before it was answered, and the log verifies.
  - Everything was thrown away again.
END
