"""A provider at work on a cluster, with a bus and a git host of the test's own."""

from __future__ import annotations

import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provider import names
from provider.client import Deployed, PreviewClient
from provider.demo.git_server import GitServer
from provider.demo.platform_api import PlatformApi
from provider.demo.processes import Server, clean_environment
from provider.demo.stack import nats_server
from provider.models import Secret
from tests.cluster.apps import App
from tests.cluster.places import Place
from tests.cluster.standin.script import AppScript, Pod, commit_of
from tests.e2e.helpers import Visitor, eventually, trusted_client
from tests.zygote import Forked

SOURCE = str(Path(__file__).resolve().parents[2])
INSTALLATION = 4711
PATIENCE = 120.0


@dataclass
class ClusterWorld:
    """Everything that a test of the Kubernetes platform uses."""

    place: Place
    folder: Path
    nats: Server
    git: GitServer
    provider: Server
    client: PreviewClient
    guest: Visitor
    settings: Mapping[str, str]
    apps: dict[str, App] = field(default_factory=dict)

    async def commit(self, name: str, app: App | None = None, *, repo: str = "") -> str:
        """Push a commit of `acme/<name>` that holds just this app; returns its sha. The stand-in learns it, too."""
        app, repo = app or App(), repo or f"acme/{name}"
        if not (self.git.root / f"{repo}.git").exists():
            await self.git.create(repo)
        sha = await self.git.commit(repo, "main", app.files(name, self.place.base_image), orphan=True)
        self.apps[sha] = app
        if self.place.standin is not None:
            self.place.standin.scripts.build(f"{names.build_job(name, sha)}*", app.build_script())
            self.place.standin.scripts.app(name, self._behaviour)
        return sha

    def _behaviour(self, pod: Pod) -> AppScript:
        return self.apps.get(commit_of(pod), App()).app_script()  # somebody else's pods name no commit

    async def deploy(self, name: str, sha: str | None = None, *, repo: str = "", **fields: Any) -> Deployed:
        """Deploy a commit, by default a new one of a healthy app."""
        sha = sha or await self.commit(name, repo=repo)
        fields.setdefault("installation_id", INSTALLATION)
        fields.setdefault("timeout", PATIENCE)
        return await self.client.deploy(repo or f"acme/{name}", "main", commit_sha=sha, **fields)

    async def app(self, name: str, app: App, **fields: Any) -> Deployed:
        """Commit an app and deploy it."""
        return await self.deploy(name, await self.commit(name, app, repo=fields.get("repo", "")), **fields)

    @asynccontextmanager
    async def second_provider(self) -> AsyncIterator[Server]:
        """Another provider of the same installation."""
        settings = {**self.settings, "INSTANCE_NAME": "second", "STATE_DIR": str(self.folder / "second-state")}
        second = provider_process(self.folder, settings, name="second")
        await second.start()
        try:
            yield second
        finally:
            await second.stop()

    async def job(self, slug: str, sha: str) -> dict[str, Any]:
        """The build's Job, as soon as it is there."""

        async def found() -> dict[str, Any] | None:
            return await self.place.api.get("Job", self.place.builds, names.build_job(slug, sha))

        return await eventually(found, what="the build's Job")

    async def job_gone(self, slug: str, sha: str) -> None:
        """Wait until the build's Job is deleted."""

        async def gone() -> bool:
            return await self.place.api.get("Job", self.place.builds, names.build_job(slug, sha)) is None

        await eventually(gone, what="the build's Job is deleted")

    async def builds_seen(self, job: str) -> int:
        """How many Jobs of that name had a pod made, as the cluster's events tell."""
        events = await self.place.api.list("Event", self.place.builds)
        about = [event["involvedObject"] for event in events if event["reason"] == "SuccessfulCreate"]
        return len({one["uid"] for one in about if (one["kind"], one["name"]) == ("Job", job)})

    async def nothing_left(self, slug: str) -> None:
        """Wait until the cluster has nothing of the preview any more."""

        async def clean() -> bool:
            return not await self.leftovers(slug)

        try:
            await eventually(clean)
        except AssertionError:
            raise AssertionError(f"of {slug} there is still: {await self.leftovers(slug)}") from None

    async def nothing_left_but_jobs(self, slug: str) -> None:
        """The same; a Job that ended is the cluster's to remove."""

        async def clean() -> bool:
            return not [one for one in await self.leftovers(slug) if not one.startswith("Job/")]

        await eventually(clean, what=f"of {slug} nothing is left")

    async def pods(self, slug: str) -> set[str]:
        """The names of a preview's pods."""
        found = await self.place.api.list("Pod", self.place.previews)
        return {pod["metadata"]["name"] for pod in found if pod["metadata"].get("labels", {}).get("app") == slug}

    async def leftovers(self, slug: str) -> set[str]:
        """What the cluster still has of a preview, but for pods that are ending."""
        api, found = self.place.api, set()
        for kind in ("ConfigMap", "Secret", "Service", "Deployment", "Ingress", "NetworkPolicy"):
            for name in await api.names(kind, self.place.previews):
                if name.partition(".")[0] == slug or name.startswith(f"preview-secrets-{slug}-"):
                    found.add(f"{kind}/{name}")
        jobs = await api.names("Job", self.place.builds)
        return found | {f"Job/{name}" for name in jobs if name.startswith(f"preview-build-{slug}-")}


def provider_process(
    world_folder: Path, settings: Mapping[str, str], kind: type[Server] = Forked, name: str = "provider"
) -> Server:
    """A provider; not started."""
    return kind(
        name=name,
        argv=(sys.executable, "-m", "provider", "serve"),
        ready=r"provider\.ready",
        folder=world_folder,
        env={**clean_environment(world_folder), **settings},
        address="",
        start_timeout=40.0,
        stop_timeout=15.0,
    )


def as_installed(world_folder: Path, settings: Mapping[str, str]) -> Server:
    """A provider that starts as a user's does, instead of from the tests' own imports; not started."""
    return provider_process(world_folder, settings, Server)


@asynccontextmanager
async def cluster_world(
    place: Place,
    folder: Path,
    more: Mapping[str, str] | None = None,
    *,
    repeat_seconds: float = 30.0,
    process: Callable[[Path, Mapping[str, str]], Server] = provider_process,
) -> AsyncIterator[ClusterWorld]:
    """Start bus, git host and provider (that `process`); a request is repeated after `repeat_seconds`."""
    token, internal = Secret(secrets.token_urlsafe(24)), Secret(secrets.token_urlsafe(24))
    async with AsyncExitStack() as cleanup:
        nats = nats_server(folder)
        await nats.start()
        cleanup.push_async_callback(nats.stop)
        (folder / "git").mkdir()
        git = GitServer(folder / "git", username="x-access-token", token=token)
        git.host = place.git_host
        await cleanup.enter_async_context(git)
        api = PlatformApi(internal_token=internal, username="x-access-token", token=token)
        await cleanup.enter_async_context(api)
        settings = {
            **place.environment(),
            "NATS_URL": nats.address,
            "GIT_BASE_URL": git.url,
            "API_URL": api.url,
            "API_INTERNAL_TOKEN": internal.get_secret_value(),
            "STATE_DIR": str(folder / "state"),
            "INSTANCE_NAME": "first",
            "LOG_FORMAT": "json",
            "PYTHONPATH": SOURCE,
            "VERIFY_TIMEOUT": "10",
            "ROLLOUT_TIMEOUT": "120",  # the stand-in's clock: six seconds without progress, also on a busy machine
            "BUILDS_AT_ONCE": "64",
            **(more or {}),
        }
        provider = process(folder, settings)
        await provider.start()
        cleanup.push_async_callback(provider.stop)
        client = await cleanup.enter_async_context(
            PreviewClient.connect(nats_url=nats.address, provider_patience=30.0, repeat_seconds=repeat_seconds)
        )
        http = await cleanup.enter_async_context(trusted_client(place.ca_file.read_text()))
        yield ClusterWorld(place, folder, nats, git, provider, client, Visitor(place.ingress, http), settings)
