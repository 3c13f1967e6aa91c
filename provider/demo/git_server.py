"""A git host on this machine: bare repositories below a folder, served by git's own http-backend.

The demo has no GitHub to clone from, and the tests want a real server that can be made to fail.
Every request becomes one CGI process, streamed both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientConnectionResetError, ClientError, web

from provider.demo.loopback import LoopbackServer
from provider.models import Secret
from provider.source.git import basic_authorization, clean_environment, reap

_CHUNK = 1 << 16
# The same files and message on the same parent are the same commit, on every machine and every day.
_AUTHOR = "Preview Demo <demo@preview.local> 1704067200 +0000"
_SERVER_CONFIG = {"safe.directory": "*", "core.hooksPath": os.devnull, "gc.auto": "0", "pack.threads": "1"}


@dataclass(frozen=True, slots=True)
class File:
    """A file of a commit with a mode of its own: 100755 executable, 120000 symlink (the content is its target)."""

    content: str | bytes
    mode: str = "100644"


Content = str | bytes | File | None
"""What `commit` writes at a path; None removes what stood there."""


class GitServer(LoopbackServer):
    """Serves the bare repositories below `root`; repository `owner/name` is `<url>/owner/name.git`.

    Args:
        root: the folder of the repositories.
        username, token: Basic credentials that every request needs; without a token everybody may read.
        push: whether pushes over HTTP are taken.

    Attributes:
        protocol_v2: False makes the server as old as those that know only protocol version 0.
    """

    def __init__(self, root: Path, *, username: str = "", token: Secret | None = None, push: bool = False) -> None:
        super().__init__()
        self.root = root
        self.username = username
        self.token = token
        self.protocol_v2 = True
        self._push = push
        self._backend = ""

    async def create(self, repo: str) -> Path:
        """Make an empty repository `owner/name`; returns its folder."""
        path = self.root / f"{repo}.git"
        await self._git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--", str(path))
        return path

    async def commit(
        self, repo: str, branch: str, files: Mapping[str, Content], message: str = "change", *, orphan: bool = False
    ) -> str:
        """Write a commit on top of `branch`, which is made if absent; returns the commit's full sha.

        Args:
            repo: `owner/name`.
            branch: its name, without `refs/heads/`.
            message: the commit's.
            files: what changes, by path; all other files stay.
            orphan: start the branch anew, with these files alone (what a force push does).
        """
        git_dir = f"--git-dir={self.root / repo}.git"
        ref = f"refs/heads/{branch}"
        known = await self._git(git_dir, "for-each-ref", "--format=%(objectname)", ref)
        parent = known.decode().strip() if not orphan else ""
        stream = _fast_import(ref, parent, files, message)
        made = await self._git(git_dir, "fast-import", "--quiet", "--force", stdin=stream)
        return made.decode().strip()

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Answer one request by one http-backend process."""
        if self.token is not None and not self._authorized(request):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'}, text="unauthorized\n")
        if not self._backend:
            self._backend = (await self._git("--exec-path")).decode().strip() + "/git-http-backend"
        process = await asyncio.create_subprocess_exec(
            self._backend,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._cgi(request),
            start_new_session=True,
        )
        feeding = asyncio.ensure_future(_feed(request, process))
        try:
            return await _relay(request, process)
        except ClientConnectionResetError:  # it asked, and went: there is nobody to tell
            return web.Response(status=499)
        finally:
            feeding.cancel()
            await reap(process)

    def _authorized(self, request: web.Request) -> bool:
        assert self.token is not None
        sent = request.headers.get("Authorization", "")
        return hmac.compare_digest(sent.encode(), basic_authorization(self.username, self.token).encode())

    def _cgi(self, request: web.Request) -> dict[str, str]:
        """RFC 3875's variables. No CONTENT_LENGTH where the body is chunked: then http-backend reads to its end."""
        environment = clean_environment(self.root, _SERVER_CONFIG | {"http.receivepack": str(self._push).lower()}) | {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": request.remote or "",
        }
        if request.content_length is not None:
            environment["CONTENT_LENGTH"] = str(request.content_length)
        if self.protocol_v2:
            environment["HTTP_GIT_PROTOCOL"] = request.headers.get("Git-Protocol", "")
        return environment

    async def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment(self.root, _SERVER_CONFIG),
        )
        out, err = await process.communicate(stdin)
        await reap(process)
        if process.returncode != 0:
            raise RuntimeError(f"git {arguments} failed: {err.decode(errors='replace')}")
        return out


async def _feed(request: web.Request, process: asyncio.subprocess.Process) -> None:
    """Pass the body on; when either side is gone there is nobody to tell."""
    assert process.stdin
    with contextlib.suppress(ConnectionError, ClientError, web.RequestPayloadError):
        async for chunk in request.content.iter_chunked(_CHUNK):
            process.stdin.write(chunk)
            await process.stdin.drain()
    process.stdin.close()


async def _relay(request: web.Request, process: asyncio.subprocess.Process) -> web.StreamResponse:
    """Turn the CGI answer into HTTP: its header block, then its body as it comes."""
    assert process.stdout
    try:
        head = (await process.stdout.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return web.Response(status=500, text="http-backend gave no answer\n")
    fields = [line.split(": ", 1) for line in head.split("\r\n") if ": " in line]
    headers = {name: value for name, value in fields if name != "Status"}
    status = next((value for name, value in fields if name == "Status"), "200 OK")
    response = web.StreamResponse(status=int(status.split()[0]), headers=headers)
    await response.prepare(request)
    while chunk := await process.stdout.read(_CHUNK):
        await response.write(chunk)
    await response.write_eof()
    return response


def _fast_import(ref: str, parent: str, files: Mapping[str, Content], message: str) -> bytes:
    """One commit as git-fast-import(1) reads it; `get-mark` makes it print the commit's sha."""
    parts = [f"commit {ref}\nmark :1\ncommitter {_AUTHOR}\n".encode(), _data(message.encode())]
    if parent:
        parts.append(f"from {parent}\n".encode())
    for path, content in files.items():
        parts.append(_change(path, content))
    return b"".join([*parts, b"\nget-mark :1\ndone\n"])


def _change(path: str, content: Content) -> bytes:
    quoted = '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if content is None:
        return f"D {quoted}\n".encode()
    file = content if isinstance(content, File) else File(content)
    body = file.content.encode() if isinstance(file.content, str) else file.content
    return f"M {file.mode} inline {quoted}\n".encode() + _data(body)


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"
