"""Nobody is answered with another's failure, or blamed for what something else did."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from provider.diagnose import rollouts
from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.models import DeployRecord, Owner, Phase, StoredRequest, now
from provider.pipeline.context import Context
from provider.pipeline.rollout import rollout as rollout_phase
from provider.pipeline.steps import Running, Steps
from provider.store import Store
from provider.store.kv import MemoryKeyValue


def a_deploy(number: int, repo: str) -> DeployRecord:
    at = now()
    return DeployRecord(
        platform_id="here", deploy_id=f"d{number}", owner=Owner(instance="i", epoch=1), fingerprint="f",
        request=StoredRequest(repo_full_name=repo, branch="main"), created_at=at, deadline=at + timedelta(hours=1),
        slug=f"slug{number}", phase=Phase.BUILD,
    )  # fmt: skip


async def test_a_deploy_that_waited_for_the_registry_is_not_answered_with_anothers_failure() -> None:
    """Tenant A's push fails: the registry is away. B waits, is let through, and its own build hangs."""

    async def there(*_: Any) -> bool:
        return True

    logbook: Any = SimpleNamespace(error=lambda _, error: {"error": str(error)})
    settings: Any = SimpleNamespace(build_timeout=1.0)
    parts: dict[str, Any] = dict.fromkeys(("source", "store", "reporter", "line", "policy"))
    ctx = Context(
        settings=settings, platform=SimpleNamespace(has_image=there), emit=lambda *_: None, logbook=logbook, **parts,
    )  # fmt: skip
    steps = Steps(ctx)
    theirs = Temporary(
        Code.REGISTRY_UNREACHABLE,
        "The image was built, but the registry did not take it: registry:5000/previews/tenant-a:1",
        reason="PushFailed", hint="h", evidence=("of tenant A",), log_tail=("what tenant A's build printed",),
    )  # fmt: skip
    steps.outages.failed(a_deploy(1, "tenant-a/private"), Phase.BUILD, theirs)

    async def hangs(ctx: Context, record: DeployRecord) -> DeployRecord:
        await asyncio.sleep(60)
        return record

    with pytest.raises(PreviewError) as caught:
        await steps.with_retries(Running(a_deploy(2, "tenant-b/shop")), Phase.BUILD, hangs)
    told = caught.value
    assert told.log_tail == (), f"{told.code}: {told.message} {told.evidence} {told.log_tail}"
    assert told.code is Code.JOB_TIMEOUT


async def test_deploys_that_others_run_are_not_remembered_for_ever() -> None:
    previews, deploys = MemoryKeyValue(), MemoryKeyValue()
    mine, theirs = (Store(previews=previews, deploys=deploys, platform_id="here") for _ in range(2))
    for number in range(50):
        record = await theirs.create_deploy(a_deploy(number, "a/b"))
        await mine.unfinished_deploys()  # once a minute, by `Leases`
        await theirs.save_deploy(record.model_copy(update={"finished_at": now()}))
    await mine.unfinished_deploys()
    assert len(mine._listed) == 0


async def test_out_of_memory_stays_the_cause_where_a_secret_was_not_sent() -> None:
    class Platform:
        async def rollout(self, *_: Any) -> None:
            crashed_ = rollouts.crashed(rollouts.App(port=3000, oom=True, exits=2, exit_code=137, memory="64Mi"))
            raise crashed_.error(("SENTRY_DSN is not set: errors are only logged", "server started"))

    entries = [SimpleNamespace(name="SENTRY_DSN", secret="SENTRY_DSN")]
    spec = SimpleNamespace(body=SimpleNamespace(env=entries))
    ctx: Any = SimpleNamespace(platform=Platform(), spec_of=lambda _: spec, log_sink=lambda _: None)
    record = a_deploy(1, "a/b").model_copy(update={"revision": SimpleNamespace()})
    with pytest.raises(Permanent) as caught:
        await rollout_phase(ctx, record)
    assert caught.value.reason == "OutOfMemory", f"{caught.value.message} → {caught.value.reason}: {caught.value.hint}"
