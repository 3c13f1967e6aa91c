"""A bus for each test: all scripted providers listen at one prefix."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.bus.conftest import NatsServer


@pytest.fixture
def server(start_server: Callable[..., NatsServer]) -> NatsServer:
    """A server of its own, which the test may stop and start."""
    return start_server()
