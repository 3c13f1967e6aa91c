"""Pages as a program gets them: who may have them, what headers they carry, and that nothing in them is markup."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.dashboard.access import HEADERS
from provider.demo.processes import free_port
from provider.errors import Code, Temporary
from provider.models import Newest, PreviewState, now
from tests.dashboard.site import Engine, Site, Words, deploy, many, preview, site

TOKEN = "a-token-of-the-tests"
SECTIONS = {"head", "diagnosis", "phases", "checks", "history", "pods", "events"}


def client(one: Site, **more: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=one.url, trust_env=False, timeout=20, **more)


async def events(http: httpx.AsyncClient, path: str, **more: Any) -> AsyncGenerator[tuple[str, str, Any], None]:
    """The stream's events: name, id, data."""
    async with http.stream("GET", path, **more) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
                fields = {}


# ------------------------------------------------------------------------------- access


async def test_every_answer_is_strict() -> None:
    async with site([preview("shop")]) as one, client(one) as http:
        for path in ("/", "/previews/shop", "/previews/absent", "/login", "/static/dashboard.js", "/static/absent"):
            answer = await http.get(path)
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, path
        policy = HEADERS["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        page = (await http.get("/")).text
        assert not re.findall(r"<script(?! src=\"/static)|<style| style=| on[a-z]+=", page)
        assert not re.findall(r"(?:src|href)=\"(?:https?:)?//(?!shop\.preview)", page), (
            "nothing is loaded from elsewhere"
        )


async def test_the_token_opens_it_by_header_or_by_a_cookie_after_the_form() -> None:
    async with site([preview("shop")], dashboard_token=TOKEN) as one, client(one) as http:
        for path in ("/", "/stream", "/previews/shop", "/previews/shop/stream"):
            assert (await http.get(path)).status_code == 401, path
            for wrong in ("Bearer wrong", "Bearer", "Basic " + TOKEN):
                answer = await http.get(path, headers={"Authorization": wrong})
                assert answer.status_code == 401, (path, wrong)
        sent = await http.get("/", headers={"Accept": "text/html"})
        assert (sent.status_code, sent.headers["Location"]) == (303, "/login")
        assert (await http.get("/", headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 200
        refused = await http.post("/login", data={"token": "wrong"})
        assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
        elsewhere = await http.post("/login", data={"token": TOKEN}, headers={"Sec-Fetch-Site": "cross-site"})
        assert elsewhere.status_code == 403
        entered = await http.post("/login", data={"token": TOKEN})
        cookie = entered.headers["set-cookie"]
        assert (entered.status_code, TOKEN in cookie) == (303, False)
        assert all(flag in cookie for flag in ("HttpOnly", "SameSite=Strict", "Path=/"))
        assert (await http.get("/")).status_code == 200
        value = http.cookies["preview_dashboard"]
        until, _, seal = value.partition(".")
        for forged in (f"{int(until) + 1}.{seal}", f"1.{seal}", seal, ".", "9" * 5000 + "." + seal, until + "."):
            http.cookies.set("preview_dashboard", forged, domain="127.0.0.1")
            async with client(one, cookies={"preview_dashboard": forged}) as another:
                assert (await another.get("/")).status_code == 401, forged


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "10.0.0.1", "", "[::2]"])
async def test_a_page_from_elsewhere_cannot_ask_it_by_a_name_of_its_own(host: str) -> None:
    async with site([preview("shop")]) as one, client(one) as http:
        assert (await http.get("/", headers={"Host": host})).status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "localhost:8090", "127.0.0.1", "127.0.0.2:1", "[::1]:8090"])
async def test_this_machine_asks_it_by_any_of_its_own_names(host: str) -> None:
    async with site([preview("shop")]) as one, client(one) as http:
        assert (await http.get("/", headers={"Host": host})).status_code == 200


async def test_elsewhere_than_on_loopback_there_is_none_without_a_token() -> None:
    async with site([preview("shop")], http_address="0.0.0.0:0") as one, client(one) as http:
        port = one.url.rpartition(":")[2]
        for path in ("/", "/stream", "/previews/shop", "/login"):
            answer = await http.get(f"http://127.0.0.1:{port}{path}")
            assert (answer.status_code, "shop" in answer.text) == (403, False), path
    async with site([preview("shop")], http_address="0.0.0.0:0", dashboard_token=TOKEN) as one, client(one) as http:
        url = f"http://127.0.0.1:{one.url.rpartition(':')[2]}/"
        bearer = {"Authorization": f"Bearer {TOKEN}", "Host": "previews.example"}
        assert (await http.get(url, headers=bearer)).status_code == 200


# -------------------------------------------------------------------------------- pages


async def test_the_list_tells_all_and_filters_without_script() -> None:
    records = many(40)
    async with site(records) as one, client(one) as http:
        whole = (await http.get("/")).text
        for record in records:
            assert f'id="row-{record.slug}"' in whole
        assert whole.index('id="row-shop-0000"') < whole.index('id="row-checkout-0001"'), "the last deployed is first"
        shown = visible((await http.get("/", params={"q": "ACME/shop", "state": "ready"})).text)
        expected = {r.slug for r in records if r.repo_full_name == "acme/shop" and r.state is PreviewState.READY}
        assert shown == expected
        assert visible((await http.get("/", params={"q": "nothing-like-it"})).text) == set()


def visible(page: str) -> set[str]:
    rows = re.findall(r'<tr (hidden )?role="row" id="row-([a-z0-9-]+)"', page)
    return {slug for hidden, slug in rows if not hidden}


async def test_a_page_tells_what_can_be_seen_of_a_preview() -> None:
    record = preview("basket", 4, PreviewState.DEGRADED)
    engine = Engine(app_lines=["the app said this"], build_lines=["\x1b[31mthe build\x1b[0m said that"])
    async with site([record], engine=engine) as one, client(one) as http:
        await one.store.create_deploy(deploy(record))
        page = (await http.get("/previews/basket")).text
        for told in (
            "npm ci exited with 1", "package-lock.json", "kaniko_build_failed", "RunFailed", "whoever deployed it",
            "Missing: left-pad", "GET /api/health", "503: upstream connect error", "did you mean name?",
            "basket-g3", "container/basket-g3", "session-4821", "the app said this", "the build said that",
            'aria-label="resolve 310 ms', "9.4 s",
        ):  # fmt: skip
            assert told in page, told
        missing = await http.get("/previews/absent")
        assert (missing.status_code, "no preview" in missing.text) == (404, True)


async def test_what_the_platform_does_not_say_hides_nothing_else() -> None:
    class Silent(Engine):
        async def pods(self, slug: str) -> Any:
            raise Temporary(Code.PLATFORM_UNREACHABLE, "The engine does not answer.")

    async with site([preview("shop")], engine=Silent(app_lines=["still here"])) as one, client(one) as http:
        page = (await http.get("/previews/shop")).text
        assert "The engine does not answer." in page
        assert "still here" in page


# ---------------------------------------------------------------------- as it happens


async def test_the_list_tells_a_reader_what_changed_since_its_mark_and_everything_after_a_restart() -> None:
    async with site(many(5)) as one, client(one) as http:
        mark = re.search(r'data-mark="([^"]+)"', (await http.get("/")).text)
        assert mark is not None
        async with asyncio.timeout(10), aclosing(events(http, f"/stream?since={mark[1]}")) as stream:
            await one.put([preview("fresh", 0, PreviewState.PROVISIONING)])
            name, seen, data = await anext(stream)
            assert (name, data["whole"], [row["slug"] for row in data["rows"]], data["gone"]) == (
                "rows",
                False,
                ["fresh"],
                [],
            )
            assert 'data-state="provisioning"' in data["rows"][0]["html"]
            gone = preview("fresh").model_copy(update={"removed_at": now()})
            await one.put([gone])
            _, _, data = await anext(stream)
            assert (data["rows"], data["gone"]) == ([], ["fresh"])
        async with asyncio.timeout(10), aclosing(events(http, "/stream", headers={"Last-Event-ID": seen})) as stream:
            assert (await anext(stream))[2]["gone"] == ["fresh"], "what was missed while away is told"


async def test_a_restarted_provider_tells_everything_anew() -> None:
    async with site(many(5), port=free_port()) as one, client(one) as http:
        async with asyncio.timeout(10), aclosing(events(http, "/stream?since=another-7")) as stream:
            _, seen, data = await anext(stream)
            assert (data["whole"], len(data["rows"])) == (True, 5)
            await one.stop()  # the reader is let go of at once, whatever it waits for
            with pytest.raises(httpx.HTTPError):
                await anext(stream)
        await one.start()
        async with asyncio.timeout(10), aclosing(events(http, "/stream", headers={"Last-Event-ID": seen})) as stream:
            assert (await anext(stream))[2]["whole"] is True


async def test_a_preview_tells_its_sections_its_phases_and_its_logs_as_they_come() -> None:
    record = preview("fresh", 0, PreviewState.PROVISIONING)
    engine = Engine(app_lines=["app line"], build_lines=["build line"])
    async with site([record], engine=engine) as one, client(one) as http:
        created = await one.store.create_deploy(deploy(record))
        lines: dict[str, list[str]] = {"logs": [], "build_logs": []}
        async with asyncio.timeout(15), aclosing(events(http, "/previews/fresh/stream")) as stream:
            name, _, data = await anext(stream)
            assert (name, set(data)) == ("sections", SECTIONS)
            assert "step-running" in data["phases"]["html"]
            ended = deploy(preview("fresh")).model_copy(update={"owner": created.owner, "order": created.order})
            await one.store.save_deploy(ended)
            changed: set[str] = set()
            while not ({"phases", "checks"} <= changed and all(lines.values())):
                name, _, data = await anext(stream)
                if name == "log":
                    lines[data["kind"]] += data["lines"]
                elif name == "sections":
                    changed |= set(data)
            assert changed == {"phases", "checks"}, "what did not change is not told again"
        assert lines == {"logs": ["app line"], "build_logs": ["build line"]}


# ------------------------------------------------------------------------------- markup

HOSTILE = (
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'><svg/onload=alert(1)>", "javascript:alert(1)",
    "</pre></section><h1>mine</h1>", "{{ 7 * 7 }}{% raw %}", "&lt;b&gt;", "\u202e\x1b[31mred\x00", "--><!--", "]]>",
    "\r\ndata: {}\r\n\r\nevent: gone", "\u2028\u2029", "a' autofocus onfocus='alert(1)", "`${alert(1)}`",
)  # fmt: skip


class Skeleton(HTMLParser):
    """A page without its texts: tags, names of attributes, and where links lead."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.leads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = tuple(name for name, _ in attrs)
        self.found.append((tag, names))
        self.leads += [value or "" for name, value in attrs if name in ("href", "src", "action")]


def skeleton(text: str) -> Skeleton:
    parser = Skeleton()
    parser.feed(text)
    parser.close()
    return parser


NUMBERS = itertools.count(1)
TEXT = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@dataclass
class Anything:
    """A site whose one preview can be made to say anything, and its pages' skeletons when it says nothing special."""

    site: Site
    usual: list[tuple[list[Any], list[str]]] = field(default_factory=list)


@pytest.fixture(scope="module")
async def anything() -> AsyncIterator[Anything]:
    async with site(engine=Engine(app_lines=["line"], build_lines=["line"])) as one:
        yield Anything(one, await skeletons(one, "text"))


async def skeletons(one: Site, text: str) -> list[tuple[list[Any], list[str]]]:
    """Both pages, and what their streams tell, where every field that others write holds that text."""
    one.engine.words = words = Words(text)
    number = next(NUMBERS)
    record = preview("app", 4, PreviewState.DEGRADED, words)
    record = record.model_copy(update={"newest": Newest(order=number, deploy_id=f"d-{number}")})
    await one.store.create_deploy(deploy(record, words))
    await one.put([record])
    async with client(one, verify=False) as http, asyncio.timeout(10):
        found = [(await http.get(path)).text for path in ("/", "/previews/app")]
        async with aclosing(events(http, "/stream")) as stream:
            found.append((await anext(stream))[2]["rows"][0]["html"])
        async with aclosing(events(http, "/previews/app/stream")) as stream:
            sections = (await anext(stream))[2]
            assert set(sections) == SECTIONS
            found += [sections[name]["html"] for name in sorted(sections)]
    return [(parsed.found, parsed.leads) for parsed in map(skeleton, found)]


@given(text=TEXT)
@settings(max_examples=12)
async def test_nothing_that_others_write_becomes_markup(anything: Anything, text: str) -> None:
    """The tags, the attributes, and the places that links lead to are those that any other text gives."""
    assert await skeletons(anything.site, text) == anything.usual


async def test_every_known_way_to_smuggle_markup_in_fails(anything: Anything) -> None:
    for text in HOSTILE:
        assert await skeletons(anything.site, text) == anything.usual, text
