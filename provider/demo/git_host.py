"""A git host with the sample app in it, for a cluster: `python -m provider.demo.git_host HOST:PORT FOLDER BASE_IMAGE`.

A preview needs a repository to come from, and a cluster on somebody's machine may not reach one. Everybody who can
connect may read it, so it is for demonstrations only (`make kind-demo`).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from provider.demo.git_server import GitServer
from provider.demo.processes import cancelled_by_signals
from provider.demo.sample_app import sample_files

REPOSITORY = "demo/hello"


async def serve(address: str, folder: Path, base_image: str) -> None:
    """Serve until SIGINT or SIGTERM."""
    server = GitServer(folder)
    server.host, _, port = address.rpartition(":")
    server.port = int(port)
    async with cancelled_by_signals():
        if not (folder / f"{REPOSITORY}.git").exists():
            await server.create(REPOSITORY)
        sha = await server.commit(REPOSITORY, "main", sample_files(base_image), "Say hello", orphan=True)
        async with server:
            print(f"{server.url}/{REPOSITORY}.git serves {sha}", flush=True)  # noqa: T201 - a program of its own
            await asyncio.Event().wait()


if __name__ == "__main__":
    address, folder, base_image = sys.argv[1:]
    try:
        asyncio.run(serve(address, Path(folder), base_image))
    except asyncio.CancelledError:
        sys.exit(0)
