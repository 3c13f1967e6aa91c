"""What an ingress controller knows: hosts and paths of Ingresses of its class, and the ready endpoints behind them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from tests.cluster.standin.controllers.base import Cache
from tests.cluster.standin.controllers.endpointslice import SERVICE_NAME

Object = dict[str, Any]
NGINX = "nginx.ingress.kubernetes.io/"
LEGACY_CLASS = "kubernetes.io/ingress.class"


@dataclass(frozen=True)
class Endpoint:
    """A pod that takes traffic."""

    ip: str
    port: int
    pod: str


@dataclass
class Route:
    """A host and a path, and where they lead."""

    host: str
    path: str
    kind: str
    regex: bool
    rewrite: str
    headers: dict[str, str]
    endpoints: list[Endpoint]
    _turns: Iterable[Endpoint] = field(init=False)

    def __post_init__(self) -> None:
        self._turns = cycle(self.endpoints)

    def fits(self, host: str, path: str) -> bool:
        """Whether a request is for it."""
        return self._fits_host(host) and self._match(path) is not None

    def _fits_host(self, host: str) -> bool:
        if self.host.startswith("*."):
            return host.partition(".")[2] == self.host[2:]
        return self.host in ("", host)

    def _match(self, path: str) -> re.Match[str] | None:
        if self.regex:
            return re.match(self.path, path, re.IGNORECASE)
        exact = re.escape(self.path.rstrip("/"))
        return re.fullmatch(re.escape(self.path) if self.kind == "Exact" else f"{exact}(/.*)?", path)

    def rewritten(self, path: str) -> str:
        """The path that the app sees."""
        match = self._match(path)
        if not self.rewrite or match is None:
            return path
        return re.sub(r"\$(\d)", lambda group: _group(match, int(group[1])), self.rewrite)

    def next(self) -> list[Endpoint]:
        """All ready endpoints, the next one in turn first."""
        if not self.endpoints:
            return []
        first = next(iter(self._turns))
        return [first, *(one for one in self.endpoints if one != first)]


def _group(match: re.Match[str], number: int) -> str:
    return (match[number] or "") if number <= (match.re.groups or 0) else ""


def table(cache: Cache, ingress_class: str) -> list[Route]:
    """All routes of an ingress class, the most specific ones first."""
    ingresses = [one for one in cache.all("Ingress") if class_of(one) == ingress_class]
    routes = [route for ingress in ingresses for route in _routes(cache, ingress)]
    return sorted(routes, key=lambda route: (route.host[:1] in ("", "*"), route.kind != "Exact", -len(route.path)))


def class_of(ingress: Object) -> str:
    """The class that an Ingress asks for."""
    legacy = ingress["metadata"].get("annotations", {}).get(LEGACY_CLASS, "")
    return str(ingress["spec"].get("ingressClassName") or legacy)


def _routes(cache: Cache, ingress: Object) -> Iterable[Route]:
    annotations = ingress["metadata"].get("annotations", {})
    namespace = ingress["metadata"]["namespace"]
    for rule in ingress["spec"].get("rules", []):
        for path in rule.get("http", {}).get("paths", []):
            yield Route(
                rule.get("host", ""),
                path.get("path", "/"),
                path["pathType"],
                annotations.get(f"{NGINX}use-regex") == "true" or f"{NGINX}rewrite-target" in annotations,
                annotations.get(f"{NGINX}rewrite-target", ""),
                _headers(cache, annotations),
                _endpoints(cache, namespace, path["backend"]["service"]),
            )


def _headers(cache: Cache, annotations: dict[str, str]) -> dict[str, str]:
    """Response headers from the ConfigMap that the annotation names, as `namespace/name`."""
    namespace, _, name = annotations.get(f"{NGINX}custom-headers", "").partition("/")
    found = cache.get("ConfigMap", (namespace, name)) if name else None
    headers: dict[str, str] = (found or {}).get("data", {})
    return headers


def _endpoints(cache: Cache, namespace: str, backend: Object) -> list[Endpoint]:
    service = cache.get("Service", (namespace, backend["name"]))
    if service is None:
        return []
    names = [port.get("name", "") for port in service["spec"].get("ports", []) if _is_port(port, backend["port"])]
    slices = cache.owned("EndpointSlice", service["metadata"]["uid"])
    return [
        Endpoint(endpoint["addresses"][0], port["port"], endpoint["targetRef"]["name"])
        for one in slices
        if one["metadata"]["labels"][SERVICE_NAME] == backend["name"]
        for port in one.get("ports", [])
        if port.get("name", "") in names
        for endpoint in one.get("endpoints", [])
        if endpoint["conditions"]["ready"]
    ]


def _is_port(port: Object, wanted: Object) -> bool:
    return bool(port["port"] == wanted["number"] if "number" in wanted else port.get("name") == wanted["name"])
