"""One commit by git's own protocol, version 2 over HTTP: two requests on a kept connection, and one process.

`git fetch` takes a request more for the same, a connection of its own and six processes: a fifth of a whole deploy.
Only the plain good case is done here. Whatever is not just as expected ends with None, and then `git fetch` is
asked instead: it speaks every server's dialect, and says what is wrong.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from provider.source.cache import Cache
from provider.source.git import Git, GitTimeout, special_network
from provider.source.remote import Remote

T = TypeVar("T")
_CONTENT = "application/x-git-upload-pack-{}"
HEADS = "refs/heads/"
_FLUSH, _DELIMITER = b"0000", b"0001"
_PACK_DATA = 1
_SHA = re.compile(r"[0-9a-f]{40}")
_LEAVE_SECONDS = 0.001
"""In which the requests leave: nothing else is done while a process is started."""
_ODD = (httpx.HTTPError, httpx.InvalidURL, ValueError)


@dataclass(slots=True)
class _Boundary:
    """What the server says of commits whose parents it did not send."""

    shallow: set[str] = field(default_factory=set)
    unshallow: set[str] = field(default_factory=set)


class Wire:
    """Fetches single commits.

    Args:
        http: the client to ask with; stays its owner's to close.
        git: runs `git index-pack`, within its limits.
        timeout: seconds for each of the two requests.
    """

    def __init__(self, *, http: httpx.AsyncClient, git: Git, timeout: float) -> None:
        self._http = http
        self._git = git
        self._timeout = timeout

    def can(self, remote: Remote) -> bool:
        """Whether the remote is one that can be asked this way."""
        return remote.url.startswith(("http://", "https://")) and not special_network(remote.url)

    async def fetch(
        self, remote: Remote, cache: Cache, sha: str | None, *, beside: Callable[[], Awaitable[None]]
    ) -> str | None:
        """Bring a commit (None: the branch's head) into the cache; returns the branch's head, or None: ask git.

        Nothing is marked in the cache: the caller looks first whether the whole tree is there. `beside` is done while
        the host works.

        Raises:
            GitTimeout: the server let the time pass.
            OSError: the cache cannot be written.
        """
        # What takes the commit is there before it comes, and one that was named comes while the branch is looked up.
        head = asyncio.create_task(self._in_time(self._head(remote)))
        bringing = self._bring(remote, cache, sha, head)
        asked, brought, *others = await asyncio.gather(head, bringing, _after_leave(beside), return_exceptions=True)
        for failed in (asked, brought, *others):
            if isinstance(failed, BaseException):
                raise failed
        return asked if brought and isinstance(asked, str) else None

    async def _bring(self, remote: Remote, cache: Cache, sha: str | None, head: asyncio.Task[str | None]) -> bool:
        """Have one commit (None: the branch's head) in the cache; False: ask git."""
        boundary = _Boundary()
        pack = self._pack(remote, cache, sha, head, boundary)
        first = asyncio.create_task(anext(pack, b""))
        try:
            # Git is started before the pack is there and reads it as it comes; one that ends early is an error to it.
            await asyncio.sleep(_LEAVE_SECONDS)
            command = (f"--git-dir={cache.path}", "index-pack", "--stdin", "--fix-thin")
            indexed = await self._git.run(*command, stdin=_resumed(first, pack))
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await pack.aclose()
        if indexed.code:
            cache.sweep()
            return False
        cache.move_boundary(boundary.shallow, boundary.unshallow)
        return True

    async def _in_time(self, asked: Awaitable[T]) -> T | None:
        """What was asked; None: git has to be. Raises GitTimeout."""
        try:
            async with asyncio.timeout(self._timeout):
                return await asked
        except TimeoutError:
            raise GitTimeout from None
        except _ODD:
            return None

    async def _head(self, remote: Remote) -> str | None:
        """The commit at the branch's head; None when there is no such branch."""
        ref = HEADS + remote.branch
        body = _command("ls-refs", f"ref-prefix {ref}")
        head: str | None = None
        async with self._answer(remote, body) as packets:
            async for packet in packets:  # to the end, else the connection cannot be used again
                sha, _, name = packet.decode().rstrip("\n").partition(" ")
                head = _sha(sha) if name == ref else head
        return head

    async def heads(self, remote: Remote) -> frozenset[str] | None:
        """The names of every branch; None: ask git. A listing that was cut off is none.

        Raises:
            GitTimeout: the server let the time pass.
        """
        return await self._in_time(self._heads(remote)) if self.can(remote) else None

    async def _heads(self, remote: Remote) -> frozenset[str]:
        found: set[str] = set()
        whole = False
        async with self._answer(remote, _command("ls-refs", f"ref-prefix {HEADS}")) as packets:
            async for packet in packets:
                if whole := not packet:
                    continue
                sha, _, ref = packet.decode().rstrip("\n").partition(" ")
                if not _SHA.fullmatch(sha) or not ref.startswith(HEADS):
                    raise ValueError("not a ref")
                found.add(ref.removeprefix(HEADS))
        if not whole:
            raise ValueError("the listing has no end")
        return frozenset(found)

    async def _pack(
        self, remote: Remote, cache: Cache, sha: str | None, head: asyncio.Task[str | None], boundary: _Boundary
    ) -> AsyncGenerator[bytes, None]:
        """The pack with the commit, as it comes; it ends early when anything is odd."""
        commit = sha or await asyncio.shield(head)  # git may give up before it is known, and the asker still wants it
        if commit is None:
            return
        wanted = _wanted(cache, remote, commit)
        body = _command("fetch", "thin-pack", "ofs-delta", "no-progress", "deepen 1", *wanted, "done")
        with suppress(*_ODD):
            async with self._answer(remote, body) as packets:
                in_pack = False
                async for packet in packets:
                    if in_pack and packet[:1] == bytes([_PACK_DATA]):
                        yield packet[1:]
                    elif not in_pack:
                        in_pack = _read_header(packet.decode().rstrip("\n"), boundary)

    @asynccontextmanager
    async def _answer(self, remote: Remote, body: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """The packets of the answer to one command."""
        headers = {
            "Content-Type": _CONTENT.format("request"),
            "Accept": _CONTENT.format("result"),
            "Git-Protocol": "version=2",
            "User-Agent": "git/2 (x1-preview-provider)",  # some hosts know clients by their first word
            **remote.authorization(),
        }
        url = f"{remote.url}/git-upload-pack"
        async with self._http.stream("POST", url, content=body, headers=headers, timeout=self._timeout) as answer:
            if answer.status_code != httpx.codes.OK or answer.headers.get("content-type") != _CONTENT.format("result"):
                raise ValueError(f"status {answer.status_code}")
            async with aclosing(_packets(answer.aiter_bytes())) as packets:
                yield packets


async def _after_leave(work: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(_LEAVE_SECONDS)
    await work()


async def _resumed(first: asyncio.Task[bytes], rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """All parts, of which the first was asked for already."""
    yield await first
    async for part in rest:
        yield part


def _wanted(cache: Cache, remote: Remote, commit: str) -> list[str]:
    """What is asked for, and what is here already, so that only the difference comes."""
    here = [f"shallow {sha}" for sha in sorted(cache.boundary())]
    before = cache.head_if_whole(remote.branch_ref)
    return [*here, f"want {commit}", *([f"have {before}"] if before else [])]


def _command(name: str, *arguments: str) -> bytes:
    return b"".join((_packet(f"command={name}"), _DELIMITER, *map(_packet, arguments), _FLUSH))


def _packet(text: str) -> bytes:
    data = f"{text}\n".encode()
    return f"{len(data) + 4:04x}".encode() + data


def _read_header(line: str, boundary: _Boundary) -> bool:
    """Take in one line before the pack; whether the pack follows."""
    match line.split(" "):
        case ["shallow", sha]:
            boundary.shallow.add(_sha(sha))
        case ["unshallow", sha]:
            boundary.unshallow.add(_sha(sha))
        case ["packfile"]:
            return True
        case ["shallow-info"] | [""]:
            pass
        case _:
            raise ValueError(f"unknown line: {line[:100]}")
    return False


def _sha(text: str) -> str:
    """A sha of the server's, which becomes a file's name here."""
    if not _SHA.fullmatch(text):
        raise ValueError("not a sha")
    return text


async def _packets(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """What each packet holds; empty ones are flushes and delimiters."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= len(_FLUSH) and len(held) >= (size := max(len(_FLUSH), int(held[:4], 16))):
            yield bytes(held[4:size])
            del held[:size]
