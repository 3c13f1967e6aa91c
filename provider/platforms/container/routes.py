"""Where each preview's traffic goes, as a folder that Caddy looks into at every request.

Why files and not Caddy's admin API: every change of Caddy's configuration reloads it whole. A reload cuts all
websockets of all previews, and closes idle keep-alive connections under clients that are just sending (measured
with Caddy 2.6.2, 30 switches under load: 105 of 6000 HTTP/1.1 requests failed, 41 of 4000 on HTTP/2; 170 ms a
switch with 1000 routes). A new file is seen by the very next request and disturbs no other: no failed request,
no reload whatever the number of previews, and nothing is lost when Caddy is killed.

    <state_dir>/routes/.ready                    Caddy can read this folder (else it answers 503, not 404)
                       hosts/<host>              → ../slugs/<slug>, one link a host
                       slugs/<slug>/<entry>      the newest sorts first; its content is the whole route as JSON
                       holding/<host>.html       what a host answers while no route leads there
                       .lock, .new               writers' lock, and the file that is being written

An entry's name carries what Caddy needs: `<rank>~<shape>~<generation>~<commit>~<upstream>`; upstream and commit
header can therefore never disagree. A switch adds an entry and leaves the few before it, so that a request that
listed the folder just before still finds what it saw.
"""

from __future__ import annotations

import fcntl
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from provider import names
from provider.errors import Code, Permanent
from provider.models import digest_of

HOLDING = "holding"
HELD_SECONDS = 60.0
_LAST_RANK = 10**12 - 1
_RANK_DIGITS = 12
_KEPT_ENTRIES = 4
"""How many switches may happen between a request's listing of the folder and its look at the entry."""

ENTRY_PATTERN = (
    r"/(?P<rank>[0-9]{12})~(?P<shape>[0-9a-z]+)~(?P<generation>[0-9]+)~(?P<commit>[0-9A-Za-z]+)~(?P<upstream>[^/~\s]+)$"
)
"""Grammar of an entry's path; valid for Python and for Go (Caddy matches with it)."""

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_UPSTREAM = re.compile(r"[^/~\s{}]+:[0-9]{1,5}")
_COMMIT = re.compile(r"[0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Shape:
    """What Caddy has to do with the traffic beside sending it on; the same for most previews.

    Only a shape that Caddy does not know yet costs a reload. It is named by a hash of its content and never
    changes, so that a revision's shape switches together with its upstream.
    """

    path_prefix: str = "/"
    strip_prefix: str | None = None
    http2: bool = False
    response_headers: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """The shape's name in entries and in Caddy's configuration."""
        return digest_of(asdict(self))[:16]


@dataclass(frozen=True, slots=True)
class Route:
    """What one preview's traffic does.

    Args:
        slug: the preview.
        hosts: every host that it answers to, its own and its aliases; lower case.
        upstream: host:port of the revision that gets the traffic.
        commit_sha: value of `X-Preview-Commit`.
        response_headers: set on each answer of the app, in place of the app's own.
        strip_prefix: cut off the path before the app sees it.
        path_prefix: only paths below it are served.
        http2: the app speaks HTTP/2 without TLS (h2c).
        generation: the revision's; a newer one is never replaced by an older one unless asked to.
    """

    slug: str
    hosts: tuple[str, ...]
    upstream: str
    commit_sha: str
    response_headers: dict[str, str] = field(default_factory=dict)
    strip_prefix: str | None = None
    path_prefix: str = "/"
    http2: bool = False
    generation: int = 0

    def __post_init__(self) -> None:
        """Refuse what could not be a file's name: these values become paths."""
        if not names.is_slug(self.slug):
            raise ValueError(f"not a slug: {self.slug!r}")
        if not self.hosts or not all(_HOST.fullmatch(host) for host in self.hosts):
            raise ValueError(f"not lower-case host names: {self.hosts!r}")
        if not _UPSTREAM.fullmatch(self.upstream) or not _COMMIT.fullmatch(self.commit_sha):
            raise ValueError(f"not an upstream and a commit: {self.upstream!r}, {self.commit_sha!r}")

    @property
    def shape(self) -> Shape:
        """The part of the route that stands in Caddy's configuration."""
        headers = tuple(sorted(self.response_headers.items()))
        return Shape(self.path_prefix, self.strip_prefix, self.http2, headers)


class RouteTable:
    """The folder of routes. Every change is atomic for Caddy's requests, and exclusive among writers.

    A call for one preview blocks for 0.2 ms on local disk, less than it takes to hand it to a thread; `Ingress` makes
    only those in a thread that go through all of them, or for which nobody waits.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hosts = root / "hosts"
        self._slugs = root / "slugs"
        self._holding = root / HOLDING

    def prepare(self) -> None:
        """Make the folders; readable for everybody, since Caddy usually runs as a user of its own."""
        for folder in (self.root, self.hosts, self._slugs, self._holding):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        (self.root / ".ready").touch(mode=0o644)

    def get(self, slug: str) -> Route | None:
        """The route that the next request will take, or None."""
        for entry in self._entries(slug):
            if route := _read(entry):
                return route
        return None

    def all(self) -> list[Route]:
        """Every route, ordered by slug."""
        if not self._slugs.is_dir():
            return []
        slugs = sorted(folder.name for folder in self._slugs.iterdir())
        return [route for slug in slugs if (route := self.get(slug))]

    def serving(self) -> dict[str, int]:
        """The generation of each slug's route; of those whose hosts all lead to it."""
        routes = self.all()
        return {one.slug: one.generation for one in routes if all(self.owner(host) == one.slug for host in one.hosts)}

    def put(self, route: Route, expected_generation: int | None = None) -> None:
        """Send the route's hosts to it (see `Ingress.switch` for what is refused)."""
        with self._locked():
            current = self.get(route.slug)
            linked = self._linked(route.slug)
            if current == route and linked == set(route.hosts):
                return
            _check_generation(current, route, expected_generation)
            self._check_hosts(route)
            self._add_entry(route)
            self._link_hosts(route, linked)

    def remove(self, slug: str) -> bool:
        """Take the preview out of traffic; whether it was there."""
        with self._locked():
            entries = self._entries(slug)
            for host in self._linked(slug):
                (self.hosts / host).unlink()
            # Oldest first: a crash in between must leave the newest as the route that is read back.
            for entry in reversed(entries):
                entry.unlink()
            with suppress(FileNotFoundError):
                (self._slugs / slug).rmdir()
            return bool(entries)

    def hold(self, host: str, page: str) -> None:
        """Have the host answer with this page while no route leads there."""
        if not is_host(host):
            raise ValueError(f"not a lower-case host name: {host!r}")
        self.prepare()
        new = self._holding / f".{host}.new"
        new.write_text(page)
        new.chmod(0o644)
        new.rename(self._holding / f"{host}.html")

    def hold_only(self, hosts: frozenset[str], older_than: float = HELD_SECONDS) -> None:
        """Forget the pages of all other hosts, but for those of the last seconds: they may be of new ones."""
        self.prepare()
        for page in self._holding.glob("*.html"):
            with suppress(FileNotFoundError):
                if page.stem not in hosts and time.time() - page.stat().st_mtime >= older_than:
                    page.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclusive among threads and processes; the kernel frees it when its holder dies."""
        self.prepare()
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _entries(self, slug: str) -> list[Path]:
        """The slug's entries, newest first."""
        try:
            return sorted((self._slugs / slug).iterdir())
        except FileNotFoundError:
            return []

    def _add_entry(self, route: Route) -> None:
        folder = self._slugs / route.slug
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        before = self._entries(route.slug)
        rank = int(before[0].name[:_RANK_DIGITS]) - 1 if before else _LAST_RANK
        name = f"{rank:0{_RANK_DIGITS}}~{route.shape.key}~{route.generation}~{route.commit_sha}~{route.upstream}"
        new = self.root / ".new"
        new.write_text(json.dumps(asdict(route)))
        new.chmod(0o644)
        new.rename(folder / name)
        for entry in before[_KEPT_ENTRIES - 1 :]:
            entry.unlink()

    def owner(self, host: str) -> str | None:
        """The slug that the host leads to; a link to a preview that is gone counts as none."""
        link = self.hosts / host
        return link.readlink().name if link.exists() else None

    def _linked(self, slug: str) -> set[str]:
        """Hosts that lead to the slug: those of the newest entry, and of the others what a crash left behind."""
        named = {host for entry in self._entries(slug) if (route := _read(entry)) for host in route.hosts}
        return {host for host in named if self.owner(host) == slug}

    def _check_hosts(self, route: Route) -> None:
        for host in route.hosts:
            owner = self.owner(host)
            if owner not in (None, route.slug):
                raise Permanent(
                    Code.INVALID_REQUEST,
                    f"The host {host} belongs to the preview {owner}.",
                    reason="HostTaken",
                    hint=f"Take {host} out of alias_hosts, or tear {owner} down first.",
                )

    def _link_hosts(self, route: Route, linked: set[str]) -> None:
        for host in route.hosts:
            if self.owner(host) != route.slug:
                (self.hosts / host).unlink(missing_ok=True)
                (self.hosts / host).symlink_to(Path("..", "slugs", route.slug))
        for host in linked - set(route.hosts):
            (self.hosts / host).unlink()


def is_host(text: str) -> bool:
    """Whether it is a host's name in lower case, and so can be a file's."""
    return _HOST.fullmatch(text) is not None


def _read(entry: Path) -> Route | None:
    """The entry's route; None if it is gone by now, or was cut by a power failure, or is of a later provider."""
    try:
        data = json.loads(entry.read_text())
        return Route(**{**data, "hosts": tuple(data["hosts"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _check_generation(current: Route | None, route: Route, expected: int | None) -> None:
    if current is None:
        return
    allowed = route.generation >= current.generation if expected is None else expected == current.generation
    if not allowed:
        raise Permanent(
            Code.SUPERSEDED,
            f"Traffic of {route.slug} goes to generation {current.generation} already; "
            f"generation {route.generation} does not replace it.",
            reason="NewerRevisionServes",
            hint="Follow the newest deploy of the preview instead.",
        )
