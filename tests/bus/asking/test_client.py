"""The client: what it sends, gives back and raises, also when answers are lost, late or none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from provider.client import (
    BadAnswer,
    BusUnreachable,
    Event,
    NoProvider,
    PreviewClient,
    PreviewFailed,
    TimedOut,
)
from tests.bus.asking.scripted import FAILURE, PREFIX, SUCCESS, client, deliver, provider
from tests.bus.conftest import NatsServer


async def test_a_deploy_sends_the_contracts_fields_and_gives_back_every_field(server: NatsServer) -> None:
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


async def test_a_failure_raises_with_every_field(server: NatsServer) -> None:
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
    server: NatsServer, code: str, whose: str, retryable: bool
) -> None:
    async with provider(server, {"ok": False, "code": code, "message": "m"}), client(server) as preview:
        with pytest.raises(PreviewFailed) as caught:
            await preview.deploy("acme/shop", "main")
    assert (caught.value.whose, caught.value.retryable) == (whose, retryable)
    assert (caught.value.evidence, caught.value.log_tail, caught.value.warnings) == ((), (), ())


async def test_without_a_provider_it_says_so_after_a_while(server: NatsServer) -> None:
    async with client(server, provider_patience=0.3) as preview:
        with pytest.raises(NoProvider, match=f"no provider listens on {PREFIX}.provision"):
            await preview.deploy("acme/shop", "main")


async def test_a_provider_that_comes_late_is_waited_for(server: NatsServer) -> None:
    async with client(server) as preview:
        waiting = asyncio.create_task(preview.teardown("shop"))
        async with provider(server, {"ok": True, "slug": "shop", "deleted": ["service/shop"]}):
            assert (await waiting).deleted == ("service/shop",)


async def test_a_lost_answer_is_asked_for_again_with_the_same_deploy_id(server: NatsServer) -> None:
    async with provider(server, None, SUCCESS) as scripted, client(server, repeat_seconds=0.2) as preview:
        await preview.deploy("acme/shop", "main")
    first, second = scripted.requests
    assert first == second
    assert scripted.replies[0] == scripted.replies[1]


async def test_a_restart_of_the_server_is_survived_by_asking_again_at_once(server: NatsServer) -> None:
    async with provider(server, None, SUCCESS) as scripted, client(server) as preview:
        waiting = asyncio.create_task(preview.deploy("acme/shop", "main", deploy_id="d-7"))
        await scripted.arrived.get()
        server.stop()
        server.start()
        assert (await waiting).slug == "shop"
    assert [request["deploy_id"] for request in scripted.requests[:2]] == ["d-7", "d-7"]


async def test_the_answer_to_the_first_request_is_found_after_a_restart(server: NatsServer) -> None:
    async with provider(server, None) as scripted, client(server) as preview:
        waiting = asyncio.create_task(preview.deploy("acme/shop", "main"))
        await scripted.arrived.get()
        server.stop()
        server.start()
        await scripted.arrived.get()  # both are connected again: the repetition came through
        await deliver(scripted.nats, scripted.replies[0], SUCCESS)
        assert (await waiting).slug == "shop"


async def test_a_provider_that_restarts_meanwhile_is_waited_for_beyond_the_patience(server: NatsServer) -> None:
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


async def test_a_timeout_names_the_deploy(server: NatsServer) -> None:
    async with provider(server, None), client(server, repeat_seconds=0.1) as preview:
        with pytest.raises(TimedOut, match=r"no answer from .* within 0.4 s") as caught:
            await preview.deploy("acme/shop", "main", deploy_id="d-3", timeout=0.4)
    assert caught.value.deploy_id == "d-3"


async def test_a_cancel_by_slug_is_not_repeated_and_one_by_id_is(server: NatsServer) -> None:
    async with provider(server, None) as scripted, client(server, repeat_seconds=0.1) as preview:
        with pytest.raises(TimedOut):
            await preview.cancel("shop", timeout=0.5)
        assert scripted.requests == [{"slug": "shop"}]
        with pytest.raises(TimedOut):
            await preview.cancel(deploy_id="d-1", timeout=0.5)
        assert len(scripted.requests) > 2


@pytest.mark.parametrize("answer", [b"oops", b"[]", b'{"url": "x"}', b'{"ok": "yes"}', b"[" * 100_000])
async def test_an_answer_of_another_form_is_named(server: NatsServer, answer: bytes) -> None:
    async with provider(server, answer), client(server) as preview:
        with pytest.raises(BadAnswer, match=r"provision answered"):
            await preview.deploy("acme/shop", "main")


async def test_unexpected_values_are_named(server: NatsServer) -> None:
    async with provider(server, {"ok": True, "slug": 5, "timings": {"build": "long"}}), client(server) as preview:
        with pytest.raises(BadAnswer, match=r"unexpected values in: slug, timings\.build"):
            await preview.deploy("acme/shop", "main")


async def test_a_request_that_nats_would_not_carry_fails_and_the_client_lives_on(server: NatsServer) -> None:
    async with provider(server, SUCCESS), client(server) as preview:
        with pytest.raises(PreviewFailed, match="bad_request_decode: the request has"):
            await preview.deploy("acme/shop", "main", preview_yaml="x" * 1_000_000)
        assert (await preview.deploy("acme/shop", "main")).slug == "shop"


async def test_many_requests_at_once_get_their_own_answers(server: NatsServer) -> None:
    answers = ({"ok": True, "slug": "a"}, {"ok": True, "slug": "b"})
    async with provider(server, *answers) as scripted, client(server) as preview:
        records = await asyncio.gather(preview.status("a"), preview.status("b"))
    assert {record.slug for record in records} == {"a", "b"}
    assert len(set(scripted.replies)) == 2


async def test_a_bus_that_is_not_there_is_named_without_the_password(server: NatsServer) -> None:
    server.stop()
    url = server.url.replace("nats://", "nats://me:hunter2@")
    with pytest.raises(BusUnreachable, match=f"127.0.0.1:{server.port}") as caught:
        async with PreviewClient.connect(nats_url=url, connect_seconds=0.5):
            pytest.fail("connected")
    assert "hunter2" not in str(caught.value)


async def test_wrong_credentials_end_in_time(start_server: Callable[..., NatsServer]) -> None:
    server = start_server("--user", "me", "--pass", "right")
    with pytest.raises(BusUnreachable, match=r"(?i)authorization"):
        async with PreviewClient.connect(nats_url=server.url, connect_seconds=2):
            pytest.fail("connected")


async def test_a_subject_that_nats_forbids_fails_at_once(
    start_server: Callable[..., NatsServer], tmp_path: Path
) -> None:
    permissions = '{ publish: { deny: "x1.>" } }'
    users = f"[{{ user: me, password: pw, permissions: {permissions} }}]"
    config = tmp_path / "nats.conf"
    config.write_text(f"authorization {{ users: {users} }}")
    server = start_server("-c", str(config))
    url = server.url.replace("nats://", "nats://me:pw@")
    async with PreviewClient.connect(nats_url=url, subject_prefix=PREFIX) as preview:
        with pytest.raises(BusUnreachable, match=r"(?i)permissions violation"):
            await preview.status("shop")


async def test_a_deploys_own_events_are_told_while_it_is_waited_for(server: NatsServer) -> None:
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


async def test_kept_events_come_first_and_then_the_new_ones(server: NatsServer) -> None:
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


async def test_the_other_requests_reach_their_subjects(server: NatsServer) -> None:
    answer = {"ok": True, "slug": "shop", "previews": [{"slug": "shop", "state": "ready"}], "next": "c"}
    async with provider(server, answer) as scripted, client(server) as preview:
        assert (await preview.validate("acme/shop", "main")).slug == "shop"
        listing = await preview.list(repo="acme/shop", limit=5)
        await preview.status(deploy_id="d-1")
    assert (listing.previews[0].state, listing.next) == ("ready", "c")
    assert scripted.subjects == [f"{PREFIX}.{name}" for name in ("validate", "list", "status")]
    assert scripted.requests[1:] == [{"repo": "acme/shop", "limit": 5}, {"deploy_id": "d-1"}]
