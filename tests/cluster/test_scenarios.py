"""What the engine's tests show of a preview, here: paths, headers, aliases, budgets, and what serves meanwhile."""

from __future__ import annotations

import asyncio
import base64
import ssl

import httpx
import pytest
import trustme

from provider import names
from tests.cluster.apps import App
from tests.cluster.standin.world import World
from tests.cluster.watching import deploying
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import refused

pytestmark = pytest.mark.timeout(120)


async def test_response_headers_are_added(cluster: ClusterWorld, standin: World) -> None:
    done = await cluster.app("headed", App(spec={"ingress": {"additionalHeaders": {"X-One": "1"}}}))
    assert (await cluster.guest.get(done.url)).headers["X-One"] == "1"


@pytest.mark.parametrize(("strip", "asked"), [(True, "/app/index.html"), (True, "/app/"), (False, "/index.html")])
async def test_a_path_prefix(cluster: ClusterWorld, standin: World, strip: bool, asked: str) -> None:
    """The stand-in's app knows its files without the prefix alone."""
    slug = f"prefixed-{str(strip).lower()}"
    spec = {"runtime": {"path": "/app", "healthcheck": {"path": "/"}}, "ingress": {"stripPath": strip}}
    sha = await cluster.commit(slug, App(body="below\n", spec=spec))
    if strip:
        done = await cluster.deploy(slug, sha)
        assert await cluster.guest.text(done.url, asked) == "below\n"
        assert (await cluster.guest.get(done.url, "/index.html")).status_code == 404
    else:
        failed = await refused(cluster.deploy(slug, sha))
        assert (failed.code, failed.reply["phase"]) == ("verify_failed", "verify")


async def test_an_alias_is_served_and_goes_when_it_is_dropped(cluster: ClusterWorld, standin: World) -> None:
    alias = "shop.example.test"
    authority = trustme.CA()
    issued = authority.issue_cert(alias)
    pair = {
        "tls.crt": b"".join(blob.bytes() for blob in issued.cert_chain_pems),
        "tls.key": issued.private_key_pem.bytes(),
    }
    await cluster.place.api.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": names.alias_tls_secret("aliased", alias), "namespace": cluster.place.previews},
            "type": "kubernetes.io/tls",
            "data": {name: base64.b64encode(value).decode() for name, value in pair.items()},
        }
    )
    done = await cluster.deploy("aliased", alias_hosts=[alias])
    trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    async with httpx.AsyncClient(verify=trust, trust_env=False) as http:

        async def status() -> int:
            url, sni = f"https://{cluster.place.ingress}/", {"sni_hostname": alias}
            return (await http.get(url, headers={"Host": alias}, extensions=sni)).status_code

        assert await status() == 200
        taken = await refused(cluster.deploy("thief", alias_hosts=[alias]))
        assert (taken.code, taken.reply["reason"]) == ("invalid_request", "HostTaken")
        await cluster.deploy("aliased", str(done.commit_sha))
        ingress = await cluster.place.api.get("Ingress", cluster.place.previews, "aliased")
        assert ingress is not None
        assert alias not in str(ingress["spec"])


async def test_a_budget_that_ends_in_the_build_stops_it(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("budget", App(build_hangs=True))
    failed = await refused(cluster.deploy("budget", sha, budget_seconds=8.0))
    assert (failed.code, failed.reply["phase"]) == ("budget_exceeded", "build")
    await cluster.job_gone("budget", sha)


async def test_a_teardown_during_the_rollout_leaves_nothing(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("rolling", App(sick=True))
    async with deploying(cluster, "rolling", sha, extra_env={"A": "1"}) as asker:
        await asker.phase("rollout")
        await cluster.client.teardown("rolling")
        assert (await asker.answer())["code"] == "cancelled"
    await cluster.nothing_left_but_jobs("rolling")


async def test_an_image_that_left_the_registry_is_built_again(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("lost-image")
    done = await cluster.deploy("lost-image", sha)
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"http://{cluster.place.registry}/v2/previews/lost-image/manifests/{done.digest}"
        assert (await http.delete(url)).status_code == 202
    assert (await cluster.deploy("lost-image", sha)).built


async def test_the_last_good_comes_back_with_its_own_secret(cluster: ClusterWorld, standin: World) -> None:
    good = await cluster.app("own-secret", App(body="good\n"), extra_env={"A": "good"})
    failed = await refused(cluster.app("own-secret", App(crash=4), extra_env={"A": "bad"}))
    assert failed.reply["still_serving"] == good.commit_sha

    async def bundles() -> list[str]:
        found = await cluster.place.api.names("Secret", cluster.place.previews)
        return [name for name in found if name.startswith("preview-secrets-own-secret-")]

    async with asyncio.timeout(20):
        while len(await bundles()) > 1:  # noqa: ASYNC110 - the failed one's goes after the answer
            await asyncio.sleep(0.1)
    assert "A=good\n" in await cluster.guest.text(good.url, "/cgi-bin/env")
