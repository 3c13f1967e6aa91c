"""What end-to-end tests share: small apps, a visitor of URLs, a watcher of events."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from provider.client import Deployed, Event, PreviewClient, PreviewFailed, new_deploy_id
from provider.demo.git_server import Content
from provider.demo.processes import clean_environment, run
from provider.demo.stack import Stack
from provider.demo.world import World
from tests.e2e.apps import app_files
from tests.e2e.waiting import PATIENCE as PATIENCE
from tests.e2e.waiting import PAUSE as PAUSE
from tests.e2e.waiting import eventually as eventually
from tests.e2e.waiting import seconds_since as seconds_since

Json = dict[str, Any]

SLOW_BUILD = "RUN echo begun; sleep 60"

# ------------------------------------------------------------------------------ asking


async def deployed(world: World, name: str, *, files: Mapping[str, Content] | None = None, **fields: Any) -> Deployed:
    """Commit an app to `acme/<name>` and deploy that commit; `fields` are the request's."""
    sha = await world.commit(f"acme/{name}", files or app_files(name, world.base_image))
    return await deploy(world, name, sha, **fields)


async def deploy(world: World, name: str, sha: str | None, **fields: Any) -> Deployed:
    """Deploy a commit of `acme/<name>`."""
    fields.setdefault("installation_id", world.installation_id)
    fields.setdefault("timeout", 90.0)
    return await world.client.deploy(f"acme/{name}", "main", commit_sha=sha, **fields)


async def refused(call: Awaitable[object]) -> PreviewFailed:
    """The failure that a call ends with."""
    with pytest.raises(PreviewFailed) as caught:
        await call
    return caught.value


async def refused_deploy(world: World, name: str, files: Mapping[str, Content], **fields: Any) -> PreviewFailed:
    """The failure of deploying these files as `acme/<name>`."""
    return await refused(deployed(world, name, files=files, **fields))


# ---------------------------------------------------------------------------- the visitor


@dataclass
class Visitor:
    """Opens previews as a browser would that trusts Caddy's authority; every request is a new connection."""

    ingress: str
    http: httpx.AsyncClient

    async def get(self, url: str, path: str = "", method: str = "GET") -> httpx.Response:
        """What the URL answers; connects to the ingress, whatever DNS would say."""
        public = urlsplit(url)
        headers, sni = {"Host": public.netloc}, {"sni_hostname": public.hostname}
        target = f"https://{self.ingress}{path or public.path or '/'}"
        return await self.http.request(method, target, headers=headers, extensions=sni)

    async def text(self, url: str, path: str = "") -> str:
        """The body of a good answer."""
        answer = await self.get(url, path)
        assert answer.status_code == 200, f"{url}{path}: {answer.status_code} {answer.text}"
        return answer.text

    async def commit(self, url: str) -> str | None:
        """Which commit answers."""
        commit: str | None = (await self.get(url)).headers.get("X-Preview-Commit")
        return commit


@asynccontextmanager
async def visitor(stack: Stack) -> AsyncIterator[Visitor]:
    """A visitor of this stack's previews."""
    async with httpx.AsyncClient(trust_env=False) as plain:
        ca = (await plain.get(f"{stack.caddy.address}/pki/ca/local")).json()["root_certificate"]
    async with trusted_client(ca) as http:
        yield Visitor(stack.ingress, http)


@asynccontextmanager
async def trusted_client(ca: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that trusts just this authority, and makes a new connection for every request."""
    trust = ssl.create_default_context(cadata=ca)
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(verify=trust, trust_env=False, limits=limits, timeout=10) as http:
        yield http


@dataclass
class Load:
    """Steady requests to one URL, and what came of them."""

    answers: list[httpx.Response] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """Requests that a person would have noticed."""
        return [*self.errors, *(f"{one.status_code} {one.text[:80]}" for one in self.answers if one.is_error)]

    @property
    def commits(self) -> list[str]:
        """Which commits answered, in order, each time it changed."""
        seen: list[str] = []
        for answer in self.answers:
            commit = answer.headers.get("X-Preview-Commit", "none")
            if seen[-1:] != [commit]:
                seen.append(commit)
        return seen


@asynccontextmanager
async def steady_load(guest: Visitor, url: str, path: str = "", pause: float = PAUSE) -> AsyncIterator[Load]:
    """Ask the URL one request after the other, with that pause between, for as long as the block takes."""
    load = Load()
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            try:
                load.answers.append(await guest.get(url, path))
            except httpx.HTTPError as error:
                load.errors.append(repr(error))
            await asyncio.sleep(pause)

    task = asyncio.create_task(ask())
    try:
        yield load
    finally:
        stop.set()
        await task


# ------------------------------------------------------------------------------ watching


@dataclass
class Watch:
    """A deploy under way, watched by its events."""

    deploy_id: str
    events: list[Event] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[Deployed] | None = None

    def take(self, event: Event) -> None:
        """Called with each event."""
        self.events.append(event)
        self.changed.set()

    async def until(self, found: Callable[[Event], bool], *, timeout: float = 60.0) -> Event:
        """Wait for an event; a deploy that ends first is an error."""
        assert self.task is not None
        async with asyncio.timeout(timeout):
            while True:
                for event in self.events:
                    if found(event):
                        return event
                if self.task.done():
                    raise AssertionError(f"the deploy ended first: {self.task.exception() or self.task.result()}")
                self.changed.clear()
                waiting = asyncio.create_task(self.changed.wait())
                await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()

    async def phase(self, name: str) -> None:
        """Wait until a phase has begun."""
        await self.until(lambda event: event.type == "phase.started" and event.phase == name)

    async def line(self, text: str) -> None:
        """Wait until a line of the build's log holds the text (but for the line that shows the command)."""
        await self.until(lambda event: any(one.strip().startswith(text) for one in event.data.get("lines", ())))

    async def result(self) -> Deployed:
        """The deploy's answer."""
        assert self.task is not None
        return await self.task


def watched(world: World, name: str, sha: str | None, client: PreviewClient | None = None, **fields: Any) -> Watch:
    """Begin a deploy and watch it."""
    watch = Watch(fields.pop("deploy_id", None) or new_deploy_id())
    fields = {"installation_id": world.installation_id, "timeout": 90.0, **fields}
    call = (client or world.client).deploy(
        f"acme/{name}", "main", commit_sha=sha, deploy_id=watch.deploy_id, on_event=watch.take, **fields
    )
    watch.task = asyncio.create_task(call)
    _under_way.add(watch.task)
    return watch


_under_way: set[asyncio.Task[Deployed]] = set()


async def end_watched() -> None:
    """Wait for no deploy any more: a test that failed in the middle leaves a task whose error nobody would hear."""
    tasks = list(_under_way)
    _under_way.clear()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# ---------------------------------------------------------------------------- looking behind


async def podman(stack: Stack, *arguments: str, fine: str = "") -> str:
    """Run podman on the stack's engine; without CONTAINER_HOST, which would make it a remote client.

    An error that says `fine` is an empty answer.
    """
    env = {**clean_environment(stack.folder), **stack.environment()}
    del env["CONTAINER_HOST"]
    status, output = await run("podman", *arguments, env=env, timeout=60)
    if fine and fine in output:
        return ""
    assert status == 0, output
    return output.strip()


async def containers(stack: Stack, slug: str) -> list[Json]:
    """Every container of a preview as `podman inspect` shows it."""
    names = (await podman(stack, "ps", "--all", "--quiet", f"--filter=label=preview.x1agent.io/slug={slug}")).split()
    # One by one: a container may go between the two questions.
    shown = [await podman(stack, "container", "inspect", name, fine="no such container") for name in names]
    return [json.loads(text)[0] for text in shown if text]


async def serving(world: World, slug: str) -> Json:
    """The container of the preview's newest generation."""
    found = await containers(world.stack, slug)
    return max(found, key=lambda one: int(one["Config"]["Labels"]["preview.x1agent.io/generation"]))


async def send(world: World, endpoint: str, body: bytes | Mapping[str, Any], *, timeout: float = 30.0) -> Json:
    """A raw request over the bus, and the raw answer: what the platform itself does."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    subject = world.client.subjects.request(endpoint)
    answer = await world.client.nats.request(subject, payload, timeout=timeout)
    return dict(json.loads(answer.data))


def log_lines(world: World, event: str, slug: str = "") -> list[Json]:
    """The provider's log lines of this event (of one preview), over all its starts."""
    lines = world.provider.log.read_text(errors="replace").splitlines()
    parsed = (json.loads(line) for line in lines if line.startswith("{"))
    return [line for line in parsed if line.get("event") == event and (not slug or line.get("slug") == slug)]


def builds_below(folder: Path) -> list[Path]:
    """Folders of builds that are under way or not looked at yet."""
    return [path.parent for path in (folder / "state" / "builds").glob("*/plan.json")]


def with_settings(**settings: str) -> pytest.MarkDecorator:
    """Gives `own_world`'s provider these settings."""
    return pytest.mark.parametrize("own_world", [pytest.param(settings, id=",".join(settings))], indirect=True)
