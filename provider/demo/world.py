"""Everything that the main job needs, on this machine: the local stack, a git host, the platform's API, a provider.

    async with local_world() as world:
        sha = await world.commit("acme/hello", sample_files(world.base_image), "Say hello")
        deployed = await world.client.deploy("acme/hello", "main", installation_id=world.installation_id)

The demo tells its story in it, and the end-to-end tests do their worst to it. The provider is a process of
its own, as in real life, and can be killed and started again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from provider.client import PreviewClient
from provider.demo.base_image import push_base_image
from provider.demo.git_server import Content, GitServer
from provider.demo.platform_api import PlatformApi
from provider.demo.processes import Server, clean_environment
from provider.demo.stack import Stack, local_stack
from provider.models import Secret

GIT_USER = "x-access-token"
INSTALLATION_ID = 4711
PROVIDER_PATIENCE = 30.0


@dataclass(frozen=True)
class World:
    """A running stack with a provider, and what an orchestrator needs to use it."""

    stack: Stack
    git: GitServer
    api: PlatformApi
    provider: Server
    client: PreviewClient
    base_image: str
    token: Secret
    installation_id: int = INSTALLATION_ID

    async def commit(
        self, repo: str, files: Mapping[str, Content], message: str = "change", *, branch: str = "main"
    ) -> str:
        """Push a commit that holds just these files; the repository is made if it is not there. Returns the sha."""
        if not (self.git.root / f"{repo}.git").exists():
            await self.git.create(repo)
        return await self.git.commit(repo, branch, files, message, orphan=True)


def provider_server(stack: Stack, environment: Mapping[str, str], *, kind: type[Server] = Server) -> Server:
    """A provider process for the stack; not started."""
    return kind(
        name="provider",
        argv=(sys.executable, "-m", "provider", "serve"),
        ready=r"provider\.ready",
        folder=stack.folder,
        env={**clean_environment(stack.folder), **stack.environment(), "LOG_FORMAT": "json", **environment},
        address=stack.nats.address,
        start_timeout=30.0,
        stop_timeout=15.0,
    )


@contextlib.asynccontextmanager
async def local_world(
    *,
    stack: Stack | None = None,
    environment: Mapping[str, str] | None = None,
    public_port: int | None = None,
    kind: type[Server] = Server,
) -> AsyncIterator[World]:
    """Start everything, in `stack` if one is given, and remove it again.

    Args:
        stack: a running stack to use instead of a new one; it is left running.
        environment: more settings for the provider.
        public_port: port of the previews' HTTPS (default: any free one).
        kind: what the provider is as a process.
    """
    token, internal = Secret(secrets.token_urlsafe(24)), Secret(secrets.token_urlsafe(24))
    async with contextlib.AsyncExitStack() as cleanup:
        if stack is None:
            stack = await cleanup.enter_async_context(local_stack(public_port=public_port))
        root = stack.folder / f"git-{secrets.token_hex(4)}"
        root.mkdir()
        git = await cleanup.enter_async_context(GitServer(root, username=GIT_USER, token=token))
        api = await cleanup.enter_async_context(PlatformApi(internal_token=internal, username=GIT_USER, token=token))
        where = {
            "GIT_BASE_URL": git.url,
            "API_URL": api.url,
            "API_INTERNAL_TOKEN": internal.get_secret_value(),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_source()), os.environ.get("PYTHONPATH", "")))),
        }
        provider = provider_server(stack, {**where, **(environment or {})}, kind=kind)
        await provider.start()
        cleanup.push_async_callback(provider.stop)
        prefix = (environment or {}).get("SUBJECT_PREFIX")
        client = await cleanup.enter_async_context(
            PreviewClient.connect(
                nats_url=stack.nats.address,
                subject_prefix=prefix,
                provider_patience=PROVIDER_PATIENCE,
                repeat_seconds=5.0,
            )
        )
        yield World(
            stack, git, api, provider, client, await push_base_image(stack.registry.address, stack.folder), token
        )


def _source() -> Path:
    """Where this package is imported from, so that the provider's process runs the same one."""
    return Path(__file__).resolve().parents[2]
