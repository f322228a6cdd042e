"""Import time, and the time from the start of a process to its first decrypt: `clients/python/examples/function_runtime/figures.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from measure import Report

EXAMPLE = Path(__file__).parents[2] / "clients/python/examples/function_runtime"


def run(report: Report, environment: dict[str, str], runs: int) -> None:
    command = [sys.executable, "figures.py", "--json", "--runs", str(runs)]
    ran = subprocess.run(command, cwd=EXAMPLE, env=os.environ | environment, check=True, capture_output=True, text=True)
    figures = json.loads(ran.stdout)
    for name, seconds in sorted(figures["imports"].items(), key=lambda figure: -figure[1]):
        report.add(f"import_{name.replace(' ', '_')}", seconds * 1000, "ms")
    for name, seconds in figures["starts"].items():
        report.add(f"cold_{name}", seconds * 1000, "ms")
