"""Codes of git's host and of the credentials for it, each by its real cause."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from provider.demo.world import World, local_world
from provider.models import Secret
from tests.e2e.apps import app_files, spec_of
from tests.e2e.helpers import (
    deploy,
    refused,
    watched,
)
from tests.zygote import Forked

IMPATIENT_RESOLVE = {"RESOLVE_TIMEOUT": "1", "API_TIMEOUT": "0.5", "GIT_TIMEOUT": "1"}


@pytest.fixture(scope="module")
async def impatient() -> AsyncIterator[World]:
    """A world whose provider gives git's host and the API a second, and as much again."""
    async with local_world(environment=IMPATIENT_RESOLVE, kind=Forked) as one:
        yield one


def is_a_full_failure(reply: dict[str, Any]) -> None:
    """Whatever the code: the form is the contract's, and somebody can act on it."""
    assert reply["ok"] is False
    assert {"code", "message", "phase", "reason", "hint", "retryable", "whose", "still_serving"} <= set(reply)
    assert reply["whose"] in ("user", "platform")
    assert isinstance(reply["retryable"], bool)


async def test_branch_and_commit_not_found(world: World) -> None:
    sha = await world.commit("acme/sparse", app_files("sparse", world.base_image))
    failed = await refused(world.client.deploy("acme/sparse", "absent", installation_id=world.installation_id))
    assert (failed.code, failed.whose) == ("branch_not_found", "user")
    for unknown in ("0123456789" * 4, "0123456"):
        assert unknown != sha[: len(unknown)]
        failed = await refused(deploy(world, "sparse", unknown))
        assert (failed.code, failed.retryable) == ("commit_not_found", False)
        assert unknown in failed.message


async def test_repository_not_found(world: World) -> None:
    failed = await refused(deploy(world, "no-such-repository", None))
    assert (failed.code, failed.reason) == ("repo_unreachable", "RepositoryNotFound")
    assert (failed.whose, failed.retryable) == ("user", False)


async def test_credentials_refused(world: World) -> None:
    sha = await world.commit("acme/private", app_files("private", world.base_image))
    failed = await refused(deploy(world, "private", sha, installation_id=None))
    assert (failed.code, failed.reason) == ("repo_unreachable", "CredentialsRefused")
    assert (failed.whose, failed.retryable) == ("user", False)
    right, world.api.token = world.api.token, Secret("wrong-token")
    try:
        failed = await refused(deploy(world, "private", sha, installation_id=991))
    finally:
        world.api.token = right
    assert (failed.code, failed.reason) == ("repo_unreachable", "CredentialsRefused")
    assert "wrong-token" not in json.dumps(failed.reply)


@pytest.mark.parametrize("how", ["500", "hanging"])
async def test_git_host_unreachable(impatient: World, how: str) -> None:
    sha = await impatient.commit("acme/away", app_files("away", impatient.base_image))
    impatient.git.fail_with, impatient.git.hang = (500, False) if how == "500" else (None, True)
    try:
        failed = await refused(deploy(impatient, "away", sha))
    finally:
        impatient.git.fail_with, impatient.git.hang = None, False
    assert (failed.code, failed.reason, failed.phase) == ("repo_unreachable", "Unreachable", "resolve")
    assert (failed.whose, failed.retryable) == ("platform", True)
    is_a_full_failure(failed.reply)


@pytest.mark.parametrize("how", ["401", "500", "hanging", "not JSON", "no token"])
async def test_token_mint_failed(impatient: World, how: str) -> None:
    sha = await impatient.commit("acme/mint", app_files("mint", impatient.base_image))
    api = impatient.api
    api.fail_with = int(how) if how.isdigit() else None
    api.hang = how == "hanging"
    api.garbage = {"not JSON": b"<html>", "no token": b'{"username": "x"}'}.get(how)
    try:
        failed = await refused(deploy(impatient, "mint", sha, installation_id=5000 + len(how), timeout=20))
    finally:
        api.fail_with, api.hang, api.garbage = None, False, None
    assert (failed.code, failed.whose, failed.phase) == ("token_mint_failed", "platform", "resolve")
    assert failed.retryable is (how != "401")
    expected = {"hanging": "0.5 s", "not JSON": "200", "no token": "200"}.get(how, how)
    assert expected in failed.message
    is_a_full_failure(failed.reply)


async def test_git_host_that_comes_back_is_waited_for(world: World) -> None:
    sha = await world.commit("acme/patient", app_files("patient", world.base_image))
    world.git.fail_with = 503
    try:
        watch = watched(world, "patient", sha)
        warning = await watch.until(lambda event: event.type == "warning")
    finally:
        world.git.fail_with = None
    assert "repo_unreachable" in warning.data["retrying"]
    assert (await watch.result()).commit_sha == sha


async def test_bad_inline_spec_needs_no_git(world: World) -> None:
    asked = world.git.requests
    failed = await refused(deploy(world, "no-such-repository", None, preview_yaml=spec_of("Not A Slug")))
    assert failed.code == "invalid_preview_spec"
    assert world.git.requests == asked
