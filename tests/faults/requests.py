"""Faults of requests, specs and git, on the engine; nothing is built, or hardly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import yaml

from provider.client import new_deploy_id
from provider.demo.git_server import File
from provider.demo.world import World
from tests.e2e.apps import app_files
from tests.e2e.helpers import SLOW_BUILD, deploy, deployed, eventually, send
from tests.faults.fault import Fault

PREVIEW_YAML = ".x1agent/preview.yaml"


def asked(name: str, body: Mapping[str, Any] | bytes, code: str, reason: str, *names: str) -> Fault[World]:
    """A request that is no good."""

    async def cause(world: World) -> object:
        return await send(world, "provision", body)

    return Fault(name, cause, code, reason, "user", names)


def spec(name: str, code: str, reason: str, *names: str, text: str = "", **changes: Any) -> Fault[World]:
    """A spec that is no good: `text` itself, or a good one with these changes."""

    async def cause(world: World) -> object:
        given = app_files(name, world.base_image, spec_extra=changes)
        if text:
            given[PREVIEW_YAML] = text
        return await deployed(world, name, files=given)

    return Fault(name, cause, code, reason, "user", names)


def act(
    name: str, cause: Callable[[World], Awaitable[object]], code: str, reason: str, *names: str, whose: str = "user"
) -> Fault[World]:
    """Anything else."""
    return Fault(name, cause, code, reason, whose, names)


async def _no_spec(world: World) -> object:
    return await deploy(world, "bare", await world.commit("acme/bare", {"README": "nothing\n"}))


async def _linked_spec(world: World) -> object:
    files = {**app_files("linked", world.base_image), PREVIEW_YAML: File("../Dockerfile", "120000")}
    return await deployed(world, "linked", files=files)


async def _no_branch(world: World) -> object:
    await world.commit("acme/branchless", app_files("branchless", world.base_image))
    return await world.client.deploy("acme/branchless", "absent", installation_id=world.installation_id)


async def _no_commit(world: World) -> object:
    await world.commit("acme/commitless", app_files("commitless", world.base_image))
    return await deploy(world, "commitless", "0123456789" * 4)


async def _no_repository(world: World) -> object:
    return await deploy(world, "no-such-repository", None)


async def _no_credentials(world: World) -> object:
    sha = await world.commit("acme/private", app_files("private", world.base_image))
    return await deploy(world, "private", sha, installation_id=None)


async def _taken(world: World) -> object:
    await deployed(world, "mine")
    return await deployed(world, "theirs", files=app_files("mine", world.base_image))


async def _claimed(world: World) -> object:
    await deployed(world, "owned")
    await world.client.claim("owned", session_id="s-1", ttl_seconds=600)
    return await deployed(world, "owned", session_id="s-2")


async def _used_again(world: World) -> object:
    deploy_id = new_deploy_id()
    await deployed(world, "reused", deploy_id=deploy_id)
    return await deploy(world, "reused", None, deploy_id=deploy_id, extra_env={"A": "b"})


async def _unknown_preview(world: World) -> object:
    return await send(world, "status", {"slug": "nobody"})


async def _too_late(world: World) -> object:
    files = app_files("costly", world.base_image, dockerfile_extra=SLOW_BUILD)
    return await deployed(world, "costly", files=files, budget_seconds=8)


async def _cancelled(world: World) -> object:
    files = app_files("stopped", world.base_image, dockerfile_extra=SLOW_BUILD)
    deploy_id = new_deploy_id()
    sha = await world.commit("acme/stopped", files)
    running = asyncio.create_task(deploy(world, "stopped", sha, deploy_id=deploy_id))

    async def stopped() -> bool:
        return bool((await send(world, "cancel", {"deploy_id": deploy_id})).get("cancelled"))

    await eventually(stopped, timeout=60)
    return await running


TWO_ERRORS = yaml.safe_dump(
    {
        "apiVersion": "x1agent.io/v1",
        "kind": "PreviewSpec",
        "metadata": {"name": "Bad_Name"},
        "spec": {"entrypoint": {"kind": "dockerfile", "path": "./Dockerfile"}, "runtime": {"port": 70000}},
    }
)
HERE = {"repo_full_name": "acme/x", "branch": "main"}

REQUESTS: tuple[Fault[World], ...] = (
    asked("no-json", b"{not json", "bad_request_decode", "NotReadable", "JSON"),
    asked("no-fields", {"commit_sha": "a" * 40}, "missing_fields", "MissingFields", "repo_full_name", "branch"),
    asked("bad-branch", {**HERE, "branch": "a..b"}, "invalid_request", "InvalidField", "branch"),
    asked("bad-sha", {**HERE, "commit_sha": "xyz"}, "invalid_request", "InvalidField", "commit_sha"),
    asked("bad-env", {**HERE, "extra_env": {"A=B": "x"}}, "invalid_request", "InvalidField", "extra_env"),
    spec("spec-values", "invalid_preview_spec", "InvalidSpec", "metadata.name", "spec.runtime.port", text=TWO_ERRORS),
    spec("spec-yaml", "invalid_preview_spec", "InvalidSpec", PREVIEW_YAML, "line", text="a: [1\nb: }\n"),
    spec(
        "spec-path",
        "invalid_preview_spec",
        "PathNotFound",
        "spec.entrypoint.path",
        PREVIEW_YAML,
        entrypoint={"path": "./docker/Dockerfile"},
    ),
    spec(
        "spec-compose", "unsupported_entrypoint", "NotSupported", "spec.entrypoint.kind", entrypoint={"kind": "compose"}
    ),
    spec("spec-tcp", "unsupported_feature", "NotSupported", "spec.runtime.protocol", runtime={"protocol": "tcp"}),
    act("spec-absent", _no_spec, "spec_not_found", "FileNotFound", PREVIEW_YAML, "entrypoint"),
    act("spec-link", _linked_spec, "invalid_preview_spec", "Symlink", PREVIEW_YAML),
    act("branch-absent", _no_branch, "branch_not_found", "BranchNotFound", "branch"),
    act("commit-absent", _no_commit, "commit_not_found", "Unknown", "commit"),
    act("repository-absent", _no_repository, "repo_unreachable", "RepositoryNotFound", "name", "installation"),
    act("credentials-absent", _no_credentials, "repo_unreachable", "CredentialsRefused", "installation_id"),
    act("slug-taken", _taken, "slug_taken", "OtherRepository", "metadata.name"),
    act("claimed", _claimed, "claimed", "ClaimedByOtherSession", "force"),
    act("deploy-id-reused", _used_again, "conflict", "DeployIdReused", "deploy_id"),
    act("unknown-preview", _unknown_preview, "not_found", "PreviewNotFound", "list"),
    act("budget", _too_late, "budget_exceeded", "BudgetExceeded", "budget_seconds", whose="platform"),
    act("cancelled", _cancelled, "cancelled", "Cancelled", "deploy"),
)
