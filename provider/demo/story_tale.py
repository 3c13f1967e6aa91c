"""What the demo's steps share: the world, the commits so far, who looks at the page, and what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from provider.client import Deployed, PreviewFailed
from provider.demo.load import Visitor
from provider.demo.sample_app import NAME
from provider.demo.screen import Screen
from provider.demo.stack import PREVIEW_DOMAIN
from provider.demo.world import World

REPO = "acme/hello"
BRANCH = "main"
DEPLOY_TIMEOUT = 120.0

Reply = Deployed | PreviewFailed


@dataclass
class Deploy:
    """One provision request: what was asked for, and what came back after how many seconds."""

    commit_sha: str
    message: str
    seconds: float
    reply: dict[str, Any]


@dataclass
class Check:
    """One thing that was looked at: what should be so, whether it is, and what was found if it is not."""

    text: str
    ok: bool
    found: str = ""


@dataclass
class Report:
    """How one step went: what was looked at, its deploys, and numbers of its own."""

    title: str
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)
    deploys: list[Deploy] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether everything was as it should be; nothing looked at is not ok."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """As `--json` shows it; `reply` is that of the last deploy."""
        deploys = [asdict(deploy) for deploy in self.deploys]
        return {
            "title": self.title,
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "checks": [asdict(check) for check in self.checks],
            **({"reply": deploys[-1]["reply"], "deploys": deploys} if deploys else {}),
            **self.facts,
        }


class Tale:
    """What the steps share: the world, who looks at the page, and the commits so far.

    Args:
        ca_pem: the authority that signs the preview's certificate.
    """

    def __init__(self, world: World, screen: Screen, *, ca_pem: str) -> None:
        self.world = world
        self.screen = screen
        self.url = f"https://{NAME}.{PREVIEW_DOMAIN}"
        self.ca_pem = ca_pem
        self.first = ""
        self.second = ""
        self._paths: frozenset[str] = frozenset()

    @property
    def visitor(self) -> Visitor:
        """Somebody who looks at the URL that the provider answered."""
        return Visitor(self.url, connect=self.world.stack.ingress, ca_pem=self.ca_pem)

    def request(self, sha: str) -> str:
        """The arguments of `preview deploy` for what `deploy` asks for."""
        who = f"--installation-id {self.world.installation_id}"
        return f"{REPO} --branch {BRANCH} --commit {sha[:12]} {who} --env COMMIT_SHA={sha[:12]}"

    async def push(self, message: str, files: Mapping[str, str]) -> str:
        """Push a commit of just these files on top of the branch; returns its sha."""
        if not self._paths:
            await self.world.git.create(REPO)
        gone = dict.fromkeys(self._paths - files.keys())
        self._paths = frozenset(files)
        return await self.world.git.commit(REPO, BRANCH, {**gone, **files}, message)

    async def deploy(
        self,
        report: Report,
        sha: str,
        message: str,
        *,
        explained: bool = False,
        footer: Callable[[], str] | None = None,
    ) -> Reply:
        """Provision a commit, show it, note it; returns the answer, also if it is a failure."""
        self.screen.asking(sha, message)
        begun = time.monotonic()
        with self.screen.deploying(explained=explained, footer=footer) as on_event:
            try:
                reply: Reply = await self.world.client.deploy(
                    REPO,
                    BRANCH,
                    commit_sha=sha,
                    installation_id=self.world.installation_id,
                    extra_env={"COMMIT_SHA": sha},
                    timeout=DEPLOY_TIMEOUT,
                    on_event=on_event,
                )
            except PreviewFailed as failed:
                reply = failed
        report.deploys.append(Deploy(sha, message, round(time.monotonic() - begun, 3), reply.reply))
        return reply

    def check(self, report: Report, ok: bool, text: str, found: str = "") -> bool:
        """Note and show one thing that was looked at; `found` says what is so instead."""
        report.checks.append(Check(text, ok, "" if ok else found))
        self.screen.check(ok, text if ok or not found else f"{text}: {found}")
        return ok

    async def check_page(self, report: Report, messages: Mapping[str, str], text: str) -> None:
        """Look at the page; it must be that of one of these commits (sha → message)."""
        problem = await self.visitor.problem(messages)
        self.check(report, not problem, text, problem)

    def check_up(self, report: Report, reply: Reply, sha: str, text: str) -> bool:
        """The reply must say that this commit is up."""
        if isinstance(reply, PreviewFailed):
            self.check(report, False, text, str(reply))
            self.show_failure(reply)
            return False
        return self.check(report, reply.commit_sha == sha, text, f"the reply names commit {reply.commit_sha}")

    def show_failure(self, failed: PreviewFailed, *, log_lines: int = 6) -> None:
        """What a failed deploy says for itself."""
        whose = "whoever pushed the commit" if failed.whose == "user" else "whoever runs the platform"
        self.screen.fields(
            [
                ("code", failed.code),
                ("phase", f"{failed.phase}, reason {failed.reason}"),
                ("message", failed.message),
                ("whose", f"{failed.whose}: {whose} can fix it"),
                ("hint", failed.hint or ""),
                ("serving", (failed.still_serving or "nothing")[:12]),
            ]
        )
        self.screen.log(failed.log_tail[-log_lines:])
