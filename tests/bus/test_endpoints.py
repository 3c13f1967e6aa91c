"""The service: every request gets an answer, whatever it is and whatever its handler does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog
from nats.aio.client import Client

from provider import __version__
from provider.bus.endpoints import SERVICE, Endpoints, Incoming
from provider.bus.subjects import ENDPOINTS, UNSUPPORTED, Subjects
from provider.errors import Code, Temporary

from .conftest import NatsServer

Connect = Callable[[str], Awaitable[Client]]


class Handlers:
    """What the tests' requests ask for stands in their bodies."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.seen: list[Incoming] = []
        self.arrived = asyncio.Event()

    async def __call__(self, incoming: Incoming) -> dict[str, Any] | None:
        self.seen.append(incoming)
        self.arrived.set()
        match incoming.body.get("do"):
            case "wait":
                await self.release.wait()
            case "crash":
                raise KeyError("hunter2")
            case "refuse":
                raise Temporary(Code.REGISTRY_UNREACHABLE, "no registry", hint="start it", evidence=("refused",))
            case "nothing":
                return None
            case "big":
                return {"ok": True, "log_tail": ["x" * 2_000_000]}
        return {"ok": True, "echo": incoming.body}


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
async def endpoints(nc: Client, prefix: str, handlers: Handlers) -> AsyncIterator[Endpoints]:
    service = Endpoints(nc, Subjects(prefix), dict.fromkeys(ENDPOINTS, handlers))
    await service.start()
    yield service
    handlers.release.set()
    await service.close(2)


@pytest.fixture
async def caller(server: NatsServer, connect: Connect, endpoints: Endpoints) -> Client:
    return await connect(server.url)


async def ask(caller: Client, subject: str, body: object) -> dict[str, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = json.loads((await caller.request(subject, data, timeout=5)).data)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_every_endpoint_answers(caller: Client, prefix: str, name: str) -> None:
    assert await ask(caller, f"{prefix}.{name}", {"a": 1}) == {"ok": True, "echo": {"a": 1}}


@pytest.mark.parametrize("name", UNSUPPORTED)
async def test_what_is_not_supported_says_so(caller: Client, prefix: str, name: str) -> None:
    answer = await ask(caller, f"{prefix}.{name}", {})
    assert (answer["ok"], answer["code"]) == (False, "unsupported_feature")
    assert f"{prefix}.{name}" in answer["message"]


async def test_ping_info_and_stats(caller: Client, prefix: str) -> None:
    await ask(caller, f"{prefix}.status", {})
    inbox = caller.new_inbox()
    answers = await caller.subscribe(inbox)
    for verb, part in (("PING", "version"), ("INFO", "endpoints"), ("STATS", "endpoints")):
        await caller.publish(f"$SRV.{verb}.{SERVICE}", reply=inbox)
        answer = json.loads((await answers.next_msg(timeout=5)).data)
        assert (answer["name"], answer["version"]) == (SERVICE, __version__)
        assert answer[part]
    by_subject = {endpoint["subject"]: endpoint for endpoint in answer["endpoints"]}
    assert by_subject[f"{prefix}.status"]["num_requests"] == 1
    assert by_subject[f"{prefix}.status"]["queue_group"] == "preview-provisioners"


async def test_the_service_tells_the_schemas_of_its_endpoints(caller: Client, prefix: str) -> None:
    async with asyncio.timeout(10):
        while True:  # they are made beside the first requests
            info = json.loads((await caller.request(f"$SRV.INFO.{SERVICE}", timeout=5)).data)
            told = {
                one["name"]: one["metadata"] for one in info["endpoints"] if one["subject"].startswith(f"{prefix}.")
            }
            if told["status"]:
                break
            await asyncio.sleep(0.01)
    assert all(told[name].keys() == {"request_schema", "response_schema", "schemas"} for name in ENDPOINTS)
    asked = json.loads(told["wait"]["request_schema"])
    assert set(asked["properties"]) == {"slug", "deploy_id", "for", "timeout_seconds"}
    assert len(json.dumps(info)) < 128 << 10


async def test_a_slow_request_holds_up_no_other(caller: Client, prefix: str, handlers: Handlers) -> None:
    subject = f"{prefix}.provision"
    async with asyncio.TaskGroup() as tasks:
        slow = [tasks.create_task(ask(caller, subject, {"do": "wait", "n": n})) for n in range(20)]
        await handlers.arrived.wait()
        assert (await ask(caller, subject, {"n": "fast"}))["ok"]
        assert not any(task.done() for task in slow)
        handlers.release.set()
    assert all(task.result()["ok"] for task in slow)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"x" * 900_000, b'{"a":"' + b"x" * 900_000 + b'"}'])
async def test_garbage_gets_a_clear_answer(caller: Client, prefix: str, data: bytes) -> None:
    answer = await ask(caller, f"{prefix}.provision", data)
    assert (answer["ok"], answer["code"], answer["whose"]) == (False, "bad_request_decode", "user")
    assert answer["message"]


async def test_an_error_has_the_failure_form(caller: Client, prefix: str) -> None:
    assert await ask(caller, f"{prefix}.teardown", {"do": "refuse"}) == {
        "ok": False,
        "code": "registry_unreachable",
        "message": "no registry",
        "reason": None,
        "hint": "start it",
        "retryable": True,
        "whose": "platform",
        "evidence": ["refused"],
        "log_tail": [],
        "warnings": [],
    }


async def test_a_bug_shows_only_an_id_that_the_log_has(caller: Client, prefix: str) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = await ask(caller, f"{prefix}.teardown", {"do": "crash"})
    assert answer["code"] == "internal_error"
    assert "hunter2" not in json.dumps(answer)
    assert "KeyError" not in json.dumps(answer)
    [line] = [line for line in logged if line["event"] == "request.unexpected"]
    assert line["error_id"] in answer["message"]


async def test_a_handler_may_answer_itself(caller: Client, nc: Client, prefix: str, handlers: Handlers) -> None:
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ask(caller, f"{prefix}.provision", {"do": "nothing"}))
        await handlers.arrived.wait()
        await nc.publish(handlers.seen[0].reply, b'{"mine": 1}')
    assert asked.result() == {"mine": 1}


async def test_an_answer_larger_than_the_bus_carries_is_shortened(caller: Client, nc: Client, prefix: str) -> None:
    assert (await ask(caller, f"{prefix}.status", {"do": "big"}))["ok"]
    assert nc.is_connected


async def test_a_message_without_reply_does_no_harm(caller: Client, prefix: str, handlers: Handlers) -> None:
    await caller.publish(f"{prefix}.status", b"{}")
    async with asyncio.timeout(5):
        await handlers.arrived.wait()
    assert (await ask(caller, f"{prefix}.status", {}))["ok"]


async def test_closing_answers_what_is_in_hand(
    caller: Client, prefix: str, handlers: Handlers, endpoints: Endpoints
) -> None:
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ask(caller, f"{prefix}.provision", {"do": "wait"}))
        await handlers.arrived.wait()
        closing = tasks.create_task(endpoints.close(5))
        handlers.release.set()
        await closing
    assert asked.result()["ok"]


def test_every_endpoint_needs_a_handler() -> None:
    with pytest.raises(ValueError, match="provision"):
        Endpoints(Client(), Subjects("x"), {})
