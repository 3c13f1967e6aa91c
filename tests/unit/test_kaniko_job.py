"""The build Job: what Kaniko is told, that nobody's values can tell it more, and what settings change."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from provider import names
from provider.errors import Code, Permanent
from provider.platforms.base import BuildPlan
from provider.platforms.kubernetes import kaniko
from provider.settings import Settings

SHA = "0123456789abcdef0123456789abcdef01234567"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TOKEN = "ghs_topsecret"
HOSTILE = [
    "--insecure",
    "a b",
    "a\n--destination=evil/x",
    "$(GIT_PASSWORD)",
    "$$(GIT_PASSWORD)",
    "'; rm -rf /",
    '"',
    "{{ x }}",
    "é\u2028",
]


async def nothing(*_: Path) -> None:
    return None


def plan(**changes: Any) -> BuildPlan:
    made = BuildPlan(
        deploy_id="d-1",
        slug="shop",
        generation=3,
        repo_full_name="acme/shop",
        branch="main",
        commit_sha=SHA,
        build_inputs="i" * 64,
        job_name=names.build_job("shop", SHA),
        image="x1-registry:5000/previews/shop:0123456789ab",
        dockerfile="./Dockerfile",
        context=".",
        args={},
        timeout_seconds=899.2,
        export=nothing,
        credential=nothing,
    )
    return dataclasses.replace(made, **changes)


def options(**changes: Any) -> Settings:
    return Settings(_env_file=None, **changes)


def arguments(settings: Settings | None = None, **changes: Any) -> list[str]:
    return kaniko.arguments(plan(**changes), settings or options(), NOW)


def job(settings: Settings | None = None, *, private: bool = True, **changes: Any) -> Any:
    return kaniko.job(plan(**changes), settings or options(), NOW, private=private)


def pod(made: Any) -> Any:
    return made["spec"]["template"]["spec"]


def expanded(argument: str, env: dict[str, str]) -> str:
    """As the kubelet expands an argument: `$(NAME)` of what is defined, `$$` is a dollar sign."""
    done, rest = "", argument
    while rest:
        head, dollar, rest = rest.partition("$")
        done += head
        if rest.startswith("$"):
            done, rest = done + "$", rest[1:]
        elif rest.startswith("(") and ")" in rest:
            name, _, rest = rest[1:].partition(")")
            done += env.get(name, f"$({name})")
        else:
            done += dollar
    return done


def test_what_kaniko_is_told() -> None:
    assert arguments(options(registry_insecure=True)) == [
        f"--context=git://github.com/acme/shop.git#refs/heads/main#{SHA}",
        "--dockerfile=/kaniko/buildcontext/Dockerfile",
        "--destination=x1-registry:5000/previews/shop:0123456789ab",
        "--digest-file=/dev/termination-log",
        "--log-format=text",
        "--cache=true",
        f"--cache-repo={names.layer_cache('x1-registry:5000', 'acme/shop')}",
        "--compressed-caching=false",
        "--push-retry=3",
        "--image-fs-extract-retry=3",
        "--image-download-retry=3",
        "--skip-push-permission-check",
        "--insecure",
        "--insecure-registry=x1-registry:5000",
        "--label=org.opencontainers.image.source=https://github.com/acme/shop",
        f"--label=org.opencontainers.image.revision={SHA}",
        "--label=org.opencontainers.image.created=2026-01-02T03:04:05+00:00",
        "--label=preview.x1agent.io/platform-id=preview.local.x1agent.dev",
    ]


@pytest.mark.parametrize("context", [".", "./", "", "/"])
def test_the_repositorys_root_needs_no_sub_path(context: str) -> None:
    assert not [one for one in arguments(context=context) if one.startswith("--context-sub-path")]


@pytest.mark.parametrize("context", ["app", "./app", "app/"])
def test_a_sub_path(context: str) -> None:
    assert "--context-sub-path=app" in arguments(context=context)


def test_a_dockerfile_elsewhere_is_named_from_the_clone() -> None:
    """Kaniko tries a relative path against its own working directory first (facts.md)."""
    assert "--dockerfile=/kaniko/buildcontext/docker/Web" in arguments(dockerfile="docker/Web", context="app")


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_stays_one_argument_and_is_what_it_was(value: str) -> None:
    plain = job(args={"A": "x"})
    made = job(args={"A": value})
    told = pod(made)["containers"][0]["args"]
    assert len(told) == len(pod(plain)["containers"][0]["args"])
    seen = [expanded(one, {"GIT_PASSWORD": TOKEN}) for one in told]
    assert f"--build-arg=A={value}" in seen
    assert TOKEN not in "".join(seen)


@pytest.mark.parametrize("field", ["dockerfile", "context", "branch"])
def test_no_value_adds_a_flag(field: str) -> None:
    flags = {one.partition("=")[0] for one in arguments(context="app")}
    changes: dict[str, Any] = {"context": "app", field: "--x=y --z"}
    assert {one.partition("=")[0] for one in arguments(**changes)} == flags


def test_the_token_stands_nowhere_but_in_the_secret() -> None:
    secret = kaniko.clone_secret(plan(), options(), "x-access-token", TOKEN)
    assert secret["stringData"] == {"username": "x-access-token", "token": TOKEN}
    assert secret["metadata"]["name"] == names.clone_secret(plan().job_name)
    container = pod(job())["containers"][0]
    named = {one["name"]: one.get("valueFrom") for one in container["env"]}
    reference = {"secretKeyRef": {"name": secret["metadata"]["name"], "key": "token"}}
    assert named["GIT_PASSWORD"] == reference
    assert TOKEN not in json.dumps(job())


def test_a_public_repository_names_no_secret() -> None:
    assert pod(job(private=False))["containers"][0]["env"] == []


def test_a_git_host_without_tls_is_said() -> None:
    env = pod(job(options(git_base_url="http://git:3000"), private=False))["containers"][0]["env"]
    assert env == [{"name": "GIT_PULL_METHOD", "value": "http"}]


def test_a_git_host_that_no_cluster_reaches_is_refused() -> None:
    with pytest.raises(Permanent) as caught:
        job(options(git_base_url="file:///srv/git"))
    assert (caught.value.code, caught.value.reason) == (Code.KANIKO_CREATE_FAILED, "NotConfigured")


def test_the_pod_is_hardened() -> None:
    spec = pod(job())
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    assert not spec.keys() & {"hostNetwork", "hostPID", "volumes", "nodeSelector", "tolerations", "runtimeClassName"}
    security = spec["containers"][0]["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"]["drop"] == ["ALL"]
    assert set(security["capabilities"]["add"]) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "SETFCAP", "KILL"}  # fmt: skip  # noqa: E501


def test_requests_are_not_the_limits() -> None:
    """They would default to them, and the pod find no node (facts.md)."""
    resources = pod(job(options(build_cpu="4", build_memory="8Gi", build_disk="20Gi")))["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "20Gi"}
    assert set(resources["requests"]) == set(resources["limits"])
    assert resources["requests"]["cpu"] == "100m"
    small = pod(job(options(build_cpu="0.05", build_memory="1Gi", build_disk="512Mi")))["containers"][0]["resources"]
    assert small["requests"] == {"cpu": "0.05", "memory": "256Mi", "ephemeral-storage": "512Mi"}, (
        "never above the limits"
    )


def test_deadline_and_time_to_live() -> None:
    made = job(options(build_keep_seconds=77))
    assert (made["spec"]["activeDeadlineSeconds"], made["spec"]["ttlSecondsAfterFinished"]) == (900, 77)


@pytest.mark.parametrize(
    ("settings", "where", "expected"),
    [
        ({"build_node_selector": {"pool": "builds"}}, "nodeSelector", {"pool": "builds"}),
        ({"build_tolerations": ({"key": "builds", "tolerationSeconds": 300},)}, "tolerations", [{"key": "builds", "tolerationSeconds": 300}]),  # noqa: E501
        ({"build_runtime_class": "gvisor"}, "runtimeClassName", "gvisor"),
        ({"build_service_account": "builder"}, "serviceAccountName", "builder"),
    ],
)  # fmt: skip
def test_what_settings_add_to_the_pod(settings: dict[str, Any], where: str, expected: Any) -> None:
    before, after = pod(job()), pod(job(options(**settings)))
    assert after.pop(where) == expected
    assert after == before


def test_mirrors_maps_and_further_flags_come_last_and_in_order() -> None:
    settings = options(
        registry_maps=("docker.io=mirror:5000",), registry_mirrors=("mirror:5000",), kaniko_flags=("--verbosity=debug",)
    )
    assert arguments(settings)[-3:] == [
        "--registry-map=docker.io=mirror:5000",
        "--registry-mirror=mirror:5000",
        "--verbosity=debug",
    ]


def test_a_registry_with_tls_gets_no_insecure_flag() -> None:
    assert not [one for one in arguments(options(registry_insecure=False)) if "insecure" in one]


def test_whose_it_is_can_be_read_from_it() -> None:
    slug = "s" * 63
    made = job(slug=slug, job_name=names.build_job(slug, SHA))
    labels, notes = made["metadata"]["labels"], made["metadata"]["annotations"]
    assert (labels["app"], labels["component"]) == ("x1agent", "preview-build")
    assert max(map(len, labels.values())) <= 63
    assert (notes[kaniko.INPUTS], notes[kaniko.DEPLOY_ID], notes[kaniko.GENERATION]) == ("i" * 64, "d-1", "3")
    pod = made["spec"]["template"]["metadata"]
    assert pod["labels"] == {**labels, "sidecar.istio.io/inject": "false"}
    assert pod["annotations"] == {**notes, "linkerd.io/inject": "disabled"}
