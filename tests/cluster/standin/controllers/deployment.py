"""Deployments: one ReplicaSet for each template, and a rolling update from one to the next."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

from tests.cluster.standin.clock import moment
from tests.cluster.standin.controllers import rollout
from tests.cluster.standin.controllers.base import (
    CONFLICT,
    MANAGER,
    Controller,
    Key,
    controller_reference,
    is_going,
    key_of,
    owner_key,
)
from tests.cluster.standin.controllers.conditions import condition
from tests.cluster.standin.controllers.pods import SUFFIX_ALPHABET
from tests.cluster.standin.store import ApiError
from tests.cluster.standin.values import clone

Object = dict[str, Any]
COMPONENT = "deployment-controller"
HASH = "pod-template-hash"
PREFIX = "deployment.kubernetes.io/"
REVISION = f"{PREFIX}revision"
NOT_COPIED = frozenset({REVISION, f"{PREFIX}desired-replicas", f"{PREFIX}max-replicas", f"{PREFIX}revision-history"})
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class DeploymentController(Controller):
    """Makes, scales and removes ReplicaSets, and tells how the rollout goes."""

    watches = frozenset({"Deployment", "ReplicaSet"})
    delay = 0.01

    def keys(self, obj: Object) -> Iterable[Key]:
        """Itself, or a ReplicaSet's owner."""
        return [key_of(obj)] if obj["kind"] == "Deployment" else owner_key(obj, "Deployment")

    def reconcile(self, key: Key) -> None:
        """One step of the rollout."""
        deployment = self.tools.cache.get("Deployment", key)
        if deployment is None or is_going(deployment):
            return
        current = self._current(deployment)
        made = current is None
        if current is None and (current := self._make(deployment)) is None:
            return
        self._revise(deployment, current)
        self._roll(deployment, current["metadata"]["uid"])
        self._tell(key, current["metadata"]["uid"], made)
        self._clean_up(key, current["metadata"]["uid"])

    # ------------------------------------------------------------------ the ReplicaSet of the template

    def _sets(self, deployment: Object) -> list[Object]:
        owned = self.tools.cache.owned("ReplicaSet", deployment["metadata"]["uid"])
        return [one for one in owned if not is_going(one)]

    def _current(self, deployment: Object) -> Object | None:
        wanted = deployment["spec"]["template"]
        return next((one for one in self._sets(deployment) if _unhashed(one["spec"]["template"]) == wanted), None)

    def _make(self, deployment: Object) -> Object | None:
        """A new ReplicaSet, empty. None if its name is taken: the next attempt gets another."""
        replica_set = _new_set(deployment, template_hash(deployment), self._next_revision(deployment))
        try:
            return self.tools.store.create(replica_set, manager=MANAGER)
        except ApiError as error:
            if error.code != CONFLICT:
                raise
        changed = clone(deployment)
        changed.setdefault("status", {})["collisionCount"] = deployment.get("status", {}).get("collisionCount", 0) + 1
        self.tools.store.update(changed, manager=MANAGER, subresource="status")
        return None

    def _next_revision(self, deployment: Object) -> int:
        return max((revision_of(one) for one in self._sets(deployment)), default=0) + 1

    def _revise(self, deployment: Object, current: Object) -> None:
        """The ReplicaSet that serves now has the highest revision, also when it is an old one again."""
        latest = max(map(revision_of, self._sets(deployment)))
        others = [revision_of(one) for one in self._sets(deployment) if one["metadata"]["uid"] != uid_of(current)]
        revision = str(latest if latest not in others else latest + 1)
        self._annotate(current, {**_copied_annotations(deployment), REVISION: revision})
        self._annotate(deployment, {REVISION: revision})

    def _annotate(self, obj: Object, annotations: dict[str, str]) -> None:
        known = obj["metadata"].get("annotations", {})
        if {**known, **annotations} != known:
            changed = self.tools.store.get(obj["kind"], *key_of(obj))
            changed["metadata"]["annotations"] = {**changed["metadata"].get("annotations", {}), **annotations}
            self.tools.store.update(changed, manager=MANAGER)

    # --------------------------------------------------------------------------------- rolling

    def _roll(self, deployment: Object, current: str) -> None:
        """Scale the new one up within the surge, then old ones down as far as enough stays available."""
        desired = deployment["spec"]["replicas"]
        surge, unavailable = rollout.limits(deployment)
        sets = self._sets(deployment)
        new = next(one for one in sets if uid_of(one) == current)
        old = [one for one in sets if uid_of(one) != current]
        room = desired + surge - sum(one["spec"]["replicas"] for one in sets)
        size = min(desired, new["spec"]["replicas"] + max(room, 0))
        if size != new["spec"]["replicas"]:
            self._scale(deployment, new, size)
            return
        for one, fewer in rollout.scaled_down(old, new, desired - unavailable):
            self._scale(deployment, one, fewer)

    def _scale(self, deployment: Object, replica_set: Object, size: int) -> None:
        changed = self.tools.store.get("ReplicaSet", *key_of(replica_set))
        before, changed["spec"]["replicas"] = changed["spec"]["replicas"], size
        surge, _ = rollout.limits(deployment)
        desired = deployment["spec"]["replicas"]
        sizes = {f"{PREFIX}desired-replicas": str(desired), f"{PREFIX}max-replicas": str(desired + surge)}
        changed["metadata"]["annotations"] = {**changed["metadata"].get("annotations", {}), **sizes}
        self.tools.store.update(changed, manager=MANAGER)
        message = f"Scaled {'up' if size > before else 'down'} replica set {key_of(changed)[1]} from {before} to {size}"
        self.tools.events.normal(deployment, "ScalingReplicaSet", message, by=COMPONENT)

    # ---------------------------------------------------------------------------------- telling

    def _tell(self, key: Key, current: str, made: bool) -> None:
        """Write the status, and come back when the deadline would pass."""
        deployment = self.tools.cache.get("Deployment", key)
        assert deployment is not None
        sets = self._sets(deployment)
        status = rollout.status(deployment, sets, current, self.tools.clock.now(), made=made)
        if status != deployment.get("status"):
            changed = {**deployment, "status": status}
            deployment = self.tools.store.update(changed, manager=MANAGER, subresource="status")
        if (waits := self._waits(deployment, sets)) is not None:
            self.revisit(key, waits)

    def _waits(self, deployment: Object, sets: list[Object]) -> float | None:
        """Seconds until the status may change without anybody's doing."""
        now, moments = self.tools.clock.now(), []
        progressing = condition(deployment, "Progressing")
        if progressing and progressing["reason"] not in (rollout.DONE, rollout.LATE):
            moments.append(moment(progressing["lastUpdateTime"]) + rollout.patience(deployment))
        failures = filter(None, (condition(one, "ReplicaFailure") for one in sets))
        moments += [moment(one["lastTransitionTime"]) + rollout.REPLICA_FAILURE_SHOWS_AFTER for one in failures]
        ahead = [(one - now).total_seconds() for one in moments]
        return min((math.ceil(wait) for wait in ahead if wait > 0), default=None)

    def _clean_up(self, key: Key, current: str) -> None:
        """Remove old revisions beyond the limit once the rollout is complete."""
        deployment = self.tools.cache.get("Deployment", key)
        assert deployment is not None
        if not rollout.is_complete(deployment, deployment["status"]):
            return
        old = [one for one in self._sets(deployment) if uid_of(one) != current and not one["spec"]["replicas"]]
        empty = [one for one in old if not one.get("status", {}).get("replicas")]
        surplus = len(old) - deployment["spec"].get("revisionHistoryLimit", 10)
        for one in sorted(empty, key=revision_of)[: max(surplus, 0)]:
            self.tools.store.delete("ReplicaSet", *key_of(one), uid=uid_of(one))


def uid_of(obj: Object) -> str:
    """The object's uid."""
    return str(obj["metadata"]["uid"])


def revision_of(replica_set: Object) -> int:
    """The revision that it was last."""
    return int(replica_set["metadata"].get("annotations", {}).get(REVISION, "0"))


def template_hash(deployment: Object) -> str:
    """The value of `pod-template-hash`: ten characters for a template, others after a collision."""
    collisions = deployment.get("status", {}).get("collisionCount", 0)
    text = json.dumps([deployment["spec"]["template"], collisions], sort_keys=True)
    digest = hashlib.sha256(text.encode()).digest()[:10]
    return "".join(SUFFIX_ALPHABET[byte % len(SUFFIX_ALPHABET)] for byte in digest)


def _unhashed(template: Object) -> Object:
    metadata = template["metadata"]
    labels = {name: value for name, value in metadata["labels"].items() if name != HASH}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _copied_annotations(deployment: Object) -> dict[str, str]:
    annotations = deployment["metadata"].get("annotations", {})
    return {name: value for name, value in annotations.items() if name not in NOT_COPIED | {LAST_APPLIED}}


def _new_set(deployment: Object, digest: str, revision: int) -> Object:
    template = clone(deployment["spec"]["template"])
    template["metadata"]["labels"][HASH] = digest
    selector = clone(deployment["spec"]["selector"])
    selector["matchLabels"] = {**selector.get("matchLabels", {}), HASH: digest}
    namespace, name = key_of(deployment)
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name}-{digest}",
            "namespace": namespace,
            "labels": dict(template["metadata"]["labels"]),
            "annotations": {**_copied_annotations(deployment), REVISION: str(revision)},
            "ownerReferences": [controller_reference(deployment)],
        },
        "spec": {"replicas": 0, "selector": selector, "template": template},
    }
