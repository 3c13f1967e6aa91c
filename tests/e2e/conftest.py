"""Worlds for end-to-end tests: one shared by the session, and one of its own for a test that breaks things."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from provider.demo.stack import Stack
from provider.demo.world import World, local_world
from tests.canary import CANARY, Arguments, in_files
from tests.e2e.helpers import Visitor, end_watched, visitor
from tests.zygote import Forked

SMALL = {"VERIFY_TIMEOUT": "5", "BUILD_LOG_BYTES": str(4 << 20)}
"""What fails, fails soon: the check of the candidate and of the URL get half of it each. Kept logs are short, too."""

THEIR_PLACES = ("engine", "state/secrets", "git-*")
"""Where secrets have to be below a stack's folder: in containers, in files that only root reads, in a host's own."""
HELD = "held-there"
"""What the shared world's policy holds; everything else is allowed there."""
POLICY = {
    "apiVersion": "x1agent.io/v1",
    "kind": "PreviewPolicy",
    "default": "allow",
    "rules": [{"name": "held", "repositories": [f"acme/{HELD}"], "action": "hold"}],
}


@pytest.fixture(autouse=True)
async def no_deploy_is_forgotten() -> AsyncIterator[None]:
    """Whatever a test watched ends with it."""
    yield
    await end_watched()


@pytest.fixture(scope="session")
async def world(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The shared world: name what you deploy uniquely, and leave its servers alone. Its policy holds only `HELD`."""
    policy = tmp_path_factory.mktemp("policy") / "policy.json"
    policy.write_text(json.dumps(POLICY))
    async with local_world(stack=stack, environment={**SMALL, "POLICY_FILE": str(policy)}) as shared:
        secrets = [CANARY, shared.token.get_secret_value(), shared.api.internal_token.get_secret_value()]
        with Arguments(secrets) as arguments:
            yield shared
        assert (in_files(stack.folder, secrets, THEIR_PLACES), arguments.found) == ([], set())


@pytest.fixture(scope="session")
async def guest(world: World) -> AsyncIterator[Visitor]:
    """A visitor of the shared world's previews."""
    async with visitor(world.stack) as one:
        yield one


@pytest.fixture
async def own_world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world of the test's own; settings for its provider by `with_settings(...)`."""
    async with local_world(environment={**SMALL, **getattr(request, "param", {})}, kind=Forked) as own:
        yield own


@pytest.fixture
async def own_guest(own_world: World) -> AsyncIterator[Visitor]:
    """A visitor of the own world's previews."""
    async with visitor(own_world.stack) as one:
        yield one
