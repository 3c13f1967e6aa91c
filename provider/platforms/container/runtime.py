"""Previews as containers: made beside what serves, waited for, removed when nothing needs them."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass, replace
from typing import Any

from provider import names, render
from provider.errors import Code, Permanent, Temporary, Whose
from provider.models import Revision
from provider.platforms import notes
from provider.platforms.container import firewall, workload
from provider.platforms.container.engine import Engine
from provider.platforms.container.readiness import Readiness
from provider.platforms.container.secrets import SecretFiles
from provider.platforms.container.workload import Workload
from provider.settings import Settings

STOP_GRACE = 5
PARK_SECONDS, PARK_TRIES = 0.2, 20
"""The engine starts what exited again within some milliseconds."""


@dataclass(frozen=True, slots=True)
class _Ground:
    """What a new container stands on: what it runs, by the image's local name; its network, and its address there."""

    work: Workload
    network: str
    address: str


class Runtime:
    """The containers and networks of previews on one engine."""

    def __init__(self, *, settings: Settings, engine: Engine, secrets: SecretFiles) -> None:
        self._settings = settings
        self._engine = engine
        self._secrets = secrets
        self._retiring: set[str] = set()
        self._addresses: dict[str, str] = {}
        self._prepared: dict[str, tuple[bool, asyncio.Task[str | None]]] = {}

    async def close(self) -> None:
        """Prepare nothing any more; what runs, runs on."""
        tasks = [task for _, task in self._prepared.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def work(self, revision: Revision) -> Workload:
        """What the revision runs, with its bundle's values.

        Raises:
            Permanent: `secret_missing` when the bundle is gone.
        """
        values = self._secrets.values(revision.bundle.name) if revision.bundle else {}
        found = workload.workload(revision, values or {})
        if found.missing_keys:
            raise Permanent(
                Code.SECRET_MISSING,
                f"The secret bundle lacks {', '.join(found.missing_keys)}.",
                reason="BundleGone",
                hint="Deploy again with the secrets.",
            )
        return found

    def prepare(self, slug: str, *, closed: bool) -> None:
        """Begin to make what a container of the preview will stand on, in this one of its networks."""
        self._prepared[slug] = closed, asyncio.create_task(self._subnet_apart(slug, closed))

    async def run_new(self, slug: str, revision: Revision, image_id: str) -> bool:
        """Run a revision that nothing can be running yet on what was prepared; False: it takes `run` after all.

        Its image is known by its id, which is a hash of its content; the name that says its digest comes beside.
        """
        closed, prepared = self._prepared.pop(slug, (False, None))
        if prepared is None or closed != workload.is_closed(revision) or (subnet := await prepared) is None:
            return False
        name, work = names.container(slug, revision.generation), self.work(revision)
        ground = _Ground(
            replace(work, image=image_id), workload.network(slug, revision), _address(subnet, revision.generation)
        )
        try:
            await self._create(slug, name, revision, ground, render.checksum(revision.manifests))
        except Temporary:
            return False
        await self._engine.start(name)
        return True

    async def run(self, slug: str, revision: Revision) -> Revision:
        """A container for the revision runs; an unchanged one that runs already stands for it."""
        # All that has to be known is asked at once; the way to the engine is longer than its answers.
        unchanged, existing, ground = await asyncio.gather(
            self._unchanged(slug, revision),
            self._engine.container(names.container(slug, revision.generation)),
            self._ground(slug, revision),
        )
        if unchanged is not None:
            return revision.model_copy(update={"generation": unchanged})
        await self._make(slug, revision, existing, ground)
        return revision

    async def ensure(self, slug: str, revision: Revision) -> None:
        """The revision's own container exists and is started; one left half-made is replaced."""
        existing = await self._engine.container(names.container(slug, revision.generation))
        await self._make(slug, revision, existing, None)

    async def _unchanged(self, slug: str, revision: Revision) -> int | None:
        """The generation of a container that runs just what the revision says, if there is one."""
        checksum = render.checksum(revision.manifests)
        for container in await self._containers(slug):
            labels = container["Labels"]
            leaving = _name(container) in self._retiring
            if labels.get(workload.CHECKSUM_LABEL) == checksum and container["State"] == "running" and not leaving:
                return int(labels[workload.GENERATION_LABEL])
        return None

    async def _make(
        self, slug: str, revision: Revision, existing: dict[str, Any] | None, ground: _Ground | None
    ) -> None:
        name = names.container(slug, revision.generation)
        checksum = render.checksum(revision.manifests)
        labels = (existing or {}).get("Config", {}).get("Labels") or {}
        if existing is not None and labels.get(workload.PLATFORM_LABEL) != self._settings.platform_id:
            raise Permanent(
                Code.CONFLICT,
                f"The engine has a container {name} that is not this provider's.",
                reason="ContainerTaken",
                hint="Remove or rename it, or give this provider an engine of its own.",
                whose=Whose.PLATFORM,
            )
        if existing is not None and labels.get(workload.CHECKSUM_LABEL) != checksum:
            await self._remove(name)
            existing = None
        if existing is None:
            ground = ground or await self._ground(slug, revision)
            # Nothing of it runs before it is kept apart from the others.
            await asyncio.gather(self._create(slug, name, revision, ground, checksum), _keep_apart())
        if existing is None or not _runs(existing):
            await self._engine.start(name)

    async def _ground(self, slug: str, revision: Revision) -> _Ground:
        """What a container of the revision stands on: network and image, made or pulled if need be."""
        work = self.work(revision)
        closed, network = workload.is_closed(revision), workload.network(slug, revision)
        subnet, image = await asyncio.gather(self._subnet(slug, closed), self._local_image(work.image))
        return _Ground(replace(work, image=image), network, _address(subnet, revision.generation))

    async def _subnet(self, slug: str, closed: bool) -> str:
        """The subnet of the preview's network, which is made if need be."""
        labels = {
            "x1-preview": "true",
            workload.SLUG_LABEL: slug,
            workload.PLATFORM_LABEL: self._settings.platform_id,
        }
        bridge = names.bridge(slug, str(self._settings.state_dir), closed=closed)
        made = await self._engine.create_network(names.network(slug, closed=closed), bridge, labels)
        return str(made["subnets"][0]["subnet"])

    async def _subnet_apart(self, slug: str, closed: bool) -> str | None:
        """The subnet, with the rules set that keep it apart; None: whoever tries it again is told why."""
        try:
            subnet, _ = await asyncio.gather(self._subnet(slug, closed), _keep_apart())
        except Temporary:
            return None
        return subnet

    async def _create(self, slug: str, name: str, revision: Revision, ground: _Ground, checksum: str) -> None:
        labels = {
            "app": slug,
            "x1-preview": "true",
            workload.PLATFORM_LABEL: self._settings.platform_id,
            workload.SLUG_LABEL: slug,
            workload.GENERATION_LABEL: str(revision.generation),
            workload.CHECKSUM_LABEL: checksum,
            workload.IMAGE_LABEL: names.image_by_digest(self._settings.registry_address, slug, revision.digest),
        }
        if (note := notes.write(revision)) is not None:
            labels[notes.NOTE] = note
        config = workload.engine_config(
            ground.work,
            labels=labels,
            network=ground.network,
            address=ground.address,
            pids=self._settings.preview_pids,
        )
        await self._engine.create(name, config)
        self._addresses[name] = ground.address

    async def _local_image(self, reference: str) -> str:
        """The name under which the engine has the image of that digest: as it was built here, or pulled.

        An image's id is a hash of its content, so both are the same image.
        """
        if await self._engine.exists(built := names.pushed_image(reference)):
            return built
        if not await self._engine.has_image(reference):
            await self._engine.pull(reference)
        return reference

    async def wait_ready(self, slug: str, revision: Revision) -> None:
        """Return when the app answers its probe.

        Raises:
            Permanent: `deployment_not_ready` when it crashes again and again or never gets ready.
        """
        name, address = names.container(slug, revision.generation), await self.address(slug, revision)
        most = self._settings.rollout_timeout
        await Readiness(self._engine, name, self.work(revision), address=address, most=most).wait()

    async def address(self, slug: str, revision: Revision) -> str:
        """The container's address in the preview's network, fixed when it was made."""
        name = names.container(slug, revision.generation)
        if name not in self._addresses:
            container = await self._engine.container(name)
            networks: dict[str, Any] = container["NetworkSettings"]["Networks"] if container else {}
            address = networks.get(workload.network(slug, revision), {}).get("IPAddress")
            if not address:
                raise Temporary(
                    Code.PLATFORM_UNREACHABLE,
                    f"The container {name} has no address; it does not run.",
                    reason="ContainerGone",
                    hint="Ask again; if it stays so, somebody else removes containers of the engine at CONTAINER_HOST.",
                )
            self._addresses[name] = str(address)
        return self._addresses[name]

    async def restart(self, name: str) -> None:
        """Restart a container that stopped answering."""
        await self._engine.restart(name, STOP_GRACE)

    async def park(self, slug: str, revision: Revision) -> None:
        """Stop a failed container but keep it, so that its log can be read.

        One that crashes again and again may just be down when it is told, and the engine starts it anew: it is told
        until it stays down.
        """
        name = names.container(slug, revision.generation)
        for _ in range(PARK_TRIES):
            await self._engine.stop(name, STOP_GRACE)
            before = await self._engine.container(name)
            await asyncio.sleep(PARK_SECONDS)
            after = await self._engine.container(name)
            if after is None or before is None or (_restarts(after) == _restarts(before) and not _runs(after)):
                return

    async def retire_others(self, slug: str, keep: tuple[Revision, ...], up_to: int) -> list[str]:
        """The containers of generations up to `up_to` but those of `keep`; from now on none of them is used again."""
        kept = {names.container(slug, revision.generation) for revision in keep}
        others = [
            name
            for container in await self._containers(slug)
            if (name := _name(container)) not in kept and _generation(container) <= up_to
        ]
        self._retiring.update(others)
        return others

    async def remove(self, name: str) -> None:
        """Stop a container gently and remove it."""
        await self._engine.stop(name, STOP_GRACE)
        await self._remove(name)
        self._retiring.discard(name)

    async def remove_generation(self, slug: str, generation: int) -> None:
        """Remove one generation's container at once."""
        await self._remove(names.container(slug, generation))

    async def remove_unfit(self, slug: str, revision: Revision) -> None:
        """Remove the revision's container where it can't be started as it is: cut from its network, or paused."""
        name, network = names.container(slug, revision.generation), workload.network(slug, revision)
        container, present = await asyncio.gather(self._engine.container(name), self._engine.network(network))
        if container is None:
            self._addresses.pop(name, None)
        elif (
            present is None
            or container["State"].get("Paused")
            or network not in container["NetworkSettings"]["Networks"]
        ):
            await self._remove(name)

    async def remove_all(self, slug: str, up_to: int | None) -> tuple[list[str], list[str]]:
        """Remove the containers of generations up to `up_to`, or all; and the networks, if none is left in them.

        Returns the names of both.
        """
        present = {_name(one): _generation(one) for one in await self._containers(slug)}
        leaving = sorted(name for name, generation in present.items() if up_to is None or generation <= up_to)
        await asyncio.gather(*(self._remove(name) for name in leaving))
        self._retiring.difference_update(leaving)
        if len(leaving) < len(present):
            return leaving, []
        networks = [names.network(slug, closed=closed) for closed in (False, True)]
        return leaving, [name for name in networks if await self._engine.remove_network(name)]

    async def _remove(self, name: str) -> None:
        self._addresses.pop(name, None)
        await self._engine.remove(name)

    async def log(self, slug: str, revision: Revision, lines: int) -> tuple[str, ...]:
        """The last lines of the revision's app."""
        return await self._engine.log(names.container(slug, revision.generation), lines)

    async def _containers(self, slug: str) -> list[dict[str, Any]]:
        labels = {workload.SLUG_LABEL: slug, workload.PLATFORM_LABEL: self._settings.platform_id}
        return await self._engine.containers(**labels)


async def _keep_apart() -> None:
    try:
        await asyncio.to_thread(firewall.ensure)
    except (OSError, subprocess.SubprocessError) as error:
        raise Temporary(
            Code.PLATFORM_UNREACHABLE,
            "The firewall's rules that keep previews apart could not be set.",
            reason="FirewallUnreachable",
            hint="Is iptables installed, and does the provider run as root?",
            evidence=(str(error),),
        ) from error


def _restarts(container: dict[str, Any]) -> int:
    return int(container.get("RestartCount") or 0)


def _runs(container: dict[str, Any]) -> bool:
    return bool(container["State"]["Running"])


def _name(container: dict[str, Any]) -> str:
    return str(container["Names"][0]).lstrip("/")


def _generation(container: dict[str, Any]) -> int:
    return int(container["Labels"][workload.GENERATION_LABEL])


def _address(subnet: str, generation: int) -> str:
    """A fixed address by generation: neighbours in time differ, and a restart keeps it."""
    return f"{subnet.rpartition('.')[0]}.{2 + generation % 250}"
