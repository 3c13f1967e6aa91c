"""A bus, a stand-in of the cluster, a git host, and providers as processes of their own, each to be killed at will."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg

from provider.bus.subjects import Subjects
from provider.demo.git_server import GitServer
from provider.demo.platform_api import PlatformApi
from provider.demo.processes import Server, clean_environment
from provider.demo.stack import nats_server
from provider.models import Secret
from provider.store import Store, open_store
from tests.cluster.apps import App
from tests.cluster.places import LOOPBACK, Place, stand_in
from tests.cluster.standin.script import AppScript, BuildScript, Pod, commit_of
from tests.cluster.standin.world import World
from tests.cluster.world import SOURCE
from tests.e2e.helpers import Visitor, trusted_client
from tests.soak.ledger import Ledger
from tests.zygote import Forked

REPO = "acme/app"
SPEED = 20.0
PLATFORM_ID = "soak"
GOOD = tuple(f"good-{number}" for number in range(10))
APPS: dict[str, App] = {
    **{name: App(body=f"{name}\n") for name in GOOD},
    "crashes": App(crash=3),
    "breaks": App(build_exit=4),
    "slow": App(body="slow\n", build_slow=True),
}


@dataclass
class SoakWorld:
    """See the module. `commits`: sha by the app's name."""

    place: Place
    cluster: World
    nats: Server
    nc: Client
    store: Store
    subjects: Subjects
    guest: Visitor
    commits: dict[str, str]
    providers: list[Server]
    ledger: Ledger = field(default_factory=Ledger)
    stopped: set[str] = field(default_factory=set)
    born: dict[str, float] = field(default_factory=dict)

    def bodies(self) -> dict[str, str]:
        """What is served, by commit."""
        return {sha: APPS[name].body for name, sha in self.commits.items()}

    def signal(self, provider: Server, number: signal.Signals) -> None:
        """Send it to a provider's process."""
        if provider.pid is not None:
            os.kill(provider.pid, number)

    async def kill(self, provider: Server) -> None:
        """SIGKILL, whether it is stopped or not."""
        self.stopped.discard(provider.name)
        await provider.kill()


async def quiet(_: Exception) -> None:
    """The bus is killed on purpose."""


async def see_births(nc: Client, subjects: Subjects, born: dict[str, float]) -> None:
    """Note from now on when a deploy's record is first seen on its way to the store."""

    async def seen(message: Msg) -> None:
        born.setdefault(message.subject.partition(".deploy.")[2], time.time())

    await nc.subscribe(f"$KV.{subjects.bucket_prefix}_deploys.deploy.>", cb=seen)


def _script(commits: Mapping[str, str], pod: Pod) -> AppScript:
    sha = commit_of(pod)
    return APPS[next((name for name, known in commits.items() if known == sha), GOOD[0])].app_script()


@asynccontextmanager
async def soak_world(folder: Path, providers: int) -> AsyncIterator[SoakWorld]:
    """Start everything; the providers too."""
    token, internal = Secret(secrets.token_urlsafe(24)), Secret(secrets.token_urlsafe(24))
    async with AsyncExitStack() as cleanup:
        place = await cleanup.enter_async_context(stand_in(folder, speed=SPEED))
        cluster = place.standin
        assert cluster is not None
        nats = nats_server(folder)
        await nats.start()
        cleanup.push_async_callback(nats.stop)
        (folder / "git").mkdir()
        git = GitServer(folder / "git", username="x-access-token", token=token)
        git.host = LOOPBACK
        await cleanup.enter_async_context(git)
        api = PlatformApi(internal_token=internal, username="x-access-token", token=token)
        await cleanup.enter_async_context(api)
        nc = Client()
        await nc.connect(nats.address, error_cb=quiet, max_reconnect_attempts=-1, reconnect_time_wait=0.1)  # type: ignore[arg-type]
        cleanup.push_async_callback(nc.close)
        http = await cleanup.enter_async_context(trusted_client(place.ca_file.read_text()))
        commits = await _commits(git, place)
        cluster.scripts.app("*", lambda pod: _script(commits, pod))
        for name, app in APPS.items():
            script = app.build_script()
            own = BuildScript(fetch=False, seconds=script.seconds, log=script.log, exit_code=script.exit_code)
            cluster.scripts.build(f"preview-build-*-{commits[name][:8]}*", own)
        settings = {
            **place.environment(),
            "PLATFORM_ID": PLATFORM_ID,
            "NATS_URL": nats.address,
            "GIT_BASE_URL": git.url,
            "API_URL": api.url,
            "API_INTERNAL_TOKEN": internal.get_secret_value(),
            "LOG_FORMAT": "json",
            "PYTHONPATH": SOURCE,
            "VERIFY_TIMEOUT": "20",
            "ROLLOUT_TIMEOUT": str(round(60 * SPEED)),  # of the cluster's clock, too: a busy machine is slow by ours
            "SWEEP_SECONDS": "5",
            "SWEEP_GRACE": "20",
            "BUILD_KEEP_SECONDS": str(round(600 * SPEED)),  # of the cluster's clock, and providers die by ours
        }
        subjects = Subjects("x1.provider.preview")
        store = await open_store(nc, subjects.bucket_prefix, PLATFORM_ID)
        made = [_provider(folder, settings, number) for number in range(providers)]
        world = SoakWorld(place, cluster, nats, nc, store, subjects, Visitor(place.ingress, http), commits, made)
        cleanup.callback(cluster.store.subscribe(world.ledger.notice))
        await see_births(nc, subjects, world.born)
        for one in made:
            cleanup.push_async_callback(one.kill)
        await asyncio.gather(*(one.start() for one in made))
        yield world


def _provider(folder: Path, settings: Mapping[str, str], number: int) -> Server:
    """One process; the first has no name of its own, so that others have to notice its death."""
    name = f"provider-{number}"
    own = {"INSTANCE_NAME": name} if number else {}
    return Forked(
        name=name,
        argv=(sys.executable, "-m", "provider", "serve"),
        ready=r"provider\.ready",
        folder=folder,
        env={**clean_environment(folder), **settings, **own, "STATE_DIR": str(folder / f"state-{number}")},
        start_timeout=90.0,
        stop_timeout=15.0,
    )


async def _commits(git: GitServer, place: Place) -> dict[str, str]:
    await git.create(REPO)
    return {
        name: await git.commit(REPO, "main", app.files("named-by-the-request", place.base_image), name)
        for name, app in APPS.items()
    }
