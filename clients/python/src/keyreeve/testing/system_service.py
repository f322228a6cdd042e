"""SystemService: says that it is a double, and who the caller is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from keyreeve import version
from keyreeve.testing.callers import Caller
from keyreeve.testing.clock import Time
from keyreeve.testing.directory import Directory
from keyreeve.testing.gate import Gate
from keyreeve.testing.key_service import DOUBLE_MODEL, DOUBLE_SERIAL
from keyreeve.v1 import system_pb2 as proto

VERSION = f"{version.VERSION}+test-double"


class SystemService:
    def __init__(self, gate: Gate, directory: Directory, count: Callable[[], int], expires: Time) -> None:
        """`count`: of the calls so far. `expires`: the end of the callers' certificates."""
        self.gate = gate
        self._directory = directory
        self._count = count
        self._expires = expires
        self._started = directory.clock.now()

    def get_status(self, caller: Caller, _: Any) -> Message:
        self.gate.system(caller, "ReadStatus")
        token = proto.TokenStatus(
            group=DOUBLE_SERIAL,
            serial=DOUBLE_SERIAL,
            model=DOUBLE_MODEL,
            software_token=True,
            serving=True,
            breaker="closed",
        )
        return proto.GetStatusResponse(
            version=VERSION,
            node=DOUBLE_SERIAL,
            start_time=self._started,
            tokens=[token],
            audit=proto.AuditStatus(log=DOUBLE_SERIAL, size=self._count(), durability="none", writable=True),
            environments=len(self._directory.environments),
            keys=len(self._directory.keys),
        )

    def who_am_i(self, caller: Caller, _: Any) -> Message:
        return proto.WhoAmIResponse(
            identity=caller.identity,
            environments=sorted(caller.environments),
            roles=sorted(caller.roles),
            certificate_expire_time=self._expires,
        )
