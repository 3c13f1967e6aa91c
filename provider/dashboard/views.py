"""Records as people read them. Pure: from what the store and the platform say to what a template prints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from provider.models import DeployRecord, Failure, PastDeploy, Phase, PhaseTiming, PreviewOutline, PreviewState, now
from provider.store.claims import holding
from provider.store.lifetime import Policy

STATE_WORDS = {
    PreviewState.PROVISIONING: "deploying",
    PreviewState.READY: "ready",
    PreviewState.DEGRADED: "degraded",
    PreviewState.FAILED: "failed",
    PreviewState.AWAITING_APPROVAL: "awaits approval",
    PreviewState.REMOVING: "removing",
}
STATE_MEANINGS = {
    PreviewState.PROVISIONING: "A deploy is under way.",
    PreviewState.READY: "The last deploy serves and is verified.",
    PreviewState.DEGRADED: "The last deploy failed; what served before serves on.",
    PreviewState.FAILED: "The last deploy failed, and nothing served before it.",
    PreviewState.AWAITING_APPROVAL: "A deploy waits until somebody approves it.",
    PreviewState.REMOVING: "It is being torn down.",
}
PHASES = (Phase.RESOLVE, Phase.ADMIT, Phase.BUILD, Phase.DEPLOY, Phase.ROLLOUT, Phase.VERIFY)
"""Those that people wait for, in order; `restore` is shown where it happened."""
SHORT_SHA = 10
CHART_WIDTH = 1000.0
LEAST_WIDTH = 2.0
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def readable(text: object) -> str:
    """The text without what steers a terminal or turns the direction of writing around."""
    return _UNPRINTABLE.sub("", _ESCAPES.sub("", str(text)))


def web_address(url: str) -> str:
    """The URL, if it is one that may be a link; else nothing."""
    return url if url.startswith(("https://", "http://")) else ""


def seconds_text(seconds: float) -> str:
    """A duration as people read it."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


# ------------------------------------------------------------------------------- the list


@dataclass(frozen=True, slots=True)
class Row:
    """One preview in the list. `words` is what a search finds it by, in lower case."""

    slug: str
    state: str
    word: str
    url: str
    repository: str
    branch: str
    commit: str
    claim: str
    claimed_until: datetime | None
    created_at: datetime
    expires_at: datetime | None
    order: int
    words: str


def row(preview: PreviewOutline, policy: Policy) -> Row:
    """A preview as the list shows it."""
    commit = preview.current.commit_sha if preview.current is not None else ""
    claim = holding(preview, now())
    session = claim.session_id if claim is not None else ""
    found = (preview.slug, preview.repo_full_name, preview.branch, commit, session, STATE_WORDS[preview.state])
    return Row(
        slug=preview.slug,
        state=preview.state.value,
        word=STATE_WORDS[preview.state],
        url=preview.url,
        repository=preview.repo_full_name,
        branch=preview.branch,
        commit=commit[:SHORT_SHA],
        claim=session,
        claimed_until=claim.expires_at if claim is not None else None,
        created_at=preview.created_at,
        expires_at=policy.expires_at(preview),
        order=preview.newest.order,
        words=" ".join(found).lower(),
    )


def shown(one: Row, search: str, state: str) -> bool:
    """Whether a filter leaves the row: each word of the search is in it, and its state is that one (any: "")."""
    return (not state or one.state == state) and all(word in one.words for word in search.lower().split())


# ---------------------------------------------------------------------------- one preview


@dataclass(frozen=True, slots=True)
class Step:
    """One phase of a deploy: `state` is done, running, failed, waiting (in the line) or ahead."""

    name: str
    state: str
    seconds: str = ""
    since: datetime | None = None


def steps(deploy: DeployRecord, waits: bool) -> tuple[Step, ...]:
    """The phases of a deploy, as far as it is.

    Args:
        deploy: its record, which names the phase that is under way.
        waits: whether it stands in the line and waits for its turn.
    """
    timed = {timing.phase: timing for timing in deploy.timings}
    failed = deploy.failure.phase if deploy.failure is not None else None
    wanted = PHASES if Phase.RESTORE not in timed else (*PHASES, Phase.RESTORE)
    under_way = deploy.report is None and deploy.failure is None
    return tuple(_step(phase, timed.get(phase), deploy, failed, under_way, waits) for phase in wanted)


def _step(
    phase: Phase, timing: PhaseTiming | None, deploy: DeployRecord, failed: Phase | None, under_way: bool, waits: bool
) -> Step:
    took = seconds_text(timing.seconds) if timing is not None and timing.seconds is not None else ""
    if phase is failed:
        return Step(phase.value, "failed", took)
    if under_way and phase is deploy.phase:
        return Step(phase.value, "waiting" if waits else "running", since=_end_of_last(deploy))
    return Step(phase.value, "done" if took else "ahead", took)


def _end_of_last(deploy: DeployRecord) -> datetime:
    ends = [one.started_at + timedelta(seconds=one.seconds) for one in deploy.timings if one.seconds is not None]
    return max(ends, default=deploy.created_at)


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a deploy's bar: where it begins, and how wide it is, of `CHART_WIDTH`."""

    phase: str
    x: float
    width: float
    label: str


@dataclass(frozen=True, slots=True)
class Past:
    """A deploy of the past in the chart; `code` is empty where it succeeded."""

    deploy_id: str
    commit: str
    branch: str
    created_at: datetime
    seconds: str
    built: bool
    code: str
    reason: str
    bars: tuple[Bar, ...]
    told: str


def history(deploys: Sequence[PastDeploy]) -> tuple[Past, ...]:
    """The chart: every bar to the same scale, of which the longest deploy takes the whole width."""
    longest = max((sum(one.seconds.values()) for one in deploys), default=0.0)
    return tuple(
        Past(
            deploy_id=one.deploy_id,
            commit=(one.commit_sha or "")[:SHORT_SHA],
            branch=one.branch,
            created_at=one.created_at,
            seconds=seconds_text(sum(one.seconds.values())),
            built=one.built,
            code=one.code.value if one.code is not None else "",
            reason=one.reason or "",
            bars=_bars(one.seconds, longest),
            told=", ".join(f"{phase} {seconds_text(seconds)}" for phase, seconds in one.seconds.items()),
        )
        for one in deploys
    )


def _bars(by_phase: Mapping[Phase, float], longest: float) -> tuple[Bar, ...]:
    bars, x = [], 0.0
    for phase, seconds in by_phase.items():
        width = max(CHART_WIDTH * seconds / longest, LEAST_WIDTH) if longest else LEAST_WIDTH
        bars.append(Bar(phase, round(x, 1), round(width, 1), f"{phase} {seconds_text(seconds)}"))
        x += width
    return tuple(bars)


def failure_of(preview: PreviewOutline, deploy: DeployRecord | None) -> Failure | None:
    """Why the newest deploy failed, as far as it has."""
    if preview.failure is not None:
        return preview.failure
    return deploy.failure if deploy is not None and deploy.deploy_id == preview.newest.deploy_id else None
