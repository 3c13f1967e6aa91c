"""EndpointSlices: where a Service's traffic can go, and in which state each pod behind it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tests.cluster.standin.controllers.base import (
    MANAGER,
    Controller,
    Key,
    Tools,
    controller_reference,
    is_going,
    key_of,
    owner_key,
)
from tests.cluster.standin.controllers.pods import is_over, is_ready, suffix
from tests.cluster.standin.values import clone

Object = dict[str, Any]
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"


class EndpointSliceController(Controller):
    """Keeps one slice for each Service with a selector."""

    watches = frozenset({"Service", "Pod", "EndpointSlice"})
    delay = 0.02

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._first: dict[Key, tuple[str, str, str]] = {}
        self._services: defaultdict[tuple[str, str, str] | None, set[Key]] = defaultdict(set)

    def keys(self, obj: Object) -> Iterable[Key]:
        """A Service, a slice's Service, or those that select the pod."""
        if obj["kind"] == "Service":
            return [key_of(obj)]
        if obj["kind"] == "EndpointSlice":
            return owner_key(obj, "Service")
        return self._selecting(obj)

    def notice(self, event: str, obj: Object) -> None:
        """Also remember which Services may select a pod: those that ask for one of its labels first."""
        if obj["kind"] == "Service":
            key, selector = key_of(obj), obj["spec"].get("selector") or {}
            self._services[self._first.pop(key, None)].discard(key)
            if event != "DELETED" and selector:
                self._first[key] = (key[0], *next(iter(selector.items())))
                self._services[self._first[key]].add(key)
        super().notice(event, obj)

    def _selecting(self, pod: Object) -> list[Key]:
        namespace, labels = pod["metadata"]["namespace"], pod["metadata"].get("labels", {})
        known = (key for label in labels.items() for key in self._services.get((namespace, *label), ()))
        services = ((key, self.tools.cache.get("Service", key)) for key in known)
        return [key for key, service in services if service is not None and _selects(service, pod)]

    def reconcile(self, key: Key) -> None:
        """Write the slice anew if it would differ."""
        service = self.tools.cache.get("Service", key)
        if service is None or is_going(service) or not service["spec"].get("selector"):
            return
        pods = [pod for pod in self.tools.cache.labelled("Pod", key[0], service["spec"]["selector"]) if _has_place(pod)]
        known = list(self.tools.cache.owned("EndpointSlice", service["metadata"]["uid"]))
        groups: dict[str, list[Object]] = {}
        for pod in pods:
            groups.setdefault(str(ports(service, [pod])), []).append(pod)
        wanted = [
            {"ports": ports(service, group), "endpoints": [endpoint(service, pod) for pod in group]}
            for group in groups.values()
        ] or [{"ports": ports(service, []), "endpoints": []}]
        for one in wanted:
            present = next((old for old in known if old.get("ports") == one["ports"]), None) or (
                known[0] if known and len(wanted) == 1 else None
            )
            if present is not None:
                known.remove(present)
            self._write(service, present, one)
        for old in known:
            self._write(service, old, {"ports": old.get("ports", []), "endpoints": []})

    def _write(self, service: Object, known: Object | None, wanted: Object) -> None:
        if known is None:
            self.tools.store.create({**self._empty(service), **wanted}, manager=MANAGER)
        elif any(known.get(name) != value for name, value in wanted.items() if value or known.get(name)):
            changed = {**clone(known), **wanted}
            changed["metadata"].setdefault("annotations", {})[LAST_CHANGE] = self.tools.clock.stamp()
            self.tools.store.update(changed, manager=MANAGER)

    def _empty(self, service: Object) -> Object:
        namespace, name = key_of(service)
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name[:57]}-{suffix()}",
                "namespace": namespace,
                "labels": {**service["metadata"].get("labels", {}), SERVICE_NAME: name, **MANAGED_BY},
                "annotations": {LAST_CHANGE: self.tools.clock.stamp()},
                "ownerReferences": [controller_reference(service)],
            },
            "addressType": "IPv4",
        }


def _selects(service: Object, pod: Object) -> bool:
    selector, labels = service["spec"].get("selector"), pod["metadata"].get("labels", {})
    return bool(selector) and selector.items() <= labels.items()


def _has_place(pod: Object) -> bool:
    return bool(pod.get("status", {}).get("podIP")) and not is_over(pod)


def endpoint(service: Object, pod: Object) -> Object:
    """One pod as an endpoint: a pod that goes away still serves as long as it is ready."""
    ready = is_ready(pod) or bool(service["spec"].get("publishNotReadyAddresses"))
    namespace, name = key_of(pod)
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready and not is_going(pod), "serving": ready, "terminating": is_going(pod)},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {"kind": "Pod", "namespace": namespace, "name": name, "uid": pod["metadata"]["uid"]},
    }


def ports(service: Object, pods: list[Object]) -> list[Object]:
    """The Service's ports as numbers of the pods; one whose name no pod has is left out."""
    made = []
    for port in service["spec"].get("ports", []):
        number = _number(port.get("targetPort", port["port"]), pods)
        if number is not None:
            more = {"appProtocol": port["appProtocol"]} if "appProtocol" in port else {}
            made.append({"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP"), **more})
    return made


def _number(target: int | str, pods: list[Object]) -> int | None:
    if isinstance(target, int):
        return target
    containers = [container for pod in pods for container in pod["spec"]["containers"]]
    named = [port for container in containers for port in container.get("ports", []) if port.get("name") == target]
    return int(named[0]["containerPort"]) if named else None
