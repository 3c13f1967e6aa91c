"""How long is fuzzed: some examples in `make test`, as many as are asked for in `make fuzz`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

FEW = 25


def pytest_configure(config: pytest.Config) -> None:
    """One profile for all of it: no deadline for a single example, since the tests have limits of their own."""
    asked = config.getoption("--fuzz-examples")
    settings.register_profile(
        "fuzz",
        max_examples=int(asked or FEW),
        deadline=None,
        print_blob=True,
        derandomize=asked is None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )
