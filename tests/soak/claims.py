"""Two sessions that race for a preview: both claim, the other one deploys and tears down all the same, or forces.

Judged by what they were told and when, with no word from a record. A claim is *certain* from the moment its answer is
there until it may have ended: its own end, or the first request that can end it. Whatever was asked and answered within
that time, it must have counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.soak.asking import Question

Json = dict[str, Any]


@dataclass
class Asked:
    """A request for a contested preview, by one of its sessions.

    Attributes:
        to: of `attach`: the other session.
    """

    slug: str
    what: str
    session: str
    question: Question
    force: bool = False
    to: str = ""

    @property
    def sent(self) -> float:
        """When it was sent first."""
        return self.question.sent

    @property
    def answers(self) -> list[tuple[float, Json]]:
        """Each with the moment when it came."""
        return list(zip(self.question.moments, self.question.answers, strict=True))

    def granted(self) -> list[Granted]:
        """The claims that its answers tell."""
        if self.what not in {"claim", "attach"}:
            return []
        return [
            Granted(self, claim["session_id"], at, _seconds(claim["expires_at"]))
            for at, answer in self.answers
            if answer["ok"] and (claim := answer.get("claim")) is not None
        ]

    def may_end_claim_of(self, session: str) -> bool:
        """Whether it can end that session's claim, or give it another end."""
        if self.what in {"claim", "deploy"}:
            return self.force or (self.what == "claim" and self.session == session)
        if self.what == "attach":
            return self.to != session
        return self.force or self.session == session  # release, teardown

    def __str__(self) -> str:
        told = [f"{answer.get('code', 'ok')} at {at - self.sent:.2f}" for at, answer in self.answers]
        by = f"{self.session}{' by force' if self.force else ''}"
        return f"{self.slug}: {self.what} of {by} at {self.sent:.2f}, {self.question.times} times: {', '.join(told)}"


@dataclass(frozen=True)
class Granted:
    """A claim that somebody was told of: whose, since when for sure, and its end."""

    by: Asked
    session: str
    since: float
    end: float


@dataclass
class Court:
    """Keeps every request for contested previews, and judges them at the end."""

    asked: dict[str, list[Asked]] = field(default_factory=dict)

    def take(self, one: Asked) -> Asked:
        """Keep it."""
        self.asked.setdefault(one.slug, []).append(one)
        return one

    def certain(self, slug: str) -> list[tuple[Granted, float]]:
        """The claims of a preview with the moment until which each is in force for sure."""
        found = []
        for granted in (claim for one in self.asked.get(slug, []) for claim in one.granted()):
            ends = [
                other.sent
                for other in self.asked[slug]
                if other is not granted.by
                and other.may_end_claim_of(granted.session)
                and other.question.over >= granted.by.sent
            ]
            until = min([granted.end, *ends])
            if until > granted.since:
                found.append((granted, until))
        return found

    def violations(self) -> list[str]:
        """Each contradiction between two answers."""
        return [problem for slug in self.asked for problem in (*self._by_certainty(slug), *self._by_words(slug))]

    def told(self) -> str:
        """What there was to judge."""
        everything = [one for asked in self.asked.values() for one in asked]
        granted = sum(len(one.granted()) for one in everything)
        refused = sum(answer.get("code") == "claimed" for one in everything for _, answer in one.answers)
        certain = [(claim, until) for slug in self.asked for claim, until in self.certain(slug)]
        tried = sum(bool(self._within(claim, until)) for claim, until in certain)
        seconds = sum(until - claim.since for claim, until in certain)
        return (
            f"{granted} claims granted, {len(certain)} of them certain for {seconds:.0f} s, {tried} of those tried by"
            f" another session; {refused} requests refused as claimed"
        )

    # ------------------------------------------------------------------ parts

    def _within(self, claim: Granted, until: float) -> list[Asked]:
        """What another session wanted, and was answered, while the claim was in force for sure."""
        return [
            one
            for one in self.asked[claim.by.slug]
            if one.session != claim.session
            and not one.force
            and one.what in {"claim", "deploy", "teardown", "release"}
            and one.sent > claim.since
            and one.answers
            and one.answers[0][0] < until
        ]

    def _by_certainty(self, slug: str) -> list[str]:
        found = []
        for claim, until in self.certain(slug):
            held = f"while {claim.session} held it from {claim.since:.2f} to {until:.2f}"
            found += [
                f"{one}, {held}"
                for one in self._within(claim, until)
                if any(at < until and answer.get("code") != "claimed" for at, answer in one.answers)
            ]
            found += [
                f"{one} is the holder's own, {held}"
                for one in self.asked[slug]
                if one.session == claim.session
                and one.sent > claim.since
                and any(at < until and answer.get("code") == "claimed" for at, answer in one.answers)
            ]
        return found

    def _by_words(self, slug: str) -> list[str]:
        """Refusals that contradict themselves: by nobody else's claim, by one that was over, of what was forced."""
        found = []
        for one in self.asked[slug]:
            for _, answer in one.answers:
                if answer.get("code") != "claimed":
                    continue
                claim = answer["details"]["claim"]
                if claim["session_id"] == one.session or _seconds(claim["expires_at"]) <= one.sent:
                    found.append(f"{one}, refused by {claim}")
        return found


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
