"""Credentials for the image registry: from the file that `docker login` writes, into the answer to its challenge.

A registry says what it wants in `WWW-Authenticate` of a 401: Basic, or a bearer token from a token server, which in
turn takes the credentials (https://distribution.github.io/distribution/spec/auth/token/). Tokens are kept while they
are valid, by what they are for; the file is read at each challenge, so credentials change without a restart.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Generator
from pathlib import Path

import httpx

PARAMETER = re.compile(r'([a-z]+)="([^"]*)"', re.IGNORECASE)
REPOSITORY = re.compile(r"/(manifests|blobs|tags)/[^/]*$")
"""What a path has behind its repository, for which alone a token is good."""
VALID_SECONDS = 60.0
"""How long a token is good whose answer does not say: the specification's own default."""
EARLY_SECONDS = 10.0
MOST_KEPT = 256


class CredentialsUnreadable(Exception):
    """The file of credentials can't be read; the message has nothing of what stands in it."""


class RegistryAuth:
    """Answers challenges of the registry at `address` (host:port) with what `file` has for it, or anonymously."""

    def __init__(self, file: Path | None, address: str) -> None:
        self._file = file
        self._address = address
        self._kept: dict[str, tuple[str, float]] = {}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Ask as we know it is wanted; asked for more, give that, and remember. Takes answers that were read."""
        place = f"{request.method} {REPOSITORY.sub('', request.url.path)}"
        header, until = self._kept.get(place, ("", 0.0))
        if header and time.monotonic() < until:
            request.headers["Authorization"] = header
        answer = yield request
        scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        if answer.status_code != httpx.codes.UNAUTHORIZED or scheme.lower() not in {"basic", "bearer"}:
            return
        header, valid = self._basic(), float("inf")
        if scheme.lower() == "bearer":
            header, valid = _bearer((yield _token_request(dict(PARAMETER.findall(rest)), header)))
        if header:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[place] = (header, time.monotonic() + valid - EARLY_SECONDS)
            request.headers["Authorization"] = header
        yield request

    def _basic(self) -> str:
        """The header for the registry, or for its token server; "" where there are no credentials."""
        if self._file is None:
            return ""
        try:
            entries = json.loads(self._file.read_text())["auths"]
            entry = entries.get(self._address) or entries.get(f"https://{self._address}") or {}
            pair = entry.get("auth") or _encoded(entry.get("username"), entry.get("password"))
            base64.b64decode(pair, validate=True)
        except OSError as error:
            raise CredentialsUnreadable(f"REGISTRY_AUTH_FILE {self._file}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            raise CredentialsUnreadable(f"REGISTRY_AUTH_FILE {self._file} is not what `docker login` writes") from None
        return f"Basic {pair}" if pair else ""


def _encoded(username: str | None, password: str | None) -> str:
    return base64.b64encode(f"{username}:{password or ''}".encode()).decode() if username else ""


def _token_request(challenge: dict[str, str], basic: str) -> httpx.Request:
    asked = {key: value for key, value in challenge.items() if key in {"service", "scope"}}
    headers = {"Authorization": basic} if basic else {}
    return httpx.Request("GET", challenge.get("realm", ""), params=asked, headers=headers)


def _bearer(answer: httpx.Response) -> tuple[str, float]:
    """The header and for how many seconds it is good; "" where the token server gives none.

    Raises:
        httpx.RemoteProtocolError: the token server itself is in trouble.
    """
    if answer.is_server_error:
        raise httpx.RemoteProtocolError(f"the registry's token server answered {answer.status_code}")
    try:
        told = answer.json() if answer.is_success else {}
        token = str(told.get("token") or told.get("access_token") or "")
        valid = float(told.get("expires_in") or VALID_SECONDS)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return "", 0.0
    return (f"Bearer {token}" if token else ""), valid
