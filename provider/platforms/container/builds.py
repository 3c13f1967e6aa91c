"""Builds on this machine: one detached `builder` process each, started, joined, followed and stopped.

A build is found by its folder, named after the preview and its build inputs. What it says and how it
ended stands in files there, so a provider that was killed in the middle joins the build it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from provider import names
from provider.diagnose.builds import DIAGNOSED_LINES
from provider.errors import Code, Permanent, PreviewError, Temporary
from provider.platforms import dockerfile
from provider.platforms.base import BuildPlan, LogSink, Written
from provider.platforms.container import (
    base_images,
    build_causes,
    build_network,
    build_plan,
    build_process,
    build_tree,
    machine,
    workload,
)
from provider.platforms.container.build_cgroup import Cgroup
from provider.platforms.container.engine import Engine
from provider.platforms.container.spare import Spare, Taken, launch
from provider.policy import patterns
from provider.settings import Settings

HasImage = Callable[[str, str], Awaitable[bool]]
log = structlog.get_logger(__name__)


class Builds:
    """Starts, joins and stops builder processes below the state folder.

    Args:
        engine: the service of the same engine that the builders' own processes use.
        has_image: whether the registry has that digest of a preview.
    """

    def __init__(self, *, settings: Settings, engine: Engine, has_image: HasImage) -> None:
        self._settings = settings
        self._engine = engine
        self._has_image = has_image
        self._folder = settings.state_dir / "builds"
        self._starting = WeakValueDictionary[str, asyncio.Lock]()
        self._new: dict[str, tuple[str, str]] = {}
        self._naming: set[asyncio.Task[None]] = set()
        self._image_folder: Path | None = None
        self._spare = Spare(self._environment())

    async def close(self) -> None:
        """Keep nothing ready any more; builds that run go on."""
        naming = list(self._naming)
        for task in naming:
            task.cancel()
        await asyncio.gather(*naming, return_exceptions=True)
        await self._spare.close()

    def make_ready(self) -> None:
        """Make ready for the next build, after a moment in which what ends now can end."""
        self._spare.renew()

    def folder_of(self, slug: str, build_inputs: str) -> Path:
        """Where the build of these inputs is, or would be."""
        return self._folder / hashlib.sha256(f"{slug}\n{build_inputs}".encode()).hexdigest()[:20]

    async def begin(self, plan: BuildPlan) -> None:
        """Have a build of these inputs: one that runs or has ended already, or a new one."""
        folder = self.folder_of(plan.slug, plan.build_inputs)
        async with self._starting.setdefault(folder.name, asyncio.Lock()):
            if not build_process.is_alive(folder) and not await self._has_ended(folder, plan.slug):
                await self._start(folder, plan)

    async def finish(self, plan: BuildPlan, sink: LogSink) -> str:
        """Follow the build that was begun; returns the digest that it pushed.

        What it came to stays until `forget`: a provider that is killed before the digest stands in a record finds it.
        """
        folder = self.folder_of(plan.slug, plan.build_inputs)
        await build_process.follow(folder, sink)
        result = build_process.result(folder) or {"state": "died"}
        if not {"digest", "image_id"} <= result.keys() and result["state"] == "pushed":
            result = {"state": "died"}  # it was written by an older builder
        if result["state"] != "pushed":
            log_end = build_process.tail(folder / "log", DIAGNOSED_LINES)
            await self._remove(folder)
            raise build_causes.failure(result, log_end, plan, await plan.written(), self._settings.build_memory)
        log.info("build.finished", slug=plan.slug, deploy_id=plan.deploy_id, timings=result["timings"])
        digest, image_id = str(result["digest"]), str(result["image_id"])
        self._new[plan.slug] = digest, image_id
        self._naming.add(naming := asyncio.create_task(self._name(plan.slug, digest, image_id)))
        naming.add_done_callback(self._naming.discard)
        return digest

    def new_image(self, slug: str, digest: str) -> str | None:
        """The engine's id of that image, if this process built it last, and is asked for the first time.

        Then nothing runs it yet.
        """
        built, image_id = self._new.pop(slug, ("", ""))
        return image_id if built == digest else None

    async def _has_ended(self, folder: Path, slug: str) -> bool:
        """Whether a build of these inputs came to something that still holds: a failure, or an image that is there."""
        digest = (result := build_process.result(folder) or {}).get("digest")
        return bool(result) and (digest is None or await self._has_image(slug, str(digest)))

    async def forget(self, slug: str, build_inputs: str) -> None:
        """Remove what a build left that ended."""
        folder = self.folder_of(slug, build_inputs)
        if not build_process.is_alive(folder):
            await self._remove(folder)

    async def _remove(self, folder: Path) -> None:
        """Remove a build that is over; not while the same is being started again."""
        async with self._starting.setdefault(folder.name, asyncio.Lock()):
            await asyncio.to_thread(_clean_up_after, folder)

    async def _name(self, slug: str, digest: str, image_id: str) -> None:
        """Name the engine's own image after the digest that was pushed; where that fails, it will have to be pulled."""
        reference = names.image_by_digest(self._settings.registry_address, slug, digest)
        with contextlib.suppress(PreviewError):
            await self._engine.tag(image_id, names.pushed_image(reference))

    async def stop(self, slug: str, build_inputs: str) -> None:
        """Stop the build of these inputs and wait until nothing of it runs; repeatable.

        One that ended well just now stays for whoever wants the same, or the sweep.
        """
        folder = self.folder_of(slug, build_inputs)
        async with self._starting.setdefault(folder.name, asyncio.Lock()):
            await build_process.stop(folder)
            if "digest" not in (build_process.result(folder) or {}):
                await asyncio.to_thread(_clean_up_after, folder)

    async def _stop(self, folder: Path) -> None:
        async with self._starting.setdefault(folder.name, asyncio.Lock()):  # not while its tree is written
            await build_process.stop(folder)
            await asyncio.to_thread(_clean_up_after, folder)

    def sweep(self) -> None:
        """Remove what builders left that were killed; one that lives or has a result is somebody's."""
        for folder in self._folders():
            if not build_process.is_alive(folder) and build_process.result(folder) is None:
                _clean_up_after(folder)
        build_network.sweep(machine.netavark())

    def present(self) -> frozenset[str]:
        """The names of all builds' folders, also of one whose tree is just written."""
        return (
            frozenset(path.name for path in self._folder.iterdir() if path.is_dir())
            if self._folder.is_dir()
            else frozenset()
        )

    async def discard(self, name: str) -> None:
        """Stop the build in the folder of that name, and remove all of it."""
        await self._stop(self._folder / name)

    async def stop_all(self, slug: str) -> list[str]:
        """Stop every build of a preview, and remove what those left that ended; returns the job names of what ran."""
        stopped = []
        for folder in self._folders():
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                plan = json.loads((folder / "plan.json").read_text())
                if plan["slug"] == slug:
                    stopped += [str(plan["job_name"])] if build_process.is_alive(folder) else []
                    await self._stop(folder)
        return stopped

    def _folders(self) -> list[Path]:
        return [path.parent for path in self._folder.glob("*/plan.json")] if self._folder.is_dir() else []

    async def _start(self, folder: Path, plan: BuildPlan) -> None:
        tree = _emptied(folder)
        taken: Taken | None = None
        try:
            (folder / "plan.json").write_text(json.dumps(build_plan.told(plan, self._settings, await self._images())))
            taken = self._spare.take(folder)
            bases = await self._write(folder, tree, plan)
            if taken is None or not await taken.begin(bases):
                await _launch(folder, bases, self._environment())
        except BaseException:
            if taken is not None:
                await taken.let_go()
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def _write(self, folder: Path, tree: Path, plan: BuildPlan) -> list[str]:
        """Write what is built; returns the base images that the engine lacks."""
        known, _ = await asyncio.gather(self._known(plan), plan.export(tree))
        text = build_tree.dockerfile(tree, plan)
        with _refusals(plan, text):
            checked = dockerfile.read(text, plan.args)
            missing = await self._missing(checked.images, plan, known)
        (folder / "Dockerfile").write_text(checked.text)
        return missing

    def _environment(self) -> dict[str, str]:
        """What Podman needs, and nothing of ours: no credentials, and no CONTAINER_HOST, which makes it a client."""
        variables = {
            "PATH": os.defpath + ":/usr/sbin:/sbin",
            "HOME": str(self._settings.state_dir),
            "LC_ALL": "C.UTF-8",
        }
        for name in ("containers_conf", "containers_storage_conf", "containers_registries_conf"):
            if (value := getattr(self._settings, name)) is not None:
                variables[name.upper()] = str(value)
        return variables

    async def _known(self, plan: BuildPlan) -> dict[str, str | None]:
        """The ids of the base images that the commit's file names, asked for before it is written out.

        It may be another text than the one that is built, or none that may be: whatever is missing is asked for later.
        """
        with contextlib.suppress(dockerfile.NotAllowed, PreviewError):
            images = dockerfile.read((await plan.written()).dockerfile, plan.args).images
            return dict(zip(images, await asyncio.gather(*map(self._engine.image_id, images)), strict=True))
        return {}

    async def _missing(self, images: tuple[str, ...], plan: BuildPlan, known: Mapping[str, str | None]) -> list[str]:
        """The images that the engine lacks; those that it has are checked, the others by the builder."""
        base_images.check_names(images, self._settings.registry_address, plan.slug)
        _check_policy(images, plan)
        unknown = [image for image in images if image not in known]
        asked = dict(zip(unknown, await asyncio.gather(*map(self._engine.image_id, unknown)), strict=True))
        folder, owner = await self._images(), base_images.Owner(workload.SLUG_LABEL, plan.slug)
        missing = []
        for image in images:
            if (image_id := {**known, **asked}[image]) is None:
                missing.append(image)
            else:
                base_images.check(image, image_id, folder, owner)
        return missing

    async def _images(self) -> Path:
        if self._image_folder is None:
            self._image_folder = await self._engine.image_folder()
        return self._image_folder


def _clean_up_after(folder: Path) -> None:
    """Remove a build's folder, and the processes that a killed builder left."""
    group = Cgroup(folder.name)
    group.kill()
    group.remove()
    shutil.rmtree(folder, ignore_errors=True)


def _emptied(folder: Path) -> Path:
    """A fresh build folder; returns where the commit's tree goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    tree = folder / "tree"
    tree.mkdir(parents=True)
    return tree


def _check_policy(images: tuple[str, ...], plan: BuildPlan) -> None:
    """Refuse base images that the policy does not allow, in the very text that is built.

    `admit` read the commit's file; here git may have written it otherwise (attributes choose its encoding).
    """
    allowed = plan.base_images
    others = [one for one in images if allowed is not None and not patterns.matches_image(one, allowed)]
    if others:
        raise Permanent(
            Code.POLICY_DENIED,
            f"The policy does not allow the base images {', '.join(others)}; allowed: {', '.join(allowed or ())}.",
            reason="BeyondLimit",
            hint="Use base images of the registries that are allowed.",
            evidence=tuple(others),
        )


@contextlib.contextmanager
def _refusals(plan: BuildPlan, text: str) -> Iterator[None]:
    """What a Dockerfile must not say is a failed build."""
    try:
        yield
    except dockerfile.NotAllowed as refused:
        said = (refused.reason, str(refused), refused.hint)
        raise build_causes.not_allowed(*said, plan, Written(text)) from refused


async def _launch(folder: Path, bases: list[str], environment: dict[str, str]) -> None:
    """Start the builder; it detaches, so the process that we wait for ends at once."""
    arguments = (str(folder), json.dumps(bases))
    with (folder / "start.log").open("wb") as output:
        code = await launch(
            *arguments, environment=environment, stdin=asyncio.subprocess.DEVNULL, output=output.fileno()
        )
    if code:
        raise Temporary(
            Code.KANIKO_CREATE_FAILED,
            f"The builder process did not start (exit code {code}).",
            reason="BuilderNotStarted",
            evidence=tuple(build_process.tail(folder / "start.log")),
            hint="Check this machine: `preview doctor`; processes, memory, and the disk of STATE_DIR.",
        )
