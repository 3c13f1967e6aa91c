"""What a phase gets: the parts it may use, and a way to say what happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from provider import names, spec
from provider.models import DeployRecord, EventType, PreviewRecord, TraceContext
from provider.pipeline.clock import Clock
from provider.pipeline.line import Emit, Line
from provider.pipeline.logbook import Logbook
from provider.platforms.base import Platform
from provider.policy import WatchedPolicy
from provider.settings import Settings
from provider.source import Source
from provider.store import Store


class Reporter(Protocol):
    """How answers and messages leave; the bus fulfils it, the pipeline knows no more of it.

    `trace` is the one that a message belongs to.
    """

    async def deliver(
        self, reply: str, body: Mapping[str, Any], deadline: datetime, trace: TraceContext | None = None
    ) -> bool:
        """Repeat an answer until somebody takes it (True) or the deadline passes (False)."""

    def tell_session(self, session_id: str, text: str, event_id: str, trace: TraceContext | None = None) -> None:
        """Tell a session something, in the background."""

    def audit(self, entry: Mapping[str, Any], trace: TraceContext | None = None) -> None:
        """Keep who asked what and what was decided, in the background."""


@dataclass(frozen=True, slots=True)
class Context:
    """The parts that phases use; `clock` is that of the step which has this context."""

    settings: Settings
    platform: Platform
    source: Source
    store: Store
    reporter: Reporter
    emit: Emit
    line: Line
    logbook: Logbook
    policy: WatchedPolicy = field(default_factory=WatchedPolicy)
    clock: Clock = field(default_factory=Clock.endless)

    def spec_of(self, record: DeployRecord) -> spec.Spec:
        """The spec that the resolve phase put into the record."""
        extra_env = frozenset(record.request.extra_env_names)
        return spec.load(record.spec_text or "", strict=self.settings.strict_spec, extra_env_names=extra_env).spec

    async def preview_of(self, record: DeployRecord) -> PreviewRecord | None:
        """The preview that the deploy belongs to."""
        return await self.store.get_preview(record.slug) if record.slug else None

    def url(self, slug: str) -> str:
        """A preview's public URL."""
        return names.url(slug, self.settings.preview_domain, self.settings.public_port)

    def log_sink(self, record: DeployRecord) -> Callable[[list[str]], None]:
        """Takes lines that hold no secret, and makes events of them."""
        return lambda lines: self.emit(record, EventType.LOG, {"lines": lines})
