"""Looking at previews on this machine: by the engine's API and the files of builds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from provider.platforms.container import build_process, workload
from provider.platforms.container.builds import Builds
from provider.platforms.container.engine import Engine
from provider.platforms.looks import ContainerLook, EventLook, Lines, LogQuery, PodLook

SAID = {"die", "died", "oom", "start", "restart", "health_status", "kill", "stop", "create", "remove"}
MOST_LINE = 8192


class ContainerInspector:
    """Fulfils `platforms.looks.Inspector`."""

    def __init__(self, *, engine: Engine, builds: Builds, platform_id: str) -> None:
        self._engine = engine
        self._builds = builds
        self._platform_id = platform_id

    async def pods(self, slug: str) -> tuple[PodLook, ...]:
        """See `Inspector`; a container that runs counts as ready."""
        return tuple(_look(one) for one in await self._containers(slug))

    async def events(self, slug: str) -> tuple[EventLook, ...]:
        """See `Inspector`."""
        found = await self._engine.happened({workload.SLUG_LABEL: slug, workload.PLATFORM_LABEL: self._platform_id})
        return tuple(_event(one) for one in found if one["Action"] in SAID)

    async def app_log(self, slug: str, query: LogQuery) -> Lines:
        """See `Inspector`. A container's log goes on when it is restarted: `previous` is what was before that."""
        containers = [one for one in await self._containers(slug) if query.pod in (None, _name(one))]
        if not containers:
            return
        params = {"tail": str(query.tail)} if query.tail is not None else {}
        params |= {"follow": "true"} if query.follow and not query.previous else {}
        params |= {"since": query.since.astimezone(UTC).isoformat()} if query.since is not None else {}
        params |= {"until": str(containers[-1]["State"]["StartedAt"])} if query.previous else {}
        rest = b""
        async for data in self._engine.log_stream(_name(containers[-1]), params):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[:MOST_LINE]
            if lines:
                yield [_line(line) for line in lines]
        if rest:
            yield [_line(rest)]

    def build_log(self, slug: str, build_inputs: str, job_name: str, *, follow: bool) -> Lines | None:
        """See `Inspector`."""
        folder = self._builds.folder_of(slug, build_inputs)
        if not (folder / "log").exists():
            return None
        return build_process.lines(folder) if follow else build_process.lines_by_now(folder)

    async def _containers(self, slug: str) -> list[dict[str, Any]]:
        """The preview's own, oldest first."""
        labels = {workload.SLUG_LABEL: slug, workload.PLATFORM_LABEL: self._platform_id}
        names = [str(one["Names"][0]).lstrip("/") for one in await self._engine.containers(**labels)]
        found = [one for name in names if (one := await self._engine.container(name)) is not None]
        return sorted(found, key=lambda one: str(one["Created"]))


def _look(found: dict[str, Any]) -> PodLook:
    state, labels = found["State"], found["Config"].get("Labels") or {}
    name, running, status = _name(found), bool(state.get("Running")), str(state.get("Status", ""))
    ended = not running and status not in {"created", "configured", "initialized"}
    look = ContainerLook(
        name=name,
        image=str(labels.get(workload.IMAGE_LABEL) or found["Config"].get("Image") or found.get("Image", "")),
        state="running" if running else "terminated" if ended else "waiting",
        ready=running,
        restarts=int(found.get("RestartCount") or 0),
        reason="OOMKilled" if state.get("OOMKilled") else status,
        message=str(state.get("Error") or ""),
        exit_code=int(state.get("ExitCode") or 0) if ended else None,
        started_at=str(state.get("StartedAt") or ""),
    )
    return PodLook(name=name, phase=status, created_at=str(found["Created"]), containers=(look,))


def _event(found: dict[str, Any]) -> EventLook:
    attributes = found["Actor"]["Attributes"]
    code = attributes.get("containerExitCode")
    at = datetime.fromtimestamp(int(found.get("timeNano") or 0) / 1e9, UTC).isoformat()
    message = f"exit code {code}" if found["Action"] in {"die", "died"} and code is not None else ""
    bad = found["Action"] == "oom" or (bool(message) and code != "0")
    return EventLook(at, "Container", str(attributes.get("name", "")), str(found["Action"]), message, warning=bad)


def _name(found: dict[str, Any]) -> str:
    return str(found["Name"]).lstrip("/")


def _line(raw: bytes) -> str:
    return raw[:MOST_LINE].decode(errors="replace").rstrip("\r")
