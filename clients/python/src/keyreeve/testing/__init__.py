"""An in-memory Keyreeve for the tests of your application: same protocol, same semantics, no token.

    from keyreeve import testing

    with testing.Service() as service, service.client() as client:
        client.create_key("dev/shop/orders")
        sealed = client.encrypt("dev/shop/orders", b"hello")
        service.faults.unavailable(times=2)               # the next two calls fail; the client tries again
        service.clock.advance(days=30)                    # what was scheduled for destruction is gone

With pytest: the fixtures `keyreeve_service`, `keyreeve_client` and `keyreeve_env` are there without an import.

It is a double, made so that it cannot be taken for the service: it listens on loopback only, answers nobody from elsewhere, does not start
where an environment variable says production, keeps its keys in memory, where they die with it, and marks every key and so every
ciphertext (`is_test_ciphertext`). What it does is compared with the service by one suite of tests: `tests/contract` of the project.
"""

from keyreeve.testing.callers import Caller
from keyreeve.testing.clock import Clock
from keyreeve.testing.faults import Faults
from keyreeve.testing.guard import NotHere
from keyreeve.testing.marks import is_test_ciphertext, is_test_key_id
from keyreeve.testing.records import Record
from keyreeve.testing.service import Service

__all__ = ["Caller", "Clock", "Faults", "NotHere", "Record", "Service", "is_test_ciphertext", "is_test_key_id"]
