"""What an ingress controller knows: hosts and paths of Ingresses of its class, and the ready endpoints behind them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from tests.cluster.standin.controllers.base import Cache, Key, key_of
from tests.cluster.standin.controllers.endpointslice import SERVICE_NAME

Object = dict[str, Any]
Place = tuple[str, str, str]
"""Kind, namespace and name."""
WATCHED = frozenset({"Ingress", "Service", "EndpointSlice", "ConfigMap"})
NGINX = "nginx.ingress.kubernetes.io/"
LEGACY_CLASS = "kubernetes.io/ingress.class"


@dataclass(frozen=True)
class Endpoint:
    """A pod that takes traffic."""

    ip: str
    port: int
    pod: str


@dataclass(eq=False)
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


class Table:
    """The routes of an ingress class, as they were when it was last brought up to date.

    Of many Ingresses only those are looked at anew that changed, or whose Services, slices or headers did.
    """

    def __init__(self, cache: Cache, ingress_class: str) -> None:
        self._cache = cache
        self._class = ingress_class
        self._changed: set[Place] = set()
        self._routes: dict[Key, list[Route]] = {}  # by Ingress
        self._hosts: defaultdict[str, list[Route]] = defaultdict(list)
        self._users: defaultdict[Place, set[Key]] = defaultdict(set)  # the Ingresses that a place is used by

    def changed(self, obj: Object) -> None:
        """An object of a kind in WATCHED was committed."""
        namespace, name = key_of(obj)
        if obj["kind"] == "EndpointSlice":
            self._changed.add(("Service", namespace, obj["metadata"].get("labels", {}).get(SERVICE_NAME, "")))
        else:
            self._changed.add((obj["kind"], namespace, name))

    def update(self) -> list[Route]:
        """Bring it up to date; the routes that are new."""
        changed, self._changed = self._changed, set()
        stale = {(namespace, name) for kind, namespace, name in changed if kind == "Ingress"}
        new: list[Route] = []
        for key in stale.union(*(self._users.get(place, ()) for place in changed)):
            for route in self._routes.pop(key, ()):
                self._hosts[route.host].remove(route)
            ingress = self._cache.get("Ingress", key)
            if ingress is None or class_of(ingress) != self._class:
                continue
            for place in _used(ingress):
                self._users[place].add(key)
            self._routes[key] = list(_routes(self._cache, ingress))
            for route in self._routes[key]:
                self._hosts[route.host].append(route)
            new += self._routes[key]
        return new

    def find(self, host: str, path: str) -> Route | None:
        """The most specific route for a request."""
        for hosts in ((host,), (f"*.{host.partition('.')[2]}", "")):
            found = [one for name in hosts for one in self._hosts.get(name, ()) if one.fits(host, path)]
            if found:
                return min(found, key=lambda route: (route.kind != "Exact", -len(route.path)))
        return None


def _used(ingress: Object) -> Iterable[Place]:
    """The Services and the ConfigMap that an Ingress's routes depend on."""
    namespace = ingress["metadata"]["namespace"]
    for rule in ingress["spec"].get("rules", []):
        for path in rule.get("http", {}).get("paths", []):
            yield "Service", namespace, path["backend"]["service"]["name"]
    space, _, name = ingress["metadata"].get("annotations", {}).get(f"{NGINX}custom-headers", "").partition("/")
    yield "ConfigMap", space, name


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
