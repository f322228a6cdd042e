"""Makes `src/keyreeve/v1/*_pb2.py` from the service's protos; the build of the package runs it.

Only messages are made. The methods are read from their descriptors (`keyreeve/methods.py`), so no stub can differ from them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
# In the repository, and in a source distribution.
PLACES = [HERE / "../../proto", HERE / "proto"]


def protos() -> Path:
    """Directory that holds `keyreeve/v1/*.proto`."""
    for place in PLACES:
        if (place / "keyreeve/v1/crypto.proto").is_file():
            return place.resolve()
    raise FileNotFoundError("the protos are missing: build in the repository, or from a source distribution")


def make(into: Path) -> None:
    """Writes the modules under `into`/keyreeve/v1."""
    from grpc_tools import protoc

    root = protos()
    files = sorted(str(file.relative_to(root)) for file in root.glob("keyreeve/v1/*.proto"))
    include = Path(protoc.__file__).parent / "_proto"
    if protoc.main(["protoc", f"-I{root}", f"-I{include}", f"--python_out={into}", f"--pyi_out={into}", *files]):
        raise RuntimeError("protoc failed: see above")


class CustomBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        make(HERE / "src")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "src")
