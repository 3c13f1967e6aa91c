"""The spec's loader: one test a rule, and properties that hold for any text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider import spec
from provider.errors import Code, Permanent, PreviewError
from provider.spec import quantities


def base() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(spec.SMALLEST_SPEC)
    return data


def put(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`data` with `value` at the dotted path; a name that ends in `[]` is a list's first item."""
    at: Any = data
    *parents, last = path.split(".")
    for name in parents:
        at = at.setdefault(name, {}) if not name.endswith("[]") else at.setdefault(name[:-2], [{}])[0]
    at[last] = value
    return data


def text_of(**changes: Any) -> str:
    data = base()
    for path, value in changes.items():
        put(data, path, value)
    return yaml.safe_dump(data)


def with_(path: str, value: Any) -> str:
    return text_of(**{path: value})


def mistakes(text: str, **options: Any) -> tuple[str, ...]:
    with pytest.raises(Permanent) as caught:
        spec.load(text, **options)
    assert caught.value.code is Code.INVALID_PREVIEW_SPEC
    assert caught.value.hint
    assert caught.value.evidence
    assert all(len(line.splitlines()) == 1 for line in caught.value.evidence)
    return caught.value.evidence


def the_mistake(text: str, **options: Any) -> str:
    lines = mistakes(text, **options)
    assert len(lines) == 1, lines
    return lines[0]


def env(*entries: dict[str, Any], **rest: Any) -> str:
    return text_of(**{"spec.env": list(entries), **rest})


# --------------------------------------------------------------------------------- defaults


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


# ------------------------------------------------------------------------------- the grammar

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


# ------------------------------------------------------------------------ rules between fields


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


# ----------------------------------------------------------------------------------- warnings


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


# --------------------------------------------------------------------------------- hostile text

ALIAS_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- a\n", "a list of 1"),
        ("just text", 'holds "just text"'),
        ("null", "nothing (null)"),
        ("a: [1\n", "line 2"),
        ("a: b: c", "line 1, column 5"),
        ("\ta: b", "line 1, column 1"),
        ("a: \0", "line 1, column 4"),
        ("a: b\nc: \ud800", "line 2, column 4"),
        ("--- \na: b\n---\nc: d\n", "more than one YAML document"),
        ("x" * (spec.MAX_SPEC_BYTES + 1), "at most 65536"),
        ("é" * (spec.MAX_SPEC_BYTES // 2 + 1), "at most 65536"),
        ("[" * 30000, "nested deeper"),
        ("{a: " * 15000, "nested deeper"),
        ("- " * 30000, "nested deeper"),
        (ALIAS_BOMB, "more than 5000 values"),
        ("a: &a\n  b: *a\n", "alias *a"),
        ("a: *nowhere\n", "alias *nowhere"),
        ("? [a]\n: b\n", "name that is no text"),
        ('a: "\\UFFFFFFFF"', "out of range"),
        (f"%YAML {'9' * 5000}.1\n---\na: b\n", "out of range"),
    ],
)
def test_unreadable_text(text: str, says: str) -> None:
    assert says in the_mistake(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (spec.SMALLEST_SPEC + "  runtime: {port: 4000}\n", "spec.runtime (line 7): is given twice, first on line 6"),
        (spec.SMALLEST_SPEC + "  env: !!python/object/apply:os.system [id]\n", "has the tag"),
        (spec.SMALLEST_SPEC + "  env: !custom []\n", "has the tag"),
        (spec.SMALLEST_SPEC.replace("3000", "!!int 3000"), "has the tag"),
        (spec.SMALLEST_SPEC + '  env: [{name: A, value: "\\ud800"}]\n', "half a character"),
        (spec.SMALLEST_SPEC + "  <<: {env: []}\n", "merges with"),
    ],
)
def test_yaml_that_is_not_for_here(text: str, says: str) -> None:
    assert any(says in line for line in mistakes(text))


def test_a_harmless_alias_works() -> None:
    text = spec.SMALLEST_SPEC + "  env:\n  - {name: A, value: &v hello}\n  - {name: B, value: *v}\n"
    assert [entry.value for entry in spec.load(text).spec.body.env] == ["hello", "hello"]


def test_aliases_do_not_add_up_to_any_depth() -> None:
    levels = "".join(f"k{i}: &k{i} {'[' * 20}{f'*k{i - 1}' if i else 'x'}{']' * 20}\n" for i in range(100))
    assert "nested deeper" in the_mistake(levels)


TWENTY = """\
apiVersion: x1agent.io/v2
kind: previewspec
metadata: {name: My_App}
spec:
  entrypoint: {kind: dockerfil, path: ../Dockerfile, buildContext: /abs}
  runtime: {port: 0, protocol: htp, path: app, healthcheck: {path: x, periodSeconds: 0}}
  env:
  - {name: A, value: x, from: secret:X}
  - {name: A, from: secrt:X}
  - {name: 1B, value: x}
  - {name: C}
  - {name: D, from: dep:3.url}
  resources: {requests: {cpu: 2}, limits: {cpu: 1, memory: lots}}
  volumes: [{name: UP, kind: tmpfs, mountPath: /x}]
"""


def test_twenty_mistakes_are_told_at_once_and_in_order() -> None:
    lines = mistakes(TWENTY)
    assert len(lines) == 20
    assert len({line.split(" ")[0] for line in lines}) == 20
    numbers = [int(line.split("line ")[1].split(")")[0]) for line in lines]
    assert numbers == sorted(numbers)
    with pytest.raises(Permanent, match=r"has 20 mistakes: apiVersion .*; and 17 more"):
        spec.load(TWENTY)


def test_a_file_of_nothing_but_mistakes_gets_a_bounded_answer() -> None:
    lines = mistakes(spec.SMALLEST_SPEC + "  env: [" + "{}," * 3000 + "]")
    assert len(lines) == 201
    assert lines[-1].endswith("more")


def test_odd_names_are_shown_on_one_short_line() -> None:
    name = "evil\x1b[31m\u2028\u202e" + "x" * 500
    warning = spec.load(spec.SMALLEST_SPEC + f"  {yaml.safe_dump(name, width=9999).split(chr(10))[0]}: 1\n").warnings[0]
    assert warning.isprintable()
    assert len(warning) < 300


# --------------------------------------------------------------------------- what callers ask


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


# ---------------------------------------------------------------------------------- properties

quick = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
anything = st.text(st.characters(codec=None), max_size=200)
yamlish = st.text("ab:-[]{}&*!|>%@\"'#,?\n\t \\\0\ud800<~", max_size=80)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@quick
@given(anything | yamlish | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_spec_or_a_preview_error(text: str) -> None:
    for candidate in (text, spec.SMALLEST_SPEC + "  " + text, spec.SMALLEST_SPEC.replace("3000", text)):
        try:
            spec.load(candidate)
        except PreviewError as error:
            assert error.evidence  # noqa: PT017 - both outcomes are fine


ANYWHERE = (
    *("metadata", "spec", "spec.env", "spec.dependencies", "spec.resources", "spec.volumes", "spec.ingress"),
    *("spec.runtime.healthcheck", "spec.entrypoint.args", "spec.resources.requests", "spec.env[].from"),
    *("spec.env[].name", "spec.volumes[].mountPath", "spec.ingress.additionalHeaders", "spec.dependencies[].kind"),
)


@quick
@given(
    st.sampled_from(ANYWHERE),
    json_like,
)
def test_any_data_anywhere_is_a_spec_or_a_preview_error(path: str, value: Any) -> None:
    text = yaml.safe_dump(put(base(), path, value))
    try:
        spec.load(text, strict=True)
    except PreviewError as error:
        assert error.code is Code.INVALID_PREVIEW_SPEC  # noqa: PT017 - both outcomes are fine


def mapping(
    required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]] | None = None
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional or {})


slugs = st.text("ab0-", max_size=61).map(lambda middle: f"a{middle}z")
env_names = st.text("aB0_", max_size=20).map(lambda rest: f"_{rest}")
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)
sources = st.sampled_from(["secret:TOKEN", "preview.self_url", "preview.share_base_url"])
env_entries = st.one_of(
    mapping({"name": env_names, "value": values}),
    mapping({"name": env_names, "from": sources}),
)
valid_specs = mapping(
    {
        "apiVersion": st.just("x1agent.io/v1"),
        "kind": st.just("PreviewSpec"),
        "metadata": mapping({"name": slugs}, optional={"description": values}),
        "spec": mapping(
            {
                "entrypoint": mapping(
                    {"kind": st.just("dockerfile"), "path": st.sampled_from(["Dockerfile", "a/b.Dockerfile"])},
                    optional={"args": st.dictionaries(env_names, values, min_size=1, max_size=3)},
                ),
                "runtime": mapping(
                    {"port": st.integers(1, 65535)},
                    optional={
                        "protocol": st.sampled_from(["http", "http2"]),
                        "path": st.sampled_from(["/", "/app", "/a/b/"]),
                        "healthcheck": mapping(
                            {}, optional={"path": st.just("/healthz"), "initialDelaySeconds": st.integers(0, 3600)}
                        ),
                    },
                ),
            },
            optional={
                "env": st.lists(env_entries, max_size=5, unique_by=lambda entry: str(entry["name"])),
                "ingress": mapping({"stripPath": st.booleans()}),
                "volumes": st.just([{"name": "v", "kind": "emptyDir", "mountPath": "/v"}]),
            },
        ),
    }
)


@settings(quick, max_examples=40)
@given(valid_specs)
def test_a_valid_spec_round_trips(data: dict[str, Any]) -> None:
    loaded = spec.load(yaml.safe_dump(data), strict=True)
    dumped = loaded.spec.model_dump(mode="json", exclude_unset=True)
    assert dumped == data
    assert spec.load(yaml.safe_dump(dumped)).spec == loaded.spec
