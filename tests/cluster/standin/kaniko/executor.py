"""One run of the builder, from its command line to its end, in the order in which Kaniko does things."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.cluster.standin.kaniko import base_images, dockerfile, flags, image, registry
from tests.cluster.standin.kaniko.base_images import Registries
from tests.cluster.standin.kaniko.dockerfile import DockerfileError, Instruction
from tests.cluster.standin.kaniko.flags import Flags, UsageError
from tests.cluster.standin.kaniko.git import Checkout, ContextError, Source
from tests.cluster.standin.kaniko.image import Image
from tests.cluster.standin.kaniko.output import FORMATS, Output
from tests.cluster.standin.kaniko.registry import Destination, RegistryError
from tests.cluster.standin.node.program import Exit, Life, scripted_end
from tests.cluster.standin.script import BuildScript

EXECUTOR = "/kaniko/executor"
CONTEXT = "/kaniko/buildcontext"
NO_DOCKERFILE = "please provide a valid path to a Dockerfile within the build context with --dockerfile"
HINT = "make sure you entered the correct tag name, that you are authenticated correctly, and try again."
TRIVIAL = "FROM scratch\n"
KILLED_STEP = 255
RETRY_AFTER = 1.0


@dataclass(frozen=True)
class Network:
    """Where names that only a cluster knows really are: registries as host:port, plain HTTP."""

    registries: Mapping[str, str] = field(default_factory=dict)


class Ended(Exception):
    """The builder ends with an error message and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Executor:
    """The state of one run.

    Args:
        lacking: what its container may not do but a build needs, in the words of the error; empty if all is well.
    """

    def __init__(self, life: Life, script: BuildScript, network: Network, lacking: str) -> None:
        self._life = life
        self._script = script
        self._network = network
        self._lacking = lacking
        self._options = Flags()
        self._output = Output(life, "color")
        self._destinations: list[Destination] = []

    async def run(self) -> Exit:
        """Everything; errors before the build are followed by the usage."""
        try:
            self._read_command_line()
            source = Source.parse(self._options.text["context"], self._life.env)
            if not self._script.fetch:
                return await self._build(TRIVIAL, source.commit)
            async with Checkout(source, self._life.env) as checkout:
                return await self._build(await self._dockerfile(checkout), checkout.commit)
        except (UsageError, ContextError) as error:
            prefix = "error resolving source context: " if isinstance(error, ContextError) else ""
            self._life.log.write(f"Error: {prefix}{error}\n{flags.usage()}")
            return Exit(1)
        except Ended as error:
            self._life.log.write(str(error))
            return Exit(error.code)

    # ------------------------------------------------------------------------- before the build

    def _read_command_line(self) -> None:
        self._options = flags.parse([word for word in self._life.args if word != EXECUTOR])
        form = self._options.text["log-format"]
        if form not in FORMATS:
            raise UsageError(f'not a valid log format: "{form}". Please specify one of (text, color, json)')
        self._output = Output(self._life, form)
        if self._options.on("no-push"):
            return
        if not self._options.all("destination"):
            raise UsageError("you must provide --destination, or use --no-push")
        for reference in self._options.all("destination"):
            host = reference.partition("/")[0]
            insecure = self._options.on("insecure") or host in self._options.all("insecure-registry")
            self._destinations.append(registry.parse(reference, self._network.registries, insecure=insecure))

    async def _dockerfile(self, checkout: Checkout) -> str:
        """The Dockerfile's text: where its path says, else below the context and its sub-path."""
        sub_path = posixpath.normpath(self._options.text.get("context-sub-path", "")).strip("/").removeprefix(".")
        if sub_path and not await checkout.has_folder(sub_path):
            raise ContextError(f"stat {CONTEXT}/{sub_path}: no such file or directory")
        name = self._options.text["dockerfile"]
        content = None
        if name.startswith(f"{CONTEXT}/"):
            content = await checkout.read(posixpath.normpath(name.removeprefix(CONTEXT)).strip("/"))
        if content is None:
            below = posixpath.join("/", sub_path, name.lstrip("/"))
            content = await checkout.read(posixpath.normpath(below).strip("/"))
        if content is None:
            raise UsageError(f"error resolving dockerfile path: {NO_DOCKERFILE}")
        return content.decode(errors="replace")

    # ------------------------------------------------------------------------------- the build

    async def _build(self, text: str, commit: str) -> Exit:
        if not self._options.on("skip-push-permission-check"):
            await self._check_push()
        try:
            instructions = dockerfile.parse(text)
            for target in self._options.all("target"):
                dockerfile.check_target(instructions, target)
            await self._base_images(instructions)
        except (DockerfileError, RegistryError) as error:
            raise Ended(f"error building image: {error}") from error
        await self._steps(instructions)
        if end := scripted_end(self._script):
            return end
        self._fail()
        await self._push(self._image(commit))
        return Exit(0)

    async def _check_push(self) -> None:
        for destination in self._destinations:
            try:
                await registry.check_push(destination)
            except RegistryError as error:
                self._output.warning(HINT)
                why = f'checking push permission for "{destination}": {error}'
                raise Ended(f"error checking push permissions: {why}") from error

    async def _base_images(self, instructions: list[Instruction]) -> None:
        """Ask for each base image whose registry the world knows; others exist."""
        known = Registries.of(self._options, self._network.registries)
        for reference in dockerfile.base_images(instructions):
            self._output.info(f"Retrieving image manifest {reference}")
            await base_images.check(reference, known)
        if self._lacking:
            raise DockerfileError(f"error building stage: failed to get filesystem from image: {self._lacking}")

    async def _steps(self, instructions: list[Instruction]) -> None:
        """Tell each instruction and what the script says, over the scripted time."""
        for one in instructions:
            if one.name != "FROM":
                self._output.info(one.text)
            if one.name == "RUN":
                self._output.info(f"Running: [/bin/sh -c {one.text.partition(' ')[2]}]")
        pause = self._script.seconds / (len(self._script.log) + 1)
        for line in self._script.log:
            await self._life.clock.sleep(pause)
            self._output.raw(line)
        await self._life.clock.sleep(pause)
        if self._script.hang:
            self._life.calm()
            await asyncio.Future()
        self._output.info("Taking snapshot of full filesystem...")

    def _fail(self) -> None:
        """End as scripted. By then a cached layer's digest may stand where the image's is expected."""
        script = self._script
        if self._options.on("cache"):
            self._write_digest(image.digest_of(b"a layer in the cache"))
        if script.exit_code or script.run_killed:
            how = "signal: killed" if script.run_killed else f"exit status {script.exit_code}"
            why = f"failed to execute command: waiting for process to exit: {how}"
            raise Ended(f"error building image: error building stage: {why}", script.exit_code or KILLED_STEP)
        if script.no_space:
            why = "failed to take snapshot: write /kaniko/1234: no space left on device"
            raise Ended(f"error building image: error building stage: {why}")
        if script.failure:
            raise Ended(script.failure)

    # -------------------------------------------------------------------------------- the push

    def _image(self, commit: str) -> Image:
        args = dict(arg.partition("=")[::2] for arg in self._options.all("build-arg"))
        labels = dict(label.partition("=")[::2] for label in self._options.all("label"))
        content = {"commit": commit, "build_args": args, "target": self._options.all("target")}
        created = image.EPOCH if self._options.on("reproducible") else self._life.clock.now().isoformat()
        return image.make(content, labels=labels, created=created)

    def _write_digest(self, digest: str) -> None:
        if self._options.text.get("digest-file") == self._life.termination_path:
            self._life.termination_message = digest

    async def _push(self, built: Image) -> None:
        """Write the digest, then push: a push that fails has left its digest behind."""
        self._write_digest(built.digest if self._script.digest is None else self._script.digest)
        for destination in self._destinations if self._script.push else ():
            self._output.info(f"Pushing image to {destination}")
            await self._push_to(destination, built)
            self._output.info(f"Pushed {destination.host}/{destination.name}@{built.digest}")

    async def _push_to(self, destination: Destination, built: Image) -> None:
        retries = self._options.numbers.get("push-retry", 0)
        for attempt in range(retries + 1):
            try:
                if self._script.push_failure:
                    raise RegistryError(self._script.push_failure)
                await registry.push(destination, built)
            except RegistryError as error:
                if attempt == retries:
                    message = f"error pushing image: failed to push to destination {destination}: {error}"
                    raise Ended(message) from error
                await self._life.clock.sleep(RETRY_AFTER)
            else:
                return
