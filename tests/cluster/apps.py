"""Small apps that are the same on a real cluster and on the stand-in.

On a real cluster the files decide, as anywhere. The stand-in runs no images: for each commit it is told in a script
what those files would do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from provider.demo.git_server import Content
from tests.cluster.standin.script import Answer, AppScript, Asked, BuildScript
from tests.e2e.apps import IMPATIENT, app_files, merged

Json = dict[str, Any]

SMALL: Json = {"resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "ephemeralStorage": "16Mi"}}
"""So that many of them fit on one node."""


SLOW = 10.0
"""Seconds of the stand-in's clock; on a real cluster it is three."""
LATE = "/www/late.html"


@dataclass(frozen=True, kw_only=True)
class App:
    """One commit of an app.

    Attributes:
        body: what its root answers.
        crash: it prints a line and exits with this code.
        sick: its health path answers 404.
        build_exit: a RUN step of its Dockerfile exits with this code.
        build_hangs: a RUN step takes a minute.
        build_slow: a RUN step takes some seconds: time to prepare what shall happen after it.
        slow: it listens only after a while.
        says: it prints this line when it starts.
        late: its path `/late.html` is there only after a while.
        spec: merged into its spec.
    """

    body: str = "hello\n"
    crash: int | None = None
    sick: bool = False
    build_exit: int | None = None
    build_hangs: bool = False
    build_slow: bool = False
    slow: bool = False
    says: str = ""
    late: bool = False
    spec: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Content] = field(default_factory=dict)

    def files(self, name: str, base_image: str) -> dict[str, Content]:
        """What is committed."""
        steps = [f"RUN echo begun; exit {self.build_exit}"] if self.build_exit is not None else []
        steps += ["RUN echo begun; sleep 60"] if self.build_hangs else []
        steps += ["RUN echo begun; sleep 3"] if self.build_slow else []
        extra = merged(IMPATIENT, {"runtime": {"healthcheck": {"path": "/missing"}}}) if self.sick else {}
        extra = merged(extra, SMALL)
        made = app_files(
            name,
            base_image,
            body=self.body,
            dockerfile_extra="\n".join(steps),
            command=self._command(),
            spec_extra=merged(extra, self.spec),
        )
        return {**made, **self.more}

    def _command(self) -> str | None:
        if self.crash is not None:
            return f"echo giving up; exit {self.crash}"
        if self.says:
            return f"echo {self.says}; exec httpd -f -p 8080 -h /www"
        if self.slow:
            return "sleep 3; exec httpd -f -p 8080 -h /www"
        return f"(sleep 3; cp /www/index.html {LATE}) & exec httpd -f -p 8080 -h /www" if self.late else None

    def app_script(self) -> AppScript:
        """The same for the stand-in's pods."""
        if self.crash is not None:
            return AppScript(crash=self.crash, ready_after=60.0, log=("giving up",))
        log = (self.says,) if self.says else ()
        return AppScript(answers=self._answer, ready_after=SLOW if self.slow else 0.0, log=log)

    def build_script(self) -> BuildScript:
        """The same for the stand-in's builds."""
        log = ("begun",) if self.build_hangs or self.build_slow or self.build_exit is not None else ()
        seconds = 40.0 if self.build_slow else 0.3
        return BuildScript(log=log, exit_code=self.build_exit or 0, hang=self.build_hangs, seconds=seconds)

    def _answer(self, asked: Asked) -> Answer:
        path = asked.path.partition("?")[0]
        if path == "/cgi-bin/env":
            return Answer(200, "".join(f"{name}={value}\n" for name, value in asked.env.items()))
        if self.late and path == "/late.html" and asked.age > 3 * SLOW:
            return Answer(200, self.body)
        return Answer(200, self.body) if path in {"/", "/index.html"} else Answer(404, "not found\n")
