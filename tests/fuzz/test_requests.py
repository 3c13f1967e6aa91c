"""Whatever comes to a request subject: an answer in the contract's form, soon, and never a bug of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from provider.actor import Actor
from provider.approving import Approving
from provider.bus import audit, schemas
from provider.bus.endpoints import Handler, Incoming, answered
from provider.bus.subjects import ENDPOINTS
from provider.errors import Code, Permanent
from provider.introspection import Introspection
from provider.models import DeployRecord, EventLook, Owner, PodLook, SecretValues, now
from provider.pipeline.context import Context
from provider.pipeline.intake import Intake
from provider.pipeline.line import Line, limits_of
from provider.pipeline.logbook import Logbook
from provider.pipeline.runner import Runner
from provider.platforms.base import Platform
from provider.settings import Settings
from provider.source import Source
from provider.spec import SMALLEST_SPEC
from provider.store import DiskShelf, memory_store
from provider.tenure import Tenure
from provider.tracing import Untraced
from provider.waiting import Waiting
from tests.fuzz.hostile import JSON
from tests.unit.keeping import Told
from tests.unit.test_claims import READY

FUZZ = settings.get_profile("fuzz")
SECONDS = 5.0
"""For one answer; `wait` is asked to wait for nothing that does not come."""
MOST_BYTES = 1 << 20


class Nothing:
    """What a platform shows of a preview that has nothing."""

    async def pods(self, _: str) -> tuple[PodLook, ...]:
        return ()

    async def events(self, _: str) -> tuple[EventLook, ...]:
        return ()

    async def app_log(self, *_: object) -> AsyncGenerator[list[str], None]:
        yield []

    def build_log(self, *_: object, follow: bool) -> None:
        return None


class Anything:
    """A platform and a git host on which everything goes well, and nothing is done."""

    exclusive = False

    async def stage_secrets(self, staged: str, values: SecretValues) -> str:
        return "checksum" if values else ""

    async def drop_staged(self, staged: str) -> None:
        return None

    async def secret_values(self, *_: object) -> frozenset[str]:
        return frozenset()

    async def admit(self, _: object) -> list[str]:
        return []

    def generation(self, _: str) -> int:
        return 0

    @property
    def inspector(self) -> Nothing:
        return Nothing()

    async def resolve(self, repo: str, branch: str, sha: str | None, installation_id: int | None) -> str:
        return (sha or "").ljust(40, "0")

    async def read(self, *_: object) -> bytes:
        return SMALLEST_SPEC.encode()

    async def look(self, repo: str, sha: str, paths: list[str]) -> dict[str, object]:
        return dict.fromkeys(paths, object())


@dataclass
class Idle:
    """Takes what a runner would run; nothing of it runs."""

    records: list[DeployRecord] = field(default_factory=list)

    def start(self, record: DeployRecord) -> None:
        self.records.append(record)

    def is_running(self, _: str) -> bool:
        return False

    def interrupt(self, *_: object) -> bool:
        return False

    def on_slug(self, _: str) -> list[str]:
        raise Permanent(Code.TEARDOWN_FAILED, "nothing is torn down here")


@pytest.fixture
async def handlers(tmp_path: Path) -> dict[str, Handler]:
    """Every request's handler, over records in memory: one preview, and what the requests make."""
    own, store, anything, runner = Settings(platform_id="here"), memory_store("here"), Anything(), cast(Runner, Idle())
    shelf = DiskShelf(tmp_path, most=1 << 20, age=60)
    ctx = Context(
        settings=own,
        platform=cast(Platform, anything),
        source=cast(Source, anything),
        store=store,
        reporter=Told(),
        line=Line(store=store, limits=limits_of(own), emit=lambda *_: None),
        logbook=Logbook(shelf=shelf, most=1 << 16),
        emit=lambda *_: None,
    )
    await store.change_preview("my-app", lambda _: READY)
    owner = Owner(instance="i", epoch=1)
    actor = Actor(ctx=ctx, runner=runner, intake=Intake(ctx, runner, lambda: owner), tracer=Untraced())
    looks = Introspection(ctx=ctx, status=actor.status, streams=cast(Any, None))
    others = (Tenure(ctx=ctx), Approving(ctx=ctx), Waiting(ctx), looks)
    found = actor.handlers()
    for one in others:
        found |= cast(Any, one).handlers()
    return found


CHECK = st.fixed_dictionaries({"path": st.just("/"), "body_matches": st.text(max_size=8)})
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "slug": st.sampled_from(["my-app", "other"]),
    "deploy_id": st.sampled_from(["d-1", "d-2"]),
    "repo_full_name": st.sampled_from(["acme/app", "acme/App"]),
    "repo": st.just("acme/app"),
    "branch": st.sampled_from(["main", "feature/ä#1"]),
    "commit_sha": st.sampled_from(["a" * 40, "abcdef1"]),
    "preview_yaml": st.sampled_from([SMALLEST_SPEC, "a: [", "\ud800"]) | st.text(max_size=30),
    "session_id": st.sampled_from(["s-1", "a.b"]),
    "from_session": st.just("s-1"),
    "by": st.just("ada"),
    "secret_values": st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=3),
    "extra_env": st.just({"A": "1"}),
    "alias_hosts": st.just(["shop.example.com"]),
    "acceptance": st.lists(CHECK, max_size=2),
    "dry_run": st.booleans(),
    "wait": st.sampled_from(["ready", "accepted"]),
    "for": st.just(["ready"]),
    "timeout_seconds": st.just(0),
    "ttl_seconds": st.sampled_from([0, 1, 60]),
    "include": st.lists(st.sampled_from(["status", "pods", "logs"]), max_size=2),
    "limit": st.integers(-1, 600),
}


PLAIN = {"slug": "my-app", "session_id": "s-1", "ttl_seconds": 60, "repo_full_name": "acme/app", "branch": "main"}
PLAIN |= {"deploy_id": "d-1", "by": "ada"}
"""A request that has just what it needs, all well."""


def asked_for(endpoint: str) -> list[str]:
    """The fields that a request needs."""
    fields = schemas.REQUESTS[endpoint].model_fields
    needed = [info.alias or name for name, info in fields.items() if info.is_required()]
    return needed or [name for name in ("slug",) if name in fields]


@st.composite
def requests(draw: st.DrawFn, endpoint: str) -> bytes:
    """A request that is about right, or wrong in some fields, or no JSON, or cut."""
    fields = schemas.REQUESTS[endpoint].model_fields
    names = [info.alias or name for name, info in fields.items()]
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    body = {name: draw(GOOD.get(name, JSON)) if draw(st.booleans()) else draw(JSON) for name in chosen}
    needed = asked_for(endpoint)
    body |= {name: draw(GOOD[name]) for name in needed if draw(st.integers(0, 9)) > 1}
    if needed == ["slug"] and draw(st.booleans()):
        body.pop("deploy_id", None)  # one of the two
    if endpoint == "wait":
        body["timeout_seconds"] = 0
    data = json.dumps(body | draw(st.dictionaries(st.text(max_size=6), JSON, max_size=1))).encode()
    return draw(
        st.just(data) | st.just(data) | st.just(data) | st.just(data[: len(data) // 2]) | st.binary(max_size=40)
    )


NEVER_GOOD = ("teardown", "cancel", "approve", "reject")
"""Nothing runs or waits here that they could be about."""
ANSWERS = {name: Draft202012Validator(schemas.reply_schema(name)) for name in ENDPOINTS}


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_every_request_gets_an_answer_of_the_contract(name: str, handlers: dict[str, Handler]) -> None:
    @FUZZ
    @given(data=requests(name))
    def examples(data: bytes) -> None:
        found.append(data)

    found = [json.dumps({field: PLAIN[field] for field in asked_for(name)}).encode()]
    await asyncio.to_thread(examples)
    good = 0
    for data in found:
        async with asyncio.timeout(SECONDS):
            incoming = Incoming({}, "_INBOX.fuzz" if len(data) % 2 else "", now())
            answer = await answered(name, handlers[name], data, incoming)
            json.dumps(audit.of_request(name, incoming, answer))
        good += answer is None or bool(answer["ok"])
        if answer is None:
            assert name in ("provision", "introspect"), "the others answer by themselves"
            continue
        assert answer.get("code") != "internal_error", data
        assert len(json.dumps(answer)) < MOST_BYTES
        ANSWERS[name].validate(json.loads(json.dumps(answer)))
    assert good or name in NEVER_GOOD, "else only refusals are looked at"


@given(data=st.binary(max_size=200) | st.sampled_from([b"[" * 300_000, b'{"a":' * 100_000, b'"' + b"\\ud800" * 9]))
async def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    async def never(_: object) -> dict[str, Any]:
        return {"ok": True}

    answer = await answered("provision", never, data, Incoming({}, "", now()))
    assert answer is not None
    assert answer["ok"] or answer["code"] == "bad_request_decode"
