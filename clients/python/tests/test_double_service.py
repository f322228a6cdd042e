"""The double as a service of one's own: callers, records, order of answers, many of them side by side."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from keyreeve import Client, CryptRequest, errors, testing


def test_it_starts_in_milliseconds() -> None:
    testing.Service().close()
    begun = time.monotonic()
    for _ in range(10):
        with testing.Service() as service:
            assert service.address
    assert time.monotonic() - begun < 2


def test_two_services_know_nothing_of_each_other() -> None:
    with testing.Service() as one, testing.Service(teams=["prod/pay"]) as other:
        one.client().create_key("dev/shop/orders")
        with pytest.raises(errors.PermissionDenied):
            other.client().get_key("dev/shop/orders")
        assert other.client().create_key("prod/pay/cards").primary_version == 1
        with Client(**(one.settings() | {"addr": other.address})) as stranger, pytest.raises(errors.Unreachable):
            stranger.who_am_i()


def test_callers_have_the_rights_that_a_test_gives_them_and_may_lose_them() -> None:
    with testing.Service() as service:
        service.client().create_key("dev/shop/orders")
        service.add_caller("billing", roles=["decrypter"], teams=["dev/shop"])
        sealed = service.client("app").encrypt("dev/shop/orders", b"hello")
        billing = service.client("billing")
        assert billing.who_am_i().roles == ("decrypter",)
        assert billing.decrypt("dev/shop/orders", sealed).reveal() == b"hello"
        with pytest.raises(errors.PermissionDenied):
            billing.encrypt("dev/shop/orders", b"hello")
        service.add_caller("billing", roles=["decrypter"], teams=["dev/shop"], environments=[])
        with pytest.raises(errors.PermissionDenied):
            billing.decrypt("dev/shop/orders", sealed)
        with pytest.raises(ValueError, match="`root` is no role"):
            service.add_caller("root", roles=["root"])
        with pytest.raises(ValueError, match="`nobody` is no caller"):
            service.client("nobody")


def test_records_say_what_was_called_and_hold_no_payload() -> None:
    with testing.Service() as service:
        client = service.client()
        client.create_key("dev/shop/orders")
        sealed = client.encrypt("dev/shop/orders", b"a secret text", context={"who": "somebody"})
        with pytest.raises(errors.DecryptFailed) as caught:
            client.decrypt("dev/shop/orders", sealed)
        calls = [(record.method, record.name, record.reason) for record in service.records]
        name = "envs/dev/teams/shop/keys/orders"
        assert calls == [
            ("CreateKey", "envs/dev/teams/shop", "OK"),
            ("Encrypt", name, "OK"),
            ("Decrypt", name, "DECRYPT_FAILED"),
        ]
        assert service.records[-1].request_id == caught.value.request_id
        assert "secret" not in repr(service.records)
        assert "somebody" not in repr(service.records)


def test_nobody_should_rely_on_the_order_of_answers() -> None:
    with testing.Service() as service:
        client = service.client()
        client.create_key("dev/shop/orders")
        requests = [CryptRequest.encrypt(tag, "dev/shop/orders", b"x") for tag in range(500)]
        tags = [answer.tag for answer in client.crypt(requests)]
        assert sorted(tags) == list(range(500))
        assert tags != sorted(tags)


def test_a_process_that_leaves_it_running_ends() -> None:
    code = (
        "from keyreeve import testing\n"
        "service = testing.Service()\n"
        "client = service.client()\n"
        "client.create_key('dev/shop/orders')\n"
        "print(len(client.encrypt('dev/shop/orders', b'hello')))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout == "129\n"


def test_a_watch_goes_on_when_the_service_is_back() -> None:
    with testing.Service() as service:
        client, other = service.client(), service.client()
        client.create_key("dev/shop/orders")
        with client.watch("dev/shop/orders") as changes:
            begun = changes.message()
            assert begun
            assert begun.key is None
            for drain in (False, True):
                with service.gone(drain=drain):
                    pass
                rotated = service.client().rotate_key("dev/shop/orders")
                assert next(changes).key == rotated
        assert other.get_key("dev/shop/orders").primary_version == 3
