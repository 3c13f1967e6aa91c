"""The client and the CLI against a real nats-server, with a scripted provider on the other side."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from provider.cli.operate import bus_parts
from provider.client import (
    BadAnswer,
    BusUnreachable,
    Event,
    NoProvider,
    PreviewClient,
    PreviewFailed,
    TimedOut,
)
from provider.settings import Settings

PREFIX = "x1.provider.preview"
SUCCESS = {
    "ok": True,
    "url": "https://shop.preview.test",
    "slug": "shop",
    "image": "r:5000/previews/shop:1a2b3c4d5e6f",
    "job_name": "preview-build-shop-1a2b3c4d",
    "digest": "sha256:abc",
    "built": True,
    "timings": {"resolve": 0.5, "build": 12.25},
    "checks": [{"name": "root", "ok": True}],
    "warnings": ["spec.foo: unknown field"],
    "added_later": {"x": 1},
}
FAILURE = {
    "ok": False,
    "code": "kaniko_build_failed",
    "message": "The build failed at step 3.",
    "slug": "shop",
    "deploy_id": "d-1",
    "phase": "build",
    "reason": "RunFailed",
    "hint": "Fix the RUN step.",
    "retryable": False,
    "whose": "user",
    "evidence": ["exit status 1"],
    "log_tail": ["npm ERR! \x1b[31mred\x1b[0m", "[bold]markup[/bold]\x07"],
    "still_serving": "0123456789abcdef0123456789abcdef01234567",
    "warnings": ["careful"],
}


class Server:
    """A nats-server that can be restarted on its port."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self._folder = folder
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self.port = -1

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        config = self._folder / "nats.conf"
        config.write_text(f"jetstream {{ store_dir: {self._folder}/js }}\n{self._config}")
        self._process = await asyncio.create_subprocess_exec(
            *("nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-c", str(config)), stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr
        log = ""
        while "Server is ready" not in log:
            line = (await self._process.stderr.readline()).decode()
            assert line, log
            log += line
        found = re.search(r"client connections on 127\.0\.0\.1:(\d+)", log)
        assert found, log
        self.port = int(found[1])

    async def stop(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    running = Server(tmp_path)
    await running.start()
    yield running
    await running.stop()


class Scripted:
    """A provider whose n-th answer is the n-th of `answers`; None: says nothing. The last one is kept."""

    def __init__(self, connection: Nats, answers: list[dict[str, Any] | bytes | None]) -> None:
        self.nats = connection
        self.requests: list[dict[str, Any]] = []
        self.replies: list[str] = []
        self.subjects: list[str] = []
        self.arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers = answers

    async def handle(self, message: Msg) -> None:
        body = json.loads(message.data)
        answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(body)
        self.replies.append(message.reply)
        self.subjects.append(message.subject)
        if answer is not None:
            await message.respond(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
        self.arrived.put_nowait(body)

    async def emit(self, deploy_id: str, kind: str, phase: str | None = None, **data: object) -> None:
        event: dict[str, Any] = {
            "event_id": f"e-{kind}-{phase}",
            "slug": "shop",
            "deploy_id": deploy_id,
            "type": kind,
            "phase": phase,
        }
        event |= {"at": datetime.now(UTC).isoformat(), "data": data}
        await self.nats.publish(f"{PREFIX}.events.shop", json.dumps(event).encode())


async def quiet(_: Exception) -> None:
    """Connections break here on purpose."""


@asynccontextmanager
async def provider(server: Server, *answers: dict[str, Any] | bytes | None) -> AsyncIterator[Scripted]:
    connection = await nats.connect(server.url, error_cb=quiet, reconnect_time_wait=0, max_reconnect_attempts=-1)
    scripted = Scripted(connection, list(answers))
    for name in (
        "provision",
        "teardown",
        "validate",
        "status",
        "list",
        "cancel",
        "touch",
        "claim",
        "release",
        "attach",
        "wait",
    ):
        await connection.subscribe(f"{PREFIX}.{name}", cb=scripted.handle)
    await connection.flush()
    yield scripted
    await connection.close()


def client(server: Server, **options: Any) -> Any:
    return PreviewClient.connect(nats_url=server.url, subject_prefix=PREFIX, **options)


async def test_a_deploy_sends_the_contracts_fields_and_gives_back_every_field(server: Server) -> None:
    async with provider(server, SUCCESS) as scripted, client(server) as preview:
        deployed = await preview.deploy(
            "acme/shop", "main", installation_id=0, secret_values={"KEY": "s3cret"}, acceptance=[{"path": "/healthz"}]
        )
    sent = scripted.requests[0]
    assert sent.pop("deploy_id").startswith("d-")
    assert sent == {
        "repo_full_name": "acme/shop",
        "branch": "main",
        "installation_id": 0,
        "secret_values": {"KEY": "s3cret"},
        "acceptance": [{"path": "/healthz"}],
    }
    assert (deployed.url, deployed.slug, deployed.built) == ("https://shop.preview.test", "shop", True)
    assert deployed.timings == {"resolve": 0.5, "build": 12.25}
    assert deployed.reply == SUCCESS


async def test_a_failure_raises_with_every_field(server: Server) -> None:
    async with provider(server, FAILURE), client(server) as preview:
        with pytest.raises(PreviewFailed, match="kaniko_build_failed: The build failed") as caught:
            await preview.deploy("acme/shop", "main", deploy_id="d-1")
    expected = {name: tuple(value) if isinstance(value, list) else value for name, value in FAILURE.items()}
    expected.pop("ok")
    assert {name: getattr(caught.value, name) for name in expected} == expected
    assert caught.value.reply == FAILURE


@pytest.mark.parametrize(
    ("code", "whose", "retryable"),
    [("job_timeout", "user", False), ("token_mint_failed", "platform", True), ("of_the_future", "platform", False)],
)
async def test_a_failure_of_the_platforms_fields_alone_is_filled_from_the_code(
    server: Server, code: str, whose: str, retryable: bool
) -> None:
    async with provider(server, {"ok": False, "code": code, "message": "m"}), client(server) as preview:
        with pytest.raises(PreviewFailed) as caught:
            await preview.deploy("acme/shop", "main")
    assert (caught.value.whose, caught.value.retryable) == (whose, retryable)
    assert (caught.value.evidence, caught.value.log_tail, caught.value.warnings) == ((), (), ())


async def test_without_a_provider_it_says_so_after_a_while(server: Server) -> None:
    async with client(server, provider_patience=0.3) as preview:
        with pytest.raises(NoProvider, match=f"no provider listens on {PREFIX}.provision"):
            await preview.deploy("acme/shop", "main")


async def test_a_provider_that_comes_late_is_waited_for(server: Server) -> None:
    async with client(server) as preview:
        waiting = asyncio.create_task(preview.teardown("shop"))
        async with provider(server, {"ok": True, "slug": "shop", "deleted": ["service/shop"]}):
            assert (await waiting).deleted == ("service/shop",)


async def test_a_lost_answer_is_asked_for_again_with_the_same_deploy_id(server: Server) -> None:
    async with provider(server, None, SUCCESS) as scripted, client(server, repeat_seconds=0.2) as preview:
        await preview.deploy("acme/shop", "main")
    first, second = scripted.requests
    assert first == second
    assert scripted.replies[0] == scripted.replies[1]


async def test_a_restart_of_the_server_is_survived_by_asking_again_at_once(server: Server) -> None:
    async with provider(server, None, SUCCESS) as scripted, client(server) as preview:
        waiting = asyncio.create_task(preview.deploy("acme/shop", "main", deploy_id="d-7"))
        await scripted.arrived.get()
        await server.stop()
        await server.start()
        assert (await waiting).slug == "shop"
    assert [request["deploy_id"] for request in scripted.requests[:2]] == ["d-7", "d-7"]


async def test_the_answer_to_the_first_request_is_found_after_a_restart(server: Server) -> None:
    async with provider(server, None) as scripted, client(server) as preview:
        waiting = asyncio.create_task(preview.deploy("acme/shop", "main"))
        await scripted.arrived.get()
        await server.stop()
        await server.start()
        await scripted.arrived.get()  # both are connected again: the repetition came through
        await deliver(scripted.nats, scripted.replies[0], SUCCESS)
        assert (await waiting).slug == "shop"


async def deliver(connection: Nats, inbox: str, answer: dict[str, Any]) -> None:
    """Answer as the contract's reply promise has it: published as a request, so that an absent inbox shows."""
    try:
        await connection.request(inbox, json.dumps(answer).encode(), timeout=0.5)
    except NoRespondersError:
        pytest.fail("the inbox is gone")
    except nats.errors.TimeoutError:
        return


async def test_a_provider_that_restarts_meanwhile_is_waited_for_beyond_the_patience(server: Server) -> None:
    async with client(server, provider_patience=0, repeat_seconds=0.1) as preview:
        async with provider(server, None) as first:
            waiting = asyncio.create_task(preview.deploy("acme/shop", "main", deploy_id="d-1"))
            await first.arrived.get()
            await first.arrived.get()
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done
        async with provider(server, SUCCESS) as second:
            assert (await waiting).slug == "shop"
    assert {request["deploy_id"] for request in first.requests + second.requests} == {"d-1"}


async def test_a_timeout_names_the_deploy(server: Server) -> None:
    async with provider(server, None), client(server, repeat_seconds=0.1) as preview:
        with pytest.raises(TimedOut, match=r"no answer from .* within 0.4 s") as caught:
            await preview.deploy("acme/shop", "main", deploy_id="d-3", timeout=0.4)
    assert caught.value.deploy_id == "d-3"


async def test_a_cancel_by_slug_is_not_repeated_and_one_by_id_is(server: Server) -> None:
    async with provider(server, None) as scripted, client(server, repeat_seconds=0.1) as preview:
        with pytest.raises(TimedOut):
            await preview.cancel("shop", timeout=0.5)
        assert scripted.requests == [{"slug": "shop"}]
        with pytest.raises(TimedOut):
            await preview.cancel(deploy_id="d-1", timeout=0.5)
        assert len(scripted.requests) > 2


@pytest.mark.parametrize("answer", [b"oops", b"[]", b'{"url": "x"}', b'{"ok": "yes"}', b"[" * 100_000])
async def test_an_answer_of_another_form_is_named(server: Server, answer: bytes) -> None:
    async with provider(server, answer), client(server) as preview:
        with pytest.raises(BadAnswer, match=r"provision answered"):
            await preview.deploy("acme/shop", "main")


async def test_unexpected_values_are_named(server: Server) -> None:
    async with provider(server, {"ok": True, "slug": 5, "timings": {"build": "long"}}), client(server) as preview:
        with pytest.raises(BadAnswer, match=r"unexpected values in: slug, timings\.build"):
            await preview.deploy("acme/shop", "main")


async def test_a_request_that_nats_would_not_carry_fails_and_the_client_lives_on(server: Server) -> None:
    async with provider(server, SUCCESS), client(server) as preview:
        with pytest.raises(PreviewFailed, match="bad_request_decode: the request has"):
            await preview.deploy("acme/shop", "main", preview_yaml="x" * 1_000_000)
        assert (await preview.deploy("acme/shop", "main")).slug == "shop"


async def test_many_requests_at_once_get_their_own_answers(server: Server) -> None:
    answers = ({"ok": True, "slug": "a"}, {"ok": True, "slug": "b"})
    async with provider(server, *answers) as scripted, client(server) as preview:
        records = await asyncio.gather(preview.status("a"), preview.status("b"))
    assert {record.slug for record in records} == {"a", "b"}
    assert len(set(scripted.replies)) == 2


async def test_a_bus_that_is_not_there_is_named_without_the_password(server: Server) -> None:
    await server.stop()
    url = server.url.replace("nats://", "nats://me:hunter2@")
    with pytest.raises(BusUnreachable, match=f"127.0.0.1:{server.port}") as caught:
        async with PreviewClient.connect(nats_url=url, connect_seconds=0.5):
            pytest.fail("connected")
    assert "hunter2" not in str(caught.value)


async def test_wrong_credentials_end_in_time(tmp_path: Path) -> None:
    server = Server(tmp_path, "authorization { user: me, password: right }")
    await server.start()
    with pytest.raises(BusUnreachable, match=r"(?i)authorization"):
        async with PreviewClient.connect(nats_url=server.url, connect_seconds=2):
            pytest.fail("connected")
    await server.stop()


async def test_a_subject_that_nats_forbids_fails_at_once(tmp_path: Path) -> None:
    permissions = '{ publish: { deny: "x1.>" } }'
    users = f"[{{ user: me, password: pw, permissions: {permissions} }}]"
    server = Server(tmp_path, f"authorization {{ users: {users} }}")
    await server.start()
    url = server.url.replace("nats://", "nats://me:pw@")
    async with PreviewClient.connect(nats_url=url, subject_prefix=PREFIX) as preview:
        with pytest.raises(BusUnreachable, match=r"(?i)permissions violation"):
            await preview.status("shop")
    await server.stop()


async def test_a_deploys_own_events_are_told_while_it_is_waited_for(server: Server) -> None:
    async with provider(server, None, SUCCESS) as scripted, client(server, repeat_seconds=0.5) as preview:
        told: list[Event] = []
        waiting = asyncio.create_task(preview.deploy("acme/shop", "main", deploy_id="d-1", on_event=told.append))
        await scripted.arrived.get()
        await scripted.emit("d-1", "phase.started", "build")
        await scripted.emit("d-2", "phase.started", "admit")
        await scripted.nats.publish(f"{PREFIX}.events.shop", b"not an event")
        await scripted.emit("d-1", "phase.finished", "build", seconds=1.5)
        await waiting
    assert [(event.type, event.phase) for event in told] == [("phase.started", "build"), ("phase.finished", "build")]
    assert told[1].data == {"seconds": 1.5}


async def test_kept_events_come_first_and_then_the_new_ones(server: Server) -> None:
    async with provider(server, SUCCESS) as scripted, client(server) as preview:
        stream = preview.subjects.events_stream
        await scripted.nats.jetstream().add_stream(name=stream, subjects=[preview.subjects.all_events])
        await scripted.emit("d-1", "phase.started", "build")
        await scripted.nats.flush()
        events = preview.events("shop", since=datetime.now(UTC) - timedelta(minutes=1))
        assert (await anext(events)).type == "phase.started"
        await scripted.emit("d-1", "phase.finished", "build")
        assert (await anext(events)).type == "phase.finished"
        await events.aclose()


async def test_the_other_requests_reach_their_subjects(server: Server) -> None:
    answer = {"ok": True, "slug": "shop", "previews": [{"slug": "shop", "state": "ready"}], "next": "c"}
    async with provider(server, answer) as scripted, client(server) as preview:
        assert (await preview.validate("acme/shop", "main")).slug == "shop"
        listing = await preview.list(repo="acme/shop", limit=5)
        await preview.status(deploy_id="d-1")
    assert (listing.previews[0].state, listing.next) == ("ready", "c")
    assert scripted.subjects == [f"{PREFIX}.{name}" for name in ("validate", "list", "status")]
    assert scripted.requests[1:] == [{"repo": "acme/shop", "limit": 5}, {"deploy_id": "d-1"}]


# ------------------------------------------------------------------------------- the CLI


async def start(server: Server, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
    env = {"PATH": os.environ["PATH"], "NATS_URL": server.url, **environ}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "provider", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )


async def cli(server: Server, *arguments: str, **environ: str) -> tuple[int, str, str]:
    process = await start(server, *arguments, **environ)
    out, err = await process.communicate()
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(("reply", "code"), [(SUCCESS, 0), (FAILURE, 3), ({**FAILURE, "whose": "platform"}, 4)])
async def test_json_prints_exactly_the_reply(server: Server, reply: dict[str, Any], code: int) -> None:
    async with provider(server, reply):
        ended, out, err = await cli(server, "deploy", "acme/shop", "--branch", "main", "--json")
    assert (ended, json.loads(out), err) == (code, reply, "")


async def test_a_failure_is_printed_for_people_and_nothing_of_it_is_interpreted(server: Server) -> None:
    async with provider(server, FAILURE):
        ended, out, err = await cli(server, "deploy", "acme/shop", "--branch", "main")
    assert (ended, out) == (3, "")
    assert err.splitlines() == [
        "Failed in phase build: The build failed at step 3.",
        "  code            kaniko_build_failed (RunFailed)",
        "  whose turn      yours",
        "  preview         shop",
        "  deploy          d-1",
        "  still serving   0123456789ab",
        "  evidence:",
        "    - exit status 1",
        "  log:",
        "    | npm ERR! red",
        "    | [bold]markup[/bold]",
        "  next step       Fix the RUN step.",
        "warning: careful",
    ]


async def test_phases_are_plain_lines_without_a_terminal_and_secrets_come_from_the_environment(server: Server) -> None:
    async with provider(server, None) as scripted:
        process = await start(
            server, "deploy", "acme/shop", "-b", "main", "--secret", "KEY", "--check", "/x=204", KEY="v"
        )
        sent = await scripted.arrived.get()
        await scripted.emit(sent["deploy_id"], "phase.started", "build")
        await scripted.emit(sent["deploy_id"], "phase.finished", "build", seconds=2.0)
        await deliver(scripted.nats, scripted.replies[0], SUCCESS)
        out, err = await process.communicate()
    assert sent["secret_values"] == {"KEY": "v"}
    assert sent["acceptance"] == [{"path": "/x", "status": 204}]
    assert out.decode().splitlines()[0] == "Ready: https://shop.preview.test"
    warning = "warning: spec.foo: unknown field"
    assert err.decode().splitlines() == ["build: started", "build: finished in 2.0 s", warning]
    assert process.returncode == 0


async def test_ctrl_c_ends_the_waiting_and_says_that_the_deploy_goes_on(server: Server) -> None:
    async with provider(server, None) as scripted:
        process = await start(server, "deploy", "acme/shop", "-b", "main", "--deploy-id", "d-9")
        await scripted.arrived.get()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert "preview cancel --deploy-id d-9" in err.decode()
    assert "Traceback" not in err.decode()


async def test_no_provider_and_no_answer_end_with_5(server: Server) -> None:
    async with provider(server, None):
        nobody, nothing = await asyncio.gather(
            cli(server, "status", "shop", "--timeout", "0.5", "--prefix", "x1.other"),
            cli(server, "deploy", "acme/shop", "-b", "main", "--timeout", "0.5", "--deploy-id", "d-2"),
        )
    assert (nobody[0], "no provider listens on x1.other.status" in nobody[2]) == (5, True)
    assert (nothing[0], "preview status --deploy-id d-2" in nothing[2]) == (5, True)


async def test_list_and_teardown_print_plain_text(server: Server) -> None:
    preview = {"slug": "shop", "state": "ready", "repo_full_name": "acme/shop", "branch": "ma\x1b[2Jin", "url": "u"}
    async with provider(server, {"ok": True, "previews": [preview], "slug": "shop", "deleted": ["ingress/shop"]}):
        listed, torn_down = await asyncio.gather(
            cli(server, "list", "--state", "ready"), cli(server, "teardown", "shop")
        )
    header, row = listed[1].splitlines()
    assert header.split() == ["SLUG", "STATE", "REPOSITORY", "BRANCH", "COMMIT", "URL"]
    assert row.split() == ["shop", "ready", "acme/shop", "main", "-", "u"]
    assert torn_down == (0, "Removed shop\n  ingress/shop\n", "")


async def test_claims_and_touches_go_out_as_asked_and_print_plain_text(server: Server) -> None:
    claim = {"session_id": "s-1", "expires_at": "2026-01-02T00:00:00Z"}
    answer = {"ok": True, "slug": "shop", "session_id": "s-1", "claim": claim, "expires_at": None}
    async with provider(server, answer) as scripted:
        printed = await cli(server, "claim", "shop", "--session", "s-1", "--ttl", "60", "--force")
        await cli(server, "touch", "shop", "--ttl", "0")
        await cli(server, "release", "shop", "--session", "s-1")
        await cli(server, "attach", "shop", "--session", "s-2", "--from", "s-1")
        await cli(server, "teardown", "shop", "--session", "s-2")
    assert scripted.subjects == [f"{PREFIX}.{name}" for name in ("claim", "touch", "release", "attach", "teardown")]
    assert scripted.requests == [
        {"slug": "shop", "session_id": "s-1", "ttl_seconds": 60, "force": True},
        {"slug": "shop", "ttl_seconds": 0},
        {"slug": "shop", "session_id": "s-1"},
        {"slug": "shop", "session_id": "s-2", "from_session": "s-1"},
        {"slug": "shop", "session_id": "s-2"},
    ]
    assert printed[0] == 0
    assert [line.split(None, 2) for line in printed[1].splitlines()] == [
        ["shop"],
        ["session", "s-1"],
        ["claimed", "by", "s-1"],
        ["claimed", "until", "2026-01-02T00:00:00Z"],
        ["lives", "until", "for ever"],
    ]


async def test_the_doctor_sees_bus_and_provider(server: Server) -> None:
    settings = Settings(nats_url=server.url, subject_prefix=PREFIX)
    async with provider(server, FAILURE):
        assert [(part.name, part.ok) for part in await bus_parts(settings)] == [
            ("nats", True),
            ("jetstream", True),
            ("provider", True),
        ]
    alone = (await bus_parts(settings))[-1]
    assert (alone.name, alone.ok, alone.hint) == ("provider", False, "start one: preview serve")
    gone = await bus_parts(Settings(nats_url="nope://me:pw@h"))
    assert [(part.name, part.ok) for part in gone] == [("nats", False)]
    assert "pw" not in gone[0].detail
