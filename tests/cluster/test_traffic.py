"""A URL goes on leading to what serves, as that wants it, until what is new is ready."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.cluster.apps import App
from tests.cluster.standin.script import AppScript
from tests.cluster.standin.world import World
from tests.cluster.watching import deploying
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import refused, steady_load

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True, kw_only=True)
class Listening(App):
    """An app that listens on its own port and nowhere else, as real ones do."""

    port: int

    def app_script(self) -> AppScript:
        return replace(super().app_script(), port=self.port)


async def test_a_new_port_does_not_take_the_old_revision_away(cluster: ClusterWorld, standin: World) -> None:
    """What served before keeps serving until the new revision is ready."""
    slug = "moves"
    old = Listening(body="old\n", port=8080, spec={"runtime": {"port": 8080}})
    new = Listening(body="new\n", port=9090, slow=True, spec={"runtime": {"port": 9090}})
    done = await cluster.deploy(slug, await cluster.commit(slug, old))
    sha = await cluster.commit(slug, new)
    async with steady_load(cluster.guest, done.url) as load:
        await cluster.deploy(slug, sha)
    seen = [(one.status_code, one.text[:30]) for one in load.answers]
    assert load.failed == [], f"{len(load.failed)} of {len(seen)}"
    assert await cluster.guest.text(done.url) == "new\n"


@pytest.mark.parametrize("change", [{"port": 9090}, {"path": "/app"}], ids=str)
async def test_a_revision_that_never_gets_ready_takes_nothing_away(
    cluster: ClusterWorld, standin: World, change: dict[str, Any]
) -> None:
    """`deployment_not_ready` with `still_serving`: it did not serve."""
    slug = f"stays-{next(iter(change))}"
    done = await cluster.deploy(slug, await cluster.commit(slug, Listening(body="old\n", port=8080)))
    new = Listening(body="new\n", sick=True, port=change.get("port", 8080), spec={"runtime": change})
    sha = await cluster.commit(slug, new)
    async with steady_load(cluster.guest, done.url) as load:
        failed = await refused(cluster.deploy(slug, sha))
    assert (failed.code, failed.reply["still_serving"]) == ("deployment_not_ready", done.commit_sha)
    assert load.failed == [], f"{len(load.failed)} of {len(load.answers)}"


async def test_who_goes_on_after_a_kill_leads_the_url_to_the_new_revision(own_cluster: ClusterWorld) -> None:
    """Its Ingress is not applied yet when the provider is killed: another process has to do that."""
    slug, alias = "led-on", "led-on.example.org"
    await own_cluster.deploy(slug, await own_cluster.commit(slug, App(body="old\n")))
    sha = await own_cluster.commit(slug, App(body="new\n", slow=True))
    async with deploying(own_cluster, slug, sha, alias_hosts=[alias]) as asker:
        await asker.phase("rollout")
        await own_cluster.provider.kill()
        await own_cluster.provider.start()
        answer = await asker.answer()
    assert answer["ok"], answer
    ingress = await own_cluster.place.api.get("Ingress", own_cluster.place.previews, slug)
    assert ingress is not None
    assert alias in [rule["host"] for rule in ingress["spec"]["rules"]]
    assert ingress["metadata"]["annotations"]["preview.x1agent.io/generation"] == "2"
