"""Codes of requests, specs and git, each by its real cause. Nothing is built in any of these."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provider.client import new_deploy_id
from provider.demo.world import World
from tests.e2e.apps import app_files
from tests.e2e.helpers import (
    Visitor,
    containers,
    deploy,
    deployed,
    refused,
    refused_deploy,
    send,
    with_settings,
)

# ---------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"{not json", "not JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"\xff\xfe{}", "UTF-8"),
        (b'{"branch": "a", "branch": "b"}', "twice"),
        (b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested"),
        (b'{"preview_yaml": "' + b"x" * 900_000 + b'"}', "900"),
        (b"", "not JSON"),
    ],
    ids=["no-json", "list", "string", "no-utf8", "twice", "deep", "900kb", "empty"],
)
@pytest.mark.parametrize("endpoint", ["provision", "teardown"])
async def test_bad_request_decode(world: World, endpoint: str, payload: bytes, said: str) -> None:
    reply = await send(world, endpoint, payload)
    assert (reply["ok"], reply["code"]) == (False, "bad_request_decode")
    assert said in reply["message"]


async def test_missing_fields_are_all_named(world: World) -> None:
    reply = await send(world, "provision", {"commit_sha": "a" * 40})
    assert reply["code"] == "missing_fields"
    assert "repo_full_name" in reply["message"]
    assert "branch" in reply["message"]
    for endpoint, named in {"teardown": "slug", "status": "slug or deploy_id", "cancel": "slug or deploy_id"}.items():
        reply = await send(world, endpoint, {})
        assert (reply["code"], named in reply["message"]) == ("missing_fields", True)


INVALID: list[dict[str, Any]] = [
    {"repo_full_name": "--upload-pack=touch /tmp/x"},
    {"repo_full_name": "../../etc/passwd"},
    {"repo_full_name": "https://evil.test/a/b"},
    {"repo_full_name": "a/b?x=y"},
    {"repo_full_name": 7},
    {"branch": "--output=/tmp/x"},
    {"branch": "a..b"},
    {"branch": "main\nrefs/heads/other"},
    {"branch": "refs/heads/../main:refs/heads/x"},
    {"commit_sha": "-abcdef"},
    {"commit_sha": "$(id)abc"},
    {"commit_sha": "abc"},
    {"installation_id": "1"},
    {"installation_id": -1},
    {"alias_hosts": ["a b.test"]},
    {"alias_hosts": ["x.test/y"]},
    {"session_id": "a.b.*"},
    {"deploy_id": "a b"},
    {"budget_seconds": 0},
    {"acceptance": [{"path": "no-slash"}]},
    {"acceptance": [{"path": "/", "body_matches": "("}]},
    {"extra_env": {"A=B": "x"}},
    {"secret_values": {"K": 1}},
]


@pytest.mark.parametrize("fields", INVALID, ids=lambda fields: json.dumps(fields)[1:50])
async def test_invalid_request(world: World, fields: dict[str, Any]) -> None:
    asked = world.git.requests
    reply = await send(world, "provision", {"repo_full_name": "acme/x", "branch": "main", **fields})
    assert reply["code"] == "invalid_request", reply
    assert next(iter(fields)) in reply["message"]
    assert reply["evidence"] != []
    assert world.git.requests == asked


async def test_not_found(world: World) -> None:
    for endpoint in ("status", "cancel"):
        for body in ({"slug": "nobody"}, {"deploy_id": "nobody"}):
            reply = await send(world, endpoint, body)
            assert (reply["ok"], reply["code"]) == (False, "not_found")


async def test_conflict_when_a_deploy_id_is_used_again(world: World) -> None:
    deploy_id = new_deploy_id()
    await deployed(world, "reused", deploy_id=deploy_id)
    other = await world.commit("acme/reused", app_files("reused", world.base_image, body="other\n"))
    failed = await refused(deploy(world, "reused", other, deploy_id=deploy_id))
    assert (failed.code, failed.reason) == ("conflict", "DeployIdReused")
    changed = await refused(deploy(world, "reused", None, deploy_id=deploy_id, extra_env={"A": "b"}))
    assert changed.code == "conflict"


@pytest.mark.parametrize("endpoint", ["sync", "debug"])
async def test_unsupported_subjects(world: World, endpoint: str) -> None:
    reply = await send(world, endpoint, {"slug": "x"})
    assert (reply["code"], endpoint in reply["message"]) == ("unsupported_feature", True)


# ------------------------------------------------------------------------------- specs

TWENTY = """\
apiVersion: v1
kind: Preview
metadata: {name: Bad_Name}
spec:
  entrypoint: {kind: dokerfile, path: ../Dockerfile, buildContext: /abs, args: {"a b": x}}
  runtime: {port: 70000, protocol: https, path: shop, healthcheck: {periodSeconds: 0, timeoutSeconds: -1}}
  env:
    - {name: A, value: a}
    - {name: A, value: b}
    - {name: 1B, value: c}
    - {name: C, from: sekret:X}
    - {name: D}
    - {name: E, from: "dep:0.url"}
  resources: {requests: {cpu: 2}, limits: {cpu: 1, memory: lots}}
  volumes: [{name: V V, kind: nfs, mountPath: relative}]
  ingress: {stripPath: maybe}
"""


@pytest.mark.parametrize("where", ["inline", "in git", "validate"])
async def test_twenty_mistakes_at_once(world: World, where: str) -> None:
    files = app_files("wrong", world.base_image) | {".x1agent/preview.yaml": TWENTY}
    sha = await world.commit("acme/wrong", files)
    inline = TWENTY if where != "in git" else None
    call = (
        world.client.validate("acme/wrong", "main", installation_id=world.installation_id, preview_yaml=inline)
        if where == "validate"
        else deploy(world, "wrong", sha, preview_yaml=inline)
    )
    failed = await refused(call)
    assert failed.code == "invalid_preview_spec"
    assert len(failed.evidence) >= 20
    text = "\n".join(failed.evidence)
    for path in ("apiVersion", "metadata.name", "spec.runtime.port", "spec.env[1].name", "spec.volumes[0].kind"):
        assert path in text
    assert "dockerfile" in text  # the nearest known name of dokerfile


async def test_paths_that_do_not_exist_at_the_commit(world: World) -> None:
    spec = {"entrypoint": {"path": "./docker/Dockerfile", "buildContext": "nowhere"}}
    failed = await refused_deploy(world, "paths", app_files("paths", world.base_image, spec_extra=spec))
    assert (failed.code, failed.reason, failed.phase) == ("invalid_preview_spec", "PathNotFound", "resolve")
    assert [line.split(":")[0] for line in failed.evidence] == ["spec.entrypoint.path", "spec.entrypoint.buildContext"]


async def test_spec_not_found_shows_the_smallest_one(world: World) -> None:
    sha = await world.commit("acme/bare", {"README": "nothing here\n"})
    failed = await refused(deploy(world, "bare", sha))
    assert (failed.code, failed.whose, failed.retryable) == ("spec_not_found", "user", False)
    assert {"acme/bare", "main", sha} <= set(failed.message.replace(".", " ").replace(",", " ").split())
    shown = str(failed.hint).partition("\n")[2]
    files = app_files("bare", world.base_image, port=3000) | {".x1agent/preview.yaml": shown}
    checked = await world.commit("acme/bare", files)
    valid = await world.client.validate(
        "acme/bare", "main", commit_sha=checked, installation_id=world.installation_id, preview_yaml=shown
    )
    assert valid.slug == "my-app"


@pytest.mark.parametrize(
    ("spec", "code", "field"),
    [
        ({"entrypoint": {"kind": "compose"}}, "unsupported_entrypoint", "spec.entrypoint.kind"),
        ({"entrypoint": {"kind": "helm"}}, "unsupported_entrypoint", "spec.entrypoint.kind"),
        ({"entrypoint": {"kind": "kustomize"}}, "unsupported_entrypoint", "spec.entrypoint.kind"),
        ({"entrypoint": {"kind": "manifest"}}, "unsupported_entrypoint", "spec.entrypoint.kind"),
        ({"dependencies": [{"kind": "postgres"}]}, "unsupported_feature", "spec.dependencies"),
        ({"runtime": {"protocol": "tcp"}}, "unsupported_feature", "spec.runtime.protocol"),
    ],
    ids=["compose", "helm", "kustomize", "manifest", "dependencies", "tcp"],
)
async def test_unsupported(world: World, spec: dict[str, Any], code: str, field: str) -> None:
    failed = await refused_deploy(world, "later", app_files("later", world.base_image, spec_extra=spec))
    assert (failed.code, failed.whose, failed.retryable) == (code, "user", False)
    assert field in failed.evidence[0]
    assert (await send(world, "status", {"slug": "later"}))["code"] == "not_found"


@with_settings(MISSING_SECRETS="fail")
async def test_secret_missing(own_world: World) -> None:
    env = [{"name": "A", "from": "secret:ONE"}, {"name": "B", "from": "secret:TWO"}, {"name": "C", "from": "secret:C"}]
    files = app_files("secretive", own_world.base_image, spec_extra={"env": env})
    failed = await refused_deploy(own_world, "secretive", files, secret_values={"ONE": "1"}, extra_env={"C": "c"})
    assert (failed.code, failed.evidence, failed.phase) == ("secret_missing", ("secret:TWO",), "admit")
    assert await containers(own_world.stack, "secretive") == []
    again = await deployed(own_world, "secretive", files=files, secret_values={"ONE": "", "TWO": "2", "C": "3"})
    assert again.warnings == ()


async def test_slug_taken(world: World, guest: Visitor) -> None:
    first = await deployed(world, "mine")
    theirs = app_files("mine", world.base_image, body="theirs\n")
    failed = await refused_deploy(world, "theirs", theirs)
    assert (failed.code, failed.slug, failed.phase) == ("slug_taken", "mine", "admit")
    assert "acme/mine" in failed.message
    assert failed.still_serving is None  # of nothing of theirs
    assert await guest.commit(first.url) == first.commit_sha
    assert (await world.client.status("mine")).state == "ready"
    checked = await refused(world.client.validate("acme/theirs", "main", installation_id=world.installation_id))
    assert checked.code == "slug_taken"
    await world.client.teardown("mine")
    done = await deployed(world, "theirs", files=theirs)
    assert await guest.text(done.url) == "theirs\n"
