"""A deploy's outcome as JUnit XML: by the schema that CI systems read, with the right case failing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer

from provider.cli import junit
from provider.client import Deployed, FailureForm, PreviewFailed, TimedOut

ALLOWED = {
    "testsuites": {"name", "tests", "failures", "errors", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"classname", "name", "time"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": set(),
}
"""Attributes that the common schema has for each element; the children and their order are checked below."""
CHILDREN = {
    "testsuites": ["testsuite"],
    "testsuite": ["properties", "testcase"],
    "properties": ["property"],
    "testcase": ["skipped", "error", "failure"],
}
TIMINGS = {"resolve": 0.5, "admit": 0.01, "build": 12.25, "total": 13.0}


def read(suite: junit.Suite) -> ElementTree.Element:
    """The document, checked against the schema's structure, and its counts against its cases."""
    root = ElementTree.fromstring(suite.xml())
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.keys()) <= ALLOWED[element.tag], element.tag
        order = [CHILDREN[element.tag].index(child.tag) for child in element]
        assert order == sorted(order), element.tag
    (inner,) = root
    cases = inner.findall("testcase")
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(inner.attrib[name]) == len(inner.findall(f"testcase/{tag}"))
    assert int(inner.attrib["tests"]) == int(root.attrib["tests"]) == len(cases)
    return inner


def outcome(case: ElementTree.Element) -> str:
    return case[0].tag if len(case) else "passed"


def failure(**fields: Any) -> PreviewFailed:
    form = {"ok": False, "code": "kaniko_build_failed", "message": "The build failed.", "whose": "user", **fields}
    return PreviewFailed(FailureForm.read(form))


def test_a_preview_that_is_up_passes_a_case_for_each_phase_and_check() -> None:
    checks = [{"name": "root", "ok": True}, {"name": "/healthz", "ok": True}]
    reply = {"url": "https://shop.x", "slug": "shop", "timings": TIMINGS, "checks": checks}
    suite = read(junit.succeeded("acme/shop@main", Deployed.read(reply)))
    cases = suite.findall("testcase")
    assert [(case.attrib["classname"], case.attrib["name"], outcome(case)) for case in cases] == [
        ("preview.phase", "resolve", "passed"),
        ("preview.phase", "admit", "passed"),
        ("preview.phase", "build", "passed"),
        ("preview.check", "root", "passed"),
        ("preview.check", "/healthz", "passed"),
    ]
    assert (suite.attrib["time"], cases[2].attrib["time"]) == ("13.000", "12.250")
    assert {"name": "url", "value": "https://shop.x"} in [one.attrib for one in suite.iter("property")]


@pytest.mark.parametrize(("whose", "tag"), [("user", "failure"), ("platform", "error")])
def test_the_phase_that_failed_says_why_and_the_rest_was_skipped(whose: str, tag: str) -> None:
    told = {"evidence": ["exit status 1"], "log_tail": ["npm ERR! \x1b[31mred\x00"], "hint": "Fix it."}
    suite = read(junit.failed("a", failure(phase="build", whose=whose, timings=TIMINGS, **told)))
    cases = {case.attrib["name"]: case for case in suite.findall("testcase")}
    assert [outcome(case) for case in cases.values()] == ["passed", "passed", tag, "skipped", "skipped", "skipped"]
    assert cases["build"][0].attrib == {"type": "kaniko_build_failed", "message": "The build failed."}
    assert cases["build"][0].text == "The build failed.\n- exit status 1\n| npm ERR! red\nNext step: Fix it."


def test_a_request_that_was_refused_has_a_case_of_its_own() -> None:
    suite = read(junit.failed("a", failure(code="invalid_request")))
    assert [(one.attrib["name"], outcome(one)) for one in suite.findall("testcase")][:2] == [
        ("request", "failure"),
        ("resolve", "skipped"),
    ]


def test_a_failed_check_says_what_was_expected() -> None:
    check = {"name": "/healthz", "ok": False, "expected": "200", "got": "500", "answers": ["500 oops"]}
    suite = read(junit.failed("a", failure(phase="verify", code="verify_failed", checks=[check])))
    told = suite.findall("testcase")[-1][0]
    assert told.attrib["message"] == "expected 200, got 500"
    assert "500 oops" in str(told.text)


def test_no_answer_is_an_error() -> None:
    suite = read(junit.unanswered("a", TimedOut("no answer within 5 s", "d-1")))
    assert [outcome(one) for one in suite.findall("testcase")] == ["error"]


def test_a_file_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    junit.write(tmp_path / "new" / "out.xml", junit.Suite("a", []))
    assert (tmp_path / "new" / "out.xml").read_bytes().startswith(b"<?xml")
    with pytest.raises(typer.BadParameter, match="cannot write"):
        junit.write(tmp_path, junit.Suite("a", []))
