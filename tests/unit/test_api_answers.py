"""What of the API server's answers is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provider.errors import Temporary
from provider.platforms.kubernetes import answers
from provider.platforms.kubernetes.refusals import Expired, Refused

NAMED = {"metadata": {"name": "app", "uid": "u", "resourceVersion": "7"}}


def said(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "metadata",
    [{}, {"name": "app"}, {**NAMED["metadata"], "uid": None}, {**NAMED["metadata"], "resourceVersion": "\u00b2"}, None],
)
def test_an_object_without_what_all_have_is_none(metadata: Any) -> None:
    assert answers.whole(dict(NAMED)) == NAMED
    with pytest.raises(Temporary):
        answers.whole({"metadata": metadata})


def test_a_list_may_have_no_items_and_go_on() -> None:
    page = answers.page({"items": None, "metadata": {"resourceVersion": "8", "continue": "c"}})
    assert (page.items, page.version, page.more) == ([], "8", "c")
    assert answers.page({"items": [NAMED], "metadata": {"resourceVersion": "8"}}).more == ""


def test_a_bookmark_has_but_a_version() -> None:
    found = {"metadata": {"resourceVersion": "9"}}
    assert answers.change(said({"type": "BOOKMARK", "object": found})) == ("BOOKMARK", found)
    with pytest.raises(Temporary):
        answers.change(said({"type": "ADDED", "object": found}))
    with pytest.raises(Expired, match="too old"):
        answers.change(said({"type": "ERROR", "object": {"code": 410, "message": "too old"}}))


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"[" * 100_000, b"\xff"])
def test_a_refusal_that_is_no_status_is_told_as_it_is(body: bytes) -> None:
    refused = answers.refusal(403, "", body)
    assert isinstance(refused, Refused)
    assert len(refused.message) <= 300


@pytest.mark.parametrize(("pause", "delay"), [("7", 7.0), ("9" * 400, 60.0), ("²", None), ("soon", None), ("", None)])
def test_a_pause_that_is_asked_for_is_bounded(pause: str, delay: float | None) -> None:
    told = answers.refusal(429, pause, said({"message": "slowly"}))
    assert isinstance(told, Temporary)
    assert told.delay == delay
