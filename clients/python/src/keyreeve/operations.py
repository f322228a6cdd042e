"""One method for each call of the service. What each needs and answers in detail: `proto/keyreeve/v1/*.proto`.

`aio/operations.py` is made from this file by `scripts/asynchronous.py`; a test compares them.

Names may be short (`dev/shop/orders`) or full (`envs/dev/teams/shop/keys/orders`). All errors are `KeyreeveError`; `deadline` is in
seconds, over all tries; of lists, for each page. `request_id` of changes: "new" makes one, so that a change is tried again safely and
made once; None: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from keyreeve import calls, model
from keyreeve.calls import NEW, Call, DecryptItem, EncryptItem, Plaintext
from keyreeve.context import EMPTY, Context
from keyreeve.door import clean
from keyreeve.errors import KeyreeveError
from keyreeve.model import (
    Attestation,
    Caller,
    DataKey,
    Environment,
    Key,
    KeyFault,
    KeyResidency,
    KeySuite,
    ServiceStatus,
    Team,
    Verification,
)
from keyreeve.names import environment_name, key_name, parted, team_name
from keyreeve.secret import SecretBytes, plain

T = TypeVar("T")

_PAGE = 1000


class Operations:
    """The calls; `Client` adds the connection."""

    def _run(self, call: Call[T], deadline: float | None) -> T:
        raise NotImplementedError

    def _forget(self, key: str) -> None:
        """A key was changed: its cached data keys go."""
        raise NotImplementedError

    # --- CryptoService

    @clean
    def encrypt(
        self,
        key: str,
        plaintext: Plaintext,
        *,
        context: Context = EMPTY,
        aad: bytes = b"",
        deadline: float | None = None,
    ) -> bytes:
        """Encrypts up to 64 KiB under the key's primary version. Raises StateForbids, PermissionDenied, … (all KeyreeveError)."""
        call = calls.call(
            "Encrypt",
            calls.ciphertext,
            name=key_name(key),
            plaintext=plain(plaintext),
            encryption_context=calls.pairs(context, aad),
            aad=aad,
        )
        return self._run(call, deadline)

    @clean
    def decrypt(
        self,
        key: str,
        ciphertext: bytes,
        *,
        context: Context = EMPTY,
        aad: bytes = b"",
        deadline: float | None = None,
    ) -> SecretBytes:
        """Opens what `encrypt` made, with the same context. Whatever does not fit is DecryptFailed."""
        call = calls.call(
            "Decrypt",
            calls.plaintext,
            name=key_name(key),
            ciphertext=ciphertext,
            encryption_context=calls.pairs(context, aad),
            aad=aad,
        )
        return self._run(call, deadline)

    @clean
    def reencrypt(
        self,
        key: str,
        ciphertext: bytes,
        *,
        context: Context = EMPTY,
        aad: bytes = b"",
        to: str | None = None,
        to_context: Context | None = None,
        to_aad: bytes | None = None,
        deadline: float | None = None,
    ) -> bytes:
        """Brings a ciphertext under the newest version of its key, or under another key `to`; no plaintext comes here.

        Context and associated data stay as they are unless given anew. A data key stays a data key.
        """
        context_then = context if to_context is None else to_context
        aad_then = aad if to_aad is None else to_aad
        call = calls.call(
            "ReEncrypt",
            calls.ciphertext,
            source_name=key_name(key),
            ciphertext=ciphertext,
            source_encryption_context=calls.pairs(context, aad),
            source_aad=aad,
            destination_name=key_name(to) if to else "",
            destination_encryption_context=calls.pairs(context_then, aad_then),
            destination_aad=aad_then,
        )
        return self._run(call, deadline)

    @clean
    def generate_data_key(
        self, key: str, *, context: Context = EMPTY, aad: bytes = b"", deadline: float | None = None
    ) -> DataKey:
        """A fresh data key, in clear and wrapped. To seal data with it, `sealer` is the easier way."""
        call = calls.call(
            "GenerateDataKey",
            calls.data_key,
            name=key_name(key),
            encryption_context=calls.pairs(context, aad),
            aad=aad,
        )
        return self._run(call, deadline)

    @clean
    def generate_data_key_without_plaintext(
        self, key: str, *, context: Context = EMPTY, aad: bytes = b"", deadline: float | None = None
    ) -> bytes:
        """A fresh data key, wrapped only."""
        call = calls.call(
            "GenerateDataKeyWithoutPlaintext",
            calls.ciphertext,
            name=key_name(key),
            encryption_context=calls.pairs(context, aad),
            aad=aad,
        )
        return self._run(call, deadline)

    @clean
    def wrap_data_key(
        self,
        key: str,
        plaintext: Plaintext,
        *,
        context: Context = EMPTY,
        aad: bytes = b"",
        deadline: float | None = None,
    ) -> bytes:
        """Wraps a data key of 32 bytes that another service made, so that this key, too, opens what it sealed."""
        call = calls.call(
            "WrapDataKey",
            calls.ciphertext,
            name=key_name(key),
            plaintext=plain(plaintext),
            encryption_context=calls.pairs(context, aad),
            aad=aad,
        )
        return self._run(call, deadline)

    @clean
    def unwrap_data_key(
        self,
        key: str,
        ciphertext: bytes,
        *,
        context: Context = EMPTY,
        aad: bytes = b"",
        deadline: float | None = None,
    ) -> SecretBytes:
        """Opens a wrapped data key."""
        call = calls.call(
            "UnwrapDataKey",
            calls.plaintext,
            name=key_name(key),
            ciphertext=ciphertext,
            encryption_context=calls.pairs(context, aad),
            aad=aad,
        )
        return self._run(call, deadline)

    @clean
    def generate_random(self, environment: str, length: int, *, deadline: float | None = None) -> SecretBytes:
        """1 to 4,096 random bytes: the token's XOR the service's."""
        call = calls.call(
            "GenerateRandom",
            lambda answer: SecretBytes(answer.data),
            environment=environment_name(environment),
            length=length,
        )
        return self._run(call, deadline)

    @clean
    def batch_encrypt(
        self, key: str, items: Iterable[EncryptItem | Plaintext], *, deadline: float | None = None
    ) -> list[bytes | KeyreeveError]:
        """Encrypts up to 1,000 items or 1 MiB in one call. For each its ciphertext or the error that it alone would have had."""
        asked = calls.encrypt_items(items)
        call = calls.call("BatchEncrypt", calls.batch(calls.ciphertext, len(asked)), name=key_name(key), items=asked)
        return self._run(call, deadline)

    @clean
    def batch_decrypt(
        self, key: str, items: Iterable[DecryptItem | bytes], *, deadline: float | None = None
    ) -> list[SecretBytes | KeyreeveError]:
        """Opens up to 1,000 items or 1 MiB in one call."""
        asked = calls.decrypt_items(items)
        call = calls.call("BatchDecrypt", calls.batch(calls.plaintext, len(asked)), name=key_name(key), items=asked)
        return self._run(call, deadline)

    @clean
    def batch_generate_data_key(
        self, key: str, contexts: Iterable[Context], *, deadline: float | None = None
    ) -> list[DataKey | KeyreeveError]:
        """One data key for each context."""
        asked = calls.context_items(contexts)
        read = calls.batch(calls.data_key, len(asked))
        call = calls.call("BatchGenerateDataKey", read, name=key_name(key), items=asked)
        return self._run(call, deadline)

    @clean
    def batch_unwrap_data_key(
        self, key: str, items: Iterable[DecryptItem | bytes], *, deadline: float | None = None
    ) -> list[SecretBytes | KeyreeveError]:
        """Opens wrapped data keys."""
        asked = calls.decrypt_items(items)
        read = calls.batch(calls.plaintext, len(asked))
        call = calls.call("BatchUnwrapDataKey", read, name=key_name(key), items=asked)
        return self._run(call, deadline)

    # --- KeyService

    @clean
    def create_environment(
        self,
        environment: str,
        *,
        production: bool = False,
        request_id: str | None = NEW,
        deadline: float | None = None,
    ) -> Environment:
        """The environment must be bound to a token group in the service's configuration."""
        call = calls.mutation(
            "CreateEnvironment",
            lambda answer: model.of(Environment, answer.environment),
            request_id,
            environment_id=environment_name(environment).removeprefix("envs/"),
            production=production,
        )
        return self._run(call, deadline)

    @clean
    def get_environment(self, environment: str, *, deadline: float | None = None) -> Environment:
        """Raises NotFound."""
        call = calls.call(
            "GetEnvironment",
            lambda answer: model.of(Environment, answer.environment),
            name=environment_name(environment),
        )
        return self._run(call, deadline)

    @clean
    def list_environments(self, *, deadline: float | None = None) -> list[Environment]:
        """All that the caller may see. `deadline`: for each page of 1,000."""
        pages = self._pages("ListEnvironments", deadline)
        return [model.of(Environment, found) for page in pages for found in page.environments]

    @clean
    def create_team(self, team: str, *, request_id: str | None = NEW, deadline: float | None = None) -> Team:
        """`dev/shop`: team `shop` of environment `dev`."""
        parent, team_id = parted(team, "team")
        call = calls.mutation(
            "CreateTeam", lambda answer: model.of(Team, answer.team), request_id, parent=parent, team_id=team_id
        )
        return self._run(call, deadline)

    @clean
    def get_team(self, team: str, *, deadline: float | None = None) -> Team:
        """Raises NotFound."""
        call = calls.call("GetTeam", lambda answer: model.of(Team, answer.team), name=team_name(team))
        return self._run(call, deadline)

    @clean
    def list_teams(self, environment: str, *, deadline: float | None = None) -> list[Team]:
        """The teams of an environment. `deadline`: for each page of 1,000."""
        pages = self._pages("ListTeams", deadline, parent=environment_name(environment))
        return [model.of(Team, found) for page in pages for found in page.teams]

    @clean
    def create_key(
        self,
        key: str,
        *,
        owner: str = "",
        labels: Mapping[str, str] = EMPTY,
        suite: KeySuite = KeySuite.UNSPECIFIED,
        residency: KeyResidency = KeyResidency.UNSPECIFIED,
        request_id: str | None = NEW,
        deadline: float | None = None,
    ) -> Key:
        """Makes a key and its version 1, Active and primary. Raises AlreadyExists."""
        parent, key_id = parted(key, "key")
        call = calls.mutation(
            "CreateKey",
            _key,
            request_id,
            parent=parent,
            key_id=key_id,
            owner=owner,
            labels=dict(labels),
            suite=suite.value,
            residency=residency.value,
        )
        return self._run(call, deadline)

    @clean
    def get_key(self, key: str, *, deadline: float | None = None) -> Key:
        """A key, its state and its versions. Raises NotFound."""
        return self._run(calls.call("GetKey", _key, name=key_name(key)), deadline)

    @clean
    def list_keys(self, team: str, *, deadline: float | None = None) -> list[Key]:
        """The keys of a team. `deadline`: for each page of 1,000."""
        pages = self._pages("ListKeys", deadline, parent=team_name(team))
        return [model.of(Key, found) for page in pages for found in page.keys]

    @clean
    def rotate_key(self, key: str, *, request_id: str | None = NEW, deadline: float | None = None) -> Key:
        """Makes a new version, which encrypts from now on; the old one decrypts only."""
        return self._change("RotateKey", key, request_id, deadline)

    @clean
    def suspend_key(
        self,
        key: str,
        *,
        version: int = 0,
        reason: str = "",
        request_id: str | None = NEW,
        deadline: float | None = None,
    ) -> Key:
        """Active → Suspended, until resumed. `version` 0: the primary one."""
        return self._change("SuspendKey", key, request_id, deadline, version=version, reason=reason)

    @clean
    def resume_key(
        self,
        key: str,
        *,
        version: int = 0,
        reason: str = "",
        request_id: str | None = NEW,
        deadline: float | None = None,
    ) -> Key:
        """Suspended → Active."""
        return self._change("ResumeKey", key, request_id, deadline, version=version, reason=reason)

    @clean
    def deactivate_key(
        self,
        key: str,
        *,
        version: int = 0,
        reason: str = "",
        request_id: str | None = NEW,
        deadline: float | None = None,
    ) -> Key:
        """Active or Suspended → Deactivated: decrypts only, for good."""
        return self._change("DeactivateKey", key, request_id, deadline, version=version, reason=reason)

    @clean
    def compromise_key(
        self,
        key: str,
        *,
        version: int = 0,
        reason: str = "",
        request_id: str | None = NEW,
        deadline: float | None = None,
    ) -> Key:
        """Any state that still holds a key → Compromised. Never undone."""
        return self._change("CompromiseKey", key, request_id, deadline, version=version, reason=reason)

    @clean
    def destroy_key(
        self,
        key: str,
        *,
        version: int = 0,
        wait_days: int = 0,
        reason: str = "",
        request_id: str | None = NEW,
        deadline: float | None = None,
    ) -> Key:
        """Schedules destruction after 7 to 30 days (0: 30). `version` 0: the whole key."""
        return self._change(
            "DestroyKey", key, request_id, deadline, version=version, wait_days=wait_days, reason=reason
        )

    @clean
    def cancel_key_destruction(
        self,
        key: str,
        *,
        version: int = 0,
        reason: str = "",
        request_id: str | None = NEW,
        deadline: float | None = None,
    ) -> Key:
        """Pending destruction → the state before it. `version` 0: every version that is pending."""
        return self._change("CancelKeyDestruction", key, request_id, deadline, version=version, reason=reason)

    @clean
    def attest_key(self, key: str, *, deadline: float | None = None) -> Attestation:
        """What the token reports of each version, at birth and now."""
        call = calls.call("AttestKey", lambda answer: model.of(Attestation, answer), name=key_name(key))
        return self._run(call, deadline)

    @clean
    def verify_keys(self, team: str, *, deadline: float | None = None) -> Verification:
        """Has every token unwrap every version of a team's keys and compute its check value again. `deadline`: for each page of keys."""
        pages = self._pages("VerifyKeys", deadline, parent=team_name(team))
        faults = tuple(model.of(KeyFault, fault) for page in pages for fault in page.faults)
        return Verification(versions=sum(page.versions for page in pages), faults=faults)

    # --- SystemService

    @clean
    def get_status(self, *, deadline: float | None = None) -> ServiceStatus:
        """Version, tokens and audit log of the service."""
        call = calls.call("GetStatus", lambda answer: model.of(ServiceStatus, answer))
        return self._run(call, deadline)

    @clean
    def who_am_i(self, *, deadline: float | None = None) -> Caller:
        """Who the service takes the caller for: the first thing to ask when something is denied."""
        return self._run(calls.call("WhoAmI", lambda answer: model.of(Caller, answer)), deadline)

    # ---

    def _change(self, name: str, key: str, request_id: str | None, deadline: float | None, **fields: Any) -> Key:
        full = key_name(key)
        call = calls.mutation(name, _key, request_id, name=full, **fields)
        try:
            return self._run(call, deadline)
        finally:
            # Whatever the answer says: a change whose answer was lost may have been made.
            self._forget(full)

    def _pages(self, name: str, deadline: float | None, **fields: Any) -> list[Any]:
        """All pages of a list, each with its own deadline."""
        same: Callable[[Any], Any] = lambda answer: answer  # noqa: E731
        pages = [self._run(calls.call(name, same, page_size=_PAGE, **fields), deadline)]
        while token := pages[-1].next_page_token:
            pages.append(self._run(calls.call(name, same, page_size=_PAGE, page_token=token, **fields), deadline))
        return pages


def _key(answer: Any) -> Key:
    return model.of(Key, answer.key)
