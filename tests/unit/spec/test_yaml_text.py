"""The quick parser and PyYAML's own tell the same, and what only one of them reads is told as the other tells it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from provider.spec import yaml_text
from provider.spec.yaml_text import Document, Int, Refused, read

WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)


def slowly(text: str) -> Document:
    return yaml_text._Reader(text, yaml.SafeLoader).document()


def test_there_is_a_quick_one() -> None:
    assert yaml_text._QUICK is not yaml.SafeLoader, "PyYAML's wheels come with libyaml"


@given(DATA, st.sampled_from([True, False, None]), st.sampled_from(["", "# a comment\n"]))
def test_both_read_the_same(data: Any, flow: bool | None, comment: str) -> None:
    text = comment + yaml.safe_dump(data, allow_unicode=True, default_flow_style=flow)
    found, expected = read(text), slowly(text)
    assert found == expected
    assert repr(found) == repr(expected), "1 is not True, and 1 is not 1.0"


def test_numbers_keep_their_text() -> None:
    (value,) = read("a: 0755\n").data.values()
    assert (type(value), value.text) == (Int, "0755")


@pytest.mark.parametrize(
    "text", ["a:\tb\n", "\ufeffa: b\n", "a: b\r\n", "[a, b", "a: b: c", 'a: "\\UFFFFFFFF"', "%YAML 9"]
)
def test_what_is_odd_is_told_by_pyyaml(text: str) -> None:
    """Were it not, a spec would be one on a machine with libyaml only."""
    try:
        expected: object = slowly(text)
    except yaml_text._NOT_YAML:
        with pytest.raises(Refused, match="is not valid YAML"):
            read(text)
    else:
        assert read(text) == expected
