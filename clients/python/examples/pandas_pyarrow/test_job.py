"""The job as its README runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.dev import Dev


def test_the_job_runs_and_tells_figures_only(dev: Dev, tmp_path: Path) -> None:
    job = Path(__file__).parent / "job.py"
    command = [sys.executable, str(job), str(tmp_path / "warehouse"), "--rows", "30000"]
    said = subprocess.run(command, env=dev.environment(), capture_output=True, text=True, check=True)
    assert said.stdout.count("peak memory") == 7
    assert "4000 " not in said.stdout + said.stderr
