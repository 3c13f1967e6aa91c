"""Text that is no spec, or means harm: every one is answered, in bounds."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider import spec
from provider.errors import Code, Permanent, PreviewError
from tests.unit.spec.helpers import base, mistakes, put, the_mistake

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
