"""A request that is repeated at another provider leaves the deploy to its owner, whoever that becomes meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from provider.errors import Code, Temporary
from provider.models import DeployRecord, Owner, SecretValues, StoredRequest, now
from provider.pipeline.context import Context
from provider.pipeline.intake import Intake
from provider.pipeline.line import Line, limits_of
from provider.pipeline.logbook import Logbook
from provider.pipeline.runner import Runner
from provider.platforms.base import Platform
from provider.settings import Settings
from provider.store import Store, memory_store
from provider.store.kv import MemoryKeyValue

BEFORE = Owner(instance="mine", epoch=1)
OTHER = Owner(instance="other", epoch=2)
MINE = Owner(instance="mine", epoch=3)


@dataclass
class Started:
    """Takes what a runner would run."""

    records: list[DeployRecord] = field(default_factory=list)

    def start(self, record: DeployRecord) -> None:
        self.records.append(record)

    def is_running(self, _: str) -> bool:
        return False


MANY = 8
"""More failures than one request is tried."""
AWAY = Temporary(Code.PLATFORM_UNREACHABLE, "away", delay=0.001)


@dataclass
class NoSecrets:
    """A platform that keeps nothing, fails `failing` times to, and never can forget."""

    failing: int = 0

    async def stage_secrets(self, *_: object) -> str:
        self.failing -= 1
        if self.failing >= 0:
            raise AWAY
        return ""

    async def drop_staged(self, _: str) -> None:
        raise AWAY


class TakenMeanwhile(Store):
    """A store in which another provider takes a deploy over just before it is listed."""

    async def unfinished_deploys(self) -> list[DeployRecord]:
        for record in await super().unfinished_deploys():
            await super().save_deploy(record.model_copy(update={"owner": OTHER}))
        return await super().unfinished_deploys()


class Forgetful(Store):
    """A store that writes a deploy, and says so only when it is asked for the `failing` + first time."""

    failing = 6

    async def create_deploy(self, record: DeployRecord) -> DeployRecord:
        created = await super().create_deploy(record)
        self.failing -= 1
        if self.failing >= 0:
            raise AWAY
        return created


def intake(store: Store, runner: Started, owner: Owner, failing: int = 0, platform: NoSecrets | None = None) -> Intake:
    settings = Settings(platform_id="here")
    ctx = Context(
        settings=settings,
        platform=cast(Platform, platform or NoSecrets(failing)),
        source=cast(Any, None),
        store=store,
        reporter=cast(Any, None),
        line=Line(store=store, limits=limits_of(settings), emit=lambda *_: None),
        logbook=Logbook(shelf=cast(Any, None), most=0),
        emit=lambda *_: None,
    )
    return Intake(ctx, cast(Runner, runner), lambda: owner)


async def asked(store: Store, owner: Owner, failing: int = 0) -> list[DeployRecord]:
    """What a provider begins to run when it gets the request."""
    runner = Started()
    request = StoredRequest(repo_full_name="acme/app", branch="main")
    await intake(store, runner, owner, failing).accept(
        request, SecretValues(), deploy_id="d", reply="_INBOX.same", received_at=now(), warnings=()
    )
    return runner.records


@pytest.mark.parametrize("owner", [MINE, OTHER])
async def test_a_new_deploy_is_run(owner: Owner) -> None:
    assert [one.owner for one in await asked(memory_store("here"), owner)] == [owner]


async def test_a_repetition_at_another_provider_runs_nothing() -> None:
    store = memory_store("here")
    await asked(store, OTHER)
    assert await asked(store, MINE) == []


async def test_what_an_earlier_process_of_the_name_left_is_taken_by_its_new_owner() -> None:
    store = memory_store("here")
    await asked(store, BEFORE)
    assert [one.owner for one in await asked(store, MINE)] == [MINE]
    left = await store.get_deploy("d")
    assert left is not None
    assert left.owner == MINE


async def test_what_another_takes_over_meanwhile_is_left_to_it() -> None:
    previews, deploys = MemoryKeyValue(), MemoryKeyValue()
    first = Store(previews=previews, deploys=deploys, platform_id="here")
    await asked(first, BEFORE)
    assert await asked(TakenMeanwhile(previews=previews, deploys=deploys, platform_id="here"), MINE) == []
    left = await first.get_deploy("d")
    assert left is not None
    assert left.owner == OTHER


async def test_what_is_not_accepted_yet_is_refused_while_the_platform_is_away() -> None:
    store = memory_store("here")
    with pytest.raises(Temporary):
        await asked(store, MINE, failing=MANY)
    assert await store.get_deploy("d") is None


@pytest.mark.parametrize("failing", [0, MANY])
async def test_a_repetition_is_not_refused_for_what_fails_here(failing: int) -> None:
    """Whoever asked was promised one answer, when the record was made."""
    store = memory_store("here")
    await asked(store, OTHER)
    assert await asked(store, MINE, failing=failing) == []


async def test_a_record_that_was_written_without_an_answer_is_run() -> None:
    store = Forgetful(previews=MemoryKeyValue(), deploys=MemoryKeyValue(), platform_id="here")
    assert [one.deploy_id for one in await asked(store, MINE)] == ["d"]


class Refusing(Store):
    """A store that takes no deploy."""

    async def create_deploy(self, record: DeployRecord) -> DeployRecord:
        raise AWAY


async def test_secrets_of_a_request_that_is_refused_are_forgotten() -> None:
    store = Refusing(previews=MemoryKeyValue(), deploys=MemoryKeyValue(), platform_id="here")
    kept: set[str] = set()

    class Keeping(NoSecrets):
        async def stage_secrets(self, *staged: object) -> str:
            kept.add(str(staged[0]))
            return "checksum"

        async def drop_staged(self, staged: str) -> None:
            kept.remove(staged)

    secrets = SecretValues.model_validate({"extra_env": {"A": "x"}})
    with pytest.raises(Temporary):
        await intake(store, Started(), MINE, platform=Keeping()).accept(
            StoredRequest(repo_full_name="acme/app", branch="main"), secrets,
            deploy_id="d", reply=None, received_at=now(), warnings=(),
        )  # fmt: skip
    assert kept == set()
