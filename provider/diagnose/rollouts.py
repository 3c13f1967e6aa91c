"""From an app that does not get ready to why: it ended, listens elsewhere, answers badly, could not be started."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import re2

from provider.diagnose import exits
from provider.diagnose.apps import APPS, STARTS
from provider.diagnose.cluster import CLUSTER
from provider.diagnose.health import HEALTH
from provider.diagnose.table import Finding, Match
from provider.errors import Code, Whose

Sockets = Sequence[tuple[str, int]]
HEALTH_FIELD = "spec.runtime.healthcheck.path"
_LISTENS = re2.compile(
    r"(?i)(?:listening|running|serving|started|ready|available|server)[^\n]{0,60}?"
    r"(?P<address>localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\]|::)?:(?P<port>\d{2,5})\b|(?i)port:? (?P<port2>\d{2,5})\b"
)
"""How servers say where they listen; only told, as what the log says."""
INCOMPLETE = "RolloutIncomplete"
"""Ours, of one that had all its time and was not said to have failed."""
_WORD = re2.compile(r"[A-Za-z0-9_]+")
_COMPLAINS = re2.compile(
    r"(?i)not set|unset|missing|required?\b|undefined|\bmust\b|empty|invalid|not found|not present|keyerror|cannot"
    r"|can't|\bneeds?\b|expected|please|provide|error|panic|fatal|exception|\bnone\b|\bnull\b"
)
"""How programs say that they lack something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """What is known of an app that did not become ready.

    Args:
        port: spec.runtime.port.
        path: what its probes ask.
        probe: the last probe's words; "" where it was not asked.
        timeout: seconds that a probe waits for an answer.
        seconds: for how long it was waited; None where the platform decided.
        sockets: (address, port) of what listens in it, where that can be seen.
        exits: how often it ended; 0 if it runs.
        exit_code: of its last end.
        oom: the kernel ended it for its memory.
        memory: spec.resources.limits.memory.
        log: its last lines, those of the container before it, where it was restarted.
        told: what else is known, as evidence.
    """

    port: int
    path: str = "/"
    probe: str = ""
    timeout: float = 0.0
    seconds: float | None = None
    sockets: Sockets | None = None
    exits: int = 0
    exit_code: int | None = None
    oom: bool = False
    memory: str = ""
    log: Sequence[str] = ()
    told: tuple[str, ...] = ()

    def facts(self, found: Match | None = None) -> Mapping[str, object]:
        """What hints are filled in with."""
        file = (found.values.get("file") if found else "") or ""
        return {
            "port": self.port,
            "path": self.path,
            "field": HEALTH_FIELD,
            "timeout": f"{self.timeout:g}",
            "memory": self.memory or "its default",
            "file": file or "what it writes",
            "folder": posixpath.dirname(file) if file.startswith("/") and file.count("/") > 1 else file or "/data",
        }


def crashed(app: App) -> Finding:
    """It ended again and again."""
    code = exits.told(app.exit_code).removeprefix("exit ")
    ended = f"The app exited {max(app.exits, 1)} times with {code} before it was ready"
    if app.oom:
        return _ended(
            app, "OutOfMemory", ended,
            f"Raise spec.resources.limits.memory ({app.memory or 'its default'}) in .x1agent/preview.yaml, or use less"
            " memory: the kernel ended the app for that.",
        )  # fmt: skip
    found = STARTS.find(app.log) or APPS.find(app.log)
    if found is not None:
        return _ended(app, found.case.reason, ended, _hint(found, app), found)
    if app.exit_code == 0:
        hint = "CMD in the Dockerfile ends by itself: it has to run the server in the foreground."
    elif app.exit_code == 137:
        hint = "Somebody killed it, most likely the kernel for its memory: raise spec.resources.limits.memory."
    else:
        hint = "Why is not known here; the log's tail ends with what the app said before it ended. Run the image with"
        hint += " the same spec.env to see it."
    return _ended(app, "CrashLoop", ended, hint)


def unready(app: App) -> Finding:
    """It runs, but its probe does not succeed."""
    late = f" within {app.seconds:.0f} s" if app.seconds is not None else " in time"
    message = f"The app was not ready{late}: {app.probe or 'it was not asked'}."
    found = HEALTH.find([app.probe])
    if app.sockets is not None and (listening := _listening(app)) is not None:
        reason, hint = listening
        return _unready(app, reason, message, hint, found)
    if found is None:
        hint = f"Make {app.path} answer GET with a status below 400 on port {app.port}, or change {HEALTH_FIELD}."
        return _unready(app, "Unhealthy", message, hint, None)
    if found.case.reason == "ListensNowhere":
        reason, hint = _says_where(app) or (found.case.reason, _hint(found, app))
        return _unready(app, reason, message, hint, found)
    return _unready(app, found.case.reason, message, _hint(found, app), found)


def killed(app: App, *, was_ready: bool) -> Finding:
    """Its platform restarts it for its probes again and again; whether it was ready in between."""
    found = HEALTH.find([app.probe])
    reason = found.case.reason if found is not None else "Unhealthy"
    if reason == "ListensNowhere" and not was_ready:
        return unready(app)
    hint = _hint(found, app) if found is not None else f"Make {app.path} answer below 400, always."
    longer = "Where it only needs longer, raise spec.runtime.healthcheck.initialDelaySeconds or failureThreshold."
    message = f"The app is restarted for its probes: {app.probe}."
    return _unready(app, "LivenessFailed" if was_ready else reason, message, f"{hint} {longer}", found)


def not_started(words: str, told: tuple[str, ...] = ()) -> Finding | None:
    """The app could not be started, for a reason of the image's or the spec's; None where the words name none known."""
    found = STARTS.find([words])
    if found is None:
        return None
    return Finding(
        code=found.case.code or Code.DEPLOYMENT_NOT_READY,
        reason=found.case.reason,
        message=f"The app could not be started: {found.line}",
        hint=found.hint({}),
        evidence=(found.line, *told),
        whose=found.case.whose,
    )


def not_placed(reason: str, words: str, *, requests: str = "", told: tuple[str, ...] = ()) -> Finding:
    """The cluster did not take, place or make its pod.

    Args:
        reason: the cluster's word for it.
        words: its sentence.
        requests: what the pod asks for.
        told: more evidence.
    """
    said = words if reason == INCOMPLETE else f"{reason}: {words}"  # the cluster's own words begin with a reason then
    found = CLUSTER.find([said]) or STARTS.find([words])
    evidence = (f"{reason}: {words}", requests and f"the pod asks for {requests}", *told)
    if found is None:
        refused, stuck = is_refusal(words), reason in {"FailedCreate", INCOMPLETE}
        return Finding(
            code=Code.POLICY_DENIED if refused else Code.DEPLOYMENT_NOT_READY,
            reason="AdmissionDenied" if refused else reason or "NotReady",
            message=f"The pod did not become ready: {words or reason}",
            hint="What that means is not known here; the evidence has the cluster's own words, for its operator.",
            evidence=evidence,
            whose=Whose.PLATFORM if refused or stuck else Whose.USER,
            retryable=stuck and not refused,
        )
    values = found.values
    asks = f" (asked {values['asked']}; used {values['used']} of {values['limited']})" if values.get("used") else ""
    facts = {"requests": requests or "its spec.resources.requests", "asks": asks}
    return Finding(
        code=found.case.code or Code.DEPLOYMENT_NOT_READY,
        reason=reason if found.case.code is Code.IMAGE_UNPULLABLE and reason else found.case.reason,
        message=f"The cluster does not run it: {words}",
        hint=found.hint(facts),
        evidence=evidence,
        whose=found.case.whose,
        retryable=found.case.retryable,
    )


def is_refusal(words: str) -> bool:
    """Whether the cluster's words say that somebody decided so: quota, Pod Security, limits, a policy."""
    return "denied the request" in words or ("is forbidden" in words and "error looking up" not in words)


def lacks_secret(log: Sequence[str], empty: Mapping[str, str]) -> tuple[str, str] | None:
    """(env name, secret name) of a secret that nobody sent, where the app's last words complain of it.

    Args:
        log: its last lines.
        empty: by env name, the secrets that are empty since nobody sent them.
    """
    words = {word for line in log if _COMPLAINS.search(line) for word in _WORD.findall(line)}
    return next((pair for pair in empty.items() if words & set(pair)), None)


def _ended(app: App, reason: str, message: str, hint: str, found: Match | None = None) -> Finding:
    last = found.line if found is not None else app.log[-1] if app.log else ""
    return Finding(
        code=Code.DEPLOYMENT_NOT_READY,
        reason=reason,
        message=f"{message}: {last}" if last else f"{message}.",
        hint=hint,
        evidence=(exits.told(app.exit_code), last, *app.told),
        whose=found.case.whose if found is not None else Whose.USER,
    )


def _unready(app: App, reason: str, message: str, hint: str, found: Match | None) -> Finding:
    where = ", ".join(f"{address}:{port}" for address, port in app.sockets or ())
    seen = f"listens on {where}" if where else "listens on no port" if app.sockets is not None else ""
    return Finding(
        code=Code.DEPLOYMENT_NOT_READY,
        reason=reason,
        message=message,
        hint=hint,
        evidence=(f"port {app.port}", app.probe, seen, *app.told),
        whose=found.case.whose if found is not None else Whose.USER,
    )


def _hint(found: Match, app: App) -> str:
    return found.case.hint.format_map({**found.values, **app.facts(found)})


def _listening(app: App) -> tuple[str, str] | None:
    """(reason, hint) when it listens, but not where it is asked; None when it does."""
    sockets = app.sockets or ()
    if any(port == app.port and not is_loopback(address) for address, port in sockets):
        return None
    if any(port == app.port for _, port in sockets):
        return "ListensOnLoopback", (
            f"The app listens on port {app.port}, but only on loopback ({_places(sockets, app.port)}): make it listen"
            f" on"
            f" 0.0.0.0:{app.port} (in many servers HOST or --host)."
        )
    others = sorted({port for _, port in sockets})
    if others:
        ports = ", ".join(map(str, others))
        return "ListensOnAnotherPort", (
            f"Nothing listens on spec.runtime.port {app.port}; the app listens on {ports}. Set spec.runtime.port to"
            f" {others[0]} in .x1agent/preview.yaml, or make the app listen on {app.port} (in many servers PORT)."
        )
    return "ListensNowhere", (
        f"The app runs, but listens on no port; spec.runtime.port says {app.port}. Make it listen on"
        f" 0.0.0.0:{app.port}, or start the server in CMD of the Dockerfile."
    )


def _says_where(app: App) -> tuple[str, str] | None:
    """(reason, hint) when its log says that it listens somewhere else; where sockets can't be seen."""
    for line in app.log:
        found = _LISTENS.search(line)
        if found is None:
            continue
        port, address = int(found["port"] or found["port2"]), found["address"] or ""
        if port != app.port:
            return "ListensOnAnotherPort", (
                f"Nothing answers on spec.runtime.port {app.port}, and the app's log says `{line.strip()[:100]}`: set"
                f" spec.runtime.port to {port} in .x1agent/preview.yaml, or make the app listen on {app.port}."
            )
        if address in {"localhost", "127.0.0.1", "[::1]"}:
            return "ListensOnLoopback", (
                f"The app's log says `{line.strip()[:100]}`, which is loopback only: make it listen on"
                f" 0.0.0.0:{app.port} (in many servers HOST or --host)."
            )
    return None


def _places(sockets: Sockets, port: int) -> str:
    return ", ".join(f"{address}:{one}" for address, one in sockets if one == port)


def is_loopback(address: str) -> bool:
    """Whether only the container itself can connect there."""
    return address.startswith(("127.", "::ffff:127.")) or address == "::1"
