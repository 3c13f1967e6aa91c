"""A real Caddy on free loopback ports, and small apps behind it."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from provider.demo.processes import free_port
from provider.settings import Settings

DOMAIN = "preview.localhost"


@dataclass
class Caddy:
    """One Caddy whose data lives in `home`; `kill` and `start` keep its ports."""

    home: Path
    admin: str
    public: str
    process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str) -> None:
        config = self.home / "caddy.json"
        config.write_text(json.dumps({"admin": {"listen": self.admin}}))
        env = {
            **os.environ,
            "HOME": str(self.home),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
        }
        self.process = await asyncio.create_subprocess_exec(
            "caddy", "run", "--config", str(config), *arguments, env=env, stderr=asyncio.subprocess.PIPE
        )
        assert self.process.stderr is not None
        # Started is what Caddy itself says, not a guess; afterwards the log goes to a file.
        while line := await self.process.stderr.readline():
            if b"serving initial configuration" in line:
                break
        self._drain = asyncio.create_task(self._keep_log(self.process.stderr))

    async def _keep_log(self, log: asyncio.StreamReader) -> None:
        with (self.home / "caddy.log").open("ab", buffering=0) as file:
            while line := await log.readline():
                file.write(line)

    async def kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._drain

    def listening(self) -> set[int]:
        """TCP and UDP ports that the process has open for others."""
        assert self.process is not None
        links = [link for link in Path(f"/proc/{self.process.pid}/fd").iterdir() if link.is_symlink()]
        inodes = {str(link.readlink()).removeprefix("socket:[").rstrip("]") for link in links}
        ports = set()
        for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] in inodes and fields[3] == state:
                    ports.add(int(fields[1].rpartition(":")[2], 16))
        return ports


@asynccontextmanager
async def running_caddy(home: Path) -> AsyncIterator[Caddy]:
    caddy = Caddy(home, f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    await caddy.start()
    try:
        yield caddy
    finally:
        await caddy.kill()


def settings_for(caddy: Caddy, state_dir: Path) -> Settings:
    return Settings(
        preview_domain=DOMAIN, caddy_admin_url=f"http://{caddy.admin}", caddy_listen=caddy.public, state_dir=state_dir
    )


class App:
    """An app that says who it is; `/slow` waits for `release`, `/sse` and `/ws` stream."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = {
            "app": self.name,
            "path": request.path,
            "host": request.host,
            "body": await request.text(),
            "proto": request.headers.get("X-Forwarded-Proto"),
        }
        return web.json_response(body, headers={"X-Preview-Commit": "forged", "X-Mine": "the app's"})

    async def slow(self, request: web.Request) -> web.StreamResponse:
        self.arrived.set()
        await self.release.wait()
        return web.Response(text=self.name)

    async def sse(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n")
        await self.release.wait()
        await response.write(b"data: second\n")
        return response

    async def ws(self, request: web.Request) -> web.StreamResponse:
        socket_ = web.WebSocketResponse()
        await socket_.prepare(request)
        async for message in socket_:
            await socket_.send_str(f"{self.name} {message.data}")
        return socket_


@asynccontextmanager
async def running_app(name: str, port: int = 0) -> AsyncIterator[App]:
    app = App(name)
    server = web.Application()
    server.router.add_get("/slow", app.slow)
    server.router.add_get("/sse", app.sse)
    server.router.add_get("/ws", app.ws)
    server.router.add_route("*", "/{path:.*}", app.answer)
    runner = web.AppRunner(server, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    app.address = "{}:{}".format(*runner.addresses[0][:2])
    try:
        yield app
    finally:
        await runner.cleanup()


class Visitor:
    """A browser of the previews: trusts Caddy's authority, connects to its port, names the host."""

    def __init__(self, caddy: Caddy, ca_pem: str, *, http2: bool = False) -> None:
        self.ssl = ssl.create_default_context(cadata=ca_pem)
        self.base = f"https://{caddy.public}"
        self.client = httpx.AsyncClient(verify=self.ssl, http2=http2, timeout=10, trust_env=False)

    async def ask(self, host: str, path: str = "/", method: str = "GET", content: str | None = None) -> httpx.Response:
        return await self.client.request(
            method, self.base + path, headers={"Host": host}, content=content, extensions={"sni_hostname": host}
        )
