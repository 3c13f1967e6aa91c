"""Faults of what a provider needs, on an engine of their own: one after the other, each is mended before the next.

Its provider is impatient, and strict: read-only roots, secrets that have to be there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from provider.demo.processes import Server
from provider.demo.world import World
from tests.e2e.apps import IMPATIENT, app_files, merged
from tests.e2e.helpers import deployed, watched
from tests.faults.fault import Fault

SETTINGS = {
    "MISSING_SECRETS": "fail",
    "READ_ONLY_ROOT": "true",
    "STRICT_SPEC": "true",
    "BUILD_TIMEOUT": "12",
    "RESOLVE_TIMEOUT": "4",
    "DEPLOY_TIMEOUT": "4",
    "ROLLOUT_TIMEOUT": "10",
    "VERIFY_TIMEOUT": "2",
    "API_TIMEOUT": "2",
    "GIT_TIMEOUT": "3",
}


def fault(
    name: str,
    cause: Callable[[World], Awaitable[object]],
    code: str,
    reason: str,
    *names: str,
    whose: str = "platform",
) -> Fault[World]:
    """One of them."""
    return Fault(name, cause, code, reason, whose, names)


async def _secret(world: World) -> object:
    env = [{"name": "A", "from": "secret:PARTNER_TOKEN"}]
    return await deployed(world, "secretless", files=app_files("secretless", world.base_image, spec_extra={"env": env}))


async def _read_only(world: World) -> object:
    command = "mkdir /cache/app"
    files = app_files("writes", world.base_image, command=command, spec_extra=IMPATIENT)
    return await deployed(world, "writes", files=files | {"Dockerfile": _with(files, "RUN mkdir /cache")})


def _with(files: Mapping[str, object], step: str) -> str:
    first, _, rest = str(files["Dockerfile"]).partition("\n")
    return f"{first}\n{step}\n{rest}"


async def _unknown_field(world: World) -> object:
    extra = {"runtime": {"helthcheck": {"path": "/"}}}
    return await deployed(world, "typo", files=app_files("typo", world.base_image, spec_extra=extra))


async def _slow(world: World) -> object:
    files = app_files("slow", world.base_image, dockerfile_extra="RUN echo begun; sleep 60")
    return await deployed(world, "slow", files=files)


async def _git_away(world: World) -> object:
    sha = await world.commit("acme/away", app_files("away", world.base_image))
    world.git.fail_with = 500
    try:
        return await world.client.deploy(
            "acme/away", "main", commit_sha=sha, installation_id=world.installation_id, timeout=60
        )
    finally:
        world.git.fail_with = None


async def _no_token(world: World) -> object:
    world.api.fail_with = 401
    try:
        return await deployed(world, "mint", installation_id=992)
    finally:
        world.api.fail_with = None


async def _bad_token(world: World) -> object:
    world.api.garbage = b"<html>"
    try:
        return await deployed(world, "garbage", installation_id=993)
    finally:
        world.api.garbage = None


async def _registry_away(world: World) -> object:
    await world.stack.registry.stop()
    try:
        return await deployed(world, "noreg")
    finally:
        await world.stack.registry.start()


async def _killed(world: World, server: Server) -> object:
    """Killed in the build; what was good is put back only once it is there again."""
    name = f"no-{server.name}"
    files = app_files(name, world.base_image, spec_extra=merged(IMPATIENT, {}))
    watch = watched(world, name, await world.commit(f"acme/{name}", files))
    await watch.phase("build")
    await server.kill()
    await watch.until(lambda event: event.type == "phase.finished" and not event.data["ok"])
    await server.start()
    return await watch.result()


async def _caddy_away(world: World) -> object:
    return await _killed(world, world.stack.caddy)


async def _engine_away(world: World) -> object:
    return await _killed(world, world.stack.engine)


OUTAGES: tuple[Fault[World], ...] = (
    fault("secret-missing", _secret, "secret_missing", "SecretNotSent", "PARTNER_TOKEN", "secret_values", whose="user"),
    fault("read-only", _read_only, "deployment_not_ready", "ReadOnlyRoot", "/cache", "spec.volumes", whose="user"),
    fault(
        "spec-field",
        _unknown_field,
        "invalid_preview_spec",
        "InvalidSpec",
        "spec.runtime.helthcheck",
        whose="user",
    ),
    fault("build-deadline", _slow, "job_timeout", "BuildDeadline", "Dockerfile", "BUILD_TIMEOUT", whose="user"),
    fault("git-host", _git_away, "repo_unreachable", "Unreachable", "GIT_BASE_URL"),
    fault("token-refused", _no_token, "token_mint_failed", "Refused", "API_INTERNAL_TOKEN"),
    fault("token-garbage", _bad_token, "token_mint_failed", "BadAnswer", "API_URL"),
    fault("registry-away", _registry_away, "registry_unreachable", "PushFailed", "REGISTRY_ADDRESS"),
    fault("ingress-away", _caddy_away, "platform_unreachable", "IngressUnreachable", "CADDY_ADMIN_URL"),
    fault("engine-away", _engine_away, "platform_unreachable", "EngineUnreachable", "CONTAINER_HOST"),
)
