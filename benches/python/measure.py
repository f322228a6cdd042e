"""Cells, measured in turn in every round, and the table of their medians."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """Seconds of one operation (a call, a message, a byte)."""

    cpu: float
    wall: float


class Cells:
    """Runs by name of the cell. CPU is that of this process with all its threads."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Run]] = defaultdict(list)

    def measure(self, cell: str, work: Callable[[], int]) -> None:
        """`work` returns how many operations it did."""
        gc.collect()
        begun, begun_cpu = time.perf_counter(), time.process_time()
        done = work()
        self.add(cell, Run((time.process_time() - begun_cpu) / done, (time.perf_counter() - begun) / done))

    def add(self, cell: str, run: Run) -> None:
        self._runs[cell].append(run)

    def cpu(self, cell: str) -> float:
        return statistics.median(run.cpu for run in self._runs[cell])

    def wall(self, cell: str) -> float:
        return statistics.median(run.wall for run in self._runs[cell])

    def ratio(self, cell: str, to: str) -> float:
        """Median over the rounds of CPU ÷ CPU of the same round, in which both met the same load of the machine."""
        return statistics.median(run.cpu / other.cpu for run, other in self._pairs(cell, to))

    def wall_ratio(self, cell: str, to: str) -> float:
        return statistics.median(run.wall / other.wall for run, other in self._pairs(cell, to))

    def _pairs(self, cell: str, to: str) -> list[tuple[Run, Run]]:
        return list(zip(self._runs[cell], self._runs[to], strict=True))


class Report:
    """The same table and file as the other parts have."""

    def __init__(self) -> None:
        self._figures: list[dict[str, str | float]] = []

    def add(self, name: str, value: float, unit: str) -> None:
        print(f"{name:<58} {value:>12.3f}  {unit}", flush=True)
        self._figures.append({"name": name, "value": round(value, 3), "unit": unit})

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self._figures, indent=2) + "\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
