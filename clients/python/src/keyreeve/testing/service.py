"""`Service`: the double as a whole, from its start to its end."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from keyreeve.aio import AsyncClient
from keyreeve.client import Client
from keyreeve.methods import METHODS
from keyreeve.names import environment_name, team_name
from keyreeve.testing import callers, certificates, guard, resource_names
from keyreeve.testing.batches import Batches
from keyreeve.testing.callers import Caller
from keyreeve.testing.certificates import Authority
from keyreeve.testing.clock import Clock
from keyreeve.testing.crypto_service import CryptoService
from keyreeve.testing.directory import Directory
from keyreeve.testing.dispatch import Dispatch
from keyreeve.testing.event_service import EventService
from keyreeve.testing.faults import Faults
from keyreeve.testing.gate import Gate
from keyreeve.testing.guard import NotHere
from keyreeve.testing.key_service import KeyService
from keyreeve.testing.lifecycle import Lifecycle
from keyreeve.testing.records import Record
from keyreeve.testing.refusals import unauthenticated
from keyreeve.testing.resources import Environment, Team
from keyreeve.testing.system_service import SystemService
from keyreeve.testing.wire import Wire

_THREADS = 128
_OPTIONS: list[tuple[str, Any]] = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
_LAST_WORDS = 0.2
"""Seconds that calls under way have at the end."""


class Service:
    """An in-memory Keyreeve on a free port of 127.0.0.1. `with Service() as service:`, or `close()` at the end.

    `teams`: exist from the start, with their environments; keys do not. `bound`: further environments that may be created.
    Callers at the start are those of `keyreeve dev`: `admin`, who may do everything, and `app`, who may seal with the keys of `teams`
    but neither open nor manage.
    """

    def __init__(
        self, *, teams: Iterable[str] = ("dev/shop",), bound: Iterable[str] = (), address: str = "127.0.0.1:0"
    ) -> None:
        guard.refuse_production()
        self._address = guard.loopback(address)
        names = [team_name(team) for team in teams]
        made = dict.fromkeys(resource_names.environment_of(name) for name in names)
        more = [environment_name(environment) for environment in bound]
        self.clock = Clock()
        self.faults = Faults()
        self._directory = Directory(self.clock, frozenset(resource_names.last_id(name) for name in (*made, *more)))
        self._populate(made, names)
        self._callers: dict[str, Caller] = {}
        self._identities: dict[bytes, str] = {}
        self._clients: list[Client] = []
        self._server: grpc.Server | None = None

        directory = Path(tempfile.mkdtemp(prefix="keyreeve-double-"))
        self._authority = Authority(directory)
        self._remove = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self._server_credentials = self._authority.server()
        self.add_caller("admin", roles=["admin", "encrypter", "decrypter"], teams=names)
        self.add_caller("app", roles=["encrypter"], teams=names)
        self._dispatch, self._wire = self._assemble()
        self.start()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<keyreeve.testing.Service at {self.address}>"

    @property
    def address(self) -> str:
        """`127.0.0.1:port`; the port stays the same when it is stopped and started."""
        return self._address

    @property
    def records(self) -> list[Record]:
        """What was called so far, and what became of it."""
        return list(self._dispatch.records)

    def settings(self, who: str = "admin") -> dict[str, Any]:
        """Arguments of `Client` and `AsyncClient`."""
        files = self._authority.directory
        certificate, key = files / f"{self._known(who)}.pem", files / f"{who}.key"
        return {
            "addr": f"https://{self.address}",
            "ca": str(self._authority.file),
            "cert": str(certificate),
            "key": str(key),
        }

    def environ(self, who: str = "admin") -> dict[str, str]:
        """Environment variables that make `Client()` find this service, and no other."""
        return {f"KEYREEVE_{name.upper()}": value for name, value in self.settings(who).items()}

    def client(self, who: str = "admin", **options: Any) -> Client:
        """A client of this service; closed with it. `options`: those of `Client`."""
        client = Client(**self.settings(who), **options)
        self._clients.append(client)
        return client

    def async_client(self, who: str = "admin", **options: Any) -> AsyncClient:
        """A client of this service, for `async with`. `options`: those of `AsyncClient`."""
        return AsyncClient(**self.settings(who), **options)

    def add_caller(
        self,
        name: str,
        *,
        roles: Iterable[str],
        teams: Iterable[str] = (),
        environments: Iterable[str] | None = None,
    ) -> Caller:
        """Another caller, for `settings(name)`; one who is there already gets new rights. `environments`: all, unless given.

        Roles: admin, operator, auditor; encrypter and decrypter, for the keys of `teams` (`policy.example/apps.cedar`).
        """
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ValueError(f"`{name}` is no name of a caller: write a-z, 0-9 and `-`")
        reached = self._directory.bound if environments is None else environments
        made = callers.caller(name, reached, map(team_name, teams), roles)
        is_new = name not in self._callers
        self._callers[name] = made
        if is_new:
            self._authority.client(name, made.identity)
        return made

    def start(self) -> None:
        """Listens, at the address it had before. Keys and all else are as they were."""
        guard.refuse_production()
        if self._server is not None:
            return
        if not self._remove.alive:
            raise NotHere("this test double was closed, and its keys are gone: make a new one")
        self._dispatch.ending.clear()
        server = grpc.server(ThreadPoolExecutor(_THREADS, "keyreeve.testing"), options=_OPTIONS)
        server.add_generic_rpc_handlers((self._wire,))
        credentials = grpc.ssl_server_credentials(
            [self._server_credentials], self._authority.certificate, require_client_auth=True
        )
        port = server.add_secure_port(self._address, credentials)
        self._address = f"{self._address.rpartition(':')[0]}:{port}"
        server.start()
        self._server = server
        guard.warn_once()

    def stop(self, *, drain: bool = False) -> None:
        """The service is gone: what is under way ends as if the connection broke. `drain`: in order, streams end with DRAINING."""
        server, self._server = self._server, None
        if server is None:
            return
        self._dispatch.drains = drain
        self._dispatch.ending.set()
        with self._directory.lock:
            self._directory.lock.notify_all()
        server.stop(_LAST_WORDS).wait()

    @contextlib.contextmanager
    def gone(self, *, drain: bool = False) -> Iterator[None]:
        """Stopped within, and back afterwards. A client that had an answer before waits for its deadline."""
        self.stop(drain=drain)
        try:
            yield
        finally:
            self.start()

    def close(self) -> None:
        """The end: its clients are closed, its keys forgotten, its files removed."""
        for client in self._clients:
            client.close()
        self.stop()
        self._directory.keys.clear()
        self._remove()

    def _assemble(self) -> tuple[Dispatch, Wire]:
        gate = Gate(self._directory)
        lifecycle = Lifecycle(gate, self._directory)
        self.clock.when_moved(lifecycle.destroy_due)
        dispatch = Dispatch({}, self._directory, self.faults)
        count = lambda: len(dispatch.records)  # noqa: E731
        services = (
            CryptoService(gate, self._directory),
            Batches(gate),
            KeyService(gate, self._directory),
            lifecycle,
            SystemService(gate, self._directory, count, certificates.UNTIL),
        )
        for name, method in METHODS.items():
            if not method.streams:
                attribute = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
                (work,) = [getattr(service, attribute) for service in services if hasattr(service, attribute)]
                dispatch.works[name] = work
        return dispatch, Wire(dispatch, EventService(gate, dispatch), self._caller)

    def _populate(self, environments: Iterable[str], teams: Iterable[str]) -> None:
        now = self.clock.now()
        for name in environments:
            self._directory.environments[name] = Environment(name, uuid.uuid4(), production=False, created=now)
        for name in teams:
            self._directory.teams[name] = Team(name, uuid.uuid4(), created=now)

    def _caller(self, certificate: bytes) -> Caller:
        identity = self._identities.get(certificate)
        if identity is None:
            identity = self._identities[certificate] = certificates.identity_of(certificate)
        for known in self._callers.values():
            if known.identity == identity:
                return known
        raise unauthenticated("the certificate has no SPIFFE ID that this test double has given out")

    def _known(self, who: str) -> str:
        if who not in self._callers:
            raise ValueError(f"`{who}` is no caller of this service: see `add_caller`")
        return who
