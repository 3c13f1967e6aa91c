"""The build context: fetched from a real git server, as Kaniko's go-git would, and refused in its words."""

from __future__ import annotations

import asyncio
import base64
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

PREFIX = "git://"
METHODS = ("http", "https")
WORDS = {
    401: "authentication required",
    403: "authorization failed",
    404: "repository not found",
}


class ContextError(Exception):
    """The context can't be had, in Kaniko's words."""


@dataclass(frozen=True)
class Source:
    """What `--context` names."""

    url: str
    reference: str
    commit: str

    @classmethod
    def parse(cls, context: str, env: Mapping[str, str]) -> Self:
        """Read `git://host/path#refs/heads/branch#sha`.

        Raises:
            ContextError: it is anything else.
        """
        if not context.startswith(PREFIX):
            raise ContextError("unknown build context prefix provided, please use one of the following: git://, …")
        place, reference, commit = (*context.removeprefix(PREFIX).split("#"), "", "")[:3]
        method = env.get("GIT_PULL_METHOD", "https")
        return cls(f"{method if method in METHODS else 'https'}://{place}", reference, commit)


class Checkout:
    """A repository's objects in a temporary folder; an async context manager."""

    def __init__(self, source: Source, env: Mapping[str, str]) -> None:
        self.source = source
        self.commit = ""
        self._folder = tempfile.TemporaryDirectory(prefix="kaniko-")
        self._header = _authorization(env)

    async def __aenter__(self) -> Self:
        try:
            await self._fetch()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    async def _fetch(self) -> None:
        if re.fullmatch("[0-9a-f]{40}", self.source.reference):
            raise ContextError("server does not support exact SHA1 refspec")
        code, _ = await self._git("clone", "--quiet", "--bare", "--template=", self.source.url, ".")
        if code:
            raise ContextError(await self._refusal())
        reference = self.source.reference or "HEAD"
        asked = f"{reference}^{{commit}}\n{self.source.commit or reference}^{{commit}}\n"
        _, answer = await self._git("cat-file", "--batch-check=%(objectname)", stdin=asked)
        found = [re.fullmatch("[0-9a-f]{40}", line) for line in answer.decode().splitlines()]
        for commit, words in zip(found, ("reference not found", "object not found"), strict=True):
            if commit is None:
                raise ContextError(words)
            self.commit = commit[0]

    async def _refusal(self) -> str:
        """What is wrong, from the answer to a clone's first request."""
        url = f"{self.source.url}/info/refs?service=git-upload-pack"
        headers = {"Authorization": self._header} if self._header else {}
        try:
            async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
                await answer.read()
        except aiohttp.ClientError as error:
            return f'Get "{url}": dial tcp: {error}'
        if answer.ok:
            return "unexpected EOF"
        return WORDS.get(answer.status, f'unexpected client error: unexpected requesting "{url}" {answer.status}')

    async def read(self, path: str) -> bytes | None:
        """A file of the commit; None if there is none."""
        code, content = await self._git("cat-file", "blob", f"{self.commit}:{path}")
        return None if code else content

    async def has_folder(self, path: str) -> bool:
        """Whether the commit has that folder."""
        code, kind = await self._git("cat-file", "-t", f"{self.commit}:{path}")
        return not code and kind.strip() == b"tree"

    async def _git(self, *arguments: str, stdin: str = "") -> tuple[int, bytes]:
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": self._folder.name,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_COUNT": "1" if self._header else "0",
            "GIT_CONFIG_KEY_0": "http.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: {self._header}",
        }
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            cwd=Path(self._folder.name),
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            out, _ = await process.communicate(stdin.encode())
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        return process.returncode or 0, out


def _authorization(env: Mapping[str, str]) -> str:
    """Basic credentials from the environment; a token replaces the user and empties the password."""
    username, password = env.get("GIT_USERNAME", ""), env.get("GIT_PASSWORD", "")
    if token := env.get("GIT_TOKEN", ""):
        username, password = token, ""
    if not username and not password:
        return ""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
