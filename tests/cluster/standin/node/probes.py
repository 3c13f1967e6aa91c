"""Startup, readiness and liveness probes, asked of what runs in the container."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.cluster.standin.script import Asked

if TYPE_CHECKING:
    from tests.cluster.standin.node.container import Container

Object = dict[str, Any]
FIRST_PROBE = 0.05
"""Seconds from a container's start until the kubelet knows of it and asks."""
FIRST_STATUS, PAST_STATUS = 200, 400


async def watch(container: Container) -> str:
    """Keep `started` and `ready` up to date until the container has to be restarted; in the event's words."""
    await container.host.clock.sleep(FIRST_PROBE)
    if (startup := container.spec.get("startupProbe")) and not await _passes(container, "Startup", startup):
        return f"Container {container.name} failed startup probe, will be restarted"
    _set(container, started=True, ready="readinessProbe" not in container.spec)
    readiness = asyncio.ensure_future(_keep_ready(container))
    try:
        if liveness := container.spec.get("livenessProbe"):
            await _fails(container, "Liveness", liveness)
        else:
            await asyncio.Future()
    finally:
        readiness.cancel()
    return f"Container {container.name} failed liveness probe, will be restarted"


def _set(container: Container, *, started: bool, ready: bool) -> None:
    if ready and container.program.serves:
        container.host.calm()
    if (container.started, container.ready) != (started, ready):
        container.started, container.ready = started, ready
        container.host.publish()


async def _keep_ready(container: Container) -> None:
    probe = container.spec.get("readinessProbe")
    if probe is None:
        return
    while True:
        if await _passes(container, "Readiness", probe, for_ever=True):
            _set(container, started=True, ready=True)
        await container.host.clock.sleep(probe.get("periodSeconds", 10))
        await _fails(container, "Readiness", probe, delay=False)
        _set(container, started=True, ready=False)


async def _passes(container: Container, kind: str, probe: Object, *, for_ever: bool = False) -> bool:
    """Whether it succeeds often enough before it fails too often."""
    await container.host.clock.sleep(probe.get("initialDelaySeconds", 0))
    failures = successes = 0
    while True:
        if await _attempt(container, kind, probe):
            successes, failures = successes + 1, 0
            if successes >= probe.get("successThreshold", 1):
                return True
        else:
            failures, successes = failures + 1, 0
            if failures >= probe.get("failureThreshold", 3) and not for_ever:
                return False
        await container.host.clock.sleep(probe.get("periodSeconds", 10))


async def _fails(container: Container, kind: str, probe: Object, *, delay: bool = True) -> None:
    """Until it fails often enough in a row."""
    await container.host.clock.sleep(probe.get("initialDelaySeconds", 0) if delay else 0)
    failures = 0
    while True:
        failures = 0 if await _attempt(container, kind, probe) else failures + 1
        if failures >= probe.get("failureThreshold", 3):
            return
        await container.host.clock.sleep(probe.get("periodSeconds", 10))


async def _attempt(container: Container, kind: str, probe: Object) -> bool:
    why = await _failure(container, probe)
    if why:
        container.say("Unhealthy", f"{kind} probe failed: {why}", warn=True)
        if container.life is not None and not container.program.will_listen(container.life):
            container.host.calm()
    return not why


async def _failure(container: Container, probe: Object) -> str:
    """Why it fails; empty if it does not. A command in a container always succeeds."""
    handler = next((probe[name] for name in ("httpGet", "tcpSocket", "grpc") if name in probe), None)
    life = container.life
    if handler is None or life is None:
        return ""
    port = _port(container.spec, handler["port"])
    refused = f"dial tcp {container.host.ip}:{port}: connect: connection refused"
    listens = container.program.listens(life, port)
    if "httpGet" not in probe:
        return "" if listens else refused
    path = handler.get("path", "/")
    url = f"{handler.get('scheme', 'HTTP').lower()}://{container.host.ip}:{port}{path}"
    if not listens:
        return f'Get "{url}": {refused}'
    asked = Asked("GET", path, {"User-Agent": "kube-probe/1.36"}, env=life.env, annotations=life.annotations)
    try:
        # Not `wait_for`: it may swallow a cancellation, and a life that is over be asked on.
        async with asyncio.timeout(probe.get("timeoutSeconds", 1) / container.host.clock.speed):
            answer = await container.program.answer(life, asked)
    except TimeoutError:
        return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    good = FIRST_STATUS <= answer.status < PAST_STATUS
    return "" if good else f"HTTP probe failed with statuscode: {answer.status}"


def _port(spec: Object, port: int | str) -> int:
    if isinstance(port, int):
        return port
    return int(next(one["containerPort"] for one in spec.get("ports", []) if one.get("name") == port))
