"""The grammar of the policy file: rules, the first of which that fits decides. One frozen model a mapping."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from provider.models import MAX_TTL_SECONDS
from provider.policy import patterns
from provider.policy.patterns import Glob, HostPattern, ImagePrefix, SecretGlob
from provider.spec import fields
from provider.spec.fields import Quantity, Whole
from provider.spec.grammar import EntrypointKind

Action = Literal["allow", "deny", "hold"]
Egress = Literal["internet", "none"]
MOST_PREVIEWS = 100_000


class Part(BaseModel):
    """Base of every mapping. Unknown fields, and fields with nothing after them, are errors: `loader` finds them."""

    model_config = ConfigDict(frozen=True, extra="ignore", serialize_by_alias=True)


class Ceilings(Part):
    """The most that a request may have; what is left out has no limit here."""

    cpu: Quantity | None = Field(None, description="Cores of a preview (spec.resources.limits.cpu).")
    memory: Quantity | None = Field(None, description="Bytes of memory (spec.resources.limits.memory).")
    ephemeral_storage: Quantity | None = Field(
        None, alias="ephemeralStorage", description="Bytes of disk (spec.resources.ephemeralStorage)."
    )
    ttl_seconds: Annotated[int, Whole(1, MAX_TTL_SECONDS)] | None = Field(
        None, alias="ttlSeconds", description="Time to live from the last access, in seconds."
    )
    previews_per_repository: Annotated[int, Whole(0, MOST_PREVIEWS)] | None = Field(
        None, alias="previewsPerRepository", description="Previews of one repository at once."
    )
    previews_per_session: Annotated[int, Whole(0, MOST_PREVIEWS)] | None = Field(
        None, alias="previewsPerSession", description="Previews of one session at once; those without one are one."
    )


class Rule(Part):
    """What holds for the repositories and branches that it names."""

    name: Annotated[str, fields.pattern(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}", "1 to 63 letters, digits, ` ._-`")] = (
        Field(description="How it is called in answers.")
    )
    repositories: tuple[Glob, ...] = Field(("**",), description="Repositories, like acme/*; case does not count.")
    branches: tuple[Glob, ...] = Field(("**",), description="Branches, like main or release/**.")
    action: Action = Field(description="What happens to a request within the limits: allow, deny, or hold it.")
    beyond: Literal["deny", "hold"] = Field("deny", description="What happens to a request beyond a limit.")
    entrypoints: tuple[EntrypointKind, ...] | None = Field(None, description="Kinds of spec.entrypoint.kind.")
    limits: Ceilings = Field(Ceilings(), description="Ceilings.")
    secrets: tuple[SecretGlob, ...] | None = Field(None, description="Names of secrets that may be used.")
    alias_hosts: tuple[HostPattern, ...] | None = Field(
        None, alias="aliasHosts", description="Hosts that may be had beside the preview's own, like *.acme.dev."
    )
    egress: Egress = Field("internet", description="Whether a preview reaches the public internet: internet or none.")
    base_images: tuple[ImagePrefix, ...] | None = Field(
        None, alias="baseImages", description="Registries of base images, like docker.io/library or ghcr.io/acme."
    )

    def covers(self, repo_full_name: str, branch: str) -> bool:
        """Whether it is about that branch of that repository."""
        repositories = [one.casefold() for one in self.repositories]
        return patterns.matches(repo_full_name.casefold(), repositories) and patterns.matches(branch, self.branches)


class Policy(Part):
    """The file: rules from top to bottom, and what happens to what none of them is about."""

    api_version: Literal["x1agent.io/v1"] = Field(alias="apiVersion", description="Version of this grammar.")
    kind: Literal["PreviewPolicy"] = Field(description="Always PreviewPolicy.")
    default: Action = Field("deny", description="What happens to a request that no rule is about.")
    rules: tuple[Rule, ...] = Field((), description="The first rule that is about a request decides.")

    @property
    def tells_branches_apart(self) -> bool:
        """Whether it matters which branch a commit is on."""
        return any(rule.branches != ("**",) for rule in self.rules)

    def rule_for(self, repo_full_name: str, branch: str) -> Rule:
        """The rule that decides about that branch of that repository; one named `default` where none does."""
        found = (rule for rule in self.rules if rule.covers(repo_full_name, branch))
        return next(found, Rule(name="default", action=self.default))
