"""Faults on Kubernetes, on the stand-in: it says what Kaniko, the kubelet and the scheduler say (facts.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.cluster.apps import App
from tests.cluster.standin.script import Answer, AppScript, BuildScript
from tests.cluster.world import ClusterWorld
from tests.e2e.apps import IMPATIENT
from tests.faults.fault import Fault
from tests.samples import sample

BUILD = "kaniko_build_failed"
NOT_READY = "deployment_not_ready"
SOURCE = "Error: error resolving source context: "
FAILED = "error building image: error building stage: failed to execute command: "
SETTINGS = {"UNSCHEDULABLE_GRACE": "1", "VERIFY_TIMEOUT": "4"}


def build(
    name: str,
    script: BuildScript,
    code: str,
    reason: str,
    *names: str,
    dockerfile: str = "",
    whose: str = "user",
) -> Fault[ClusterWorld]:
    """A build that ends as its script says; `{base}` in the Dockerfile is the base image."""

    async def cause(world: ClusterWorld) -> object:
        slug = f"build-{name}"
        text = dockerfile.replace("{base}", world.place.base_image).replace("{host}", world.place.registry)
        sha = await world.commit(slug, App(more={"Dockerfile": text} if text else {}))
        assert world.place.standin is not None
        world.place.standin.scripts.build(f"preview-build-{slug}-*", script)
        return await world.deploy(slug, sha, timeout=200.0)

    return Fault(f"kaniko-{name}", cause, code, reason, whose, names)


def app(
    name: str, script: AppScript, code: str, reason: str, *names: str, whose: str = "user", **spec: Any
) -> Fault[ClusterWorld]:
    """An app that behaves as its script says."""

    async def cause(world: ClusterWorld) -> object:
        slug = f"app-{name}"
        sha = await world.commit(slug, App(spec={**IMPATIENT, **spec}))
        assert world.place.standin is not None
        world.place.standin.scripts.app(slug, script)
        return await world.deploy(slug, sha, timeout=200.0)

    return Fault(f"pod-{name}", cause, code, reason, whose, names)


def act(
    name: str,
    cause: Callable[[ClusterWorld], Awaitable[object]],
    code: str,
    reason: str,
    *names: str,
    whose: str = "platform",
) -> Fault[ClusterWorld]:
    """Anything else."""
    return Fault(name, cause, code, reason, whose, names)


NPM = sample("tools", "npm-lock-stale").lines
STEPS = "# one\nFROM {base}\nWORKDIR /app\nRUN npm ci\n"
COPIES = "FROM {base}\n\nCOPY absent.txt /\n"
LIMIT = "error building image: GET https://index.docker.io/v2/library/node/manifests/20: TOOMANYREQUESTS: rate limit"
RESTRICTED = "container has runAsNonRoot and image will run as root"
EVICTED = "Pod ephemeral local storage usage exceeds the total limit of containers 4Gi. "

BUILDS: tuple[Fault[ClusterWorld], ...] = (
    build("memory", BuildScript(oom=True), BUILD, "OutOfMemory", "BUILD_MEMORY", "Dockerfile"),
    build(
        "step-memory",
        BuildScript(run_killed=True),
        BUILD,
        "OutOfMemory",
        "Dockerfile:4",
        "BUILD_MEMORY",
        "1Gi",
        dockerfile=STEPS,
    ),
    build("disk", BuildScript(no_space=True), BUILD, "DiskFull", "BUILD_DISK", whose="platform"),
    build("evicted", BuildScript(evicted=EVICTED), BUILD, "DiskFull", "BUILD_DISK", "4Gi"),
    build(
        "npm-step",
        BuildScript(log=NPM, exit_code=1),
        BUILD,
        "LockFileOutOfDate",
        "Dockerfile:4",
        "package-lock.json",
        dockerfile=STEPS,
    ),
    build(
        "copy",
        BuildScript(
            failure=f"{FAILED}resolving src: failed to get fileinfo for "
            "/kaniko/buildcontext/absent.txt: lstat /kaniko/buildcontext/absent.txt: no such file or directory"
        ),
        BUILD,
        "SourceMissing",
        "Dockerfile:3",
        "absent.txt",
        dockerfile=COPIES,
    ),
    build(
        "instruction",
        BuildScript(),
        BUILD,
        "DockerfileInvalid",
        "Dockerfile:2",
        "RUNN",
        dockerfile="FROM {base}\nRUNN make\n",
    ),
    build(
        "parse",
        BuildScript(failure="error building image: dockerfile parse error on line 3: unterminated heredoc"),
        BUILD,
        "DockerfileInvalid",
        "Dockerfile:3",
        "heredoc",
    ),
    build(
        "target",
        BuildScript(failure="error building image: x is not a valid target build stage"),
        BUILD,
        "StageUnknown",
        "Dockerfile",
        "`x`",
    ),
    build(
        "base",
        BuildScript(),
        BUILD,
        "BaseImageNotFound",
        "Dockerfile:1",
        "base/nothing:9",
        dockerfile="FROM {host}/base/nothing:9\n",
    ),
    build("limit", BuildScript(failure=LIMIT), BUILD, "RateLimited", "REGISTRY_MIRRORS", whose="platform"),
    build(
        "credentials",
        BuildScript(failure=f"{SOURCE}authentication required"),
        BUILD,
        "CredentialsRefused",
        "installation_id",
    ),
    build(
        "repository",
        BuildScript(failure=f"{SOURCE}repository not found"),
        BUILD,
        "RepositoryNotFound",
        "repo_full_name",
    ),
    build("branch", BuildScript(failure=f"{SOURCE}reference not found"), BUILD, "CommitGone", "branch"),
    build(
        "submodule",
        BuildScript(failure=f"{SOURCE}cloning submodule vendor/lib: authentication required"),
        BUILD,
        "SubmoduleNotFetched",
        ".gitmodules",
    ),
    build(
        "push",
        BuildScript(push_failure="DENIED: requested access to the resource is denied"),
        "registry_unreachable",
        "PushRefused",
        "REGISTRY_ADDRESS",
        "previews/",
        whose="platform",
    ),
    build(
        "image",
        BuildScript(cannot_start=True),
        "kaniko_create_failed",
        "ImagePullBackOff",
        "KANIKO_IMAGE",
        whose="platform",
    ),
    build(
        "node",
        BuildScript(unschedulable="0/1 nodes are available: 1 Insufficient cpu."),
        "kaniko_create_failed",
        "Unschedulable",
        "Insufficient cpu",
        "BUILD_NODE_SELECTOR",
        whose="platform",
    ),
)

APPS: tuple[Fault[ClusterWorld], ...] = (
    app(
        "pull",
        AppScript(cannot_pull=True),
        "image_unpullable",
        "ImagePullBackOff",
        "REGISTRY_PULL_ADDRESS",
        whose="platform",
    ),
    app(
        "crash",
        AppScript(crash=7, ready_after=60.0, log=("KeyError: 'DATABASE_URL'",)),
        NOT_READY,
        "SettingMissing",
        "DATABASE_URL",
        "spec.env",
    ),
    app(
        "memory",
        AppScript(crash=137, oom=True, ready_after=60.0),
        NOT_READY,
        "OutOfMemory",
        "spec.resources.limits.memory",
        "1Gi",
    ),
    app(
        "silent", AppScript(never_ready=True, log=("starting",)), NOT_READY, "ListensNowhere", "spec.runtime.port 8080"
    ),
    app(
        "port",
        AppScript(port=3000, log=("Listening on http://0.0.0.0:3000",)),
        NOT_READY,
        "ListensOnAnotherPort",
        "3000",
        "spec.runtime.port",
    ),
    app(
        "loopback",
        AppScript(never_ready=True, log=("Listening on http://127.0.0.1:8080",)),
        NOT_READY,
        "ListensOnLoopback",
        "0.0.0.0:8080",
    ),
    app("health-503", AppScript(never_ready=503), NOT_READY, "Unhealthy", "503", "spec.runtime.healthcheck.path"),
    app("health-404", AppScript(never_ready=404), NOT_READY, "Unhealthy", "404", "spec.runtime.healthcheck.path"),
    app("stuck", AppScript(hang=True), NOT_READY, "Unhealthy", "timeoutSeconds"),
    app("root", AppScript(config_error=RESTRICTED), NOT_READY, "ImageRunsAsRoot", "USER 1000", "Dockerfile"),
    app(
        "secret",
        AppScript(config_error='secret "preview-secrets-app-secret-1" not found'),
        "secret_missing",
        "BundleGone",
        "preview-secrets-app-secret-1",
        "secret_values",
    ),
    app(
        "node",
        AppScript(),
        NOT_READY,
        "Unschedulable",
        "memory 900Gi",
        "Insufficient memory",
        "spec.resources.requests",
        whose="platform",
        resources={"requests": {"memory": "900Gi"}, "limits": {"memory": "901Gi"}},
    ),
    app(
        "app-503",
        AppScript(answers={"/": Answer(503, "down for maintenance\n")}),
        "verify_failed",
        "CheckFailed",
        "GET /",
        "503",
        "spec.runtime.path",
        runtime={"path": "/", "healthcheck": {"path": "/up", "periodSeconds": 1}},
    ),
    app(
        "app-502",
        AppScript(answers={"/": Answer(502, "<center>nginx</center>\n")}),
        "verify_failed",
        "GatewayError",
        "spec.runtime.protocol",
        runtime={"path": "/", "healthcheck": {"path": "/up", "periodSeconds": 1}},
    ),
)


def first(slug: str) -> Callable[[ClusterWorld], Awaitable[object]]:
    """The first deploy of a healthy app, by that name."""

    async def cause(world: ClusterWorld) -> object:
        return await world.app(slug, App(spec=IMPATIENT))

    return cause


POLICY = act("pod-security", first("refused-policy"), "policy_denied", "PodSecurity", "POD_SECURITY", "runAsNonRoot")
QUOTA = act(
    "pod-quota",
    first("refused-quota"),
    "quota_exceeded",
    "QuotaExceeded",
    "small",
    "spec.resources",
    "pods=1",
    whose="user",
)
BUILD_QUOTA = act("build-quota", first("unbuilt"), "kaniko_create_failed", "PodRefused", "small", "BUILDS_AT_ONCE")
"""Of an administrator's doing; one after the other, for each is for the whole namespace."""

ELSEWHERE: tuple[tuple[dict[str, str], Fault[ClusterWorld]], ...] = (
    (
        {"INGRESS_ADDRESS": ""},
        act("public-dns", first("public-dns"), "verify_failed", "DnsFailed", "INGRESS_ADDRESS", "preview.test"),
    ),
    (
        {"INGRESS_ADDRESS": "127.0.0.1:1"},
        act("public-away", first("public-away"), "verify_failed", "IngressAway", "127.0.0.1:1", "INGRESS_ADDRESS"),
    ),
    (
        {"INGRESS_CLASS": "nobody"},
        act(
            "ingress-404",
            first("ingress-404"),
            "verify_failed",
            "IngressHasNoRoute",
            "INGRESS_CLASS",
            "ingress-404.preview.test",
        ),
    ),
    (
        {"PUBLIC_CA_FILE": "/etc/ssl/certs/ca-certificates.crt"},
        act("public-tls", first("public-tls"), "verify_failed", "CertificateInvalid", "PUBLIC_CA_FILE"),
    ),
)
"""Faults of how a provider sees the ingress: each with the settings of a provider of its own."""
