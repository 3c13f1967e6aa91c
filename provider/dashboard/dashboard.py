"""The dashboard's routes: which address shows what, and to whom."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from markupsafe import Markup

from provider.dashboard import views
from provider.dashboard.access import WRONG_TOKEN_SECONDS, Access
from provider.dashboard.board import Board, News
from provider.dashboard.live import LivePreview, Readers, hash_of, tell_list
from provider.dashboard.look import Look, Looks
from provider.dashboard.pages import Pages, static_files
from provider.dashboard.sse import EventStream
from provider.introspection import Introspection
from provider.models import PreviewOutline, now
from provider.settings import Settings
from provider.store import Store
from provider.store.lifetime import Policy

log = structlog.get_logger(__name__)

SLUG = "{slug:[a-z0-9-]{1,63}}"
MOST_READERS = 200
FIRST_LINES = 100
SECTIONS = ("head", "diagnosis", "phases", "checks", "history", "pods", "events")
"""The parts of a preview's page that are told anew when they change; its logs are told line by line."""
LONGEST_LOGIN = 4096


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A row of the list as it was made of that record."""

    preview: PreviewOutline
    row: views.Row
    html: str


class Dashboard:
    """Shows every preview of the installation, and changes nothing.

    Args:
        settings: where it listens, what opens it, and how long previews live.
        store: where deploys are read from; previews come by `on_preview`.
        introspection: looks at what runs.
    """

    def __init__(self, *, settings: Settings, store: Store, introspection: Introspection) -> None:
        self._installation = settings.platform_id
        self._policy = Policy.of(settings)
        self._access = Access(settings.dashboard_token, settings.http_address)
        self._store = store
        self._introspection = introspection
        self._board = Board()
        self._looks = Looks(board=self._board, store=store, introspection=introspection)
        self._pages = Pages()
        self._static = static_files()
        self._rows: dict[str, _Rendered] = {}
        self._readers = Readers(MOST_READERS)
        self.on_preview = self._board.on_preview
        if not self._access.possible:
            log.info("dashboard.off", http_address=settings.http_address, hint="set DASHBOARD_TOKEN")

    def routes(self) -> list[web.RouteDef]:
        """What the HTTP server serves of this."""
        guarded, everybody = self._access.guarded, self._access.open
        return [
            web.get("/", guarded(self._list)),
            web.get("/stream", guarded(self._list_stream), allow_head=False),
            web.get(f"/previews/{SLUG}", guarded(self._preview)),
            web.get(f"/previews/{SLUG}/stream", guarded(self._preview_stream), allow_head=False),
            web.get("/login", everybody(self._login_form)),
            web.post("/login", everybody(self._login)),
            web.get("/static/{name}", everybody(self._file)),
        ]

    async def close(self) -> None:
        """Let every reader go; browsers come back to whichever provider serves next."""
        await self._readers.close()

    # ------------------------------------------------------------------------ pages

    async def _list(self, request: web.Request) -> web.Response:
        search, state = request.query.get("q", ""), request.query.get("state", "")
        news = self._board.all()
        self._rows = {one.slug: self._row(one) for one in news.changed}
        rows = self._rows.values()
        visible = [views.shown(one.row, search, state) for one in rows]
        # Rows that the filter leaves out are there, too: with script, it is changed without asking again.
        body = "".join(
            one.html if fits else one.html.replace("<tr ", "<tr hidden ", 1)
            for one, fits in zip(rows, visible, strict=True)
        )
        answer = self._page(
            "list.html", body=Markup(body), total=len(rows), any=any(visible), words=_words(),  # noqa: S704 - our templates'
            counts=Counter(one.row.state for one in rows), search=search, state=state, mark=news.mark,
        )  # fmt: skip
        answer.enable_compression()
        return answer

    async def _preview(self, request: web.Request) -> web.Response:
        slug = request.match_info["slug"]
        look = await self._looks.at(slug, logs=FIRST_LINES)
        if look is None:
            return self._page("missing.html", status=404, slug=slug)
        sections = {name: (html, hash_of(html)) for name, html in self._sections(look).items()}
        return self._page("preview.html", slug=slug, sections=sections, look=look)

    async def _file(self, request: web.Request) -> web.Response:
        found = self._static.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound(text="no such file\n")
        return web.Response(body=found[0], content_type=found[1], charset="utf-8")

    def _page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        text = self._pages.render(template, installation=self._installation, now=now(), **values)
        return web.Response(text=text, status=status, content_type="text/html")

    def _sections(self, look: Look) -> dict[str, str]:
        preview, deploy = look.preview, look.deploy
        values = {
            "look": look,
            "preview": preview,
            "deploy": deploy,
            "row": views.row(preview, self._policy),
            "meaning": views.STATE_MEANINGS[preview.state],
            "steps": views.steps(deploy, look.position is not None or deploy.held) if deploy is not None else (),
            "failure": views.failure_of(preview, deploy),
            "past": views.history(look.history),
            "width": views.CHART_WIDTH,
        }
        return {name: self._pages.section(name, values) for name in SECTIONS}

    # ------------------------------------------------------------------ as it happens

    async def _list_stream(self, request: web.Request) -> web.StreamResponse:
        mark = request.headers.get("Last-Event-ID") or request.query.get("since", "")
        async with self._reading(request) as stream:
            await tell_list(stream, self._board, mark, self._told)
        return stream.answer

    async def _preview_stream(self, request: web.Request) -> web.StreamResponse:
        async with self._reading(request) as stream:
            live = LivePreview(
                slug=request.match_info["slug"],
                stream=stream,
                board=self._board,
                store=self._store,
                looks=self._looks,
                introspection=self._introspection,
                render=self._sections,
            )
            await live.run()
        return stream.answer

    def _reading(self, request: web.Request) -> AbstractAsyncContextManager[EventStream]:
        if self._readers.full:
            raise web.HTTPServiceUnavailable(text="too many readers\n", headers={"Retry-After": "10"})
        return self._readers.one(EventStream.open(request))

    def _told(self, news: News) -> Mapping[str, Any]:
        return {
            "whole": news.whole,
            "rows": [{"slug": one.slug, "html": self._row(one).html} for one in news.changed],
            "gone": list(news.gone),
        }

    def _row(self, preview: PreviewOutline) -> _Rendered:
        """A preview in the list; made anew only when its record changed, for a thousand take a tenth of a second."""
        known = self._rows.get(preview.slug)
        if known is not None and known.preview is preview and not known.row.claim:  # a claim ends by itself
            return known
        row = views.row(preview, self._policy)
        return _Rendered(preview, row, self._pages.render("row.html", row=row))

    # ------------------------------------------------------------------------ access

    async def _login_form(self, request: web.Request) -> web.Response:
        if self._access.may_look(request):
            raise web.HTTPSeeOther("/")
        return self._page("login.html", wrong=False)

    async def _login(self, request: web.Request) -> web.Response:
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise web.HTTPForbidden(text="A form from elsewhere does not log in here.\n")
        if (request.content_length or 0) > LONGEST_LOGIN:
            raise web.HTTPRequestEntityTooLarge(LONGEST_LOGIN, request.content_length or 0)
        sent = (await request.post()).get("token", "")
        if not (isinstance(sent, str) and self._access.is_token(sent)):
            log.warning("dashboard.wrong_token", remote=request.remote)
            await asyncio.sleep(WRONG_TOKEN_SECONDS)
            return self._page("login.html", status=403, wrong=True)
        answer = web.Response(status=303, headers={"Location": "/"})
        self._access.let_in(answer)
        return answer


def _words() -> dict[str, str]:
    return {state.value: word for state, word in views.STATE_WORDS.items()}
