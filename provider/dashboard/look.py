"""One preview as it is now: its record, its newest deploy, and what the platform says; each part may fail alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from provider.bus.queries import IntrospectRequest
from provider.dashboard.board import Board
from provider.errors import PreviewError
from provider.introspection import Introspection
from provider.models import DeployRecord, PastDeploy, PreviewOutline, PreviewRecord
from provider.store import Store
from provider.store.line import positions


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. `position` is the newest deploy's among those that wait in the line; `problems` what wasn't seen.

    `preview` is no more than the outline, without `history`, where its record could not be read. `pods`, `events`,
    `logs` and `build_logs` are as `introspect` has them.
    """

    preview: PreviewOutline
    history: tuple[PastDeploy, ...] = ()
    deploy: DeployRecord | None = None
    position: int | None = None
    pods: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    build_logs: list[str] = field(default_factory=list)
    problems: tuple[str, ...] = ()

    @property
    def newest_container(self) -> tuple[object, ...]:
        """What tells the newest container from others, and from itself before a restart."""
        pod = self.pods[-1] if self.pods else {}
        return (pod.get("name"), *(one["restarts"] for one in pod.get("containers", ())))


class Looks:
    """Looks at previews."""

    def __init__(self, *, board: Board, store: Store, introspection: Introspection) -> None:
        self._board = board
        self._store = store
        self._introspection = introspection

    async def at(self, slug: str, *, logs: int = 0) -> Look | None:
        """The preview; None when there is none.

        Args:
            slug: which one.
            logs: so many of the last lines of both logs, too.
        """
        outline = self._board.get(slug)
        if outline is None:
            return None
        include: list[tuple[str, ...]] = [("pods", "events"), *((("logs",), ("build_logs",)) if logs else ())]
        preview, deploy, *found = await asyncio.gather(
            self._preview(outline),
            self._deploy(outline.newest.deploy_id),
            *(self._seen(slug, parts, logs) for parts in include),
        )
        record, position, problem = deploy
        seen = {name: value for one, _ in found for name, value in one.items()}
        problems = tuple(dict.fromkeys(filter(None, (preview[1], problem, *(one for _, one in found)))))
        whole = preview[0]
        history = whole.history if whole is not None else ()
        return Look(whole or outline, history, record, position, problems=problems, **seen)

    async def _preview(self, outline: PreviewOutline) -> tuple[PreviewRecord | None, str]:
        try:
            return await self._store.get_preview(outline.slug), ""
        except PreviewError as error:
            return None, str(error)

    async def _deploy(self, deploy_id: str) -> tuple[DeployRecord | None, int | None, str]:
        try:
            record = await self._store.get_deploy(deploy_id) if deploy_id else None
            if record is None or record.report is not None:
                return record, None, ""
            line = (await self._store.line.get()).line
        except PreviewError as error:
            return None, None, str(error)
        position, _ = positions(line).get(deploy_id, (None, 0))
        return record, position, ""

    async def _seen(self, slug: str, parts: tuple[str, ...], tail: int) -> tuple[dict[str, Any], str]:
        asked = IntrospectRequest.model_validate({"slug": slug, "include": parts, "tail": tail or 1})
        try:
            answer = await self._introspection.look(asked)
        except PreviewError as error:
            return {}, str(error)
        return {name: answer[name] for name in parts}, ""
