"""Real servers for the tests: the whole local stack once a session, a NATS server for each test that wants one.

Everything asynchronous runs on one loop for the whole session (pyproject.toml), so that a test can stop,
kill and start again what a session's fixture started.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis
import pytest

from provider.demo import stack as demo_stack
from provider.demo.base_image import push_base_image
from provider.demo.processes import Server
from provider.demo.stack import Stack, local_stack

pytest_plugins = ["tests.telling"]
hypothesis.settings.register_profile("unhurried", deadline=None)  # four workers share the machine's cores
hypothesis.settings.load_profile("unhurried")

LONGEST = (
    "faults/test_faults.py",
    "e2e/test_image.py",
    "e2e/test_failures_of_deploys.py",
    "e2e/test_restarts.py",
    "cluster/test_restarts.py",
    "cluster/test_watches.py",
    "e2e/test_main_job.py",
    "crash/test_sabotage.py",
    "e2e/test_stack.py",
    "e2e/test_failures_of_platform.py",
    "cluster/test_requests.py",
    "e2e/test_demo.py",
    "cluster/test_races.py",
    "cluster/test_providers.py",
    "e2e/test_isolation.py",
    "e2e/test_reconcile.py",
    "e2e/test_what_runs.py",
    "cluster/test_tenure.py",
    "cluster/test_build_failures.py",
    "cluster/test_fencing.py",
    "crash/test_before.py",
    "crash/test_after.py",
    "soak/test_engine_soak.py",
    "soak/test_soak.py",
    "e2e/test_isolation_of_builds.py",
)
"""The files that take longest, in that order. Several workers get whole files: what is long may not come last."""
QUICK = ("bus/", "unit/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, quick ones last; what stands in one file stays as it is."""

    def rank(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0].removeprefix("tests/")
        return LONGEST.index(file) if file in LONGEST else len(LONGEST) + file.startswith(QUICK)

    items.sort(key=rank)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What a run may do more than it has to."""
    parser.addoption("--fuzz-examples", help="How many examples each fuzz test gets; default: some, always the same.")
    parser.addoption("--every-crash-point", action="store_true", help="Leave out none of the crash points.")


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    """The whole stack, shared by the session: leave its servers running, and name what you make uniquely."""
    async with local_stack() as running:
        yield running


@pytest.fixture
async def own_stack() -> AsyncIterator[Stack]:
    """A stack of the test's own (about 0.1 s), to be killed and restarted at will."""
    async with local_stack() as running:
        yield running


@pytest.fixture(scope="session")
async def base_image(stack: Stack) -> str:
    """Reference of the sample's base image in the shared stack's registry."""
    return await push_base_image(stack.registry.address, stack.folder)


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[Server]:
    """A NATS server with JetStream: `.address` is its URL; `.kill()` and `.start()` keep port and store."""
    async for server in _running(demo_stack.nats_server(tmp_path)):
        yield server


@pytest.fixture
async def nats_plain(tmp_path: Path) -> AsyncIterator[Server]:
    """A NATS server without JetStream."""
    folder = tmp_path / "plain"
    folder.mkdir()
    async for server in _running(demo_stack.nats_server(folder, jetstream=False)):
        yield server


async def _running(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
