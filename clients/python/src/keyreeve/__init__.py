"""Client of Keyreeve, a key management and encryption service.

    from keyreeve import Client

    with Client() as client:                              # KEYREEVE_ADDR, KEYREEVE_CA, KEYREEVE_CERT, KEYREEVE_KEY
        sealed = client.encrypt("dev/shop/orders", b"hello", context={"table": "orders"})
        opened = client.decrypt("dev/shop/orders", sealed, context={"table": "orders"})
        opened.reveal()                                   # b"hello"; repr, logs and tracebacks show nothing of it

`client.sealer(…)` and `client.opener(…)` do the same for data of any size, locally. `AsyncClient` has the same methods for asyncio.
What a client does when the service is slow, overloaded, restarting or gone: docs/clients.md of the project.
"""

from keyreeve import errors, redact
from keyreeve.aio import AsyncClient, AsyncCryptAnswers, AsyncKeyChanges, AsyncOpener, AsyncSealer
from keyreeve.calls import DecryptItem, EncryptItem
from keyreeve.client import Client
from keyreeve.context import Context
from keyreeve.correlation import request_id
from keyreeve.data_keys import CacheBounds
from keyreeve.endpoints import EndpointHealth
from keyreeve.errors import KeyreeveError
from keyreeve.events import Event
from keyreeve.model import (
    Attestation,
    AuditStatus,
    Caller,
    DataKey,
    Environment,
    Key,
    KeyChange,
    KeyFault,
    KeyPurpose,
    KeyResidency,
    KeyState,
    KeySuite,
    KeyVersion,
    Position,
    ServiceStatus,
    Team,
    TokenAttributes,
    TokenStatus,
    Verification,
    VersionAttestation,
)
from keyreeve.opener import Opener
from keyreeve.sealed.header import Identity
from keyreeve.sealed.reader import SealedReader
from keyreeve.sealer import Sealer
from keyreeve.sealing import SealedInfo, inspect
from keyreeve.secret import SecretBytes, SecretStr
from keyreeve.stream import CryptAnswer, CryptAnswers, CryptRequest
from keyreeve.watch import KeyChanges

__all__ = [
    "AsyncClient",
    "AsyncCryptAnswers",
    "AsyncKeyChanges",
    "AsyncOpener",
    "AsyncSealer",
    "Attestation",
    "AuditStatus",
    "CacheBounds",
    "Caller",
    "Client",
    "Context",
    "CryptAnswer",
    "CryptAnswers",
    "CryptRequest",
    "DataKey",
    "DecryptItem",
    "EncryptItem",
    "EndpointHealth",
    "Environment",
    "Event",
    "Identity",
    "Key",
    "KeyChange",
    "KeyChanges",
    "KeyFault",
    "KeyPurpose",
    "KeyResidency",
    "KeyState",
    "KeySuite",
    "KeyVersion",
    "KeyreeveError",
    "Opener",
    "Position",
    "SealedInfo",
    "SealedReader",
    "Sealer",
    "SecretBytes",
    "SecretStr",
    "ServiceStatus",
    "Team",
    "TokenAttributes",
    "TokenStatus",
    "Verification",
    "VersionAttestation",
    "errors",
    "inspect",
    "redact",
    "request_id",
]
