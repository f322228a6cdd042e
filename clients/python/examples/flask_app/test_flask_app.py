from __future__ import annotations

import os
from collections.abc import Iterator

import flask_app.app as example
import pytest

from keyreeve import Client


@pytest.fixture
def fresh(environment: None) -> Iterator[None]:
    example.keyreeve.cache_clear()
    yield
    example.keyreeve().close()
    example.keyreeve.cache_clear()


def test_addresses_are_kept_encrypted_and_come_back(
    client: Client, fresh: None, caplog: pytest.LogCaptureFixture
) -> None:
    client.create_key(example.KEY)
    http = example.app.test_client()
    for customer, address in (("ann", b"High Street 1"), ("bob", b"Low Road 2")):
        assert http.put(f"/addresses/{customer}", data=address).status_code == 204
    assert b"Street" not in example.addresses["ann"]
    assert http.get("/addresses/ann").data == b"High Street 1"
    assert http.get("/addresses/nobody").status_code == 404
    example.addresses["ann"] = example.addresses["bob"]
    refused = http.get("/addresses/ann")
    assert (refused.status_code, refused.json["error"]) == (503, "DECRYPT_FAILED")
    assert "Low Road" not in caplog.text


def test_a_worker_that_is_forked_after_the_module_was_loaded_makes_its_own_client(client: Client, fresh: None) -> None:
    """As gunicorn does with --preload."""
    example.addresses["eve"] = client.encrypt(example.KEY, b"Mill Lane 3", context={"customer": "eve"})
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if example.app.test_client().get("/addresses/eve").data == b"Mill Lane 3" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
