"""The ingress of previews on one machine: Caddy, set up by its admin API, switched by the route table.

Caddy's configuration is made once and then left alone; a switch is a file (`routes.py` says why). Killing Caddy
loses no route: it needs only its configuration back, and whichever call comes first notices and pushes it, with
all that the table needs, in one load. Started with `--resume`, Caddy needs nothing.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpx
import structlog

from provider import names
from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.http_client import http_client
from provider.platforms.base import PartStatus
from provider.platforms.container import caddy_config, certificates
from provider.platforms.container.routes import Route, RouteTable, is_host
from provider.platforms.container.visits import Visits
from provider.platforms.hosts import check as check_hosts
from provider.platforms.hosts import is_below
from provider.settings import Settings

__all__ = ["Ingress", "Route"]

log = structlog.get_logger(__name__)

_TIMEOUT = 10.0
_ATTEMPTS = 10
_CERTIFICATE_PATIENCE = (2.0, 4.0, 8.0)
"""Seconds until a missing one is asked for again: an attempt that failed Caddy repeats after a minute, or never."""
# A label that no slug can have (slugs start with a letter), to see what an unknown host gets.
_PROBE_LABEL = "0"


class Ingress:
    """Routes the public hosts of previews to their revisions.

    Any number of switches may run at once, in several processes too. Errors: `Temporary` (IngressUnreachable) when
    Caddy does not answer, `Permanent` (IngressRefused) when it rejects what it is told.

    Args:
        settings: `caddy_admin_url`, `caddy_listen`, `preview_domain`, and `state_dir` for the route table; Caddy's
            user must be able to enter `state_dir` (mode 0711 is enough).
        http: client for the admin API.
    """

    def __init__(self, *, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http
        self._table = RouteTable(settings.state_dir / "routes")
        self._visits = Visits(settings.caddy_access_address)
        self._config_lock = asyncio.Lock()
        self._seen: dict[str, Any] | None = None
        self._seen_at = -math.inf

    async def ensure(self) -> bool:
        """Give Caddy whatever is missing of our configuration, in one load; True if something was.

        Routes need not be pushed afterwards: they stand in the table, and their shapes come with this load.
        """
        await asyncio.to_thread(self._table.prepare)
        changed = await self._configure(await self.routes())
        self._seen_at = time.monotonic()
        return changed

    def open(self) -> None:
        """Hear of visits from now on."""
        self._visits.open()

    def close(self) -> None:
        """Hear of them no more; what is served stays."""
        self._visits.close()

    def visited(self) -> frozenset[str]:
        """The previews whose hosts were asked since the last call."""
        owners = (self._table.owner(host) for host in self._visits.hosts() if is_host(host))
        return frozenset(owner for owner in owners if owner is not None)

    async def routes(self) -> list[Route]:
        """Every route, ordered by slug."""
        return await asyncio.to_thread(self._table.all)

    async def serving(self) -> dict[str, int]:
        """The generation that each preview's hosts lead to, by slug; without those of which a host leads nowhere."""
        return await asyncio.to_thread(self._table.serving)

    async def route(self, slug: str) -> Route | None:
        """What the preview's next request will meet, or None."""
        return self._table.get(slug)

    async def switch(self, route: Route, *, expected_generation: int | None = None, watched: float = 0.0) -> None:
        """Send the preview's traffic to `route`, atomically; makes the route when there is none.

        When this returns, every new request goes to the new upstream; requests in flight end where they are.

        Args:
            route: what is wanted. The same route as now changes nothing.
            expected_generation: replace only this generation, by an older one too (that is what putting the last
                good revision back needs). None: replace any that is not newer.
            watched: for how many seconds what `ensure` saw of Caddy is believed, because it looks again and again.

        Raises:
            Permanent: SUPERSEDED if another generation serves; INVALID_REQUEST if a host is another preview's.
        """
        self.check_hosts(route.slug, route.hosts)
        # First, since an entry whose shape Caddy does not know would be answered empty. For most routes this only
        # reads that all is there (3 ms), and so finds out that Caddy is down, or restarted without its configuration.
        if time.monotonic() - self._seen_at > watched or self._merged(self._seen, [route]) != self._seen:
            await self._configure([route])
        self._table.put(route, expected_generation)

    async def remove(self, slug: str) -> bool:
        """Take the preview out of traffic; whether it was there. Its host answers with what is held for it."""
        return await asyncio.to_thread(self._table.remove, slug)

    async def hold(self, slug: str, page: str) -> None:
        """What the preview's own host answers while no route leads there; see `Platform.hold`."""
        await asyncio.to_thread(self._table.hold, names.host(slug, self._settings.preview_domain), page)

    async def hold_only(self, slugs: frozenset[str]) -> None:
        """Forget the pages of all other previews."""
        hosts = frozenset(names.host(slug, self._settings.preview_domain) for slug in slugs)
        await asyncio.to_thread(self._table.hold_only, hosts)

    async def root_ca(self) -> str:
        """PEM of the authority that signs the previews' certificates."""
        answer = await self._call("GET", "/pki/ca/local")
        return str(answer.json()["root_certificate"])

    async def part(self) -> PartStatus:
        """Whether previews would be served: asks for an unknown one as a visitor would."""
        try:
            config, _ = await self._read_config()
            if not caddy_config.has_server(config):
                return self._not_ok("Caddy runs without our server.", "It is set up when the provider starts.")
            answer = await self._probe(await self.root_ca())
        except PreviewError as error:
            return self._not_ok(error.message, error.hint or "")
        except httpx.HTTPError as error:
            hint = f"Is {self._settings.caddy_listen} (CADDY_LISTEN) free of other servers?"
            return self._not_ok(f"Caddy does not serve previews: {error!r}", hint)
        if answer.text == caddy_config.UNREADABLE:
            hint = f"Let Caddy's user enter {self._settings.state_dir} (STATE_DIR), for example with mode 0711."
            return self._not_ok(f"Caddy cannot read {self._table.root}.", hint)
        if answer.text != caddy_config.NO_SUCH_PREVIEW:
            return self._not_ok(f"Another server answers: {answer.status_code}", "See CADDY_LISTEN.")
        return PartStatus("ingress", True, f"Caddy serves previews on {self._settings.caddy_listen}")

    # ------------------------------------------------------------------ configuration

    def _aliases(self, hosts: Iterable[str]) -> set[str]:
        """Hosts that the wildcard certificate does not cover."""
        return {host for host in hosts if not is_below(host, self._settings.preview_domain)}

    def check_hosts(self, slug: str, hosts: Iterable[str]) -> None:
        """Refuse a host right below the domain that is not the preview's own: it is the preview's of that name."""
        check_hosts(slug, hosts, self._settings.preview_domain)

    async def _configure(self, routes: list[Route]) -> bool:
        """Add what `routes` need to Caddy's configuration; False, and no reload, if all is there.

        A configuration that was lost is made for the whole table at once.
        """
        async with self._config_lock:
            for _ in range(_ATTEMPTS):
                config, etag = await self._read_config()
                self._seen = config
                lost = not caddy_config.has_server(config)
                wanted = self._merged(config, [*routes, *(await self.routes() if lost else ())])
                if wanted == config:
                    return False
                if await self._write_config(wanted, etag):
                    await self._certified(
                        {self._probe_host(), *self._aliases(host for route in routes for host in route.hosts)}
                    )
                    return True
        raise Temporary(
            Code.PLATFORM_UNREACHABLE,
            "Caddy's configuration is changed by others all the time.",
            reason="IngressContended",
            hint="Let nobody else change Caddy by its admin API at CADDY_ADMIN_URL.",
        )

    def _merged(self, config: dict[str, Any] | None, routes: list[Route]) -> dict[str, Any]:
        return caddy_config.merge(
            config,
            root=self._table.root,
            domain=self._settings.preview_domain,
            listen=self._settings.caddy_listen,
            access=self._settings.caddy_access_address,
            shapes=[route.shape for route in routes],
            aliases=self._aliases(_hosts(routes)),
        )

    async def _read_config(self) -> tuple[dict[str, Any] | None, str]:
        answer = await self._call("GET", "/config/")
        return answer.json(), caddy_config.etag("/config/", answer.content)

    async def _write_config(self, config: dict[str, Any] | None, etag: str, *, again: bool = False) -> bool:
        """Replace the configuration that has this ETag; False if it was changed meanwhile.

        `again`: load it although it is the same.
        """
        headers = {"Content-Type": "application/json", "If-Match": etag}
        if again:
            headers["Cache-Control"] = "must-revalidate"
        answer = await self._call("POST", "/config/", content=json.dumps(config), headers=headers)
        return answer.status_code != httpx.codes.PRECONDITION_FAILED

    # -------------------------------------------------------------------------- calls

    async def _call(
        self, method: str, path: str, *, content: str | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """One call of the admin API; 412 is returned, other failures are raised as ours."""
        url = self._settings.caddy_admin_url + path
        # A connection a call: each reload closes the admin's idle ones.
        headers = {"Connection": "close", **(headers or {})}
        try:
            answer = await self._http.request(method, url, content=content, headers=headers, timeout=_TIMEOUT)
        except httpx.HTTPError as error:
            raise self._unreachable(repr(error)) from error
        if answer.is_success or answer.status_code == httpx.codes.PRECONDITION_FAILED:
            return answer
        # A configuration that Caddy cannot load is reported as 400 or 500, always with this text.
        if answer.is_server_error and "loading new config" not in answer.text:
            raise self._unreachable(f"{answer.status_code}: {answer.text[:500]}")
        raise Permanent(
            Code.INTERNAL_ERROR,
            "The ingress refused its configuration.",
            reason="IngressRefused",
            hint="The evidence is Caddy's own message; a port that is taken is named there.",
            evidence=(f"{method} {path}: {answer.status_code}", answer.text[:2000]),
        )

    def _unreachable(self, evidence: str) -> Temporary:
        return Temporary(
            Code.PLATFORM_UNREACHABLE,
            "The ingress does not answer.",
            reason="IngressUnreachable",
            hint=f"Is Caddy running, with its admin API at {self._settings.caddy_admin_url} (CADDY_ADMIN_URL)?",
            evidence=(evidence,),
        )

    async def _certified(self, hosts: set[str]) -> None:
        """Wait until Caddy has certificates for these hosts, which it makes in the background.

        Should its first attempt fail, it rests for a minute, or for good: the same configuration, loaded again, makes
        it try at once.
        """
        address, port = self._address()
        lacking: dict[str, str] = {}
        for patience in _CERTIFICATE_PATIENCE:
            if lacking:
                log.warning("ingress.certificates_missing", hosts=lacking)
                await self._write_config(*await self._read_config(), again=True)
            ca_pem = await self.root_ca()
            lacking = await certificates.missing(hosts, address=address, port=port, ca_pem=ca_pem, patience=patience)
            if not lacking:
                return
        raise Temporary(
            Code.PLATFORM_UNREACHABLE,
            f"The ingress made no certificate for {', '.join(lacking)}.",
            reason="CertificateMissing",
            hint=f"Does Caddy answer on {self._settings.caddy_listen} (CADDY_LISTEN)? Its log names the cause.",
            evidence=tuple(f"{host}: {problem}" for host, problem in lacking.items()),
        )

    async def _probe(self, ca_pem: str) -> httpx.Response:
        """What a visitor of an unknown preview gets. Needs a client of its own: one that trusts Caddy's CA."""
        host = self._probe_host()
        address, port = self._address()
        trusting = ssl.create_default_context(cadata=ca_pem)
        async with http_client(trust=trusting, timeout=_TIMEOUT) as client:
            return await client.get(
                f"https://{address}:{port}/", headers={"Host": host}, extensions={"sni_hostname": host}
            )

    def _probe_host(self) -> str:
        return names.host(_PROBE_LABEL, self._settings.preview_domain)

    def _address(self) -> tuple[str, int]:
        """Where this machine reaches what listens on CADDY_LISTEN."""
        address, _, port = self._settings.caddy_listen.rpartition(":")
        everywhere = address in ("", "0.0.0.0", "[::]")  # noqa: S104 - not bound, asked
        return ("127.0.0.1" if everywhere else address), int(port)

    def _not_ok(self, detail: str, hint: str) -> PartStatus:
        return PartStatus("ingress", False, detail, hint)


def _hosts(routes: Iterable[Route]) -> list[str]:
    return [host for route in routes for host in route.hosts]
