"""What the keeper tells of a preview: an event, and a message to its session.

Ids are made from what is told, so that two providers that say the same say it once: the stream drops a repeated id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from provider.models import Event, EventType, PreviewOutline, digest_of
from provider.pipeline.context import Reporter

Publish = Callable[[Event], None]
"""Publishes an event in the background."""


class Notices:
    """Tells of previews."""

    def __init__(self, *, publish: Publish, reporter: Reporter) -> None:
        self._publish = publish
        self._reporter = reporter

    def tell(
        self, record: PreviewOutline, kind: EventType, reason: str, text: str, at: datetime, data: Mapping[str, Any]
    ) -> None:
        """Say it as an event of the preview's newest deploy, and to the session that the preview is attached to.

        Args:
            record: the preview as it was when this was decided.
            kind: the event's type.
            reason: a CamelCase cause; with `data` it makes the event's id.
            text: what people read; it stands alone.
            at: when.
            data: what programs read.
        """
        event_id = self.event(record, kind, reason, text, at, data)
        if record.session_id:
            self._reporter.tell_session(record.session_id, text, event_id)

    def event(
        self, record: PreviewOutline, kind: EventType, reason: str, text: str, at: datetime, data: Mapping[str, Any]
    ) -> str:
        """The same as an event alone; returns its id."""
        event_id = digest_of([record.slug, record.newest.order, reason, dict(data)])[:32]
        facts = {"reason": reason, "message": text, **data}
        deploy_id = record.newest.deploy_id
        self._publish(Event(event_id=event_id, slug=record.slug, deploy_id=deploy_id, at=at, type=kind, data=facts))
        return event_id
