"""A build's container, from its command line to its end, in the order in which Kaniko does things."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.cluster.standin.kaniko import dockerfile, flags, image, registry
from tests.cluster.standin.kaniko.dockerfile import DockerfileError, Instruction
from tests.cluster.standin.kaniko.flags import Flags, UsageError
from tests.cluster.standin.kaniko.git import Checkout, ContextError, Source
from tests.cluster.standin.kaniko.image import Image
from tests.cluster.standin.kaniko.output import FORMATS, Output
from tests.cluster.standin.kaniko.registry import Destination, RegistryError
from tests.cluster.standin.node.program import Exit, Life, scripted_end
from tests.cluster.standin.script import Answer, Asked, BuildScript

EXECUTOR = "/kaniko/executor"
CONTEXT = "/kaniko/buildcontext"
NO_DOCKERFILE = "please provide a valid path to a Dockerfile within the build context with --dockerfile"
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


class Build:
    """One attempt of a build; see `BuildScript` for what a test decides."""

    stop_after = 0.0
    serves = False

    def __init__(self, script: BuildScript, network: Network) -> None:
        self._script = script
        self._network = network

    def listens(self, life: Life, port: int) -> bool:
        """Never."""
        return False

    def will_listen(self, life: Life) -> bool:
        """Never."""
        return False

    async def answer(self, life: Life, asked: Asked) -> Answer:
        """Nobody can ask."""
        raise ConnectionRefusedError

    async def run(self, life: Life) -> Exit:
        """Build and push; errors before the build are followed by the usage."""
        try:
            options = flags.parse([word for word in life.args if word != EXECUTOR])
            output = Output(life, _log_format(options))
            destinations = self._destinations(options)
            async with Checkout(_source(options, life), life.env) as checkout:
                text = await self._dockerfile(options, checkout)
                return await self._build(life, options, output, destinations, checkout.commit, text)
        except (UsageError, ContextError) as error:
            prefix = "error resolving source context: " if isinstance(error, ContextError) else ""
            life.log.write(f"Error: {prefix}{error}\n{flags.usage()}")
            return Exit(1)
        except Ended as error:
            life.log.write(str(error))
            return Exit(error.code)

    async def _dockerfile(self, options: Flags, checkout: Checkout) -> str:
        """The Dockerfile's text."""
        sub_path = posixpath.normpath(options.text.get("context-sub-path", "")).strip("/").removeprefix(".")
        if sub_path and not await checkout.has_folder(sub_path):
            raise ContextError(f"stat {CONTEXT}/{sub_path}: no such file or directory")
        path = posixpath.normpath(posixpath.join("/", sub_path, options.text["dockerfile"].lstrip("/"))).strip("/")
        content = await checkout.read(path)
        if content is None:
            raise UsageError(f"error resolving dockerfile path: {NO_DOCKERFILE}")
        return content.decode(errors="replace")

    async def _build(
        self, life: Life, options: Flags, output: Output, destinations: list[Destination], commit: str, text: str
    ) -> Exit:
        if not options.on("skip-push-permission-check"):
            await self._check_push(output, destinations)
        try:
            instructions = dockerfile.parse(text)
            for target in options.all("target"):
                dockerfile.check_target(instructions, target)
        except DockerfileError as error:
            raise Ended(f"error building image: {error}") from error
        await self._steps(life, output, instructions)
        if end := scripted_end(self._script):
            return end
        self._fail(life, options)
        await self._push(life, options, output, destinations, _image(life, options, commit))
        return Exit(0)

    def _destinations(self, options: Flags) -> list[Destination]:
        """Where to push; nowhere with `--no-push`."""
        if options.on("no-push"):
            return []
        if not options.all("destination"):
            raise UsageError("you must provide --destination, or use --no-push")
        made = []
        for reference in options.all("destination"):
            host = reference.partition("/")[0]
            insecure = options.on("insecure") or host in options.all("insecure-registry")
            made.append(registry.parse(reference, self._network.registries, insecure=insecure))
        return made

    async def _check_push(self, output: Output, destinations: list[Destination]) -> None:
        for destination in destinations:
            try:
                await registry.check_push(destination)
            except RegistryError as error:
                hint = (
                    "make sure you entered the correct tag name, that you are authenticated correctly, and try again."
                )
                output.warning(hint)
                why = f'checking push permission for "{destination}": {error}'
                raise Ended(f"error checking push permissions: {why}") from error

    async def _steps(self, life: Life, output: Output, instructions: list[Instruction]) -> None:
        """Tell each instruction and what the script says, over the scripted time."""
        for one in instructions:
            if one.name == "FROM":
                output.info(f"Retrieving image manifest {one.text.split()[1]}")
            elif one.name == "RUN":
                command = one.text.partition(" ")[2]
                output.info(f"RUN {command}")
                output.info(f"Running: [/bin/sh -c {command}]")
            else:
                output.info(one.text)
        pause = self._script.seconds / (len(self._script.log) + 1)
        for line in self._script.log:
            await life.clock.sleep(pause)
            output.raw(line)
        await life.clock.sleep(pause)
        if self._script.hang:
            life.calm()
            await asyncio.Future()
        output.info("Taking snapshot of full filesystem...")

    def _fail(self, life: Life, options: Flags) -> None:
        """End as scripted. By then a cached layer's digest may stand where the image's is expected."""
        script = self._script
        if options.on("cache") and options.text.get("digest-file") == life.termination_path:
            life.termination_message = image.digest_of(b"a layer in the cache")
        if script.exit_code or script.run_killed:
            how = "signal: killed" if script.run_killed else f"exit status {script.exit_code}"
            why = f"failed to execute command: waiting for process to exit: {how}"
            raise Ended(f"error building image: error building stage: {why}", script.exit_code or KILLED_STEP)
        if script.no_space:
            why = "failed to take snapshot: write /kaniko/1234: no space left on device"
            raise Ended(f"error building image: error building stage: {why}")
        if script.failure:
            raise Ended(script.failure)

    async def _push(
        self, life: Life, options: Flags, output: Output, destinations: list[Destination], built: Image
    ) -> None:
        """Write the digest, then push: a push that fails has left its digest behind."""
        if options.text.get("digest-file") == life.termination_path:
            life.termination_message = built.digest if self._script.digest is None else self._script.digest
        for destination in destinations if self._script.push else ():
            output.info(f"Pushing image to {destination}")
            await self._push_to(life, options, destination, built)
            output.info(f"Pushed {destination.host}/{destination.name}@{built.digest}")

    async def _push_to(self, life: Life, options: Flags, destination: Destination, built: Image) -> None:
        retries = options.numbers.get("push-retry", 0)
        for attempt in range(retries + 1):
            try:
                if self._script.push_failure:
                    raise RegistryError(self._script.push_failure)
                await registry.push(destination, built)
            except RegistryError as error:
                if attempt == retries:
                    message = f"error pushing image: failed to push to destination {destination}: {error}"
                    raise Ended(message) from error
                await life.clock.sleep(RETRY_AFTER)
            else:
                return


def _log_format(options: Flags) -> str:
    form = options.text["log-format"]
    if form not in FORMATS:
        raise UsageError(f'not a valid log format: "{form}". Please specify one of (text, color, json)')
    return form


def _source(options: Flags, life: Life) -> Source:
    return Source.parse(options.text["context"], life.env)


def _image(life: Life, options: Flags, commit: str) -> Image:
    args = dict(arg.partition("=")[::2] for arg in options.all("build-arg"))
    labels = dict(label.partition("=")[::2] for label in options.all("label"))
    content = {"commit": commit, "build_args": args, "target": options.all("target")}
    created = image.EPOCH if options.on("reproducible") else life.clock.now().isoformat()
    return image.make(content, labels=labels, created=created)
