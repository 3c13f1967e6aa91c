"""The demo's git host, as people use it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from provider.demo.git_server import GitServer
from provider.models import Secret
from tests.unit.source.helpers import REPO, bare, git


async def test_pushing_to_the_demo_server(tmp_path: Path) -> None:
    async with GitServer(tmp_path / "host", username="u", token=Secret("t"), push=True) as host:
        await host.create(REPO)
        await host.commit(REPO, "main", {"a": "1"})
        work = tmp_path / "work"
        url = host.url.replace("http://", "http://u:t@") + f"/{REPO}.git"
        script = (
            f"git clone -q {url} {work} && cd {work} && head -c 3000000 /dev/urandom > big && git add . && "
            "git -c user.name=a -c user.email=a@b commit -qm big && git push -q origin HEAD:pushed"
        )
        process = await asyncio.create_subprocess_shell(script)
        assert await process.wait() == 0
        assert git(bare(host), "rev-parse", "refs/heads/pushed") == git(work / ".git", "rev-parse", "HEAD")
