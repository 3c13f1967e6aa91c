"""The commands as processes: what they print and how they end."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest

from provider.cli.operate import bus_parts
from provider.settings import Settings
from tests.bus.asking.scripted import FAILURE, PREFIX, SUCCESS, cli, deliver, provider, start
from tests.bus.conftest import NatsServer


@pytest.mark.parametrize(("reply", "code"), [(SUCCESS, 0), (FAILURE, 3), ({**FAILURE, "whose": "platform"}, 4)])
async def test_json_prints_exactly_the_reply(server: NatsServer, reply: dict[str, Any], code: int) -> None:
    async with provider(server, reply):
        ended, out, err = await cli(server, "deploy", "acme/shop", "--branch", "main", "--json")
    assert (ended, json.loads(out), err) == (code, reply, "")


async def test_a_failure_is_printed_for_people_and_nothing_of_it_is_interpreted(server: NatsServer) -> None:
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


async def test_phases_are_plain_lines_without_a_terminal_and_secrets_come_from_the_environment(
    server: NatsServer,
) -> None:
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


async def test_ctrl_c_ends_the_waiting_and_says_that_the_deploy_goes_on(server: NatsServer) -> None:
    async with provider(server, None) as scripted:
        process = await start(server, "deploy", "acme/shop", "-b", "main", "--deploy-id", "d-9")
        await scripted.arrived.get()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert "preview cancel --deploy-id d-9" in err.decode()
    assert "Traceback" not in err.decode()


async def test_no_provider_and_no_answer_end_with_5(server: NatsServer) -> None:
    async with provider(server, None):
        nobody, nothing = await asyncio.gather(
            cli(server, "status", "shop", "--timeout", "0.5", "--prefix", "x1.other"),
            cli(server, "deploy", "acme/shop", "-b", "main", "--timeout", "0.5", "--deploy-id", "d-2"),
        )
    assert (nobody[0], "no provider listens on x1.other.status" in nobody[2]) == (5, True)
    assert (nothing[0], "preview status --deploy-id d-2" in nothing[2]) == (5, True)


async def test_list_and_teardown_print_plain_text(server: NatsServer) -> None:
    preview = {"slug": "shop", "state": "ready", "repo_full_name": "acme/shop", "branch": "ma\x1b[2Jin", "url": "u"}
    async with provider(server, {"ok": True, "previews": [preview], "slug": "shop", "deleted": ["ingress/shop"]}):
        listed, torn_down = await asyncio.gather(
            cli(server, "list", "--state", "ready"), cli(server, "teardown", "shop")
        )
    header, row = listed[1].splitlines()
    assert header.split() == ["SLUG", "STATE", "REPOSITORY", "BRANCH", "COMMIT", "URL"]
    assert row.split() == ["shop", "ready", "acme/shop", "main", "-", "u"]
    assert torn_down == (0, "Removed shop\n  ingress/shop\n", "")


async def test_claims_and_touches_go_out_as_asked_and_print_plain_text(server: NatsServer) -> None:
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


async def test_the_doctor_sees_bus_and_provider(server: NatsServer) -> None:
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
