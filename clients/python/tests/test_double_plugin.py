"""The pytest fixtures, as an installed package offers them; the example of the README is what is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from keyreeve.testing import guard

README = Path(__file__).parents[1] / "README.md"
HERE = {name: value for name, value in os.environ.items() if name not in (guard.OURS, *guard.OTHERS)}


def run(directory: Path, code: str) -> str:
    """What pytest says of a file of tests."""
    (directory / "test_it.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_it.py"]
    ended = subprocess.run(command, cwd=directory, env=HERE, capture_output=True, text=True, timeout=60, check=False)
    return ended.stdout + ended.stderr


def test_the_example_of_the_readme_passes(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (example,) = [block for block in blocks if "keyreeve_client" in block]
    assert "3 passed" in run(tmp_path, example)


def test_code_that_asks_the_environment_finds_the_double(tmp_path: Path) -> None:
    code = """
from keyreeve import Client

def test_it(keyreeve_env):
    with Client() as client:
        assert client.who_am_i().roles == ("admin", "decrypter", "encrypter")
        assert client.create_key("dev/shop/orders").primary_version == 1
    assert [record.method for record in keyreeve_env.records] == ["WhoAmI", "CreateKey"]

def test_the_next_one_has_a_service_of_its_own(keyreeve_env, keyreeve_client):
    assert keyreeve_client.list_keys("dev/shop") == []
"""
    assert "2 passed" in run(tmp_path, code)


def test_tests_that_use_no_fixture_of_it_import_nothing_of_the_client(tmp_path: Path) -> None:
    code = """
import sys

def test_it():
    assert "pytest_keyreeve" in sys.modules
    assert not {"keyreeve", "grpc"} & set(sys.modules)
"""
    assert "1 passed" in run(tmp_path, code)
    assert [found.value for found in entry_points(group="pytest11", name="pytest_keyreeve")] == ["pytest_keyreeve"]
