"""Text of the policy file → `Policy`, or every mistake of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provider.errors import Code, Permanent, Whose
from provider.policy.grammar import Policy
from provider.spec import mistakes, unknown, yaml_text
from provider.spec.problems import Path, Problem, found, shorten

SMALLEST = """\
apiVersion: x1agent.io/v1
kind: PreviewPolicy
rules:
  - {name: everything, action: allow}
"""


def load(text: str) -> Policy:
    """Read the policy.

    Raises:
        Permanent: `invalid_request`, reason PolicyInvalid; `evidence` has one line for each mistake, in the file's
            order. Unknown fields are mistakes: a mistyped limit must not be no limit.
    """
    try:
        document = yaml_text.read(text)
    except yaml_text.Refused as refused:
        raise _invalid([refused.problem]) from None
    if not isinstance(document.data, dict):
        raise _invalid([Problem((), f"holds {found(document.data)}; allowed: a mapping such as\n{SMALLEST}")])
    strangers = unknown.unknown_fields(document.data, Policy)
    nothing = list(_nothing(document.data, ()))
    policy, wrong = mistakes.validated(Policy, document.data, strangers)
    problems = [*document.problems, *wrong, *_repeated_names(document.data), *mistakes.not_ignored(strangers)]
    problems += [Problem(path, "has nothing after it; allowed: a value, or the field left out") for path in nothing]
    if problems or policy is None:
        raise _invalid(mistakes.in_order(problems, document))
    return policy


def _repeated_names(data: dict[str, Any]) -> list[Problem]:
    """Names tell in an answer which rule decided, so each is there once, and none is `default`."""
    problems, first = [], {"default": "what no rule is about"}
    rules = data.get("rules")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        name = rule.get("name") if isinstance(rule, dict) else None
        if isinstance(name, str) and first.setdefault(name, f"rules[{index}]") != f"rules[{index}]":
            what = f"found {shorten(name)}, which is the name of {first[name]}; allowed: each once"
            problems.append(Problem(("rules", index, "name"), what))
    return problems


def _nothing(data: Any, path: Path) -> Iterator[Path]:
    """Where `secrets:` or the like has no value: meant may be "none" or "any", and neither is guessed."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in items:
        if value is None:
            yield (*path, name)
        yield from _nothing(value, (*path, name))


def _invalid(problems: list[Problem]) -> Permanent:
    lines = tuple(map(str, problems))
    plural = "mistake" if len(lines) == 1 else "mistakes"
    return Permanent(
        Code.INVALID_REQUEST,
        f"The policy file has {len(lines)} {plural}: {'; '.join(lines[:3])}",
        reason="PolicyInvalid",
        hint="`preview policy check FILE` checks a policy file without a provider.",
        evidence=lines,
        whose=Whose.PLATFORM,
        retryable=False,
    )
