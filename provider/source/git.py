"""Git's command line, run so that neither a name, a server nor a hang can turn it against us.

Why the CLI and not a library: it speaks every server's dialect, its connectivity check proves that a
whole tree arrived, and a process can be limited and killed where a thread cannot. Every process gets
an environment made from nothing, a session of its own (the helpers that git starts die with it), a
limit on the files it writes and a time limit. Credentials travel in the environment alone.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import resource
import signal
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provider.models import Secret

MAX_BRANCH_BYTES = 244
_CHUNK = 1 << 16
_STDERR_KEPT = 1 << 14
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")

# What the machine decides and no setting of ours does: where programs are, how the network is reached.
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_AUTHORITIES = ("GIT_SSL_CAINFO", "GIT_SSL_CAPATH")
_PASSED_ON = ("PATH", *_AUTHORITIES, *_PROXIES, *(name.upper() for name in _PROXIES))

_CONFIG = {
    "protocol.allow": "never",
    "protocol.http.allow": "always",
    "protocol.https.allow": "always",
    "protocol.file.allow": "always",
    "protocol.version": "2",
    "core.hooksPath": os.devnull,
    "core.askPass": "",
    "credential.helper": "",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    # Git sends its extra headers to wherever the first answer redirects (seen), so a redirect is an error.
    "http.followRedirects": "false",
    # A connection that carries nothing for half a minute is dead; git_timeout bounds the slow ones.
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "30",
    # Always one pack: its size is what the file limit bounds. Loose objects would be hundreds of small files.
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "maintenance.auto": "false",
    # A cache that a power cut damages heals itself; waiting for the disk would cost every deploy.
    "core.fsync": "none",
    "advice.detachedHead": "false",
}


Input = bytes | AsyncGenerator[bytes, None]
"""What a process reads: whole, or as it comes."""


class GitTimeout(Exception):
    """A git process did not end in time; it and its helpers were killed."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a git process ended. `out` is cut at the caller's limit (`truncated`), `err` keeps its tail."""

    code: int
    out: bytes
    err: str
    truncated: bool = False

    @property
    def complaints(self) -> tuple[str, ...]:
        """Git's own last lines; what the server made it print (`remote: …`) is not trusted as a cause."""
        lines = (line.strip() for line in self.err.splitlines())
        return tuple(line for line in lines if line and not line.startswith("remote:"))[-6:]


def valid_branch(name: str) -> bool:
    """Whether `refs/heads/<name>` is a well-formed ref (git-check-ref-format(1)), and `name` no option."""
    with contextlib.suppress(UnicodeEncodeError):
        if not 0 < len(name.encode()) <= MAX_BRANCH_BYTES or _FORBIDDEN.search(name):
            return False
        if name.startswith(("-", "/")) or name.endswith(("/", ".")):
            return False
        return not any(part.startswith(".") or part.endswith(".lock") for part in name.split("/"))
    return False


def clean_environment(home: Path, config: Mapping[str, str] = _CONFIG) -> dict[str, str]:
    """An environment in which git reads no configuration but `config` and asks nobody anything."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_CONFIG_COUNT": str(len(config)),
    }
    for index, (key, value) in enumerate(config.items()):
        environment |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
    return environment


def special_network(url: str) -> bool:
    """Whether this machine says how `url` is reached: by a proxy, or trusting authorities of its own."""
    scheme = url.partition(":")[0]
    proxies = (f"{scheme}_proxy", "all_proxy")
    names = (*proxies, *(name.upper() for name in proxies), *(_AUTHORITIES if scheme == "https" else ()))
    return any(name in os.environ for name in names)


def basic_authorization(username: str, token: Secret) -> str:
    """The value of an Authorization header."""
    pair = f"{username}:{token.get_secret_value()}".encode()
    return "Basic " + base64.b64encode(pair).decode()


class Git:
    """Runs git processes, each with the same limits.

    Args:
        home: a folder that stands for the home directory; nothing is read from it.
        timeout: seconds for one process.
        max_bytes: the largest file that a process may write.
    """

    def __init__(self, *, home: Path, timeout: float, max_bytes: int) -> None:
        self._home = home
        self._timeout = timeout
        self._max_bytes = max_bytes

    async def run(
        self,
        *arguments: str,
        stdin: Input = b"",
        env: Mapping[str, str] | None = None,
        config: Mapping[str, str] | None = None,
        max_out: int = 1 << 20,
    ) -> Result:
        """Run git; it sees nothing of `stdin` before its limits are in place.

        Args:
            *arguments: what follows `git`.
            stdin: what it reads, whole or as it comes.
            env: variables besides the clean ones.
            config: git settings besides the standard ones.
            max_out: bytes of output after which the process is stopped and the result is `truncated`.

        Raises:
            GitTimeout: it did not end in time.
        """
        process = await self._started(arguments, _CONFIG | dict(config or {}), env or {}, asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(self._timeout):
                return await _talk(process, stdin, max_out)
        except TimeoutError:
            raise GitTimeout from None
        finally:
            await reap(process)

    async def talk(self, *arguments: str) -> Talk:
        """Run git to ask it again and again; whoever does that ends it."""
        process = await self._started(arguments, _CONFIG, {}, asyncio.subprocess.DEVNULL)
        return Talk(process, self._timeout)

    async def _started(
        self, arguments: Sequence[str], config: Mapping[str, str], env: Mapping[str, str], stderr: int
    ) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            cwd="/",
            env=clean_environment(self._home, config) | dict(env),
            start_new_session=True,
            # Python ignores SIGXFSZ; so does git then, and says "File too large" instead of dying without a word.
            restore_signals=False,
            umask=0o022,
        )
        self._limit(process.pid)
        return process

    def _limit(self, pid: int) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)  # our own; only root may pass it
        most = self._max_bytes if hard == resource.RLIM_INFINITY else min(self._max_bytes, hard)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


class Talk:
    """A git process that answers questions.

    Args:
        process: reads them, and writes its answers.
        timeout: seconds for each answer; after them GitTimeout is raised.
    """

    def __init__(self, process: asyncio.subprocess.Process, timeout: float) -> None:
        assert process.stdin
        assert process.stdout
        self._process = process
        self._questions, self._answers = process.stdin, process.stdout
        self._timeout = timeout

    def write(self, questions: bytes) -> None:
        """Ask; they have to fit into a pipe."""
        self._questions.write(questions)

    async def line(self) -> str:
        """The next line; empty when there is none any more."""
        return (await self._in_time(self._answers.readline())).decode(errors="replace").rstrip("\n")

    async def read(self, count: int) -> bytes:
        """The next bytes, so many. Raises IncompleteReadError."""
        return await self._in_time(self._answers.readexactly(count))

    async def end(self) -> None:
        """End the process; repeatable."""
        kill(self._process)
        await reap(self._process)

    async def _in_time(self, answer: Awaitable[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            raise GitTimeout from None


async def _talk(process: asyncio.subprocess.Process, stdin: Input, max_out: int) -> Result:
    assert process.stdout
    assert process.stderr
    _, (out, truncated), err = await asyncio.gather(
        _feed(process, stdin), _read(process, process.stdout, max_out), _tail(process.stderr)
    )
    return Result(await process.wait(), out, err, truncated)


async def _feed(process: asyncio.subprocess.Process, data: Input) -> None:
    assert process.stdin
    parts = _once(data) if isinstance(data, bytes) else data
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async with contextlib.aclosing(parts):
            async for part in parts:
                process.stdin.write(part)
                await process.stdin.drain()
    process.stdin.close()


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


async def _read(process: asyncio.subprocess.Process, stream: asyncio.StreamReader, limit: int) -> tuple[bytes, bool]:
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        kept += chunk
        if len(kept) > limit:
            kill(process)
            return bytes(kept[:limit]), True
    return bytes(kept), False


async def _tail(stream: asyncio.StreamReader) -> str:
    kept = b""
    while chunk := await stream.read(_CHUNK):
        kept = (kept + chunk)[-_STDERR_KEPT:]
    return kept.decode(errors="replace")


def kill(process: asyncio.subprocess.Process) -> None:
    """Kill a process that leads a group of its own, and every helper in that group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def reap(process: asyncio.subprocess.Process) -> None:
    """End what is left of the process and its helpers; afterwards its pipes are closed too."""
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    if process.returncode is None or not all(stream.at_eof() for stream in streams):
        kill(process)
    await process.communicate()
    if process.stdin is not None:
        process.stdin.close()
        # That it did not read all is told here once more: asyncio logs what nobody asked for.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await process.stdin.wait_closed()
