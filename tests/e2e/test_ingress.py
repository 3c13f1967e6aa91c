"""The ingress against a real Caddy: what visitors see before, during and after switches and crashes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from playwright.async_api import expect

from provider.dashboard.holding import HoldingPages
from provider.demo.processes import free_port
from provider.errors import Code, Permanent, Temporary
from provider.http_client import http_client
from provider.models import Phase, PreviewState
from provider.platforms.container import ingress
from provider.platforms.container.ingress import Ingress, Route
from provider.platforms.container.routes import RouteTable
from tests.dashboard.browser import chromium, tab, visit
from tests.dashboard.site import preview
from tests.e2e.caddy_fixture import DOMAIN, App, Caddy, Visitor, running_app, running_caddy, settings_for
from tests.e2e.helpers import eventually

HOST = f"a.{DOMAIN}"


class World:
    """One Caddy, one ingress over it, two apps."""

    def __init__(self, caddy: Caddy, http: httpx.AsyncClient, one: App, two: App, closing: AsyncExitStack) -> None:
        self.caddy, self.http, self.one, self.two, self._closing = caddy, http, one, two, closing
        self.settings = settings_for(caddy, caddy.home / "state")
        self.ingress = self.another_ingress()

    def another_ingress(self) -> Ingress:
        return Ingress(settings=self.settings, http=self.http)

    async def visitor(self, *, http2: bool = False) -> Visitor:
        visitor = Visitor(self.caddy, await self.ingress.root_ca(), http2=http2)
        await self._closing.enter_async_context(visitor.client)
        return visitor

    async def config(self) -> dict[str, Any]:
        answer = await self.http.get(self.settings.caddy_admin_url + "/config/")
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        caddy = await stack.enter_async_context(running_caddy(tmp_path))
        http = await stack.enter_async_context(http_client())
        one = await stack.enter_async_context(running_app("one"))
        two = await stack.enter_async_context(running_app("two"))
        made = World(caddy, http, one, two, stack)
        assert await made.ingress.ensure()
        yield made


def route(app: App, slug: str = "a", generation: int = 1, **more: Any) -> Route:
    hosts = (f"{slug}.{DOMAIN}", *more.pop("aliases", ()))
    return Route(slug, hosts, app.address, f"c0ffee{app.name}", generation=generation, **more)


async def test_a_preview_is_served_with_the_commit_and_its_own_host(world: World) -> None:
    await world.ingress.switch(route(world.one))
    answer = await (await world.visitor()).ask(HOST, "/some/path?q=1", "POST", "hello")
    assert answer.json() == {"app": "one", "path": "/some/path", "host": HOST, "body": "hello", "proto": "https"}
    assert answer.headers.get_list("X-Preview-Commit") == ["c0ffeeone"]


async def test_a_host_without_a_route_answers_with_the_page_that_is_held_for_it(world: World) -> None:
    await world.ingress.hold("a", "<p>not yet {env.HOME}</p>")
    await world.ingress.hold("b", "<p>another</p>")
    visitor = await world.visitor()
    asked = (("GET", "/"), ("GET", "/deep/er?q=/../b.html"), ("POST", "/api"), ("DELETE", "/x"), ("HEAD", "/"))
    for method, path in asked:
        answer = await visitor.ask(HOST, path, method, "body" if method == "POST" else None)
        assert answer.status_code == 503, (method, path)
        assert answer.text == ("" if method == "HEAD" else "<p>not yet {env.HOME}</p>"), (method, path)
        assert {"X-Preview-Commit", "ETag", "Last-Modified"}.isdisjoint(answer.headers)
        assert (answer.headers["Retry-After"], answer.headers["X-Preview-Holding"]) == ("2", "1")
        assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    for host in ("*.preview.localhost", "?.preview.localhost", "../a.preview.localhost", f"0.{DOMAIN}"):
        answer = await visitor.client.get(visitor.base, headers={"Host": host}, extensions={"sni_hostname": HOST})
        assert answer.status_code in (400, 404), host

    assert RouteTable(world.settings.state_dir / "routes").owner(HOST) is None, "so a look at it counts as no visit"

    await world.ingress.switch(route(world.one))
    served = await visitor.ask(HOST)
    assert (served.json()["app"], "X-Preview-Holding" in served.headers) == ("one", False)
    await world.ingress.hold("a", "<p>gone</p>")
    assert (await visitor.ask(HOST)).json()["app"] == "one", "a page is no route"
    await world.ingress.remove("a")
    assert (await visitor.ask(HOST)).text == "<p>gone</p>"
    await world.ingress.hold_only(frozenset("b"))
    assert (await visitor.ask(HOST)).text == "<p>gone</p>", "a page that was just written may be a new preview's"
    RouteTable(world.settings.state_dir / "routes").hold_only(frozenset({f"b.{DOMAIN}"}), older_than=0)
    assert (await visitor.ask(HOST)).status_code == 404
    assert (await world.ingress.part()).ok


async def test_the_held_page_follows_and_turns_into_the_app_by_itself(world: World) -> None:
    pages, fresh = HoldingPages(), preview("a", 0, PreviewState.PROVISIONING)
    await world.ingress.hold("a", pages.page(fresh, Phase.BUILD))
    url = f"https://{HOST}:{world.caddy.public.rpartition(':')[2]}/deep"
    async with chromium() as browser, tab(browser, ignore_https_errors=True) as page:
        await visit(page, url)
        await expect(page.get_by_role("heading", name="Being deployed")).to_be_visible()
        await expect(page.locator("li.now")).to_contain_text("build")
        await world.ingress.hold("a", pages.page(fresh, Phase.VERIFY))
        await expect(page.locator("li.now")).to_contain_text("verify")
        await world.ingress.switch(route(world.one))
        await expect(page.get_by_text('"app": "one"')).to_be_visible()
        assert page.url == url


async def test_an_unknown_host_gets_404_without_a_commit(world: World) -> None:
    await world.ingress.switch(route(world.one))
    visitor = await world.visitor()
    for host in (f"nobody.{DOMAIN}", f"0.{DOMAIN}"):
        answer = await visitor.ask(host)
        assert (answer.status_code, answer.text) == (404, "no such preview\n")
        assert "X-Preview-Commit" not in answer.headers


@pytest.mark.parametrize("host", ["*", f"*.{DOMAIN}", "..", "[a]", f"?.{DOMAIN}"])
async def test_a_forged_host_header_finds_nothing(world: World, host: str) -> None:
    await world.ingress.switch(route(world.one))
    visitor = await world.visitor()
    answer = await visitor.client.get(visitor.base, headers={"Host": host}, extensions={"sni_hostname": HOST})
    assert answer.status_code in (400, 404)


async def test_headers_of_the_spec_override_the_apps_and_leak_nothing(world: World) -> None:
    headers = {"X-Mine": "the spec's", "X-Leak": "{env.HOME} {http.request.host}"}
    await world.ingress.switch(route(world.one, response_headers=headers))
    answer = await (await world.visitor()).ask(HOST)
    assert answer.headers.get_list("X-Mine") == ["the spec's"]
    assert answer.headers["X-Leak"] == "{env.HOME} {http.request.host}"


@pytest.mark.parametrize(
    ("strip", "asked", "status", "seen"),
    [
        (None, "/app/x", 200, "/app/x"),
        ("/app", "/app/x", 200, "/x"),
        ("/app", "/app", 200, "/"),
        ("/app", "/apple", 404, None),
        ("/app", "/", 404, None),
    ],
)
async def test_path_prefix(world: World, strip: str | None, asked: str, status: int, seen: str | None) -> None:
    await world.ingress.switch(route(world.one, path_prefix="/app", strip_prefix=strip))
    answer = await (await world.visitor()).ask(HOST, asked)
    assert answer.status_code == status
    assert answer.headers["X-Preview-Commit"] == "c0ffeeone"
    assert seen is None or answer.json()["path"] == seen


async def test_aliases_come_and_go(world: World) -> None:
    visitor = await world.visitor()
    await world.ingress.switch(route(world.one, aliases=("alias.example",)))
    answer = await visitor.ask("alias.example")
    assert answer.json()["host"] == "alias.example"
    await world.ingress.switch(route(world.one, generation=2))
    assert (await visitor.ask("alias.example")).status_code == 404
    assert (await visitor.ask(HOST)).status_code == 200


async def test_an_alias_takes_no_other_previews_host(world: World) -> None:
    await world.ingress.switch(route(world.one, "owner", aliases=("alias.example",)))
    for alias in ("alias.example", f"unborn.{DOMAIN}"):
        with pytest.raises(Permanent) as caught:
            await world.ingress.switch(route(world.two, "thief", aliases=(alias,)))
        assert (caught.value.code, caught.value.reason) == (Code.INVALID_REQUEST, "HostTaken")
    assert await world.ingress.route("thief") is None


async def test_an_http2_app_is_asked_over_h2c(world: World) -> None:
    server = {
        "listen": [address := f"127.0.0.1:{free_port()}"],
        "automatic_https": {"disable": True},
        "protocols": ["h1", "h2", "h2c"],
        "routes": [{"handle": [{"handler": "static_response", "body": "{http.request.proto}"}]}],
    }
    url = f"{world.settings.caddy_admin_url}/config/apps/http/servers/h2c"
    (await world.http.put(url, json=server)).raise_for_status()
    wanted = replace(route(world.one, http2=True), upstream=address)
    await world.ingress.switch(wanted)
    visitor = await world.visitor()
    assert (await visitor.ask(HOST)).text == "HTTP/2.0"
    await world.ingress.switch(replace(wanted, http2=False, generation=2))
    assert (await visitor.ask(HOST)).text == "HTTP/1.1"


async def test_a_dead_upstream_answers_502_with_the_commit(world: World) -> None:
    await world.ingress.switch(replace(route(world.one), upstream=f"127.0.0.1:{free_port()}"))
    answer = await (await world.visitor()).ask(HOST)
    assert answer.status_code == 502
    assert answer.headers["X-Preview-Commit"] == "c0ffeeone"


async def test_a_dead_upstream_answers_with_its_page_until_it_lives_again(world: World) -> None:
    port = free_port()
    await world.ingress.hold("a", "<p>coming back</p>")
    await world.ingress.switch(replace(route(world.one), upstream=f"127.0.0.1:{port}"))
    visitor = await world.visitor()
    answer = await visitor.ask(HOST, "/deep/er?q=1")
    assert (answer.status_code, answer.text) == (503, "<p>coming back</p>")
    assert (answer.headers["Retry-After"], answer.headers["X-Preview-Holding"]) == ("2", "1")
    assert "X-Preview-Commit" not in answer.headers
    async with running_app("back", port):
        assert (await visitor.ask(HOST)).json()["app"] == "back"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_restarting_upstream_is_waited_for(world: World, method: str) -> None:
    port = free_port()
    await world.ingress.switch(replace(route(world.one), upstream=f"127.0.0.1:{port}"))
    visitor = await world.visitor()
    asked = asyncio.create_task(visitor.ask(HOST, "/", method))
    # Sent later and answered: so Caddy has the first request, and has met a refusal or is about to.
    await visitor.ask(f"nobody.{DOMAIN}")
    async with running_app("late", port):
        assert (await asked).json()["app"] == "late"


async def test_a_switch_leaves_streams_and_slow_requests_alone(world: World) -> None:
    await world.ingress.switch(route(world.one))
    visitor = await world.visitor()
    slow = asyncio.create_task(visitor.ask(HOST, "/slow"))
    connector = aiohttp.TCPConnector(ssl=visitor.ssl)
    named: dict[str, Any] = {"headers": {"Host": HOST}, "server_hostname": HOST}
    async with aiohttp.ClientSession(connector=connector) as session:
        events = await session.get(visitor.base + "/sse", **named)
        assert await events.content.readline() == b"data: first\n"
        talk = await session.ws_connect(visitor.base + "/ws", **named)
        await world.one.arrived.wait()
        await world.ingress.switch(route(world.two, generation=2))
        assert (await visitor.ask(HOST)).json()["app"] == "two"
        await talk.send_str("still here")
        assert await talk.receive_str() == "one still here"
        world.one.release.set()
        assert await events.content.readline() == b"data: second\n"
        await talk.close()
    answer = await slow
    assert (answer.text, answer.headers["X-Preview-Commit"]) == ("one", "c0ffeeone")


async def test_generations(world: World) -> None:
    ingress = world.ingress
    await ingress.switch(route(world.two, generation=5))
    for expected in (None, 4):
        with pytest.raises(Permanent) as caught:
            await ingress.switch(route(world.one, generation=3), expected_generation=expected)
        assert caught.value.code is Code.SUPERSEDED
    await ingress.switch(route(world.one, generation=3), expected_generation=5)
    assert await ingress.route("a") == route(world.one, generation=3)


async def test_of_many_switchers_the_newest_generation_wins(world: World) -> None:
    switchers = [world.another_ingress() for _ in range(4)]
    attempts = [
        switchers[n % 4].switch(route(world.one if n % 2 else world.two, generation=n)) for n in (7, 3, 20, 11, 1, 19)
    ]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert all(result is None or isinstance(result, Permanent) for result in results)
    assert (await world.ingress.route("a")) == route(world.two, generation=20)


async def test_twenty_previews_at_once_each_with_headers_of_its_own(world: World) -> None:
    slugs = [f"p{n}" for n in range(20)]
    others = world.another_ingress()
    await asyncio.gather(
        *(
            (others if n % 2 else world.ingress).switch(route(world.one, slug, response_headers={"X-Me": slug}))
            for n, slug in enumerate(slugs)
        )
    )
    visitor = await world.visitor()
    answers = await asyncio.gather(*(visitor.ask(f"{slug}.{DOMAIN}") for slug in slugs))
    assert [answer.headers["X-Me"] for answer in answers] == slugs
    assert [found.slug for found in await world.ingress.routes()] == sorted(slugs)


async def test_remove(world: World) -> None:
    await world.ingress.switch(route(world.one))
    await world.ingress.switch(route(world.two, generation=2))
    assert await world.ingress.remove("a")
    assert not await world.ingress.remove("a")
    assert await world.ingress.route("a") is None
    assert (await (await world.visitor()).ask(HOST)).status_code == 404
    await world.ingress.switch(route(world.one))
    assert (await (await world.visitor()).ask(HOST)).json()["app"] == "one"


@pytest.mark.parametrize(("arguments", "remade"), [((), True), (("--resume",), False)])
async def test_a_killed_caddy_is_restored(world: World, arguments: tuple[str, ...], remade: bool) -> None:
    wanted = route(world.one, aliases=("alias.example",), response_headers={"X-Mine": "kept"})
    await world.ingress.switch(wanted)
    before = await world.config()
    await world.caddy.kill()
    with pytest.raises(Temporary) as caught:
        await world.ingress.switch(route(world.two, generation=2))
    assert caught.value.reason == "IngressUnreachable"
    assert not (await world.ingress.part()).ok
    await world.caddy.start(*arguments)
    assert await world.ingress.ensure() is remade
    await world.ingress.switch(route(world.two, "b"))
    after = await world.config()
    assert after["apps"] == before["apps"]
    visitor = await world.visitor()
    for host in (HOST, "alias.example"):
        answer = await visitor.ask(host)
        assert (answer.status_code, answer.headers["X-Mine"]) == (200, "kept")
    assert (await visitor.ask(f"b.{DOMAIN}")).json()["app"] == "two"


async def test_a_deploy_after_a_crash_restores_the_others(world: World) -> None:
    await world.ingress.switch(route(world.one, response_headers={"X-Mine": "kept"}))
    await world.caddy.kill()
    await world.caddy.start()
    await world.ingress.switch(route(world.two, "b"))
    visitor = await world.visitor()
    answer = await visitor.ask(HOST)
    assert answer.headers["X-Mine"] == "kept"


async def test_an_entry_cut_by_a_power_failure_is_replaced(world: World) -> None:
    await world.ingress.switch(route(world.one))
    (entry,) = (world.settings.state_dir / "routes" / "slugs" / "a").iterdir()
    entry.write_text("")
    assert await world.ingress.route("a") is None
    await world.ingress.switch(route(world.two))
    assert (await (await world.visitor()).ask(HOST)).json()["app"] == "two"


async def test_foreign_configuration_stays_and_nothing_else_is_opened(world: World) -> None:
    admin, public = (int(address.rpartition(":")[2]) for address in (world.caddy.admin, world.caddy.public))
    assert world.caddy.listening() == {admin, public}
    theirs = {"listen": [f"127.0.0.1:{free_port()}"], "routes": [{"handle": [{"handler": "static_response"}]}]}
    url = f"{world.settings.caddy_admin_url}/config/apps/http/servers/theirs"
    (await world.http.put(url, json=theirs)).raise_for_status()
    assert not await world.ingress.ensure()
    (await world.http.delete(url.replace("theirs", "x1_previews"))).raise_for_status()
    assert await world.ingress.ensure()
    assert (await world.config())["apps"]["http"]["servers"]["theirs"] == theirs


async def test_complaint_10_one_wildcard_certificate_serves_every_host(world: World) -> None:
    visitor = await world.visitor()
    serials = set()
    for slug in ("a", "b"):
        await world.ingress.switch(route(world.one, slug))
        answer = await visitor.ask(f"{slug}.{DOMAIN}")
        certificate = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
        assert certificate["subjectAltName"] == (("DNS", f"*.{DOMAIN}"),)
        serials.add(certificate["serialNumber"])
    assert len(serials) == 1


def unlockable(world: World, host: str) -> Path:
    """A folder in the place of Caddy's lock file, without which it makes no certificate."""
    folder = world.caddy.home / "data" / "caddy" / "locks" / f"issue_cert_{host}.lock"
    folder.mkdir(parents=True)
    return folder


async def test_a_certificate_that_failed_is_made_as_soon_as_it_can_be(world: World) -> None:
    """Left alone, Caddy tries again after a minute, or never."""
    in_the_way = unlockable(world, "alias.example")
    switching = asyncio.create_task(world.ingress.switch(route(world.one, aliases=("alias.example",))))

    async def failed() -> bool:
        return "unable to acquire lock" in (world.caddy.home / "caddy.log").read_text()

    await eventually(failed, what="Caddy's first attempt has failed")
    in_the_way.rmdir()
    await switching
    assert (await (await world.visitor()).ask("alias.example")).status_code == 200


async def test_a_certificate_that_cannot_be_made_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "_CERTIFICATE_PATIENCE", (0.2, 0.2))
    unlockable(world, "alias.example")
    with pytest.raises(Temporary) as caught:
        await world.ingress.switch(route(world.one, aliases=("alias.example",)))
    assert caught.value.reason == "CertificateMissing"
    assert "alias.example" in caught.value.evidence[0]


async def test_a_refused_configuration_says_why(world: World) -> None:
    bad = world.settings.model_copy(update={"caddy_listen": "127.0.0.1:not-a-port"})
    with pytest.raises(Permanent) as caught:
        await Ingress(settings=bad, http=world.http).ensure()
    assert caught.value.reason == "IngressRefused"
    assert "not-a-port" in str(caught.value.evidence)


async def test_part(world: World) -> None:
    assert (await world.ingress.part()).ok
    (world.settings.state_dir / "routes" / ".ready").unlink()
    unreadable = await world.ingress.part()
    assert not unreadable.ok
    assert "STATE_DIR" in unreadable.hint
    url = f"{world.settings.caddy_admin_url}/config/apps/http/servers/x1_previews"
    (await world.http.delete(url)).raise_for_status()
    assert "without our server" in (await world.ingress.part()).detail


@pytest.mark.parametrize(("http2", "switches"), [(False, 30), (True, 15)])
async def test_no_request_fails_while_traffic_is_switched(world: World, http2: bool, switches: int) -> None:
    """Switches under the load of 32 visitors; every answer's commit is its app's."""
    await world.ingress.switch(route(world.one))
    # HTTP/1.1: 32 clients with a connection each. HTTP/2: as many streams of one connection.
    visitors = [await world.visitor(http2=http2) for _ in range(1 if http2 else 32)] * (32 if http2 else 1)
    seen: Counter[str] = Counter()
    done = asyncio.Event()

    async def visit(visitor: Visitor) -> None:
        while not done.is_set():
            answer = await visitor.ask(HOST)
            assert answer.status_code == 200
            assert answer.headers["X-Preview-Commit"] == f"c0ffee{answer.json()['app']}"
            seen[answer.json()["app"]] += 1

    async def switch() -> None:
        for generation in range(2, 2 + switches):
            before = seen.total()
            app = world.two if generation % 2 == 0 else world.one
            await world.ingress.switch(route(app, generation=generation))
            assert (await visitors[0].ask(HOST)).json()["app"] == app.name
            while seen.total() < before + 32:
                await visitors[0].ask(HOST)
        done.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(switch())
        for visitor in visitors:
            tasks.create_task(visit(visitor))
    assert min(seen["one"], seen["two"]) > 100
