"""Asking a preview over HTTP whether it serves what it should.

The same checks go to the candidate directly, before it gets traffic, and to the public URL after. At most
five redirects on the same host are followed, and the last answer is judged.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import re2

from provider.http_client import http_client
from provider.models import AcceptanceCheck, Check
from provider.platforms.base import Candidate, PublicAddress

COMMIT_HEADER = "x-preview-commit"
MAX_REDIRECTS = 5
MAX_BODY = 1 << 20
ATTEMPT_SECONDS = 5.0
EXCERPT = 200


@dataclass(frozen=True, slots=True)
class Target:
    """Where checks go.

    Args:
        origin: scheme, host and port that the preview is known by.
        connect: scheme://host:port that is connected to instead, or None.
        commit: the commit that answers must name, or None where they name none.
        prefix: what the public path has before the one that is asked here (a stripped prefix).
    """

    origin: str
    connect: str | None
    commit: str | None
    http2: bool = False
    ca_pem: str | None = None
    prefix: str = ""


def candidate_target(url: str, candidate: Candidate) -> Target:
    """The candidate itself, asked as if by the ingress."""
    return Target(url, candidate.base_url, None, http2=candidate.http2, prefix=candidate.strip_prefix)


def public_target(url: str, address: PublicAddress, commit: str) -> Target:
    """The public URL."""
    connect = f"https://{address.connect}" if address.connect else None
    return Target(url, connect, commit if address.commit_header else None, ca_pem=address.ca_pem)


def plan(path: str, acceptance: tuple[AcceptanceCheck, ...]) -> tuple[AcceptanceCheck, ...]:
    """Every check of a deploy: the default one first."""
    return (AcceptanceCheck(path=path), *acceptance)


@asynccontextmanager
async def client(target: Target) -> AsyncIterator[httpx.AsyncClient]:
    """A client for one target. A connection that worked is used again: a check is about answers, not handshakes."""
    asked = target.connect or target.origin
    trust = _trust(target.ca_pem) if asked.startswith("https") else None
    async with http_client(trust=trust, timeout=ATTEMPT_SECONDS, http2=target.http2) as http:
        yield http


@lru_cache(maxsize=4)
def _trust(ca_pem: str | None) -> ssl.SSLContext:
    """What trusts that authority, or those of the machine: reading them takes up to 40 ms."""
    return ssl.create_default_context(cadata=ca_pem)


async def ask(http: httpx.AsyncClient, target: Target, check: AcceptanceCheck) -> Check:
    """One attempt of one check; never raises for what the preview does."""
    url = target.origin + check.path
    try:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            answer = await _answer(http, target, check)
    except TimeoutError:
        return _check(check, url, got=f"no answer within {ATTEMPT_SECONDS:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _check(check, url, got=_describe(error))
    expected, got = _redirected(answer) or judge(check, answer, target.commit)
    return _check(check, url, ok=not got, status=answer.status, expected=expected, got=got)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers, and the beginning of the body; `circle` where redirects led to nothing else."""

    status: int
    headers: httpx.Headers
    body: str
    circle: tuple[str, ...] = ()


def _redirected(answer: Answer) -> tuple[str, str] | None:
    """(expected, got) of redirects that do not end."""
    if not answer.circle:
        return None
    return "an answer", f"status {answer.status}: redirects for ever: {' → '.join(answer.circle)}"


async def _answer(http: httpx.AsyncClient, target: Target, check: AcceptanceCheck) -> Answer:
    path, seen = check.path, [check.path]
    follow = check.status is None or not 300 <= check.status < 400
    for _ in range(MAX_REDIRECTS + 1):
        answer = await _once(http, target, check.method, path)
        location = answer.headers.get("location")
        if not (follow and location and 300 <= answer.status < 400):
            return answer
        try:
            goal = urlsplit(urljoin(target.origin + path, location))
            elsewhere = goal.hostname != urlsplit(target.origin).hostname
        except ValueError:
            return answer  # a location that is no URL leads nowhere
        if elsewhere:
            return answer
        path = (goal.path or "/") + (f"?{goal.query}" if goal.query else "")
        seen.append(path)
    return replace(answer, circle=tuple(seen))


async def _once(http: httpx.AsyncClient, target: Target, method: str, path: str) -> Answer:
    public = urlsplit(target.origin)
    headers = {"host": public.netloc, "user-agent": "x1-preview-provider"}
    if target.commit is None:  # what the ingress would have added
        headers |= {"x-forwarded-proto": public.scheme, "x-forwarded-host": public.netloc}
    sent = stripped(path, target.prefix)
    base = target.connect or target.origin
    request = http.build_request(
        method, base + sent, headers=headers,
        extensions={"sni_hostname": public.hostname} if base.startswith("https") else None,
    )  # fmt: skip
    response = await http.send(request, stream=True)
    try:
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) >= MAX_BODY:
                break
    finally:
        await response.aclose()
    return Answer(response.status_code, response.headers, body[:MAX_BODY].decode(errors="replace"))


def stripped(path: str, prefix: str) -> str:
    """The path that the app sees where the ingress cuts `prefix` off ("" cuts nothing)."""
    rest = path.removeprefix(prefix)
    if not prefix or rest == path or rest[:1] not in {"", "/", "?"}:
        return path
    return rest if rest.startswith("/") else f"/{rest}"


def judge(check: AcceptanceCheck, answer: Answer, commit: str | None) -> tuple[str, str]:
    """(expected, got) of the first thing that is wrong; ("", "") when nothing is."""
    if commit is not None and answer.headers.get(COMMIT_HEADER) != commit:
        if (named := answer.headers.get(COMMIT_HEADER)) is None:
            return (
                f"{COMMIT_HEADER}: {commit}",
                f"status {answer.status} without {COMMIT_HEADER}: {_excerpt(answer.body)}",
            )
        return f"{COMMIT_HEADER}: {commit}", f"{COMMIT_HEADER}: {named}"
    if check.status is None and answer.status >= 400:
        return "status below 400", f"status {answer.status}: {_excerpt(answer.body)}"
    if check.status is not None and answer.status != check.status:
        return f"status {check.status}", f"status {answer.status}: {_excerpt(answer.body)}"
    for name, value in (check.header or {}).items():
        if answer.headers.get(name) != value:
            return f"{name}: {value}", f"{name}: {answer.headers.get(name, 'absent')}"
    return _judge_body(check, answer.body)


def _judge_body(check: AcceptanceCheck, body: str) -> tuple[str, str]:
    if check.body_contains is not None and check.body_contains not in body:
        return f"body contains {check.body_contains!r}", _excerpt(body)
    if check.body_matches is not None and not _matches(check.body_matches, body):
        return f"body matches /{check.body_matches}/", _excerpt(body)
    if check.json_ is not None:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return "a JSON body", _excerpt(body)
        if not contains(found, check.json_):
            return f"JSON with {json.dumps(check.json_)[:EXCERPT]}", _excerpt(body)
    return "", ""


def _matches(pattern: str, body: str) -> bool:
    """RE2 searches in linear time and bounded memory: a hostile expression cannot hold the provider up."""
    return re2.search(pattern, body) is not None


def contains(found: Any, wanted: Any) -> bool:
    """Whether JSON `found` has what `wanted` says: objects at least these keys, anything else equal."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and contains(found[key], value) for key, value in wanted.items()
        )
    return type(found) is type(wanted) and bool(found == wanted)


def _check(
    check: AcceptanceCheck, url: str, *, ok: bool = False, status: int | None = None, expected: str = "", got: str = ""
) -> Check:
    name = f"{check.method} {check.path}"
    asked = (expected or "an answer")[:EXCERPT]
    return Check(name=name[:EXCERPT], url=url, ok=ok, status=status, expected=asked, got=got[: 2 * EXCERPT])


def _describe(error: Exception) -> str:
    """One line of what went wrong below HTTP; TLS and DNS errors keep their own words."""
    return (str(error) or type(error).__name__)[:EXCERPT]


def _excerpt(body: str) -> str:
    text = " ".join(body[: 4 * EXCERPT].split())
    return text[:EXCERPT] or "an empty body"
