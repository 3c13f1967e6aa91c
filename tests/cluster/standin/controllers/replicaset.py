"""ReplicaSets: as many pods as they say. What admission refuses is told here, and nowhere else for minutes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.cluster.standin.controllers.base import MANAGER, Controller, Key, Tools, is_going, key_of, owner_key
from tests.cluster.standin.controllers.conditions import find, put
from tests.cluster.standin.controllers.pods import from_template, is_active, is_ready, suffix
from tests.cluster.standin.store import ApiError
from tests.cluster.standin.values import clone

Object = dict[str, Any]
COMPONENT = "replicaset-controller"
FIRST_RETRY, LONGEST_RETRY = 0.02, 1000.0


class ReplicaSetController(Controller):
    """Creates and deletes pods, and counts them."""

    watches = frozenset({"ReplicaSet", "Pod"})
    delay = 0.01

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._refused: dict[Key, int] = {}

    def keys(self, obj: Object) -> Iterable[Key]:
        """Itself, or a pod's owner."""
        return [key_of(obj)] if obj["kind"] == "ReplicaSet" else owner_key(obj, "ReplicaSet")

    def reconcile(self, key: Key) -> None:
        """Create or delete what differs, then count."""
        replica_set = self.tools.cache.get("ReplicaSet", key)
        if replica_set is None or is_going(replica_set):
            self._refused.pop(key, None)
            return
        pods = [pod for pod in self.tools.cache.owned("Pod", replica_set["metadata"]["uid"]) if is_active(pod)]
        missing = replica_set["spec"]["replicas"] - len(pods)
        refusal = self._create(replica_set, missing) if missing > 0 else None
        for pod in sorted(pods, key=is_ready)[: max(-missing, 0)]:
            self._delete(replica_set, pod)
        self._count(replica_set, refusal)
        self._retry(key, refusal)

    def _create(self, replica_set: Object, missing: int) -> ApiError | None:
        """Create pods until one is refused; the refusal."""
        for _ in range(missing):
            name = f"{replica_set['metadata']['name'][:57]}-{suffix()}"
            pod = from_template(replica_set["spec"]["template"], replica_set, name)
            try:
                self.tools.store.create(pod, manager=MANAGER)
            except ApiError as error:
                self.tools.events.warning(replica_set, "FailedCreate", f"Error creating: {error}", by=COMPONENT)
                return error
            self.tools.events.normal(replica_set, "SuccessfulCreate", f"Created pod: {name}", by=COMPONENT)
        return None

    def _delete(self, replica_set: Object, pod: Object) -> None:
        namespace, name = key_of(pod)
        self.tools.store.delete("Pod", namespace, name, uid=pod["metadata"]["uid"])
        self.tools.events.normal(replica_set, "SuccessfulDelete", f"Deleted pod: {name}", by=COMPONENT)

    def _count(self, replica_set: Object, refusal: ApiError | None) -> None:
        pods = self.tools.cache.owned("Pod", replica_set["metadata"]["uid"])
        active = [pod for pod in pods if is_active(pod)]
        ready = sum(map(is_ready, active))
        status = {
            "replicas": len(active),
            "fullyLabeledReplicas": len(active),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "terminatingReplicas": sum(map(is_going, pods)),
            "observedGeneration": replica_set["metadata"]["generation"],
            "conditions": self._conditions(replica_set, refusal),
        }
        told = {name: value for name, value in status.items() if value or name == "replicas"}
        if told != replica_set.get("status"):
            changed = {**replica_set, "status": told}
            self.tools.store.update(changed, manager=MANAGER, subresource="status")

    def _conditions(self, replica_set: Object, refusal: ApiError | None) -> list[Object]:
        conditions: list[Object] = clone(replica_set.get("status", {}).get("conditions", []))
        known = find(conditions, "ReplicaFailure")
        if refusal is not None and known is None:  # the first refusal's words stay
            now = self.tools.clock.stamp()
            put(conditions, "ReplicaFailure", True, now, reason="FailedCreate", message=str(refusal))
        elif refusal is None and known is not None:
            conditions.remove(known)
        return conditions

    def _retry(self, key: Key, refusal: ApiError | None) -> None:
        """Each refusal doubles the wait."""
        if refusal is None:
            self._refused.pop(key, None)
            return
        self._refused[key] = self._refused.get(key, 0) + 1
        self.revisit(key, min(FIRST_RETRY * 2 ** self._refused[key], LONGEST_RETRY))
