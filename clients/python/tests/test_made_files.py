"""What is made from something else is what would be made now."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import keyreeve
import keyreeve.v1
from conftest import REPOSITORY
from keyreeve import AsyncClient, AsyncOpener, AsyncSealer, Client, Opener, Sealer, model
from keyreeve.methods import METHODS
from keyreeve.v1 import events_pb2, keys_pb2, system_pb2
from keyreeve.version import VERSION

PACKAGE = Path(__file__).parents[1]


def load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, PACKAGE / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_installed_messages_are_those_of_the_protos(tmp_path: Path) -> None:
    load("build_messages.py").make(tmp_path)
    made = sorted((tmp_path / "keyreeve/v1").iterdir())
    assert len(made) == 8
    for file in made:
        assert (Path(keyreeve.v1.__path__[0]) / file.name).read_text() == file.read_text()


def test_client_and_service_have_one_version() -> None:
    found = re.search(r'^version = "([^"]+)"', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)
    assert found
    assert found[1] == VERSION


def test_the_async_calls_are_made_from_the_sync_ones() -> None:
    script = load("scripts/asynchronous.py")
    assert script.TARGET.read_text() == script.made()


def test_both_clients_have_a_method_for_every_call_of_the_service() -> None:
    snake = {"ReEncrypt": "reencrypt"}
    for name in METHODS:
        method = snake.get(name) or "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
        assert callable(getattr(Client, method))
        assert callable(getattr(AsyncClient, method))


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    assert surface(Client) == surface(AsyncClient)


def test_both_sealers_and_openers_have_the_same_methods_with_the_same_arguments() -> None:
    assert surface(Sealer) == surface(AsyncSealer)
    assert surface(Opener) == surface(AsyncOpener)


def surface(kind: type) -> dict[str, list[str]]:
    public = [name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))]
    return {name: list(inspect.signature(getattr(kind, name)).parameters) for name in public}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (model.Environment, keys_pb2.Environment),
        (model.Team, keys_pb2.Team),
        (model.Key, keys_pb2.Key),
        (model.KeyVersion, keys_pb2.KeyVersion),
        (model.TokenAttributes, keys_pb2.TokenAttributes),
        (model.VersionAttestation, keys_pb2.VersionAttestation),
        (model.Attestation, keys_pb2.AttestKeyResponse),
        (model.KeyFault, keys_pb2.KeyFault),
        (model.Position, events_pb2.Position),
        (model.KeyChange, events_pb2.WatchResponse),
        (model.TokenStatus, system_pb2.TokenStatus),
        (model.AuditStatus, system_pb2.AuditStatus),
        (model.ServiceStatus, system_pb2.GetStatusResponse),
        (model.Caller, system_pb2.WhoAmIResponse),
    ],
)
def test_what_the_service_tells_has_the_fields_of_its_message(kind: Any, message: Any) -> None:
    assert list(kind.__dataclass_fields__) == [field.name for field in message.DESCRIPTOR.fields]
    assert model.of(kind, message()) is not None


@pytest.mark.parametrize("name", ["KeyState", "KeyPurpose", "KeyResidency", "KeySuite"])
def test_enumerations_have_the_values_of_the_protos(name: str) -> None:
    values = keys_pb2.DESCRIPTOR.enum_types_by_name[name].values_by_name
    prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in name).lstrip("_") + "_"
    ours = {prefix + member.name: member.value for member in getattr(model, name)}
    assert ours == {value.name: value.number for value in values.values()}
