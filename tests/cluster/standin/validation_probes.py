"""Probes and the handlers that they and lifecycle hooks have."""

from __future__ import annotations

import re

from tests.cluster.standin.checks import at_least, forbidden, invalid, one_of, port, port_number, required
from tests.cluster.standin.status import Cause
from tests.cluster.standin.values import Object, items, mapping

HEADER = "[-A-Za-z0-9]+"
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
INIT = "may not be set for init containers without restartPolicy=Always"


def probes(path: str, container: Object, *, init: bool) -> list[Cause]:
    """The probes of a container."""
    wrong = []
    for name in PROBES:
        if name not in container:
            continue
        if init and container.get("restartPolicy") != "Always":
            wrong.append(forbidden(f"{path}.{name}", INIT))
            continue
        wrong += _probe(f"{path}.{name}", container[name])
        successes = container[name].get("successThreshold", 1)
        if name != "readinessProbe" and successes != 1:
            wrong.append(invalid(f"{path}.{name}.successThreshold", successes, "must be 1"))
    return wrong


def _probe(path: str, probe: Object) -> list[Cause]:
    wrong = handlers(path, probe)
    counts = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
    for key in counts:
        wrong += at_least(f"{path}.{key}", probe.get(key), 0)
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        wrong.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    return wrong


def handlers(path: str, owner: Object) -> list[Cause]:
    """Exactly one handler, and a right one."""
    present = [kind for kind in HANDLERS if kind in owner]
    if not present:
        return [required(path, "must specify a handler type")]
    wrong = []
    if "exec" in owner and not items(owner, "exec", "command"):
        wrong.append(required(f"{path}.exec.command"))
    if "httpGet" in owner:
        wrong += _http(f"{path}.httpGet", mapping(owner, "httpGet"))
    if "tcpSocket" in owner:
        wrong += port(f"{path}.tcpSocket.port", mapping(owner, "tcpSocket").get("port"))
    if "grpc" in owner:
        wrong += port_number(f"{path}.grpc.port", mapping(owner, "grpc").get("port"))
    wrong += [forbidden(f"{path}.{kind}", "may not specify more than 1 handler type") for kind in present[1:]]
    return wrong


def _http(path: str, action: Object) -> list[Cause]:
    wrong = [] if action.get("path") else [required(f"{path}.path")]
    wrong += port(f"{path}.port", action.get("port"))
    wrong += one_of(f"{path}.scheme", action.get("scheme"), ("HTTP", "HTTPS"))
    for index, header in enumerate(items(action, "httpHeaders")):
        if not header.get("name"):
            wrong.append(required(f"{path}.httpHeaders[{index}]"))
        elif not re.fullmatch(HEADER, header["name"]):
            rule = "a valid HTTP header must consist of alphanumeric characters or '-'"
            why = f"{rule} (e.g. 'X-Header-Name', regex used for validation is '{HEADER}')"
            wrong.append(invalid(f"{path}.httpHeaders", header["name"], why))
    return wrong
