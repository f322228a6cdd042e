"""Import time and time to the first decrypt, medians of several cold starts. For a benchmark: `--json`.

python figures.py [--runs 9] [--json]      # a service and its key: KEYREEVE_ADDR, …; ORDERS_KEY
python figures.py --event                  # an event for runtime.py
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from keyreeve import errors

from handler import CONTEXT, KEY, client

HERE = Path(__file__).parent
WHAT = {
    "interpreter": "Python itself, until the first line",
    "import": "import of the handler and of keyreeve",
    "import_cpu": "… CPU of it",
    "first_call": "first call: client, TLS, GetKey, UnwrapDataKey, open",
    "start_to_first_decrypt": "all of it: from the start of the process",
    "start_to_first_decrypt_cpu": "… CPU of it",
    "call_connected": "later call, connection kept, data key not",
    "call_cached": "later call, data key kept: no call to the service",
}


def event() -> str:
    """One order, sealed."""
    with contextlib.suppress(errors.AlreadyExists):
        client().create_key(KEY)
    order = json.dumps({"order": 17, "card": "4000 0000 0000 1111"})
    sealed = client().sealer(KEY).seal(order.encode(), context=CONTEXT)
    return json.dumps({"sealed": base64.b64encode(sealed).decode()})


def starts(runs: int) -> dict[str, float]:
    """Median of each figure, in seconds. Each run is a process of its own; one before them fills the disk's cache and `__pycache__`."""
    given = event()
    found: list[dict[str, float]] = []
    for _ in range(runs + 1):
        command = [sys.executable, str(HERE / "one_start.py"), repr(time.monotonic())]
        ran = subprocess.run(command, input=given, capture_output=True, text=True, check=True)  # noqa: S603 - ourselves
        found.append(json.loads(ran.stdout))
    return {name: statistics.median(run[name] for run in found[1:]) for name in WHAT}


def imports(runs: int) -> dict[str, float]:
    """Medians of `python -X importtime -c 'import keyreeve'`, in seconds: all of it, and what each package has of it.

    Measuring costs time too, about a tenth: compare the parts with each other.
    """
    found = [_imports() for _ in range(runs)]
    return {name: statistics.median(run[name] for run in found) for name in found[0]}


def _imports() -> Counter[str]:
    command = [sys.executable, "-X", "importtime", "-c", "import keyreeve"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr  # noqa: S603 - ourselves
    own: Counter[str] = Counter()
    under = False
    # Indented by depth, after what it imported: read from the end, keyreeve comes before its parts, and Python's own start after them.
    for microseconds, cumulative, depth, name in reversed(re.findall(r"(\d+) \| +(\d+) \|( +)(\S+)", told)):
        if len(depth) == 1:
            under = name == "keyreeve"
            if under:
                own["all"] = int(cumulative)
        if under:
            package = name.split(".")[0]
            own[package if package in ("keyreeve", "grpc", "google", "cryptography") else "standard library"] += int(
                microseconds
            )
    return Counter({name: count / 1e6 for name, count in own.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--event", action="store_true", help="print an event and nothing else")
    given = parser.parse_args()
    if given.event:
        print(event())
        return
    figures: dict[str, Any] = {"runs": given.runs, "imports": imports(given.runs), "starts": starts(given.runs)}
    if given.json:
        print(json.dumps(figures))
        return
    print(f"| import keyreeve, median of {given.runs} | ms |\n| --- | --- |")
    for name, seconds in sorted(figures["imports"].items(), key=lambda entry: -entry[1]):
        print(f"| {name} | {seconds * 1000:.0f} |")
    print(f"\n| a cold start, median of {given.runs} | ms |\n| --- | --- |")
    for name, what in WHAT.items():
        print(f"| {what} | {figures['starts'][name] * 1000:.2f} |")


if __name__ == "__main__":
    main()
