#!/usr/bin/env python3
"""Writes the published vectors as first inputs of the fuzz targets, below fuzz/corpus/."""

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
for target, inputs in seeds.items():
    folder = ROOT / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for seed in map(bytes.fromhex, inputs):
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
