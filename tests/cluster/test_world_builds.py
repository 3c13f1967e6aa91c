"""Builds: Kaniko's command line, context, push and words, on a real git host and a real registry."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
import tarfile
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.cluster.standin.kaniko import flags
from tests.cluster.standin.script import BuildScript
from tests.cluster.standin.world import World
from tests.cluster.world_helpers import (
    BUILDS,
    Object,
    Sources,
    build_job,
    clone_secret,
    install,
    only,
    sources,
    until,
)


@pytest.fixture(scope="module")
async def given(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sources]:
    async with sources(tmp_path_factory.mktemp("sources")) as running:
        yield running


@pytest.fixture
async def world(given: Sources) -> AsyncIterator[World]:
    async with World(speed=50, namespaces=(BUILDS,), registries={"x1-registry:5000": given.registry}) as running:
        install(running, clone_secret())
        yield running


def ended(world: World) -> Object:
    """How the only build container ended."""
    (status,) = only(world, "Pod", BUILDS)["status"]["containerStatuses"]
    found: Object = status["state"]["terminated"]
    return found


def log(world: World) -> str:
    name = only(world, "Pod", BUILDS)["metadata"]["name"]
    return "\n".join(text for _, text in world.kubelet.lines(BUILDS, name, "kaniko", previous=False))


async def build(world: World, job: Object) -> Object:
    """Run a build to its end; how its container ended."""
    install(world, job)
    await world.settled()
    return ended(world)


async def tags(given: Sources) -> list[str]:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://{given.registry}/v2/previews/shop/tags/list")
    return [] if answer.status_code == 404 else answer.json()["tags"] or []


async def test_a_good_build_tells_its_digest_before_the_job_is_complete(world: World, given: Sources) -> None:
    sha = await given.commit()
    install(world, build_job("build", given.context(sha), "--log-format=text"))
    pods = await until(world, lambda: [p for p in world.store.list("Pod", BUILDS) if "terminated" in str(p["status"])])
    assert pods[0]["status"]["phase"] == "Running"
    assert re.fullmatch("sha256:[0-9a-f]{64}", ended(world)["message"])
    assert "conditions" not in only(world, "Job", BUILDS)["status"]
    await world.settled()
    assert only(world, "Pod", BUILDS)["status"]["phase"] == "Succeeded"
    kinds = [one["type"] for one in only(world, "Job", BUILDS)["status"]["conditions"]]
    assert kinds == ["SuccessCriteriaMet", "Complete"]
    assert 'msg="Pushed x1-registry:5000/previews/shop@sha256:' in log(world)
    assert "t1" in await tags(given)


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ("git://{host}/acme/none.git#refs/heads/main#{sha}", "error resolving source context: repository not found"),
        ("git://{host}/acme/shop.git#refs/heads/none#{sha}", "error resolving source context: reference not found"),
        ("git://{host}/acme/shop.git#refs/heads/main#" + 40 * "0", "error resolving source context: object not found"),
        ("git://{host}/acme/shop.git#{sha}", "server does not support exact SHA1 refspec"),
        ("git://127.0.0.1:1/acme/shop.git#refs/heads/main#{sha}", "error resolving source context: Get "),
    ],
)
async def test_a_context_that_is_not_there(world: World, given: Sources, context: str, words: str) -> None:
    sha, host = await given.commit(), given.git.url.removeprefix("http://")
    assert (await build(world, build_job("build", context.format(host=host, sha=sha))))["exitCode"] == 1
    assert words in log(world)


async def test_wrong_credentials(world: World, given: Sources) -> None:
    world.store.delete("Secret", BUILDS, "clone")
    install(world, clone_secret("wrong"))
    await build(world, build_job("build", given.context(await given.commit())))
    assert "error resolving source context: authentication required" in log(world)
    assert log(world).splitlines()[-1].startswith('Use "executor [command] --help"')


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--no-such-flag", "Error: unknown flag: --no-such-flag"),
        ("--cache=perhaps", 'Error: invalid argument "perhaps" for "--cache" flag: strconv.ParseBool'),
        ("--push-retry=x", 'Error: invalid argument "x" for "--push-retry" flag: strconv.ParseInt'),
        ("--target", "Error: flag needs an argument: --target"),
        ("word", 'Error: unknown command "word" for "executor"'),
    ],
)
async def test_a_wrong_command_line(world: World, given: Sources, argument: str, words: str) -> None:
    assert (await build(world, build_job("build", given.context(await given.commit()), argument)))["exitCode"] == 1
    assert log(world).startswith(words)


async def test_a_benchmark_can_do_without_the_fetch(world: World) -> None:
    world.scripts.build("build", BuildScript(fetch=False))
    context = "git://nowhere.invalid/acme/shop.git#refs/heads/main#" + 40 * "a"
    assert (await build(world, build_job("build", context)))["exitCode"] == 0


async def test_dockerfiles_are_found_below_the_sub_path(world: World, given: Sources) -> None:
    sha = await given.commit({"web/docker/Dockerfile": "FROM scratch\n"})
    arguments = ("--context-sub-path=web", "--dockerfile=docker/Dockerfile")
    assert (await build(world, build_job("build", given.context(sha), *arguments)))["exitCode"] == 0


@pytest.mark.parametrize(
    ("dockerfile", "arguments", "words"),
    [
        ("FROM scratch\n", ["--dockerfile=none"], "error resolving dockerfile path: please provide a valid path"),
        ("FROM scratch\n", ["--context-sub-path=none"], "error resolving source context: stat "),
        ("FROM scratch\nFETCH x\n", [], "dockerfile parse error on line 2: unknown instruction: FETCH"),
        ("FROM scratch AS a\n", ["--target=b"], "b is not a valid target build stage"),
    ],
)
async def test_a_wrong_dockerfile(
    world: World, given: Sources, dockerfile: str, arguments: list[str], words: str
) -> None:
    sha = await given.commit({"Dockerfile": dockerfile})
    assert (await build(world, build_job("build", given.context(sha), *arguments)))["exitCode"] == 1
    assert words in log(world)


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        (BuildScript(log=("npm ERR!",), exit_code=7), 7, "waiting for process to exit: exit status 7"),
        (BuildScript(run_killed=True), 255, "waiting for process to exit: signal: killed"),
        (BuildScript(no_space=True), 1, "no space left on device"),
        (BuildScript(failure="error building image: TOOMANYREQUESTS: slow down"), 1, "TOOMANYREQUESTS"),
        (BuildScript(push_failure="DENIED: no"), 1, "failed to push to destination x1-registry:5000/previews/shop:t1"),
    ],
)
async def test_scripted_failures(world: World, given: Sources, script: BuildScript, code: int, words: str) -> None:
    world.scripts.build("build", script)
    job = build_job("build", given.context(await given.commit()), "--cache=true")
    end = await build(world, job)
    assert (end["exitCode"], end["reason"]) == (code, "Error")
    assert words in log(world).splitlines()[-1]
    assert end["message"].startswith("sha256:"), "a failed build leaves a digest that is worth nothing"


async def test_a_registry_that_speaks_only_http_refuses_tls(world: World, given: Sources) -> None:
    job = build_job("build", given.context(await given.commit()))
    job["spec"]["template"]["spec"]["containers"][0]["args"].remove("--insecure-registry=x1-registry:5000")
    assert (await build(world, job))["exitCode"] == 1
    assert "error checking push permissions: " in log(world)
    assert "server gave HTTP response to HTTPS client" in log(world)


async def test_an_unreachable_registry(given: Sources) -> None:
    async with World(speed=50, namespaces=(BUILDS,), registries={"x1-registry:5000": "127.0.0.1:1"}) as world:
        install(world, clone_secret())
        await build(world, build_job("build", given.context(await given.commit())))
        assert "error checking push permissions: " in log(world)


async def test_a_base_image_is_asked_for_where_the_map_says(world: World, given: Sources) -> None:
    sha = await given.commit({"Dockerfile": "FROM node:22 AS base\nFROM base\nFROM quay.io/unknown/image:1\n"})
    mapped = "--registry-map=docker.io=x1-registry:5000/mirror"
    assert (await build(world, build_job("plain", given.context(sha))))["exitCode"] == 0
    world.store.delete("Job", BUILDS, "plain", propagation="Background")
    await world.settled()
    assert (await build(world, build_job("mapped", given.context(sha), mapped)))["exitCode"] == 0
    world.store.delete("Job", BUILDS, "mapped", propagation="Background")
    await world.settled()
    sha = await given.commit({"Dockerfile": "FROM x1-registry:5000/base/none:1\n"})
    assert (await build(world, build_job("none", given.context(sha))))["exitCode"] == 1
    assert "MANIFEST_UNKNOWN" in log(world) or "NAME_UNKNOWN" in log(world)


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"capabilities": {"drop": ["ALL"]}}, "chown /: operation not permitted"),
        ({"readOnlyRootFilesystem": True}, "read-only file system"),
    ],
)
async def test_a_build_needs_its_capabilities(world: World, given: Sources, context: Object, words: str) -> None:
    job = build_job("build", given.context(await given.commit()))
    job["spec"]["template"]["spec"]["containers"][0]["securityContext"] = context
    assert (await build(world, job))["exitCode"] == 1
    assert words in log(world)


async def test_a_build_needs_root(world: World, given: Sources) -> None:
    job = build_job("build", given.context(await given.commit()))
    job["spec"]["template"]["spec"]["securityContext"] = {"runAsNonRoot": True}
    install(world, job)
    await world.settled()
    (status,) = only(world, "Pod", BUILDS)["status"]["containerStatuses"]
    assert status["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    assert status["state"]["waiting"]["message"].startswith(
        "container has runAsNonRoot and image will run as root (pod"
    )


async def test_out_of_memory_and_eviction(world: World, given: Sources) -> None:
    world.scripts.build("oom", BuildScript(oom=True))
    world.scripts.build("evicted", BuildScript(evicted="The node was low on resource: ephemeral-storage."))
    context = given.context(await given.commit())
    assert (await build(world, build_job("oom", context)))["reason"] == "OOMKilled"
    world.store.delete("Job", BUILDS, "oom", propagation="Background")
    await world.settled()
    install(world, build_job("evicted", context))
    await world.settled()
    status = only(world, "Pod", BUILDS)["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
    assert status["message"].startswith("The node was low")
    assert {"type": "DisruptionTarget", "status": "True"}.items() <= status["conditions"][-1].items()


async def test_arguments_are_expanded_as_kubernetes_does(world: World, given: Sources) -> None:
    more = ("--build-arg=A=$(GIT_USERNAME)", "--build-arg=B=$$(GIT_USERNAME)", "--build-arg=C=$(NONE)")
    install(world, build_job("build", given.context(await given.commit()), *more))
    await world.settled()
    digest = ended(world)["message"]
    async with httpx.AsyncClient(base_url=f"http://{given.registry}/v2/previews/shop", trust_env=False) as http:
        manifest = await http.get(f"/manifests/{digest}", headers={"Accept": "*/*"})
        layer = await http.get(f"/blobs/{manifest.json()['layers'][0]['digest']}")
    assert built(layer.content) == {"A": "x-access-token", "B": "$(GIT_USERNAME)", "C": "$(NONE)"}


async def test_a_log_is_followed_while_the_build_runs(world: World, given: Sources) -> None:
    world.scripts.build("build", BuildScript(log=tuple(f"step {number}" for number in range(5)), seconds=5.0))
    install(world, build_job("build", given.context(await given.commit())))
    await until(world, lambda: "running" in str(world.store.list("Pod", BUILDS)))
    name = only(world, "Pod", BUILDS)["metadata"]["name"]
    seen = [text async for _, text in world.kubelet.follow(BUILDS, name, "kaniko")]
    assert [text for text in seen if text.startswith("step")] == [f"step {number}" for number in range(5)]
    assert "Pushed" in seen[-1]


async def test_a_log_ends_with_its_pod(world: World, given: Sources) -> None:
    world.scripts.build("build", BuildScript(hang=True))
    install(world, build_job("build", given.context(await given.commit())))
    await world.settled()
    name = only(world, "Pod", BUILDS)["metadata"]["name"]
    follower = world.kubelet.follow(BUILDS, name, "kaniko")
    assert (await anext(follower))[1]
    world.store.delete("Pod", BUILDS, name, grace=0)
    rest = [text async for _, text in follower]
    assert "Pushed" not in str(rest)
    with pytest.raises(KeyError):
        world.kubelet.lines(BUILDS, name, "kaniko", previous=False)


async def test_a_build_that_hangs_ends_with_its_job(world: World, given: Sources) -> None:
    world.scripts.build("build", BuildScript(hang=True))
    install(world, build_job("build", given.context(await given.commit())))
    await asyncio.wait_for(world.settled(), 10)
    assert only(world, "Job", BUILDS)["status"]["active"] == 1
    world.store.delete("Job", BUILDS, "build")
    await world.settled()
    assert world.store.list("Pod", BUILDS) == []


def built(layer: bytes) -> Object:
    """The build arguments that stand in a built image's layer."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as tar:
        file = tar.extractfile("built.json")
        assert file
        found: Object = json.load(file)["build_args"]
        return found


def test_flags_take_values_as_pflag_does() -> None:
    read = flags.parse(["-f", "a", "-dx/y:1", "--context=c", "--cache", "--push-retry", "3", "--label=a=b"])
    assert (read.text["dockerfile"], read.all("destination"), read.text["context"]) == ("a", ["x/y:1"], "c")
    assert (read.on("cache"), read.numbers["push-retry"], read.all("label")) == (True, 3, ["a=b"])
