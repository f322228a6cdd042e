"""What the test double and the service answer alike: one suite for both, call by call."""

import pytest

# So that a difference is shown.
pytest.register_assert_rewrite("contract.sides")
