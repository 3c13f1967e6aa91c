"""Time to live, on a fast clock: announced, removed, and kept by whoever uses the preview."""

from __future__ import annotations

from datetime import timedelta

import pytest

from provider.keeper.expiry import Expiry
from provider.keeper.removals import Removals
from provider.models import EventType, PreviewState
from provider.settings import Settings
from provider.store import claims, lifetime, reducers
from provider.store.claims import Asker
from tests.unit.keeping import Surroundings
from tests.unit.test_claims import admit, deploy


@pytest.fixture
def around() -> Surroundings:
    return Surroundings(Settings())


@pytest.fixture
def expiry(around: Surroundings) -> Expiry:
    return Expiry(**around.telling, visited=around.visited)


async def test_complaint_2_what_nobody_uses_is_announced_and_removed(around: Surroundings, expiry: Expiry) -> None:
    await around.preview()
    around.passes(hours=22)
    await expiry.once()
    assert around.told.events == []
    around.passes(hours=1)
    await expiry.once()
    await expiry.once()
    [warning] = around.told.events
    assert (warning.type, warning.data["reason"], warning.slug) == (EventType.WARNING, "ExpiresSoon", "my-app")
    assert warning.data["expires_at"] == "2026-01-03T00:00:00+00:00"
    [(session, text, event_id)] = around.told.sessions
    assert (session, event_id) == ("s-1", warning.event_id)
    assert "https://my-app.example" in text
    assert "preview touch my-app" in text
    around.passes(hours=1)
    await expiry.once()
    assert not await around.is_there()
    assert around.platform.removed == [("my-app", 1)]
    assert around.told.reasons() == ["ExpiresSoon", "Expired"]
    assert "brings it back" in around.told.sessions[1][1]
    assert [entry["action"] for entry in around.told.audited] == ["expire"]
    await expiry.once()
    assert len(around.platform.removed) == 1


async def test_a_failed_first_deploy_lives_an_hour(around: Surroundings, expiry: Expiry) -> None:
    await around.preview("bad", state=PreviewState.FAILED, last_good=None)
    await around.preview("good")
    around.passes(minutes=61)
    await expiry.once()
    assert not await around.is_there("bad")
    assert await around.is_there("good")


async def test_zero_is_for_ever_unless_a_maximum_is_set(around: Surroundings, expiry: Expiry) -> None:
    await around.preview(ttl_seconds=0)
    around.passes(days=3650)
    await expiry.once()
    assert await around.is_there()
    bounded = Surroundings(Settings(preview_ttl_max=3600))
    await bounded.preview(ttl_seconds=0)
    bounded.passes(seconds=3600)
    await Expiry(**bounded.telling, visited=bounded.visited).once()
    assert not await bounded.is_there()


@pytest.mark.parametrize("how", ["touch", "claim", "deploy"])
async def test_whoever_wants_it_just_before_the_removal_wins(around: Surroundings, expiry: Expiry, how: str) -> None:
    await around.preview()
    around.passes(hours=25)
    wishes = {
        "touch": lifetime.touched(around.at),
        "claim": claims.claimed(Asker("a"), 60, around.at),
        "deploy": admit(deploy("d2", 20), at=around.at),
    }
    await around.unseen(wishes[how])
    await expiry.once()
    assert await around.is_there()
    assert around.platform.removed == []


async def test_a_deploy_during_the_removal_gets_the_preview(around: Surroundings, expiry: Expiry) -> None:
    await around.preview()
    around.passes(hours=25)
    around.platform.before = lambda: around.unseen(admit(deploy("d2", 20), at=around.at))
    await expiry.once()
    record = await around.store.get_preview("my-app")
    assert record is not None
    assert (record.state, record.newest.deploy_id, record.generation) == (PreviewState.PROVISIONING, "d2", 2)
    assert around.platform.removed == [("my-app", 1)], "the new generation was spared"


async def test_another_provider_s_previews_are_left_to_it(around: Surroundings, expiry: Expiry) -> None:
    around.mine = False
    await around.preview()
    around.passes(hours=25)
    await expiry.once()
    assert await around.is_there()
    assert around.told.events == []


async def test_two_providers_that_both_look_remove_once_and_say_the_same(around: Surroundings, expiry: Expiry) -> None:
    await around.preview()
    around.passes(hours=23, minutes=30)
    other = Expiry(**around.telling, visited=frozenset)
    stale = around.known.get("my-app")
    assert stale is not None
    await expiry.once()
    around.known.on_preview(stale)
    await other.once()
    assert len({event.event_id for event in around.told.events}) == 1


async def test_visitors_keep_it_alive_and_are_seldom_written(around: Surroundings, expiry: Expiry) -> None:
    first = await around.preview()
    writes = set()
    for _ in range(48 * 60):
        around.passes(minutes=1)
        around.visits.add("my-app")
        await expiry.once()
        record = await around.store.get_preview("my-app")
        assert record is not None
        writes.add(record.updated_at)
    assert await around.is_there()
    assert len(writes - {first.updated_at}) <= 48 * 6, "one every ten minutes at most"
    around.passes(hours=25)
    await expiry.once()
    assert not await around.is_there()


async def test_a_visit_counts_however_short_the_time_to_live(around: Surroundings, expiry: Expiry) -> None:
    await around.preview(ttl_seconds=60)
    for _ in range(20):
        around.passes(seconds=20)
        around.visits.add("my-app")
        await expiry.once()
    assert await around.is_there()


async def test_a_visit_of_what_is_gone_does_no_harm(around: Surroundings, expiry: Expiry) -> None:
    await around.preview()
    around.passes(hours=1)
    around.visits |= {"my-app", "nobodys"}
    await around.unseen(reducers.removing(20, around.at, slug="my-app", platform_id="here"))
    await expiry.once()


async def test_a_removal_that_stands_still_is_finished(around: Surroundings) -> None:
    going = await around.preview()
    await around.change(reducers.removing(20, around.at, slug="my-app", platform_id="here"))
    around.at = going.updated_at
    removals = Removals(**around.parts)
    await removals.once()
    assert around.platform.removed == [], "whoever began it may still be at it"
    around.platform.fails = True
    around.at += timedelta(seconds=65)
    await removals.once()
    await removals.once()
    around.platform.fails = False
    assert around.platform.asked == 1, "not again at once"
    around.at += timedelta(seconds=65)
    await removals.once()
    assert around.platform.removed == [("my-app", 1)]
    assert not await around.is_there()
    await removals.once()
    assert len(around.platform.removed) == 1
