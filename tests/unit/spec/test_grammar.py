"""Each field alone: defaults, what is allowed, and what is said of what is not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from provider import spec
from tests.unit.spec.helpers import base, the_mistake, with_


def test_the_smallest_spec_has_every_default() -> None:
    loaded = spec.load(spec.SMALLEST_SPEC, strict=True)
    body = loaded.spec.body
    assert loaded.warnings == ()
    assert loaded.spec.slug == "my-app"
    assert (body.entrypoint.path, body.entrypoint.build_context, body.entrypoint.args) == ("./Dockerfile", ".", None)
    assert (body.runtime.port, body.runtime.protocol, body.runtime.path) == (3000, "http", "/")
    health = body.runtime.healthcheck
    assert (health.path, health.initial_delay_seconds, health.period_seconds) == ("/", 15, 10)
    assert (health.timeout_seconds, health.failure_threshold, health.delay_given) == (3, 3, False)
    assert body.resources.effective("cpu") == ("200m", "1")
    assert body.resources.effective("memory") == ("512Mi", "1Gi")
    assert body.resources.ephemeral_storage == "512Mi"
    assert (body.env, body.volumes, body.dependencies) == ((), (), ())
    assert body.ingress.strip_path is True


@pytest.mark.parametrize("value", [0, 15, 60])
def test_a_given_delay_is_known_as_given(value: int) -> None:
    health = spec.load(with_("spec.runtime.healthcheck", {"initialDelaySeconds": value})).spec.body.runtime.healthcheck
    assert (health.delay_given, health.initial_delay_seconds) == (True, value)


def test_null_is_left_out() -> None:
    loaded = spec.load(spec.SMALLEST_SPEC + "  env:\n  resources:\n", strict=True)
    assert loaded.spec == spec.load(spec.SMALLEST_SPEC).spec


MAX_NAME = "a" + "b" * 62

GOOD = [
    ("metadata.name", "a"),
    ("metadata.name", MAX_NAME),
    ("metadata.description", "über\nlines: {{ x }}"),
    ("spec.entrypoint.kind", "helm"),
    ("spec.entrypoint.path", "docker/app one.Dockerfile"),
    ("spec.entrypoint.path", "..hidden/Dockerfile"),
    ("spec.entrypoint.buildContext", "services/api/"),
    ("spec.entrypoint.args", {"A": 1, "B": True, "C": 1.5, "D": "x"}),
    ("spec.runtime.port", 1),
    ("spec.runtime.port", 65535),
    ("spec.runtime.path", "/app/v1.2/"),
    ("spec.runtime.healthcheck.path", "/health?deep=1&x=%20"),
    ("spec.env", [{"name": "A", "value": "x", "from": "literal"}]),
    ("spec.env", [{"name": "A", "from": "secret:_B1"}, {"name": "B", "from": "preview.self_url"}]),
    ("spec.env", [{"name": "A", "value": ""}]),
    ("spec.resources.requests.cpu", 0.5),
    ("spec.resources.ephemeralStorage", "1e9"),
    ("spec.volumes", [{"name": "a", "kind": "tmpfs", "mountPath": "/dev/shm", "sizeLimit": "64Mi"}]),
    ("spec.ingress.additionalHeaders", {"X-Robots-Tag": "noindex", "X-N": 1}),
    ("spec.dependencies", [{"kind": "postgres", "shared": True, "provides": ["DATABASE_URL"]}]),
]


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_allowed(path: str, value: Any) -> None:
    assert spec.load(with_(path, value), strict=True).warnings == ()


BAD = [
    ("apiVersion", "v1", "x1agent.io/v1"),
    ("kind", "previewspec", "did you mean `PreviewSpec`?"),
    ("metadata", "my-app", "a mapping"),
    ("metadata.name", "My-App", "a-z"),
    ("metadata.name", "app-", "a-z"),
    ("metadata.name", "1app", "a-z"),
    ("metadata.name", MAX_NAME + "c", "1 to 63"),
    ("metadata.name", "app\n", "a-z"),
    ("metadata.name", 7, "a-z"),
    ("metadata.description", ["x"], "text"),
    ("spec.entrypoint.kind", "dockerfil", "did you mean `dockerfile`?"),
    ("spec.entrypoint.kind", 3, "dockerfile, compose"),
    ("spec.entrypoint.path", "../Dockerfile", "without `..`"),
    ("spec.entrypoint.path", "a/../../Dockerfile", "without `..`"),
    ("spec.entrypoint.path", "/etc/passwd", "relative"),
    ("spec.entrypoint.path", "-f", "`-`"),
    ("spec.entrypoint.path", "~root/x", "`~`"),
    ("spec.entrypoint.path", "a\\..\\b", "relative"),
    ("spec.entrypoint.path", "a\nb", "control"),
    ("spec.entrypoint.path", "a\0b", "control"),
    ("spec.entrypoint.path", "", "relative"),
    ("spec.entrypoint.path", "a" * 1025, "relative"),
    ("spec.entrypoint.buildContext", "..", "without `..`"),
    ("spec.entrypoint.args", ["A=1"], "a mapping"),
    ("spec.entrypoint.args", {"A-B": "1"}, "letters"),
    ("spec.entrypoint.args", {"A": None}, "text, a number"),
    ("spec.runtime.port", 0, "1 to 65535"),
    ("spec.runtime.port", 65536, "1 to 65535"),
    ("spec.runtime.port", "3000", "without quotes"),
    ("spec.runtime.port", 3000.5, "whole number"),
    ("spec.runtime.port", True, "whole number"),
    ("spec.runtime.protocol", "htttp", "did you mean `http`?"),
    ("spec.runtime.path", "app", "beginning with `/`"),
    ("spec.runtime.path", "/a/../b", "without `..`"),
    ("spec.runtime.path", "/a//b", "beginning with `/`"),
    ("spec.runtime.path", "/a b", "beginning with `/`"),
    ("spec.runtime.healthcheck.path", "healthz", "beginning with `/`"),
    ("spec.runtime.healthcheck.path", "/a\r\nX: y", "without spaces"),
    ("spec.runtime.healthcheck.initialDelaySeconds", -1, "0 to 3600"),
    ("spec.runtime.healthcheck.periodSeconds", 0, "1 to 3600"),
    ("spec.runtime.healthcheck.timeoutSeconds", 0, "1 to 3600"),
    ("spec.runtime.healthcheck.failureThreshold", 0, "1 to 1000"),
    ("spec.dependencies", {"kind": "redis"}, "a list"),
    ("spec.dependencies", [{"kind": "postgress"}], "did you mean `postgres`?"),
    ("spec.dependencies", [{"kind": "redis", "shared": "yes"}], "true or false"),
    ("spec.env", [{"name": "1A", "value": "x"}], "letters"),
    ("spec.env", [{"name": "A", "value": ["x"]}], "text, a number"),
    ("spec.env", [{"name": "A", "value": "a\0b"}], "NUL"),
    ("spec.env", [{"name": "A", "from": "secrets:B"}], "did you mean `secret:B`?"),
    ("spec.env", [{"name": "A", "from": "secret:1B"}], "NAME: 1 to 64"),
    ("spec.env", [{"name": "A", "from": "secret:" + "B" * 65}], "NAME: 1 to 64"),
    ("spec.env", [{"name": "A", "from": "preview.selfurl"}], "did you mean `preview.self_url`?"),
    ("spec.env", [{"name": "A", "from": "preview.share_base_url\n"}], "did you mean `preview.share_base_url`?"),
    ("spec.env", ["A=1"], "a mapping"),
    ("spec.resources.requests.cpu", "200 m", "Kubernetes quantity"),
    ("spec.resources.limits.memory", "1GB", "Kubernetes quantity"),
    ("spec.resources.limits.memory", -1, "Kubernetes quantity"),
    ("spec.resources.limits.memory", "0", "above zero"),
    ("spec.resources.ephemeralStorage", True, "Kubernetes quantity"),
    ("spec.volumes", [{"name": "A", "kind": "tmpfs", "mountPath": "/a"}], "a-z"),
    ("spec.volumes", [{"name": "a", "kind": "tmpf", "mountPath": "/a"}], "did you mean `tmpfs`?"),
    ("spec.volumes", [{"name": "a", "kind": "tmpfs", "mountPath": "a"}], "absolute"),
    ("spec.volumes", [{"name": "a", "kind": "tmpfs", "mountPath": "/a/../b"}], "without `..`"),
    ("spec.volumes", [{"name": "a", "kind": "tmpfs", "mountPath": "/"}], "absolute"),
    ("spec.volumes", [{"name": "a", "kind": "tmpfs", "mountPath": "/proc/x"}], "/proc"),
    ("spec.volumes", [{"name": "a", "kind": "tmpfs", "mountPath": "/a:ro"}], "`:`"),
    ("spec.volumes", [{"name": "a", "kind": "tmpfs", "mountPath": "/a", "sizeLimit": "big"}], "Kubernetes quantity"),
    ("spec.ingress.stripPath", "yes", "true or false"),
    ("spec.ingress.additionalHeaders", {"X Y": "z"}, "header name"),
    ("spec.ingress.additionalHeaders", {"X": "a\r\nSet-Cookie: b"}, "one line"),
]


@pytest.mark.parametrize(("path", "value", "says"), BAD)
def test_not_allowed(path: str, value: Any, says: str) -> None:
    line = the_mistake(with_(path, value))
    assert line.startswith(path)
    assert "found" in line
    assert "allowed: " in line
    assert says in line


@pytest.mark.parametrize(
    "path",
    [
        "apiVersion",
        "kind",
        "metadata",
        "metadata.name",
        "spec",
        "spec.entrypoint",
        "spec.entrypoint.kind",
        "spec.entrypoint.path",
        "spec.runtime",
        "spec.runtime.port",
    ],
)
def test_required_fields(path: str) -> None:
    data = base()
    *parents, last = path.split(".")
    at = data
    for name in parents:
        at = at[name]
    del at[last]
    line = the_mistake(yaml.safe_dump(data))
    assert line.startswith(f"{path} ")
    assert "is missing" in line


def test_a_missing_field_names_the_one_that_was_probably_meant() -> None:
    line = the_mistake(spec.SMALLEST_SPEC.replace("port:", "prt:"))
    assert line.startswith("spec.runtime.port (line 6): is missing")
    assert "Is `prt` meant to be it?" in line


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("3000", "3000"),
        ("0755", "0755"),
        ("1.10", "1.10"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("False", "false"),
        ("yes", "yes"),
        ("2026-01-02", "2026-01-02"),
        ("12:30:45", "12:30:45"),
        ("0x1F", "0x1F"),
        (".inf", ".inf"),
        ("'quoted'", "quoted"),
        ("!!str 12", "12"),
        ("9" * 60, "9" * 60),
        ("|-\n      two\n      lines", "two\nlines"),
    ],
)
def test_a_scalar_arrives_as_the_file_shows_it(written: str, text: str) -> None:
    loaded = spec.load(spec.SMALLEST_SPEC + f"  env:\n  - name: A\n    value: {written}\n")
    assert loaded.spec.body.env[0].value == text
