"""A keeper's surroundings: records in memory, a clock that the test turns, and what was told and removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from provider.errors import Code, Permanent
from provider.keeper.known import Known
from provider.keeper.notices import Notices
from provider.models import Event, PreviewRecord, TraceContext
from provider.pipeline.context import Context
from provider.pipeline.line import Line, limits_of
from provider.pipeline.logbook import Logbook
from provider.pipeline.runner import Runner
from provider.platforms.base import Platform, Removed
from provider.settings import Settings
from provider.source import Source
from provider.store import memory_store
from provider.store.lifetime import Policy
from provider.store.records import Reducer
from tests.unit.test_claims import READY

START = datetime(2026, 1, 2, tzinfo=UTC)


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.sessions: list[tuple[str, str, str]] = []
        self.audited: list[dict[str, Any]] = []
        self.events: list[Event] = []

    async def deliver(
        self, reply: str, body: Mapping[str, Any], deadline: datetime, trace: TraceContext | None = None
    ) -> bool:
        return True

    def tell_session(self, session_id: str, text: str, event_id: str, trace: TraceContext | None = None) -> None:
        self.sessions.append((session_id, text, event_id))

    def audit(self, entry: Mapping[str, Any], trace: TraceContext | None = None) -> None:
        self.audited.append(dict(entry))

    def reasons(self) -> list[str]:
        return [event.data["reason"] for event in self.events]


class Removing:
    """A platform that only removes; `before` runs first, as something that happens meanwhile."""

    def __init__(self) -> None:
        self.removed: list[tuple[str, int | None]] = []
        self.before: Callable[[], Awaitable[object]] | None = None
        self.asked = 0
        self.fails = False

    def generation(self, _: str) -> None:
        return None

    async def teardown(self, slug: str, up_to: int | None) -> Removed:
        self.asked += 1
        if self.fails:
            raise Permanent(Code.PLATFORM_UNREACHABLE, "told to fail")
        if self.before is not None:
            await self.before()
        self.removed.append((slug, up_to))
        return Removed([f"ingress/{slug}"])


@dataclass
class Surroundings:
    """What the keeper's parts are made of."""

    settings: Settings
    source: Source | None = None
    at: datetime = START
    mine: bool = True
    told: Told = field(default_factory=Told)
    platform: Removing = field(default_factory=Removing)
    visits: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store = memory_store("here")
        self.known = Known(Policy.of(self.settings))
        self.ctx = Context(
            settings=self.settings,
            platform=cast(Platform, self.platform),
            source=cast(Source, self.source),
            store=self.store,
            reporter=self.told,
            line=Line(store=self.store, limits=limits_of(self.settings), emit=lambda *_: None),
            logbook=Logbook(shelf=cast(Any, None), most=0),
            emit=lambda *_: None,
        )
        self.runner = Runner(self.ctx)

    @property
    def parts(self) -> dict[str, Any]:
        """The arguments that every part of the keeper takes."""
        return {
            "ctx": self.ctx,
            "runner": self.runner,
            "known": self.known,
            "mine": lambda _: self.mine,
            "clock": lambda: self.at,
        }

    @property
    def telling(self) -> dict[str, Any]:
        """The same for a part that tells."""
        return {**self.parts, "notices": Notices(publish=self.told.events.append, reporter=self.told)}

    def passes(self, **time: float) -> None:
        """Time passes."""
        self.at += timedelta(**time)

    def visited(self) -> frozenset[str]:
        """What the ingress tells once."""
        seen, self.visits = frozenset(self.visits), set()
        return seen

    async def preview(self, slug: str = "my-app", **changes: object) -> PreviewRecord:
        """A preview that is up, and that the keeper has seen."""
        update = {"slug": slug, "last_access": self.at, "claim": None, "session_id": "s-1", **changes}
        return await self.change(lambda _: READY.model_copy(update=update), slug)

    async def change(self, reducer: Reducer, slug: str = "my-app") -> PreviewRecord:
        """Somebody changes the preview; the keeper sees it."""
        record = await self.unseen(reducer, slug)
        self.known.on_preview(record)
        return record

    async def unseen(self, reducer: Reducer, slug: str = "my-app") -> PreviewRecord:
        """Somebody changes the preview, and the watch has not told of it yet."""
        return await self.store.change_preview(slug, reducer)

    async def is_there(self, slug: str = "my-app") -> bool:
        """Whether the preview is neither removed nor going."""
        record = await self.store.get_preview(slug)
        return record is not None and record.removed_at is None
