"""What a preview's URL shows while nothing serves there: how far its deploy is, why it failed, or that it is gone.

A stranger may open the URL, so it says no more than that: no repository, no branch, no log. The platform's ingress
keeps the page and answers with it by itself, also while no provider runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from importlib import resources

from markupsafe import Markup

from provider.background import logged
from provider.dashboard.pages import HERE, Pages, source_hash
from provider.dashboard.views import PHASES
from provider.errors import PreviewError
from provider.models import Phase, PreviewOutline, PreviewState, now

GONE_AGE = timedelta(days=1)
"""How long it is said that a preview is gone; then nobody knows its URL any more."""
SETTLE_SECONDS = 0.2
AGAIN_SECONDS = 5.0

TITLES = {
    PreviewState.PROVISIONING: ("Being deployed", "It is not here yet."),
    PreviewState.READY: ("Coming back", "It is deployed, but does not serve at this moment."),
    PreviewState.DEGRADED: ("Coming back", "It is deployed, but does not serve at this moment."),
    PreviewState.FAILED: ("Not deployed", "The deploy failed, and nothing served before it."),
    PreviewState.AWAITING_APPROVAL: ("Waiting", "A deploy waits until somebody approves it."),
    PreviewState.REMOVING: ("Being removed", "It is torn down."),
}
GONE = ("Gone", "It was removed; it comes back when somebody deploys it again.")

Hold = Callable[[str, str], Awaitable[None]]
"""Has the ingress keep a page for a slug (see `Platform.hold`)."""


class HoldingPages:
    """Makes the pages."""

    def __init__(self) -> None:
        self._pages = Pages()
        inline = resources.files(HERE).joinpath("inline")
        style, script = (inline.joinpath(f"holding.{kind}").read_text() for kind in ("css", "js"))
        self._inline = {
            "style": Markup(style),  # noqa: S704 - ours, from the package
            "script": Markup(script),  # noqa: S704
            "style_hash": Markup(source_hash(style)),  # noqa: S704
            "script_hash": Markup(source_hash(script)),  # noqa: S704
        }

    def page(self, preview: PreviewOutline, phase: Phase | None) -> str:
        """The page of a preview whose deploy is in that phase."""
        title, what = TITLES[preview.state] if preview.removed_at is None else GONE
        under_way = preview.state is PreviewState.PROVISIONING
        return self._pages.render(
            "holding.html",
            slug=preview.slug,
            title=title,
            what=what,
            phases=_phases(phase) if under_way else (),
            failure=preview.failure if preview.state is PreviewState.FAILED else None,
            **self._inline,
        )


def _phases(present: Phase | None) -> list[tuple[str, str]]:
    """Each phase, and whether it is done, now or ahead; what comes after these is still no app."""
    at = 0 if present is None else PHASES.index(present) if present in PHASES else len(PHASES)
    return [
        (phase.value, "done" if index < at else "now" if index == at else "ahead") for index, phase in enumerate(PHASES)
    ]


class Holding:
    """Has the ingress keep each preview's page as it should be now.

    Args:
        hold: keeps one.
        settle_seconds: what comes one after the other within them makes one page; a deploy has better to do then.
        again_seconds: after which one that could not be kept is tried again.
    """

    def __init__(
        self, hold: Hold, *, settle_seconds: float = SETTLE_SECONDS, again_seconds: float = AGAIN_SECONDS
    ) -> None:
        self._hold = hold
        self._settle_seconds = settle_seconds
        self._again_seconds = again_seconds
        self._pages = HoldingPages()
        self._previews: dict[str, PreviewOutline] = {}
        self._phases: dict[str, Phase] = {}
        self._gone: dict[str, datetime] = {}
        self._kept: dict[str, int] = {}
        self._due: dict[str, None] = {}
        self._wake = asyncio.Event()

    def on_preview(self, preview: PreviewOutline) -> None:
        """A preview's record as it is now; a removed one's tombstone included."""
        slug = preview.slug
        self._previews[slug] = preview.outline()
        if preview.state is not PreviewState.PROVISIONING:
            self._phases.pop(slug, None)
        if preview.removed_at is not None:
            self._gone[slug] = preview.removed_at
        else:
            self._gone.pop(slug, None)
        self._is_due(slug)

    def on_phase(self, slug: str, phase: Phase) -> None:
        """A phase of the preview's deploy begins."""
        self._phases[slug] = phase
        if slug in self._previews:
            self._is_due(slug)

    async def run(self) -> None:
        """Keep pages as they come to be due, for ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(self._settle_seconds)
            self._wake.clear()
            while self._due:
                slug = next(iter(self._due))
                del self._due[slug]
                await logged(self._keep(slug))

    @property
    def slugs(self) -> frozenset[str]:
        """The previews that have a page."""
        return frozenset(self._previews)

    def forget(self, slugs: frozenset[str]) -> None:
        """Forget those of these previews, which live no more, that did not go lately."""
        late = now() - GONE_AGE
        for slug in slugs:
            if self._gone.get(slug, late) <= late:
                for known in (self._previews, self._gone, self._kept, self._phases):
                    known.pop(slug, None)

    def _is_due(self, slug: str) -> None:
        self._due[slug] = None
        self._wake.set()

    async def _keep(self, slug: str) -> None:
        preview = self._previews.get(slug)
        if preview is None:
            return
        page = self._pages.page(preview, self._phases.get(slug))
        if self._kept.get(slug) == hash(page):
            return
        try:
            await self._hold(slug, page)
        except (PreviewError, OSError):
            asyncio.get_running_loop().call_later(self._again_seconds, self._is_due, slug)
            raise
        self._kept[slug] = hash(page)
