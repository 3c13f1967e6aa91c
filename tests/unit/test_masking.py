"""No secret leaves: however it is written, split, or encoded, and at whatever place the stream is cut."""

from __future__ import annotations

import base64
import itertools
import json
import re
import string
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.masking import WORDS, MaskedStream, Masker

PRINTABLE = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Z"])
"""No space: where a secret has some, that is left out when texts are compared."""
SECRETS = st.text(PRINTABLE, min_size=8, max_size=60).filter(lambda one: one.lower() not in WORDS)
NOISE = st.text(string.ascii_letters + " =:/%+\t", max_size=30)


def bare(text: str) -> str:
    return "".join(text.split())


def written(secret: str) -> list[str]:
    """How programs write a secret."""
    data = secret.encode()
    return [
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        re.sub("%..", lambda escape: escape[0].lower(), quote(secret, safe="")),
        json.dumps(secret)[1:-1],
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
        quote(base64.b64encode(data).decode(), safe=""),
    ]


def streamed(masker: Masker, lines: list[str], cuts: list[int]) -> list[str]:
    """The lines through a stream that gets them in pieces."""
    stream, shown, at = MaskedStream(lambda: masker), [], 0
    for cut in [*cuts, len(lines)]:
        shown += stream.feed(lines[at : at + cut])
        at += cut
    shown += stream.feed(lines[at:])
    return shown + stream.flush()


@given(SECRETS, NOISE, NOISE, st.integers(0, 7))
def test_a_value_is_masked_however_it_is_written(secret: str, before: str, after: str, way: int) -> None:
    text = written(secret)[way]
    shown = Masker([secret]).text(f"{before} {text} {after}")
    assert bare(text) not in bare(shown)
    assert "***" in shown


@given(SECRETS, st.binary(max_size=7), st.binary(max_size=7), st.booleans())
def test_a_value_inside_of_base64_is_masked(secret: str, before: bytes, after: bytes, safe: bool) -> None:
    encode = base64.urlsafe_b64encode if safe else base64.b64encode
    shown = Masker([secret]).text(encode(before + secret.encode() + after).decode())
    # At most the characters that belong to a neighbour as well are left, beside the neighbours' own.
    assert len(shown) <= len(base64.b64encode(before)) + len(base64.b64encode(after)) + 8
    assert "***" in shown


@given(SECRETS, NOISE, st.lists(st.integers(1, 12), min_size=1, max_size=12), st.lists(st.integers(0, 3)), st.data())
def test_a_value_is_masked_where_lines_and_pieces_cut_it(
    secret: str, noise: str, widths: list[int], cuts: list[int], data: st.DataObject
) -> None:
    text = data.draw(st.sampled_from(written(secret)))
    whole, lines, at = f"{noise} {text} {noise}", [], 0
    for width in itertools.cycle(widths):
        lines.append(whole[at : at + width])
        at += width
        if at >= len(whole):
            break
    shown = streamed(Masker([secret]), lines, cuts)
    assert len(shown) == len(lines), "no line is lost, and none is made"
    assert bare(text) not in bare("".join(shown))
    # Of a secret that goes on in the next line at most three bytes were shown, and as escapes these are more.
    telling = [piece for piece in pieces(text, 12 if "%" in text else 4) if piece not in noise]
    assert not any(piece in line for piece in telling for line in shown)


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(len(text) - size + 1)] if size < len(text) else []


@given(st.lists(st.text(PRINTABLE, max_size=20), max_size=20), st.lists(st.integers(0, 5)), SECRETS)
def test_what_holds_no_secret_comes_out_as_it_went_in(lines: list[str], cuts: list[int], secret: str) -> None:
    if bare(secret) in bare("".join(lines)):
        return
    assert streamed(Masker([secret + "-not-there-at-all"]), lines, cuts) == lines


@given(st.lists(st.text("ab \n%2F", max_size=9), max_size=30), st.lists(st.integers(0, 4)), st.text("ab", min_size=8))
@settings(max_examples=200)
def test_texts_that_are_all_beginnings_lose_no_line(lines: list[str], cuts: list[int], secret: str) -> None:
    lines = [line.replace("\n", "") for line in lines]
    shown = streamed(Masker([secret]), lines, cuts)
    assert len(shown) == len(lines)
    assert secret not in bare("".join(shown)).replace("***", "|")


def test_a_key_of_many_lines_is_masked_line_by_line_too() -> None:
    key = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\nq83vEjRWeJq83vEj\n-----END KEY-----"
    shown = Masker([key]).lines(["key: |", *(f"  #7 {line}" for line in key.splitlines()), "done"])
    assert shown == ["key: |", *["  #7 ***"] * 4, "done"]


def test_a_long_key_is_held_back_until_it_is_known_and_no_longer() -> None:
    stream = MaskedStream(lambda: Masker(["first-line\nsecond-line\nthird-line"]))
    assert stream.feed(["begin", "first-line"]) == ["begin"]
    assert stream.feed(["second-line"]) == []
    assert stream.feed(["third-line", "end"]) == ["***", "", "", "end"]
    assert stream.feed(["first-line"]) == []
    assert stream.flush() == ["***"], "a line of it is secret alone"


def test_what_is_held_back_is_bounded() -> None:
    stream = MaskedStream(lambda: Masker(["secret-value"]))
    assert stream.feed(["secret-"]) == []
    shown = [line for _ in range(100) for line in stream.feed([""])]
    assert shown[0] == "***"
    assert len(shown) > 70


@pytest.mark.parametrize("value", ["", "abc", "true", "8080", "0.5", "production", " a \n"])
def test_what_stands_in_any_log_is_no_secret(value: str) -> None:
    masker = Masker([value])
    assert masker.idle
    assert masker.text(f"is {value} it") == f"is {value} it"


def test_a_short_value_is_not_found_across_words() -> None:
    masker = Masker(["then"])
    assert masker.lines(["the next", "then", "th", "  en"]) == ["the next", "***", "***", ""]


def test_data_is_masked_in_depth_and_keeps_its_shape() -> None:
    masker = Masker(["hunter22"])
    data = {"a": ["x hunter22", "hun", "ter22"], "b": ({"c": "hunter22"},), "n": 5, "none": None}
    assert masker.data(data) == {"a": ["x ***", "***", ""], "b": ({"c": "***"},), "n": 5, "none": None}


def test_a_hundred_thousand_lines_cost_little() -> None:
    masker = Masker([f"value-of-secret-{number}-{number:08x}" for number in range(10)])
    stream, line = MaskedStream(lambda: masker), "#7 12.34 npm http fetch GET 200 https://registry/some%2fpackage v1 "
    lines = [f"{line}{number}" for number in range(100_000)]
    began = time.process_time()
    shown = sum(len(stream.feed(lines[at : at + 200])) for at in range(0, len(lines), 200))
    assert shown + len(stream.flush()) == len(lines)
    assert time.process_time() - began < 4.0, "25,000 lines/s, on a busy machine"
