"""Caddy's configuration for previews, as pure functions over JSON.

It is static: one server whose routes read everything that changes from the route table (`routes.py`), one TLS
policy, one wildcard certificate. Only a new shape or a new alias host changes it. Whatever else stands in the same
Caddy is somebody else's and is left as it is.

What was tried with Caddy 2.6.2 and stands behind the values here:

- `flush_interval` stays at its default: server-sent events and answers without a length are flushed at once
  anyway, while -1 keeps requests running at the app when their client is gone, and cuts them at a reload.
- No `grace_period`: a reload then returns in 6 ms and lets requests in flight end in the background, however long
  they take. Websockets are cut at a reload whatever is set (2.6 has no `stream_close_delay`): hence no reloads.
- `automatic_https` off for our server: it would open port 80 for redirects. Certificates are asked for by name.
- HTTP/3 is off: it would open a UDP port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

from provider.platforms.container.routes import ENTRY_PATTERN, HOLDING, Shape

Json = dict[str, Any]

SERVER = "x1_previews"
ACCESS_LOG = "x1_previews_access"
TLS_POLICY_ID = "x1-previews-tls"
SHAPE_ID = "x1-previews-shape-"
COMMIT_HEADER = "X-Preview-Commit"
HOLDING_HEADER = "X-Preview-Holding"
"""Says that an answer is the page that a host shows while nothing serves there, and not its app's."""
DOES_NOT_ANSWER = "the preview does not answer\n"
NO_SUCH_PREVIEW = "no such preview\n"
UNREADABLE = "the ingress cannot read its routes folder\n"

_DIAL_TIMEOUT = "1s"
_DIAL_TRY_DURATION = "2s"
_DIAL_TRY_INTERVAL = "100ms"
# Below the 5 s after which node and uvicorn close idle connections: a request must not meet such a close.
_UPSTREAM_IDLE_TIMEOUT = "3s"
_PLAIN_SHAPES = (Shape(), Shape(http2=True))
_TEXT = {"Content-Type": ["text/plain; charset=utf-8"]}


def etag(path: str, body: bytes) -> str:
    """The ETag of a configuration path with this content.

    Caddy sends it as an HTTP trailer, which httpx does not show; it is FNV-1a (32 bit) of the body.
    """
    value = 0x811C9DC5
    for byte in body:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return f'"{path} {value:08x}"'


def literal(text: str) -> str:
    """`text` so that Caddy does not replace placeholders in it: `{env.SECRET}` in a header's value would leak."""
    return text.replace("{", "\\{")


def merge(
    config: Json | None,
    *,
    root: Path,
    domain: str,
    listen: str,
    access: str,
    shapes: Iterable[Shape],
    aliases: Iterable[str],
) -> Json:
    """`config` with our part in it, everything of others untouched; equal to `config` when nothing is missing.

    Shapes and aliases that our part has already stay: another switch may be about to use them.

    Args:
        config: the whole present configuration; None when Caddy has none.
        root: the route table's folder.
        domain: the wildcard domain of the previews.
        listen: where the server listens.
        access: host:port to which each request is told by UDP (see `visits`); empty: nowhere.
        shapes: what entries refer to.
        aliases: hosts outside the domain that need certificates.
    """
    merged = deepcopy(config or {})
    apps = merged.setdefault("apps", {})
    servers = apps.setdefault("http", {}).setdefault("servers", {})
    known = _known_shapes(servers.get(SERVER, {}))
    known.update({shape.key: shape_route(shape) for shape in (*_PLAIN_SHAPES, *shapes)})
    servers[SERVER] = server(root, listen, [known[key] for key in sorted(known)])
    if access:
        servers[SERVER]["logs"] = {"default_logger_name": ACCESS_LOG}
        _merge_logging(merged.setdefault("logging", {}).setdefault("logs", {}), access)
    authorities = apps.setdefault("pki", {}).setdefault("certificate_authorities", {})
    # Without this Caddy tries to put its CA into the machine's trust store, which may ask for a password.
    authorities.setdefault("local", {"install_trust": False})
    _merge_tls(apps.setdefault("tls", {}), domain, set(aliases))
    return merged


def has_server(config: Json | None) -> bool:
    """Whether our server stands in the configuration."""
    return SERVER in (config or {}).get("apps", {}).get("http", {}).get("servers", {})


def server(root: Path, listen: str, shape_routes: list[Json]) -> Json:
    """The server of all previews."""
    by_entry = {"{http.matchers.file.relative}": {"name": "entry", "pattern": ENTRY_PATTERN}}
    return {
        "listen": [listen],
        "protocols": ["h1", "h2"],
        "automatic_https": {"disable": True},
        "tls_connection_policies": [{}],
        "routes": [
            {
                "match": [{"file": {"root": _glob_literal(root / "hosts"), "try_files": ["/{http.request.host}/*"]}}],
                "handle": [{"handler": "subroute", "routes": [{"match": [{"vars_regexp": by_entry}]}, *shape_routes]}],
            },
            {"match": [{"not": [{"file": {"root": _glob_literal(root), "try_files": ["/.ready"]}}]}]}
            | _answer(503, UNREADABLE),
            holding_route(root),
            _answer(404, NO_SUCH_PREVIEW),
        ],
        # What an app that sleeps or just died gives: its page, too, where there is one.
        "errors": {"routes": [holding_route(root), _answer("{http.error.status_code}", DOES_NOT_ANSWER)]},
    }


def holding_route(root: Path) -> Json:
    """What hosts without an app answer that have a page: 503 and that page, whatever was asked for.

    It carries no commit, so that nothing takes it for an app's answer.
    """
    folder = _glob_literal(root)
    return {
        "match": [
            {
                # Without what a glob would take for a pattern.
                "vars_regexp": {"{http.request.host}": {"pattern": "^[a-z0-9.-]+$"}},
                "file": {"root": folder, "try_files": [f"/{HOLDING}/{{http.request.host}}.html"]},
            }
        ],
        "terminal": True,
        "handle": [
            {
                "handler": "headers",
                "request": {"delete": ["If-Modified-Since", "If-None-Match", "If-Range", "Range"]},
                "response": {
                    "deferred": True,
                    "set": {
                        HOLDING_HEADER: ["1"],
                        "Retry-After": ["2"],
                        "Cache-Control": ["no-store"],
                        "Content-Type": ["text/html; charset=utf-8"],
                        "Referrer-Policy": ["no-referrer"],
                        "X-Content-Type-Options": ["nosniff"],
                        "X-Frame-Options": ["DENY"],
                    },
                    "delete": ["Etag", "Last-Modified", COMMIT_HEADER],
                },
            },
            {"handler": "rewrite", "method": "GET", "uri": "{http.matchers.file.relative}"},
            {"handler": "file_server", "root": folder, "status_code": "503"},
        ],
    }


def shape_route(shape: Shape) -> Json:
    """What is done with requests to entries of this shape."""
    commit = {COMMIT_HEADER: ["{http.regexp.entry.commit}"]}
    own = {name: [literal(value)] for name, value in shape.response_headers}
    return {
        "@id": SHAPE_ID + shape.key,
        "match": [{"vars": {"{http.regexp.entry.shape}": [shape.key]}}],
        "terminal": True,
        "handle": [
            # At once, for answers that are Caddy's own (502); and again when the app's are there, over them.
            {"handler": "headers", "response": {"set": commit}},
            {"handler": "headers", "response": {"deferred": True, "set": own | commit}},
            {"handler": "subroute", "routes": _path_routes(shape)},
        ],
    }


def _path_routes(shape: Shape) -> list[Json]:
    prefix = shape.path_prefix.rstrip("/")
    handle = [reverse_proxy(http2=shape.http2)]
    strip = (shape.strip_prefix or "").rstrip("/")
    if strip:
        handle.insert(0, {"handler": "rewrite", "strip_path_prefix": literal(strip)})
    if not prefix:
        return [{"handle": handle}]
    below = {"path_regexp": {"pattern": f"^{re.escape(prefix)}(/|$)"}}
    return [
        {"match": [below], "terminal": True, "handle": handle},
        _answer(404, f"this preview serves only paths below {literal(prefix)}/\n"),
    ]


def reverse_proxy(*, http2: bool) -> Json:
    """The handler that sends a request to its entry's upstream. The Host header stays as it came."""
    transport: Json = {
        "protocol": "http",
        "dial_timeout": _DIAL_TIMEOUT,
        "keep_alive": {"idle_timeout": _UPSTREAM_IDLE_TIMEOUT},
    }
    if http2:
        transport["versions"] = ["h2c", "2"]
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": "{http.regexp.entry.upstream}"}],
        "transport": transport,
        "load_balancing": {
            "try_duration": _DIAL_TRY_DURATION,
            "try_interval": _DIAL_TRY_INTERVAL,
            # Only failed dials, which reached no app, are repeated: else Caddy repeats any failed GET. (A request
            # with a body still ends as 502: 2.6 closes its body at the first failed dial.)
            "retry_match": [{"expression": "false"}],
        },
    }


def _answer(status: int | str, body: str) -> Json:
    return {"handle": [{"handler": "static_response", "status_code": status, "headers": _TEXT, "body": body}]}


def _glob_literal(path: Path) -> str:
    """The path as the file matcher's root, which Caddy takes for a glob pattern with placeholders."""
    return literal(re.sub(r"([\\*?\[])", r"\\\1", str(path)))


def _known_shapes(present: Json) -> dict[str, Json]:
    """Shape routes of our server as it is configured; none if an older provider laid it out differently."""
    try:
        routes = present["routes"][0]["handle"][0]["routes"]
        ids = [(route.get("@id", ""), route) for route in routes]
    except (KeyError, IndexError, TypeError, AttributeError):
        return {}
    return {name.removeprefix(SHAPE_ID): route for name, route in ids if name.startswith(SHAPE_ID)}


def _merge_logging(logs: Json, access: str) -> None:
    """An access log of our own, short and sent away; no other log gets these lines."""
    logger = f"http.log.access.{ACCESS_LOG}"
    unwanted = ("request>uri", "request>headers", "request>tls", "request>method", "resp_headers", "user_id")
    logs[ACCESS_LOG] = {
        "writer": {"output": "net", "address": f"udp/{access}"},
        "encoder": {
            "format": "filter",
            "wrap": {"format": "json"},
            "fields": {field: {"filter": "delete"} for field in unwanted},
        },
        "include": [logger],
    }
    rest = logs.setdefault("default", {}).setdefault("exclude", [])
    if logger not in rest:
        rest.append(logger)


def _merge_tls(tls: Json, domain: str, aliases: set[str]) -> None:
    """One policy for the wildcard and all aliases, first in the list: the first that fits a name wins."""
    automation = tls.setdefault("automation", {})
    policies = automation.get("policies") or []
    ours: Json = next((policy for policy in policies if policy.get("@id") == TLS_POLICY_ID), {"subjects": []})
    wildcard = f"*.{domain}"
    subjects = [wildcard, *sorted((set(ours["subjects"]) | aliases) - {wildcard})]
    policy = {"@id": TLS_POLICY_ID, "subjects": subjects, "issuers": [{"module": "internal"}]}
    automation["policies"] = [policy, *(other for other in policies if other.get("@id") != TLS_POLICY_ID)]
    certificates = tls.setdefault("certificates", {})
    automated = certificates.get("automate") or []
    certificates["automate"] = [*automated, *(name for name in subjects if name not in automated)]
