"""Text of `.x1agent/preview.yaml` → `Spec`, or every mistake of it at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from provider.errors import Code, Permanent
from provider.spec import mistakes, rules, unknown, yaml_text
from provider.spec.grammar import Spec
from provider.spec.problems import Problem, found
from provider.spec.yaml_text import Refused

SPEC_PATH = ".x1agent/preview.yaml"
SMALLEST_SPEC = """\
apiVersion: x1agent.io/v1
kind: PreviewSpec
metadata: {name: my-app}
spec:
  entrypoint: {kind: dockerfile, path: ./Dockerfile}
  runtime: {port: 3000}
"""
_PLACES_NAMED = 8
_LINES_KEPT = 200
"""Bounds the reply of a file that is nothing but mistakes."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid spec, and what its author may want to know all the same."""

    spec: Spec
    warnings: tuple[str, ...] = ()


@lru_cache(maxsize=32)
def load(text: str, *, strict: bool = False, extra_env_names: frozenset[str] = frozenset()) -> Loaded:
    """Read the spec. Each phase of a deploy asks anew, so the last ones are remembered: what is returned is frozen.

    Args:
        text: the file's content.
        strict: unknown fields are errors, not warnings.
        extra_env_names: names of the request's `extra_env`; an entry of that name needs no source of its own.

    Raises:
        Permanent: `invalid_preview_spec`; `evidence` has one line for each mistake, in the file's order.
    """
    try:
        document = yaml_text.read(text)
    except Refused as refused:
        problem = refused.problem
        raise _invalid(
            [problem], f"Correct {SPEC_PATH}, {problem.where}, or begin with this:\n{SMALLEST_SPEC}"
        ) from None
    if not isinstance(document.data, dict):
        problem = Problem(
            (), f"holds {found(document.data)}; allowed: a mapping with apiVersion, kind, metadata and spec"
        )
        raise _invalid([problem], "Write a file such as this smallest one:\n" + SMALLEST_SPEC)
    unknown_fields = unknown.unknown_fields(document.data)
    spec, found_mistakes = mistakes.validated(Spec, document.data, unknown_fields)
    problems = [*document.problems, *found_mistakes, *rules.problems(document.data, extra_env_names)]
    if strict:
        problems += mistakes.not_ignored(unknown_fields)
    if problems or spec is None:
        problems = mistakes.in_order(problems, document)
        wrong = ", ".join(dict.fromkeys(one.where for one in problems[:_PLACES_NAMED]))
        more = f" and {len(problems) - _PLACES_NAMED} more" if len(problems) > _PLACES_NAMED else ""
        hint = f"Correct {wrong}{more} in {SPEC_PATH}: the evidence says what is allowed."
        raise _invalid(problems, f"{hint} `preview validate` checks the file without a deploy.")
    remarks = [*([] if strict else unknown_fields), *rules.warnings(document.data)]
    return Loaded(spec, tuple(str(remark) for remark in mistakes.in_order(remarks, document))[:_LINES_KEPT])


def secret_refs(spec: Spec, extra_env_names: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Names of the secrets that the spec refers to, each once, without what `extra_env` satisfies."""
    wanted = (entry.secret for entry in spec.body.env if entry.name not in extra_env_names)
    return tuple(dict.fromkeys(name for name in wanted if name is not None))


def check_supported(spec: Spec) -> None:
    """Refuse what is valid, but cannot be deployed yet.

    Raises:
        Permanent: `unsupported_entrypoint` or `unsupported_feature`; every such field is named in `evidence`.
    """
    entrypoint, runtime = spec.body.entrypoint, spec.body.runtime
    lines = []
    if entrypoint.kind != "dockerfile":
        lines.append(f"spec.entrypoint.kind: found {entrypoint.kind}; supported: dockerfile")
    if spec.body.dependencies:
        lines.append("spec.dependencies: not supported yet; give addresses of services by spec.env or `extra_env`")
    if runtime.protocol == "tcp":
        lines.append("spec.runtime.protocol: found tcp; supported: http, http2")
    if not lines:
        return
    code = Code.UNSUPPORTED_FEATURE if entrypoint.kind == "dockerfile" else Code.UNSUPPORTED_ENTRYPOINT
    wrong = ", ".join(line.partition(":")[0] for line in lines)
    hint = f"Change {wrong} in {SPEC_PATH}: the evidence says what is supported."
    raise Permanent(
        code, f"{SPEC_PATH} is valid, but {'; '.join(lines)}.", hint=hint, evidence=tuple(lines), reason="NotSupported"
    )


def _invalid(problems: list[Problem], hint: str) -> Permanent:
    count = len(problems)
    first = "; ".join(str(one) for one in problems[:3])
    rest = f"; and {count - 3} more" if count > 3 else ""
    evidence = [str(one) for one in problems[:_LINES_KEPT]]
    if count > _LINES_KEPT:
        evidence.append(f"… and {count - _LINES_KEPT} more")
    message = f"{SPEC_PATH} has {count} mistake{'s' if count != 1 else ''}: {first}{rest}"
    return Permanent(Code.INVALID_PREVIEW_SPEC, message, hint=hint, evidence=tuple(evidence), reason="InvalidSpec")
