"""A service in memory, for tests of applications: `MemoryClient` and `AsyncMemoryClient` have every method of the real clients.

    from keyreeve.testing import Memory, MemoryClient

    memory = Memory()
    client = MemoryClient(memory)                 # is a `Client`: give it to the code under test
    client.create_key("dev/shop/orders")
    memory.fail(Unreachable("gone"), times=2)     # what the next calls raise, as after the last try
    memory.calls                                  # names of the calls so far

Keys, states, contexts, envelopes and errors are those of the service, so that what is sealed here opens here and wrong contexts do not.
Not here: permissions, approvals, times of destruction, the network. It protects nothing: its keys are in the memory of the test.
"""

from keyreeve.testing.client import AsyncMemoryClient, MemoryClient
from keyreeve.testing.memory import Memory

__all__ = ["AsyncMemoryClient", "Memory", "MemoryClient"]
