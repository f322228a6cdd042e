"""Makes `aio/operations.py` from `operations.py`. Run it after a change there; a test fails while the two differ."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src/keyreeve/operations.py"
TARGET = SOURCE.parent / "aio/operations.py"

CHANGES = [
    (
        r'"""One method for each call.*?\n"""',
        '"""The calls of `AsyncClient`. Made from `keyreeve/operations.py` by `scripts/asynchronous.py`: change that."""',
    ),
    (r"from keyreeve.door import clean\b", "from keyreeve.door import clean_async"),
    (r"class Operations:", "class AsyncOperations:"),
    (r"`Client`", "`AsyncClient`"),
    (r"    @clean\b", "    @clean_async"),
    (r"    def (?!_forget)", "    async def "),
    (r"self\.(_run|_change|_pages)\(", r"await self.\1("),
]


def made() -> str:
    text = SOURCE.read_text()
    for pattern, replacement in CHANGES:
        text = re.sub(pattern, replacement, text, flags=re.DOTALL)
    formatter = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(formatter, input=text, text=True, capture_output=True, check=True).stdout


if __name__ == "__main__":
    TARGET.write_text(made())
