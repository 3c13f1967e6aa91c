"""The small requests: what may stand in each, but for `provision`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from provider import names
from provider.models import (
    MAX_CLAIM_SECONDS,
    MAX_TTL_SECONDS,
    DeployId,
    Frozen,
    PreviewState,
    RepoName,
    SessionId,
)

SLUG_ALLOWED = "a preview's name: ^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"


def _slug(text: str) -> str:
    if not names.is_slug(text):
        raise ValueError(SLUG_ALLOWED)
    return text


Slug = Annotated[
    str, AfterValidator(_slug), WithJsonSchema({"type": "string", "pattern": f"^{names.SLUG_PATTERN.pattern}$"})
]


class _Query(Frozen):
    # Unknown fields are warnings, not errors, in every request of the contract.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


class SlugRequest(_Query):
    """The preview that is meant."""

    slug: Slug


class TeardownRequest(SlugRequest):
    """What `teardown` asks; the session and `force` count where somebody claims the preview."""

    session_id: SessionId | None = None
    force: bool = False


class TouchRequest(SlugRequest):
    """What `touch` asks: that the preview lives on, and for how long from now (0: for ever)."""

    ttl_seconds: Annotated[int, Field(ge=0, le=MAX_TTL_SECONDS)] | None = None


class ReleaseRequest(SlugRequest):
    """What `release` asks."""

    session_id: SessionId


class ClaimRequest(ReleaseRequest):
    """What `claim` asks."""

    ttl_seconds: Annotated[int, Field(ge=1, le=MAX_CLAIM_SECONDS)]
    force: bool = False


class AttachRequest(ReleaseRequest):
    """What `attach` asks; `from_session`: only if the preview is that session's until now."""

    from_session: SessionId | None = None


class DeployOrSlugRequest(_Query):
    """What `status` and `cancel` ask: exactly one of the two is set."""

    slug: Slug | None = None
    deploy_id: DeployId | None = None

    @model_validator(mode="after")
    def _only_one(self) -> DeployOrSlugRequest:
        if self.slug is not None and self.deploy_id is not None:
            raise ValueError("slug or deploy_id, not both")
        return self


AT_REST = (PreviewState.READY, PreviewState.DEGRADED, PreviewState.FAILED, PreviewState.AWAITING_APPROVAL)
"""States in which nothing goes on: what `wait` waits for when nothing else is said."""
MAX_WAIT_SECONDS = 60


class WaitRequest(DeployOrSlugRequest):
    """What `wait` asks: to be answered as soon as the preview or deploy is in one of the states."""

    for_: Annotated[tuple[PreviewState, ...], Field(alias="for", min_length=1)] = AT_REST
    timeout_seconds: Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)] = 30.0


class VerdictRequest(_Query):
    """What `approve` and `reject` ask: who decides, and why."""

    deploy_id: DeployId
    by: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
    note: Annotated[str, StringConstraints(max_length=1000)] | None = None


Section = Literal["status", "phases", "pods", "events", "logs", "build_logs"]
SECTIONS: tuple[Section, ...] = ("status", "phases", "pods", "events", "logs", "build_logs")


class IntrospectRequest(DeployOrSlugRequest):
    """What `introspect` asks: which parts, which of its logs' lines, and whether to go on.

    `container` is a pod's name as `pods` has it; `since` a time with its zone.
    """

    include: tuple[Section, ...] = SECTIONS
    container: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")] | None = None
    tail: Annotated[int, Field(ge=1, le=5000)] = 100
    since: AwareDatetime | None = None
    previous: bool = False
    follow: bool = False


class ListRequest(_Query):
    """What `list` asks: filters, and a page that begins behind the slug `after`."""

    repo: RepoName | None = None
    branch: str | None = None
    session_id: SessionId | None = None
    state: PreviewState | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    after: Slug | None = None
