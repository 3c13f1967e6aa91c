"""What the policy says of a request. Pure: (policy, request, counts) → decision, with every limit that is passed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from provider.models import StoredRequest
from provider.policy import patterns
from provider.policy.grammar import Action, Policy, Rule
from provider.spec import Spec, quantities, secret_refs


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request, and of the spec at its commit, a policy looks at.

    Args:
        limits: cpu, memory and ephemeralStorage that the preview may take, as quantities.
        ttl_seconds: what is asked for; None: nothing, 0: for ever.
        secrets: names that the spec refers to, or that were sent.
        base_images: images that the Dockerfile starts from or copies from.
    """

    repo_full_name: str
    branch: str
    session_id: str | None = None
    entrypoint: str = "dockerfile"
    limits: tuple[tuple[str, str], ...] = ()
    ttl_seconds: int | None = None
    secrets: tuple[str, ...] = ()
    alias_hosts: tuple[str, ...] = ()
    base_images: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: StoredRequest, spec: Spec, base_images: tuple[str, ...] = ()) -> Asked:
        """As request and spec say."""
        resources = spec.body.resources
        extra_env = frozenset(request.extra_env_names)
        return cls(
            repo_full_name=request.repo_full_name,
            branch=request.branch,
            session_id=request.session_id,
            entrypoint=spec.body.entrypoint.kind,
            limits=(
                ("cpu", resources.effective("cpu")[1]),
                ("memory", resources.effective("memory")[1]),
                ("ephemeralStorage", resources.ephemeral_storage),
            ),
            ttl_seconds=request.ttl_seconds,
            secrets=tuple(dict.fromkeys((*secret_refs(spec, extra_env), *request.secret_names))),
            alias_hosts=request.alias_hosts,
            base_images=base_images,
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """Other previews that there are already; None: not known, or the preview is none that is new."""

    of_repository: int | None = None
    of_session: int | None = None


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that a request passes: its name in the rule, what is allowed, what was asked."""

    limit: str
    allowed: str
    asked: str

    def __str__(self) -> str:
        return f"{self.limit}: asked {self.asked}; allowed: {self.allowed}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to the request, by which rule, and what of it is beyond that rule's limits."""

    action: Action
    rule: Rule
    breaches: tuple[Breach, ...] = ()


def decide(policy: Policy, asked: Asked, counts: Counts) -> Decision:
    """What happens to a request. Denied is what the rule denies; what is beyond a limit is what `beyond` says."""
    rule = policy.rule_for(asked.repo_full_name, asked.branch)
    if rule.action == "deny":
        return Decision("deny", rule)
    breaches = tuple(_breaches(rule, asked, counts))
    if breaches and rule.beyond == "deny":
        return Decision("deny", rule, breaches)
    return Decision("hold" if breaches else rule.action, rule, breaches)


def time_to_live(rule: Rule, seconds: int) -> Breach | None:
    """Whether a time to live (0: for ever) is beyond the rule's ceiling."""
    most = rule.limits.ttl_seconds
    if most is None or 0 < seconds <= most:
        return None
    return Breach("limits.ttlSeconds", f"1 to {most}", f"{seconds} (for ever)" if seconds == 0 else str(seconds))


def previews(rule: Rule, counts: Counts) -> tuple[Breach, ...]:
    """Whether one more preview would be too many."""
    limits = rule.limits
    wanted = (
        ("limits.previewsPerRepository", limits.previews_per_repository, counts.of_repository),
        ("limits.previewsPerSession", limits.previews_per_session, counts.of_session),
    )
    return tuple(
        Breach(name, str(most), f"one more than {present}")
        for name, most, present in wanted
        if most is not None and present is not None and present >= most
    )


def _breaches(rule: Rule, asked: Asked, counts: Counts) -> Iterator[Breach]:
    if rule.entrypoints is not None and asked.entrypoint not in rule.entrypoints:
        yield Breach("entrypoints", _listed(rule.entrypoints), asked.entrypoint)
    yield from _resources(rule, asked)
    if asked.ttl_seconds is not None and (late := time_to_live(rule, asked.ttl_seconds)) is not None:
        yield late
    yield from previews(rule, counts)
    if rule.secrets is not None and (names := [one for one in asked.secrets if not _secret(one, rule.secrets)]):
        yield Breach("secrets", _listed(rule.secrets), _listed(names))
    if rule.alias_hosts is not None:
        hosts = [one for one in asked.alias_hosts if not patterns.matches_host(one, rule.alias_hosts)]
        if hosts:
            yield Breach("aliasHosts", _listed(rule.alias_hosts), _listed(hosts))
    if rule.base_images is not None:
        images = [one for one in asked.base_images if not patterns.matches_image(one, rule.base_images)]
        if images:
            yield Breach("baseImages", _listed(rule.base_images), _listed(images))


def _resources(rule: Rule, asked: Asked) -> Iterator[Breach]:
    most = rule.limits.model_dump(by_alias=True)
    for name, wanted in asked.limits:
        ceiling = most[name]
        if ceiling is not None and (quantities.amount(wanted) or 0) > (quantities.amount(ceiling) or 0):
            yield Breach(f"limits.{name}", ceiling, wanted)


def _secret(name: str, allowed: tuple[str, ...]) -> bool:
    return patterns.matches(name, allowed)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names) or "none"
