#!/usr/bin/env python3
"""Writes the published vectors, and files of a ceremony, as first inputs of the fuzz targets, below fuzz/corpus/."""

import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent
vectors = json.loads((ROOT.parent / "tests/vectors/formats-v1.json").read_text(encoding="utf-8"))
context = vectors["encryption_context"]
sealed = vectors["sealed_message"]["hello_two_wrapped_keys"]["message"]
header_length = vectors["sealed_message"]["hello_two_wrapped_keys"]["header_length"]
seeds = {
    "envelope_parse": [
        vectors["envelope_prf_commit"]["envelope"],
        vectors["envelope_prf_commit"]["empty_plaintext"]["envelope"],
        vectors["envelope_token_gcm"]["envelope"],
        vectors["data_key_envelope"]["envelope"],
    ],
    "context_canonical": [
        context["canonical"],
        context["empty_canonical"],
        context["non_ascii"]["canonical"],
        context["raw_aad"]["canonical"],
        *(case["bytes"] for case in context["refused"]),
    ],
    "blob_parse": [vectors["wrapped_key_blob"]["blob"], vectors["wrapped_key_blob_aes"]["blob"]],
    "sealed_header": [sealed, sealed[: 2 * header_length]],
}


def compact(said: dict) -> str:
    return json.dumps(said, separators=(",", ":"))


def statement(label: str, **said) -> str:
    return f"{compact({'v': 1, **said})}\n{label} {'5a' * 64}\n"


GROUP, KEK_ID, HASH = "cc" * 16, "bb" * 16, "dd" * 32
CHECK = {"kek": "01" * 16, "bind": "02" * 16, "svc": "03" * 16}
TOKEN = {
    "serial": "0002",
    "model": "example",
    "firmware": "2.6",
    "transport_spki": "308201a2300d06092a864886f70d01010105000382018f003082018a0282018100" + "c5" * 384 + "0203010001",
    "audit_spki": "302a300506032b6570032100" + "07" * 32,
    "canary": HASH,
    "probes": [["KEK does not decrypt", "holds"]],
    "oaep_hash": "SHA-1",
}
READ_BACK = {
    name: False
    for name in ["sensitive", "extractable", "modifiable", "copyable", "local", "always_sensitive", "never_extractable"]
}
seeds["ceremony_files"] = [
    text.encode().hex()
    for text in [
        vectors["manifest"]["bytes_text"],
        compact(json.loads(vectors["manifest"]["bytes_text"]) | {"members": [TOKEN], "recovery": [TOKEN | {"serial": "3"}]}),
        compact({"v": 1, "signatures": {HASH: "5a" * 64}}),
        statement("enrol.v1", group=GROUP, role="member", token=TOKEN, nonce="00" * 16),
        statement("enrol.v1", group=GROUP, role="recovery", token=TOKEN, nonce="00" * 16, attestation="00ff"),
        *(
            statement(
                "transfer.v1",
                manifest=HASH,
                group=GROUP,
                epoch=1,
                kek_id=KEK_ID,
                **{"from": "0001"},
                to="0002",
                to_spki_sha256=HASH,
                oaep_hash="SHA-256",
                wrapped=wrapped,
                check=CHECK,
            )
            for wrapped in [{"kek": "aa", "bind": "bb"}, {"kek": "aa", "bind": "bb", "svc": "cc"}]
        ),
        statement(
            "receipt.v1",
            group=GROUP,
            epoch=1,
            kek_id=KEK_ID,
            serial="0002",
            transfer=HASH,
            check=CHECK,
            keys=[{"label": "kek.v1", **READ_BACK, "local": None}],
        ),
    ]
]

for target, inputs in seeds.items():
    folder = ROOT / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for seed in map(bytes.fromhex, inputs):
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
