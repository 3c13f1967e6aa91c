"""A deploy's outcome as JUnit XML, which CI systems show as tests: a case per phase, and one per check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import typer

from provider.cli.output import clean

if TYPE_CHECKING:
    from provider.client import ClientError, Deployed, PreviewFailed

PHASES = ("resolve", "admit", "build", "deploy", "rollout", "verify")


@dataclass(slots=True)
class Case:
    """One test case: `problem` is what failed (`error` where the platform has to act), and what is known about it."""

    group: str
    name: str
    seconds: float = 0.0
    problem: tuple[str, str, str] | None = None
    error: bool = False
    skipped: bool = False


@dataclass(slots=True)
class Suite:
    """What one deploy came to."""

    name: str
    cases: list[Case]
    seconds: float = 0.0
    properties: Mapping[str, str] = field(default_factory=dict)

    def xml(self) -> bytes:
        """The document, by the schema that Jenkins and its kin read."""
        totals = {
            "tests": str(len(self.cases)),
            "failures": str(sum(case.problem is not None and not case.error for case in self.cases)),
            "errors": str(sum(case.problem is not None and case.error for case in self.cases)),
        }
        skipped = {"skipped": str(sum(case.skipped for case in self.cases))}
        time = {"time": f"{self.seconds:.3f}"}
        root = ElementTree.Element("testsuites", {"name": "preview", **totals, **time})
        suite = ElementTree.SubElement(root, "testsuite", {"name": clean(self.name), **totals, **skipped, **time})
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in self.properties.items():
            if value:
                ElementTree.SubElement(properties, "property", {"name": name, "value": clean(value)})
        for case in self.cases:
            _add(suite, case)
        ElementTree.indent(root)
        text: str = ElementTree.tostring(root, encoding="unicode")
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode(errors="replace")


def _add(suite: ElementTree.Element, case: Case) -> None:
    attributes = {"classname": f"preview.{case.group}", "name": clean(case.name), "time": f"{case.seconds:.3f}"}
    element = ElementTree.SubElement(suite, "testcase", attributes)
    if case.problem is not None:
        kind, message, text = case.problem
        inner = {"type": clean(kind), "message": clean(message)}
        told = ElementTree.SubElement(element, "error" if case.error else "failure", inner)
        told.text = "\n".join(clean(line) for line in text.split("\n"))
    elif case.skipped:
        ElementTree.SubElement(element, "skipped")


def succeeded(name: str, deployed: Deployed) -> Suite:
    """The suite of a deploy that is up."""
    facts = {"url": deployed.url, "slug": deployed.slug, "commit": deployed.commit_sha, "deploy": deployed.deploy_id}
    cases = [*_phases(deployed.timings), *_checks(deployed.checks)]
    return Suite(name, cases, deployed.timings.get("total", 0.0), facts)


def failed(name: str, failure: PreviewFailed) -> Suite:
    """The suite of one that failed: its phase's case says why, the phases behind it were skipped."""
    timings: Mapping[str, float] = failure.reply.get("timings") or {}
    phase = failure.phase or "request"
    facts = {"slug": failure.slug or "", "deploy": failure.deploy_id or ""}
    cases = list(_phases(timings, but=phase))
    problem = (failure.code, failure.message, told(failure))
    cases.append(Case("phase", phase, timings.get(phase, 0.0), problem, error=failure.whose != "user"))
    done = {case.name for case in cases}
    cases += [Case("phase", one, skipped=True) for one in PHASES if one not in done]
    checks = failure.reply.get("checks") or ()
    return Suite(name, [*sorted(cases, key=_place), *_checks(checks)], timings.get("total", 0.0), facts)


def unanswered(name: str, error: ClientError) -> Suite:
    """The suite of one whose end is not known."""
    return Suite(name, [Case("phase", "answer", problem=(type(error).__name__, str(error), str(error)), error=True)])


def _place(case: Case) -> int:
    """Where a phase's case stands: before all what was refused before the first, behind all what came after."""
    return (-1 if case.name == "request" else len(PHASES)) if case.name not in PHASES else PHASES.index(case.name)


def told(failure: PreviewFailed) -> str:
    """All that is known, as text."""
    lines = [failure.message, *(f"- {one}" for one in failure.evidence), *(f"| {one}" for one in failure.log_tail)]
    return "\n".join([*lines, *([f"Next step: {failure.hint}"] if failure.hint else [])])


def write(path: Path, suite: Suite) -> None:
    """Write the file; its folder is made. Raises a usage error where that can't be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(suite.xml())
    except OSError as error:
        raise typer.BadParameter(f"cannot write {clean(path)}: {error.strerror}", param_hint="'--junit'") from None


def _phases(timings: Mapping[str, float], but: str = "") -> Iterator[Case]:
    for name, seconds in timings.items():
        if name not in ("total", but):
            yield Case("phase", name, seconds)


def _checks(checks: Sequence[Mapping[str, Any]]) -> Iterator[Case]:
    for check in checks:
        name = str(check.get("name") or check.get("url") or "check")
        if check.get("ok"):
            yield Case("check", name)
        else:
            expected, got = check.get("expected", ""), check.get("got", "")
            text = "\n".join([f"expected {expected}", f"got {got}", *map(str, check.get("answers") or ())])
            yield Case("check", name, problem=("check", f"expected {expected}, got {got}", text))
