"""The bus's `permissions.conf` on a real nats-server: each kind of user can do its own, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nats.aio.client import Client

from provider.client import PreviewClient
from provider.demo.processes import Server
from provider.demo.stack import local_stack, nats_server
from provider.demo.world import World, local_world
from provider.settings import Settings
from tests.e2e.apps import app_files
from tests.e2e.helpers import log_lines

PERMISSIONS = Path(__file__).resolve().parents[2] / "manifests" / "components" / "nats" / "permissions.conf"
CONF = """
include {permissions}
authorization {{
  users: [
    {{ user: provider, password: secret, permissions: $PREVIEW_PROVIDER }}
    {{ user: client, password: secret, permissions: $PREVIEW_CLIENT }}
    {{ user: observer, password: secret, permissions: $PREVIEW_OBSERVER }}
    {{ user: approver, password: secret, permissions: $PREVIEW_APPROVER }}
    {{ user: anybody, password: secret }}
  ]
}}
"""
PREFIX = "x1.provider.preview"
BOTH = {"client", "observer"}
THREE = BOTH | {"approver"}
PUBLISHING: dict[str, set[str]] = {
    **{f"{PREFIX}.{name}": BOTH for name in ("validate", "introspect")},
    **{f"{PREFIX}.{name}": THREE for name in ("status", "list", "wait")},
    **{f"{PREFIX}.{name}": {"approver"} for name in ("approve", "reject")},
    **{
        f"{PREFIX}.{name}": {"client"}
        for name in ("provision", "teardown", "cancel", "touch", "claim", "release", "attach", "queue")
    },
    f"{PREFIX}.debug": set(),
    f"{PREFIX}.events.shop": {"provider"},
    "x1.audit.preview": {"provider"},
    "x1.session.s-1.input": {"provider"},
    "_INBOX.client.abc": {"provider"},
    "_INBOX.provider.abc": {"provider"},
    "$SRV.PING": {"observer"},
    "$SRV.INFO.preview-provider": {"observer"},
    "$KV.x1_provider_preview_previews.preview.shop": {"provider"},
    "$KV.x1_provider_preview_deploys.deploy.d-1": {"provider"},
    "$O.x1_provider_preview_logs.C.abc": {"provider"},
    "$KV.other.key": set(),
    "$JS.API.STREAM.INFO.KV_x1_provider_preview_previews": {"provider"},
    "$JS.API.STREAM.MSG.GET.KV_x1_provider_preview_deploys": {"provider"},
    "$JS.API.CONSUMER.CREATE.x1_provider_preview_events": BOTH,
    "$JS.API.CONSUMER.CREATE.KV_x1_provider_preview_deploys": {"provider"},
    "$JS.API.CONSUMER.MSG.NEXT.x1_provider_preview_queue.providers": {"provider"},
    "$JS.ACK.x1_provider_preview_queue.providers.1.1.1.1.0": {"provider"},
    "$JS.API.STREAM.DELETE.KV_x1_provider_preview_previews": set(),
    "$JS.API.STREAM.DELETE.x1_provider_preview_events": set(),
    "$JS.API.STREAM.PURGE.x1_provider_preview_events": set(),
    "$JS.API.STREAM.UPDATE.x1_provider_preview_queue": set(),
    "$JS.API.STREAM.CREATE.other": set(),
    "$JS.API.STREAM.NAMES": {"provider"},
    "$JS.API.STREAM.LIST": set(),
    "$SYS.REQ.SERVER.PING": set(),
    "anything.else": set(),
}
SUBSCRIBING: dict[str, set[str]] = {
    f"{PREFIX}.events.>": THREE,
    "x1.audit.preview": {"observer"},
    "_INBOX.provider.abc.>": {"provider"},
    "_INBOX.client.abc.>": {"client"},
    "_INBOX.observer.abc.>": {"observer"},
    "_INBOX.approver.abc.>": {"approver"},
    f"{PREFIX}.provision": set(),
    f"{PREFIX}.queue": set(),
    "_INBOX.>": set(),
    "x1.session.*.input": set(),
    "$KV.>": set(),
    "$SRV.PING": {"provider"},
    ">": set(),
}


@dataclass(frozen=True)
class Guarded:
    """A world whose bus knows these users."""

    world: World
    address: str
    folder: Path

    def settings(self, user: str) -> Settings:
        """Of a process that connects as that user."""
        return Settings(nats_url=f"nats://{user}:secret@{self.address}", nats_inbox_prefix=f"_INBOX.{user}")

    @asynccontextmanager
    async def client(self, user: str) -> AsyncIterator[PreviewClient]:
        """That user's client; nothing that it does is refused."""
        async with PreviewClient.connect(self.settings(user), provider_patience=30.0) as client:
            problems: list[str] = []
            told = client.nats._error_cb

            async def failed(error: Exception) -> None:
                problems.append(str(error))
                await told(error)

            client.nats._error_cb = failed
            yield client
            assert problems == []


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[Guarded]:
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(local_stack())
        folder = parts.folder / "guarded"
        folder.mkdir()
        (folder / "nats.conf").write_text(CONF.format(permissions=_beside(folder)))
        (folder / "password").write_text("secret\n")
        plain = nats_server(folder)
        nats = Server(**{
            **{name: getattr(plain, name) for name in ("name", "ready", "folder", "env")},
            "argv": (*plain.argv, "--config", str(folder / "nats.conf")),
            "address": plain.address.replace("//", "//anybody:secret@"),
        })  # fmt: skip
        await nats.start()
        stack.push_async_callback(nats.stop)
        address = urlsplit(plain.address).netloc
        own = {
            "NATS_URL": f"nats://{address}",
            "NATS_USER": "provider",
            "NATS_PASSWORD_FILE": str(folder / "password"),
            "NATS_INBOX_PREFIX": "_INBOX.provider",
        }
        world = await stack.enter_async_context(local_world(stack=replace(parts, nats=nats), environment=own))
        yield Guarded(world, address, folder)


def _beside(folder: Path) -> str:
    """The permissions as a file that nats-server finds: it takes them from its own folder."""
    (folder / "permissions.conf").write_text(PERMISSIONS.read_text())
    return "./permissions.conf"


async def test_a_provider_and_its_callers_can_do_their_own(guarded: Guarded) -> None:
    world = guarded.world
    async with guarded.client("client") as client, guarded.client("observer") as observer:
        audited = await observer.nats.subscribe("x1.audit.preview")
        sha = await world.commit("acme/guarded", app_files("guarded", world.base_image))
        done = await client.deploy(
            "acme/guarded", "main", commit_sha=sha, installation_id=world.installation_id, session_id="s-1", timeout=60
        )
        async for event in client.events("guarded", since=_an_hour_ago()):
            if event.type == "state":  # told beside the answer
                break
        kept = [event.type async for event in observer.past_events("guarded", since=_an_hour_ago())]
        assert {"phase.started", "phase.finished", "state"} <= set(kept)
        assert (await observer.status("guarded")).state == "ready"
        assert [one.slug for one in (await observer.list()).previews] == ["guarded"]
        looks = [look.type async for look in observer.follow("guarded", include=("build_logs",))]
        assert looks[0] == "look"
        assert "build_logs" in looks
        await client.claim("guarded", "s-1", 60)
        await client.teardown("guarded", session_id="s-1")
        assert (await observer.introspect(deploy_id=done.deploy_id, include=("build_logs",))).build_logs
        await _queued(client, world)
        found = await observer.nats.request("$SRV.PING.preview-provider", timeout=5)
        assert json.loads(found.data)["name"] == "preview-provider"
        actions = [json.loads((await audited.next_msg(timeout=5)).data)["action"] for _ in range(4)]
        assert actions == ["provision", "deploy", "claim", "teardown"]
        assert done.built
    assert log_lines(world, "bus.refused") == []


async def _queued(client: PreviewClient, world: World) -> None:
    """A provision by the work queue, and its answer."""
    answers = await client.nats.subscribe("_INBOX.client.answers")
    asked = {"repo_full_name": "acme/guarded", "branch": "main", "installation_id": world.installation_id}
    await client.nats.publish(f"{PREFIX}.queue", json.dumps(asked | {"reply_to": "_INBOX.client.answers"}).encode())
    assert json.loads((await answers.next_msg(timeout=60)).data)["ok"]
    await client.teardown("guarded")


@pytest.mark.parametrize("user", ["provider", "client", "observer", "approver"])
async def test_nobody_can_do_anything_else(guarded: Guarded, user: str) -> None:
    refused: list[str] = []

    async def failed(error: Exception) -> None:
        refused.append(str(error))

    nc = Client()
    await nc.connect(
        guarded.settings(user).nats_url, error_cb=failed, inbox_prefix=f"_INBOX.{user}", allow_reconnect=False
    )
    try:
        for subject in SUBSCRIBING:
            await nc.subscribe(subject)
        for subject in PUBLISHING:  # nothing that a stream or a provider takes for more than a bad message
            await nc.publish(subject, b"{", reply=f"_INBOX.{user}.nobody")
        await nc.flush()
        await eventually_quiet(refused)
    finally:
        await nc.close()
    text = "\n".join(refused).lower()
    published = {subject for subject in PUBLISHING if f'publish to "{subject.lower()}"' not in text}
    heard = {subject for subject in SUBSCRIBING if f'subscription to "{subject.lower()}"' not in text}
    assert published == {subject for subject, users in PUBLISHING.items() if user in users}
    assert heard == {subject for subject, users in SUBSCRIBING.items() if user in users}


async def eventually_quiet(said: list[str]) -> None:
    """Wait until nothing more is said."""
    known = -1
    while len(said) != known:
        known = len(said)
        await asyncio.sleep(0.1)


def _an_hour_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)
