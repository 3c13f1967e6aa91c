"""What a PromQL expression looks at: its metrics, and which values of which labels it wants."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from promql_parser import MatchOp, VectorSelector

from provider.errors import Code

MONITORING = Path(__file__).resolve().parents[1] / "manifests" / "components" / "monitoring"
RULES = MONITORING / "alerts.yaml"
DASHBOARD = MONITORING / "dashboard.json"

Wanted = tuple[str, tuple[tuple[str, str], ...]]
"""A metric, and of its labels the values (alternatives as in a regular expression)."""


def rules() -> list[dict[str, Any]]:
    """Every alert."""
    return [rule for group in yaml.safe_load(RULES.read_text())["spec"]["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Every panel of the dashboard."""
    return list(json.loads(DASHBOARD.read_text())["panels"])


def expressions() -> list[str]:
    """Every expression of the alerts and of the dashboard."""
    shown = [target["expr"].replace("$__rate_interval", "5m") for panel in panels() for target in panel["targets"]]
    return [rule["expr"] for rule in rules()] + shown


def wanted(expression: str) -> set[Wanted]:
    """What an expression selects. Raises ValueError where it is no PromQL."""
    found: set[Wanted] = set()

    def visit(node: object) -> None:
        if isinstance(node, VectorSelector):
            labels = [(one.name, one.value) for one in node.matchers.matchers if one.op in (MatchOp.Equal, MatchOp.Re)]
            found.add((str(node.name), tuple(labels)))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def grouped(expression: str) -> set[str]:
    """The labels that an expression groups by or joins on."""
    found: set[str] = set()

    def visit(node: object) -> None:
        modifier = getattr(node, "modifier", None)
        for one in (modifier, getattr(modifier, "matching", None)):
            found.update(getattr(one, "labels", ()))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def lacking(expression: str, samples: Iterable[tuple[str, Iterable[tuple[str, str]]]], families: set[str]) -> list[str]:
    """What an expression wants that a provider does not expose: metrics, labels, values of labels.

    Args:
        expression: PromQL.
        samples: names and labels, as they were scraped.
        families: names of everything that is described, also of what has no sample yet.
    """
    values: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, labels in samples:
        for label, value in labels:
            values[name][label].add(value)
    problems = [name for name, _ in wanted(expression) if name not in values.keys() | families]
    known = {"code": {"ok", "accepted", *(code.value for code in Code)}}
    for name, labels in wanted(expression):
        for label, value in labels:
            problems += [
                f"{name} {label}={one}" for one in value.split("|") if one not in known.get(label, values[name][label])
            ]
    has = {label for name, _ in wanted(expression) for label in values[name]} | {"instance"}
    sampled = all(values[name] for name, _ in wanted(expression))
    return problems + ([f"label {one}" for one in grouped(expression) - has] if sampled else [])
