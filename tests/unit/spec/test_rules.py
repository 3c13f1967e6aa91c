"""Rules between fields, warnings, and what callers ask of a spec."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import yaml

from provider import spec
from provider.errors import Code, Permanent
from provider.spec import quantities
from tests.unit.spec.helpers import base, env, mistakes, put, text_of, the_mistake, with_


@pytest.mark.parametrize(
    ("entries", "where", "says"),
    [
        ([{"name": "A", "value": 1}, {"name": "A", "value": 2}], "spec.env[1].name", "spec.env[0] has already"),
        ([{"name": "A"}], "spec.env[0]", "has no source"),
        ([{"name": "A", "value": "x", "from": "secret:B"}], "spec.env[0]", "both `value` and `from`"),
        ([{"name": "A", "from": "literal"}], "spec.env[0].from", "literal without a `value`"),
        ([{"name": "A", "from": "dep:0.url"}], "spec.env[0].from", "spec.dependencies is empty"),
    ],
)
def test_env_rules(entries: list[dict[str, Any]], where: str, says: str) -> None:
    line = the_mistake(env(*entries))
    assert line.startswith(f"{where} ")
    assert says in line


@pytest.mark.parametrize(
    ("source", "says"),
    [("dep:2.url", "dep:0 to dep:1"), ("dep:1.database", "url, host, port, password"), ("dep:0.usr", "mean `user`?")],
)
def test_dependency_references(source: str, says: str) -> None:
    dependencies = [{"kind": "postgres"}, {"kind": "redis"}]
    text = env({"name": "A", "from": source}, **{"spec.dependencies": dependencies})
    assert says in the_mistake(text)


def test_a_dependency_field_that_exists_is_fine() -> None:
    spec.load(env({"name": "A", "from": "dep:0.database"}, **{"spec.dependencies": [{"kind": "postgres"}]}))


def test_extra_env_is_a_source() -> None:
    assert spec.load(env({"name": "A"}), extra_env_names=frozenset({"A"})).spec.body.env[0].value is None


def test_volumes_are_unique() -> None:
    volume = {"name": "a", "kind": "tmpfs", "mountPath": "/data"}
    lines = mistakes(with_("spec.volumes", [volume, {**volume, "mountPath": "/data/./"}]))
    assert {line.split(" ")[0] for line in lines} == {"spec.volumes[1].name", "spec.volumes[1].mountPath"}


def test_headers_are_unique_whatever_their_case() -> None:
    assert "same header" in the_mistake(with_("spec.ingress.additionalHeaders", {"X-A": "1", "x-a": "2"}))


@pytest.mark.parametrize(
    ("requests", "limits", "effective"),
    [
        ({"cpu": 2}, {}, ("2", "2")),
        ({"cpu": "500m"}, {}, ("500m", "1")),
        ({}, {"cpu": "100m"}, ("100m", "100m")),
        ({}, {"cpu": 4}, ("200m", "4")),
        ({"cpu": "1"}, {"cpu": "1000m"}, ("1", "1000m")),
    ],
)
def test_a_default_moves_to_what_was_given(
    requests: dict[str, Any], limits: dict[str, Any], effective: tuple[str, str]
) -> None:
    text = with_("spec.resources", {"requests": requests, "limits": limits})
    assert spec.load(text).spec.body.resources.effective("cpu") == effective


def test_a_request_above_its_limit_is_refused() -> None:
    line = the_mistake(with_("spec.resources", {"requests": {"memory": "2Gi"}, "limits": {"memory": "1500Mi"}}))
    assert line.startswith("spec.resources.requests.memory ")
    assert "1500Mi" in line


@pytest.mark.parametrize(
    ("text", "number"),
    [("1Ki", "1024"), ("1k", "1000"), ("200m", "0.2"), ("1e3", "1000"), (".5", "0.5"), ("1E", "1e18"), ("2E2", "200")],
)
def test_quantities(text: str, number: str) -> None:
    assert quantities.amount(text) == Decimal(number)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("spec.runtime.prot", 1, "did you mean `port`?"),
        ("spec.runtime.initial_delay_seconds", 1, "did you mean `spec.runtime.healthcheck.initialDelaySeconds`?"),
        ("spec.ephemeralStorage", "1Gi", "did you mean `spec.resources.ephemeralStorage`?"),
        ("spec.zzz", 1, "known here: entrypoint, runtime"),
        ("spec.env[].valu", "x", "did you mean `value`?"),
    ],
)
def test_unknown_fields_warn_and_are_errors_when_strict(path: str, value: Any, says: str) -> None:
    data = put(base(), path, value)
    if "env" in data["spec"]:
        data["spec"]["env"][0] |= {"name": "A", "value": "y"}
    (warning,) = spec.load(yaml.safe_dump(data)).warnings
    assert says in warning
    assert warning.startswith(path.replace("[]", "[0]"))
    assert says in the_mistake(yaml.safe_dump(data), strict=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spec.entrypoint": {"kind": "manifest", "path": "k8s", "args": {"A": "1"}}}, "takes no args"),
        ({"spec.entrypoint": {"kind": "helm", "path": "x", "buildContext": "."}}, "only kind dockerfile"),
        ({"spec.dependencies": [{"kind": "redis", "name": "x"}]}, "only kind mcp has a name"),
        ({"spec.resources.limits": {"memory": 512}}, "did you mean `512Mi`?"),
    ],
)
def test_what_does_nothing_warns(changes: dict[str, Any], says: str) -> None:
    (warning,) = spec.load(text_of(**changes), strict=True).warnings
    assert says in warning


def test_secret_refs() -> None:
    entries = [{"name": n, "from": f"secret:{s}"} for n, s in (("A", "X"), ("B", "Y"), ("C", "X"))]
    loaded = spec.load(env(*entries, {"name": "D", "value": "secret:Z"})).spec
    assert spec.secret_refs(loaded) == ("X", "Y")
    assert spec.secret_refs(loaded, frozenset({"B"})) == ("X",)


@pytest.mark.parametrize("kind", ["compose", "helm", "kustomize", "manifest"])
def test_only_dockerfiles_are_supported(kind: str) -> None:
    with pytest.raises(Permanent, match=f"found {kind}") as caught:
        spec.check_supported(spec.load(with_("spec.entrypoint.kind", kind)).spec)
    assert caught.value.code is Code.UNSUPPORTED_ENTRYPOINT


@pytest.mark.parametrize(
    ("path", "value"), [("spec.dependencies", [{"kind": "redis"}]), ("spec.runtime.protocol", "tcp")]
)
def test_unsupported_features_are_named(path: str, value: Any) -> None:
    with pytest.raises(Permanent) as caught:
        spec.check_supported(spec.load(with_(path, value)).spec)
    assert caught.value.code is Code.UNSUPPORTED_FEATURE
    assert path in caught.value.message


def test_what_is_supported_passes() -> None:
    spec.check_supported(spec.load(with_("spec.runtime.protocol", "http2")).spec)


def test_the_json_schema_describes_every_field() -> None:
    schema = spec.json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"].startswith("https://")
    assert schema["examples"] == [base()]
    assert schema["required"] == ["apiVersion", "kind", "metadata", "spec"]
    for name, part in schema["$defs"].items():
        assert part["description"], name
        assert part.get("additionalProperties", True) is True
        assert all({"description", "$ref"} & set(field) for field in part["properties"].values()), name
    assert set(schema["$defs"]["EnvVar"]["properties"]) == {"name", "value", "from"}
    assert schema["$defs"]["Runtime"]["properties"]["port"]["maximum"] == 65535
