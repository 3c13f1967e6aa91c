"""The world in which providers die: a bus, a cluster, a git host with five commits, and somebody who asks.

It is shared by many runs; each chain of runs has subjects, records and an installation of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from nats.aio.client import Client
from nats.aio.msg import Msg

from provider.bus.subjects import Subjects
from provider.demo.git_server import GitServer
from provider.demo.platform_api import PlatformApi
from provider.demo.stack import nats_server
from provider.models import Secret
from provider.settings import Settings
from provider.store import Store, open_store
from tests.cluster.apps import App
from tests.cluster.places import DOMAIN, LOOPBACK, SYSTEM, USER, Place, stand_in
from tests.cluster.standin.auth import User
from tests.cluster.standin.requests import Asked
from tests.cluster.standin.script import AppScript, BuildScript, Pod, commit_of
from tests.cluster.standin.world import World
from tests.crash.gate import Gate, request_name
from tests.crash.mortal import Mortal, Sabotage, lives_are_told_apart
from tests.e2e.apps import spec_of
from tests.e2e.helpers import Visitor, trusted_client

Json = dict[str, Any]

REPO = "acme/app"
HELD_TTL = 1_000_000
"""Seconds to live that the policy lets nobody have without an approval."""
HELD_SECONDS = 1.0
"""How long an approval is waited for that nobody gives."""
POLICY = {
    "apiVersion": "x1agent.io/v1",
    "kind": "PreviewPolicy",
    "rules": [
        {
            "name": "all",
            "repositories": [REPO],
            "action": "allow",
            "beyond": "hold",
            "limits": {"ttlSeconds": HELD_TTL - 1},
        }
    ],
}
SPEED = 100.0
CHANGES = {"create", "update", "patch", "delete", "deletecollection"}
APPS = {
    "first": App(body="first\n"),
    "second": App(body="second\n"),
    "bad": App(crash=3),
    "hanging": App(build_hangs=True),
    "third": App(body="third\n"),
}


@dataclass
class Arena:
    """See the module.

    Attributes:
        commits: sha by the app's name in `APPS`.
        builds: how many Jobs were made, by slug and build inputs; `excused` those that failed.
        unhandled: what the loop's own handler was told.
    """

    place: Place
    standin: World
    nats_url: str
    nc: Client
    guest: Visitor
    git: GitServer
    environment: dict[str, Any]
    commits: dict[str, str]
    unhandled: list[str]
    builds: Counter[tuple[str, str]] = field(default_factory=Counter)
    excused: Counter[tuple[str, str]] = field(default_factory=Counter)
    gates: dict[str, tuple[Gate, str]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def chain(self) -> Chain:
        """An installation of its own, without a provider yet."""
        number = next(self._numbers)
        slug = f"s{number}"
        names = {
            "subject_prefix": f"x1.crash.n{number}",
            "platform_id": f"crash-{number}",
            "instance_name": "the-one",
            "sweep_grace": "0.001",
        }
        prefix = Subjects(names["subject_prefix"])
        self.standin.scripts.app(slug, self._app)
        self.standin.scripts.build(f"preview-build-{slug}-*", BuildScript(fetch=False, seconds=1.0, log=("begun",)))
        hanging = f"preview-build-{slug}-{self.commits['hanging'][:8]}*"
        self.standin.scripts.build(hanging, BuildScript(fetch=False, hang=True, log=("begun",)))
        store = await open_store(self.nc, prefix.bucket_prefix, names["platform_id"])
        return Chain(self, slug, prefix, store, names)

    def settings(self, names: dict[str, Any], gate: Gate, slug: str) -> Settings:
        """Settings of a provider that has its own user in the cluster, by which its requests are known."""
        user = f"{USER}-{next(self._numbers)}"
        self.gates[user] = (gate, slug)
        file = self.standin.api.kubeconfig(self.place.ca_file.parent, user)
        return Settings(**{**self.environment, **names, "kubeconfig": file})

    async def around(self, user: User, asked: Asked, act: Callable[[], Awaitable[web.StreamResponse]]) -> Any:
        """Requests of providers pass their gates."""
        if user.name not in self.gates:
            return await act()
        gate, slug = self.gates[user.name]
        if asked.verb not in CHANGES or asked.query.get("dryRun"):
            return await gate.read(act)
        return await gate.effect(request_name(asked.verb, asked.plural, asked.name, slug), act)

    def notice(self, event: str, found: Json) -> None:
        """Count builds, as the cluster's store sees them."""
        if found["kind"] != "Job":
            return
        notes, labels = found["metadata"].get("annotations", {}), found["metadata"].get("labels", {})
        key = (labels.get("preview.x1agent.io/slug", ""), notes.get("preview.x1agent.io/build-inputs", ""))
        if event == "ADDED":
            self.builds[key] += 1
        elif event == "DELETED" and found.get("status", {}).get("failed"):
            self.excused[key] += 1

    def _app(self, pod: Pod) -> AppScript:
        sha = commit_of(pod)
        name = next((name for name, known in self.commits.items() if known == sha), "first")
        return APPS[name].app_script()

    def forget_events(self, slug: str) -> None:
        """Those about one preview: every provider lists them at its start, and they would only grow."""
        mark = re.compile(rf"\b{slug}\b")
        for namespace in (self.place.previews, self.place.builds):
            for event in self.standin.store.list("Event", namespace):
                if mark.search(event["involvedObject"]["name"]) is None:
                    continue
                self.standin.store.delete("Event", namespace, event["metadata"]["name"])


@dataclass
class Chain:
    """One preview, and the providers that live and die for it one after the other."""

    arena: Arena
    slug: str
    subjects: Subjects
    store: Store
    names: dict[str, Any]
    provider: Mortal | None = None
    lives: int = 0

    async def live(self) -> Mortal:
        """Start the next provider."""
        self.provider = self.another()
        self.lives += 1
        await self.provider.start()
        return self.provider

    async def changed(self, **settings: Any) -> None:
        """Let the next provider, with these settings, take the present one's place."""
        self.names.update(settings)
        if self.provider is not None:
            await self.provider.close()
            await self.live()

    def another(self, sabotage: Sabotage | None = None, **names: str) -> Mortal:
        """A provider that is not started yet; `names` are settings of its own."""
        gate = Gate()
        return Mortal(self.arena.settings({**self.names, **names}, gate, self.slug), gate, sabotage)

    def request(self, app: str, deploy_id: str) -> Json:
        """A provision request for a commit of that app, with everything that leaves a trace."""
        return {
            "preview_yaml": spec_of(self.slug, spec_extra={"env": [{"name": "TOKEN", "from": "secret:TOKEN"}]}),
            "repo_full_name": REPO,
            "branch": "main",
            "commit_sha": self.arena.commits[app],
            "installation_id": 4711,
            "deploy_id": deploy_id,
            "secret_values": {"TOKEN": f"{app}-secret"},
            "extra_env": {"MORE": app},
            "session_id": "somebody",
            "notify": True,
        }

    def is_building(self) -> bool:
        """Whether a build that never ends by itself runs."""
        job = f"preview-build-{self.slug}-{self.arena.commits['hanging'][:8]}"
        return any(
            pod["metadata"]["labels"].get("job-name") == job and pod.get("status", {}).get("phase") == "Running"
            for pod in self.arena.standin.store.list("Pod", self.arena.place.builds)
        )

    def built_twice(self) -> list[str]:
        """Build inputs that were built more often than failures of that build made necessary."""
        return [
            f"built {number} times: {inputs[:12]}"
            for (slug, inputs), number in self.arena.builds.items()
            if slug == self.slug and number > 1 + self.arena.excused[slug, inputs]
        ]

    async def ask(self, endpoint: str, body: Json) -> Question:
        """Publish a request once; whatever its inbox gets is kept."""
        question = Question()
        inbox = self.arena.nc.new_inbox()
        await self.arena.nc.subscribe(inbox, cb=question.answered)
        await self.publish(endpoint, body, inbox)
        return question

    async def publish(self, endpoint: str, body: Json, inbox: str) -> None:
        """Send a request; its answers go to that inbox."""
        await self.arena.nc.publish(self.subjects.request(endpoint), json.dumps(body).encode(), reply=inbox)
        await self.arena.nc.flush()


@dataclass
class Question:
    """A request, and every answer to it."""

    answers: list[Json] = field(default_factory=list)
    absent: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def answered(self, message: Msg) -> None:
        """Keep an answer, and say that it was taken, so that nobody waits to see whether it was."""
        if (message.headers or {}).get("Status") == "503":
            self.absent = True
        else:
            self.answers.append(json.loads(message.data))
            if message.reply:
                await message.respond(b"")
        self.changed.set()


@asynccontextmanager
async def arena(folder: Path) -> AsyncIterator[Arena]:
    """Start everything but providers."""
    token, internal = Secret(secrets.token_urlsafe(24)), Secret(secrets.token_urlsafe(24))
    unhandled: list[str] = []
    async with AsyncExitStack() as cleanup:
        place = await cleanup.enter_async_context(stand_in(folder, speed=SPEED))
        assert place.standin is not None
        nats = nats_server(folder)
        # Each chain has buckets of its own, and room is set apart for all that they might hold.
        (folder / "room.conf").write_text("jetstream { max_file_store: 100TB }\n")
        nats.argv = (*nats.argv, "--config", str(folder / "room.conf"))
        await nats.start()
        cleanup.push_async_callback(nats.stop)
        (folder / "git").mkdir()
        git = GitServer(folder / "git", username="x-access-token", token=token)
        git.host = LOOPBACK
        await cleanup.enter_async_context(git)
        api = PlatformApi(internal_token=internal, username="x-access-token", token=token)
        await cleanup.enter_async_context(api)
        nc = Client()
        await nc.connect(nats.address)
        cleanup.push_async_callback(nc.close)
        http = await cleanup.enter_async_context(trusted_client(place.ca_file.read_text()))
        cleanup.enter_context(lives_are_told_apart(unhandled))
        known = {name.lower(): value for name, value in place.environment().items() if name != "KUBECONFIG"}
        (folder / "policy.json").write_text(json.dumps(POLICY))  # JSON is YAML
        environment = {
            **known,
            "policy_file": folder / "policy.json",
            "nats_url": nats.address,
            "git_base_url": git.url,
            "api_url": api.url,
            "api_internal_token": internal.get_secret_value(),
            "state_dir": folder / "state",
            "verify_timeout": 10.0,
            "verify_interval": 0.02,
            "build_timeout": 9000.0,  # of the cluster's seconds: a build that hangs must outlast a busy machine
            "rollout_timeout": 1000.0,  # the same: ten of ours without progress
            "build_keep_seconds": 60_000,  # and how a build ended is there for whoever comes next, however late
        }
        commits = await _commits(git, place)
        found = Arena(
            place, place.standin, nats.address, nc, Visitor(place.ingress, http), git, environment, commits, unhandled
        )
        await _allow(place)
        place.standin.api.around = found.around
        cleanup.callback(place.standin.store.subscribe(found.notice))
        yield found


async def _commits(git: GitServer, place: Place) -> dict[str, str]:
    await git.create(REPO)
    made = {}
    for name, app in APPS.items():
        made[name] = await git.commit(REPO, "main", app.files("named-by-the-request", place.base_image), name)
    return made


async def _allow(place: Place) -> None:
    """Every service account there may do what the provider's may: each provider has one of its own."""
    for namespace, role in ((place.previews, "x1-preview-provider"), (place.builds, "x1-preview-builds")):
        group = {"kind": "Group", "name": f"system:serviceaccounts:{SYSTEM}", "apiGroup": "rbac.authorization.k8s.io"}
        await place.api.create(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "every-provider", "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
                "subjects": [group],
            }
        )
    assert DOMAIN
