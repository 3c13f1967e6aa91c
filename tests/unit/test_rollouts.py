"""What happens over time in a rollout: pods that fail, end, or never begin, and what is told of that."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from provider.diagnose import rollouts
from provider.errors import Code, PreviewError, Whose
from provider.platforms.kubernetes.cache import Changes
from provider.platforms.kubernetes.rollout import Rollouts, error_of
from provider.platforms.kubernetes.rollout_state import Broken, Ready, Waiting
from tests.unit.test_rollout_state import (
    NEW_POD,
    NEW_SET,
    OLD_POD,
    OLD_SET,
    SLICE,
    broken,
    crashed,
    deployment,
    event,
    load,
    pod,
    refused_set,
    seen,
    state,
)

Object = dict[str, Any]
CREATING = {"waiting": {"reason": "ContainerCreating"}}


def test_a_pod_that_a_lost_node_will_never_end_does_not_keep_the_new_one_waiting() -> None:
    """Its kubelet is gone, so it stays `Terminating` as long as the node's object stays. No proxy asks it: it does
    not serve (node controller: Ready is False/Unknown).
    """
    old: Object = load(OLD_POD)
    old["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    old["status"]["conditions"] = [{"type": "Ready", "status": "False", "reason": "NodeNotReady"}]
    both: Object = load(SLICE)
    gone = {"ready": False, "serving": False, "terminating": True}
    both["endpoints"].append({"targetRef": {"name": "shop-old-1"}, "conditions": gone})
    found = seen(pods=[old, load(NEW_POD)], slices=[both])
    assert state(found, age=600.0) == Ready()


def failed_pod(reason: str, message: str) -> Object:
    found = pod(phase="Failed", reason=reason, message=message, containerStatuses=[])
    found["metadata"] |= {"name": "shop-new-0", "uid": "p0"}
    return found


def test_a_pod_that_was_evicted_days_ago_does_not_end_a_deploy_that_uses_its_replica_set_again() -> None:
    """A → B → A: the old ReplicaSet of A is used again. It was just scaled up, its new pod is not made yet, and what
    it has is the failed pod of back then: neither ReplicaSet nor Deployment controller ever removes those.
    """
    rolling = deployment(replicas=1, updatedReplicas=0, availableReplicas=1)
    serving = {"endpoints": [{"targetRef": {"name": "shop-old-1"}, "conditions": {"ready": True}}]}
    evicted = failed_pod("Evicted", "The node was low on resource: memory.")
    found = seen(deployment=rolling, pods=[load(OLD_POD), evicted], slices=[serving])
    assert isinstance(state(found, age=86400.0), Waiting)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Terminated", "Pod was terminated in response to imminent node shutdown."),
        (
            "OutOfcpu",
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 200, used: 1900, capacity: 2000",
        ),
        ("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed"),
        ("UnexpectedAdmissionError", "Pod was rejected: Allocate failed due to can't allocate unhealthy devices"),
    ],
)
def test_a_pod_that_its_replica_set_is_about_to_replace_does_not_end_it(reason: str, message: str) -> None:
    """The ReplicaSet makes another one within milliseconds; only the order of two events decides today."""
    starting = deployment(replicas=1, updatedReplicas=1, availableReplicas=0)
    assert isinstance(state(seen(deployment=starting, slices=[], pods=[failed_pod(reason, message)])), Waiting)


def test_and_if_it_did_it_would_not_be_the_users_fault() -> None:
    error = error_of(Broken("Terminated", "Pod was terminated in response to imminent node shutdown.", "p"), ())
    assert (error.whose, error.retryable) == (Whose.PLATFORM, True)


class FakeCache:
    def __init__(self, *objects: Object) -> None:
        self._objects = objects

    def get(self, name: str) -> Object | None:
        return next(iter(self._objects), None)

    def of(self, key: str) -> list[Object]:
        return list(self._objects)

    def age(self, found: Object) -> float:
        return 1.0


class FakeWatches:
    def __init__(self, deployed: Object, *, pods: list[Object], events: list[Object], slices: list[Object]) -> None:
        self.changes = Changes()
        self.deployments = FakeCache(deployed)
        self.replica_sets = FakeCache(load(OLD_SET), load(NEW_SET))
        for one in pods:
            one["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        self.pods = FakeCache(*pods)
        self.endpoints = FakeCache(*slices)
        self._events = events

    def events_of(self, objects: Any) -> list[Object]:
        return self._events


async def out_of_time(deployed: Object, monkeypatch: pytest.MonkeyPatch, **seen_: Any) -> PreviewError:
    """What callers are told when ROLLOUT_TIMEOUT has passed."""
    from provider.platforms.kubernetes import rollout

    monkeypatch.setattr(rollout, "is_applied", lambda *_: True)
    monkeypatch.setattr(rollout, "mark_of", lambda *_: "mark")

    async def no_lines(*_: Any, **__: Any) -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(rollout, "last_lines", no_lines)
    deployed["spec"] = {**deployed["spec"]}
    deployed["spec"]["template"] = {
        "spec": {
            "containers": [
                {
                    "name": "app",
                    "ports": [{"containerPort": 3000}],
                    "readinessProbe": {"httpGet": {"path": "/"}},
                    "resources": {"requests": {"cpu": "200m"}},
                }
            ]
        }
    }
    watches: Any = FakeWatches(deployed, **{"pods": [], "events": [], "slices": [], **seen_})
    settings: Any = SimpleNamespace(rollout_timeout=0.05, unschedulable_grace=60.0)
    api: Any = None
    with pytest.raises(PreviewError) as caught:
        await Rollouts(api=api, watches=watches, settings=settings).wait("shop", None, 1)  # type: ignore[arg-type]
    return caught.value


async def test_a_pod_whose_network_can_not_be_made_is_told_in_the_clusters_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = 'Failed to create pod sandbox: plugin type="calico" failed (add): no free addresses in range set'
    told = [{**event("FailedCreatePodSandBox", words), "type": "Warning"}]
    starting = deployment(updatedReplicas=1, availableReplicas=0)
    error = await out_of_time(
        starting, monkeypatch, pods=[pod(phase="Pending", containerStatuses=[{"name": "app", "state": CREATING}])],
        events=told,
    )  # fmt: skip
    assert words in " ".join((error.message, *error.evidence))
    assert error.whose is Whose.PLATFORM


async def test_an_image_that_is_still_being_pulled_is_no_matter_of_the_health_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = [{**event("Pulling", 'Pulling image "registry/shop@sha256:1"'), "type": "Normal"}]
    starting = deployment(updatedReplicas=1, availableReplicas=0)
    error = await out_of_time(
        starting, monkeypatch, pods=[pod(phase="Pending", containerStatuses=[{"name": "app", "state": CREATING}])],
        events=told,
    )  # fmt: skip
    assert "below 400" not in (error.hint or ""), f"{error.reason}: {error.message} {error.hint}"


async def test_a_controller_that_does_not_run_is_not_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    error = await out_of_time(deployment(observedGeneration=3), monkeypatch)
    assert error.whose is Whose.PLATFORM, f"{error.reason}: {error.message} {error.hint}"


async def test_a_paused_deployment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    paused = deployment(updatedReplicas=0)
    paused["spec"]["paused"] = True
    error = await out_of_time(paused, monkeypatch, pods=[load(NEW_POD)])
    assert "paused" in error.message, f"{error.reason}: {error.message} {error.hint}"


async def test_an_old_pod_that_does_not_end_is_not_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    both: Object = load(SLICE)
    both["endpoints"].append({"targetRef": {"name": "shop-old-1"}, "conditions": {"ready": False, "terminating": True}})
    error = await out_of_time(load("kind: Deployment") | deployment(), monkeypatch, pods=[load(NEW_POD)], slices=[both])
    assert error.whose is Whose.PLATFORM, f"{error.reason}: {error.message} {error.hint}"


@pytest.mark.parametrize(
    "words",
    [
        'Error creating: Internal error occurred: failed calling webhook "mutate.kyverno.svc-fail": failed to call webhook: Post "https://kyverno-svc.kyverno.svc:443/mutate/fail?timeout=10s": dial tcp 10.96.4.7:443: connect: connection refused',  # noqa: E501
        'Error creating: pods "shop-1" is forbidden: error looking up service account x1-previews/default: serviceaccount "default" not found',  # noqa: E501
        "Error creating: etcdserver: request timed out",
    ],
)
def test_what_passes_by_itself_is_no_refusal(words: str) -> None:
    told = [event("FailedCreate", words, "r2")]
    found = seen(replica_sets=[refused_set()], pods=[], events=told, deployment=deployment(updatedReplicas=0))
    verdict = state(found, age=4.0)
    if isinstance(verdict, Broken):
        error = error_of(verdict, ())
        assert (error.code, error.retryable) != (Code.POLICY_DENIED, False), error.message


def test_a_log_line_that_only_has_the_name_in_it_does_not_blame_the_secret() -> None:
    assert rollouts.lacks_secret(["DEBUG: listening on port 3001"], {"DEBUG": "DEBUG"}) is None
    assert rollouts.lacks_secret(["[keys] loaded 3 KEYS"], {"KEY": "KEY"}) is None


def test_it_is_counted_how_often_it_ended() -> None:
    """Back-off begins after the second end: restartCount is 1 then (the stand-in says so, too)."""
    assert "exited 2 times" in error_of(broken(seen(pods=[crashed(restarts=1)])), ()).message


async def test_a_pod_that_was_restarted_last_week_does_not_make_a_deploy_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    from provider.platforms.kubernetes import rollout

    monkeypatch.setattr(rollout, "is_applied", lambda *_: True)
    monkeypatch.setattr(rollout, "mark_of", lambda *_: "mark")
    running = {
        "name": "app", "ready": True, "restartCount": 1, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}},
    }  # fmt: skip
    watches: Any = FakeWatches(deployment(), pods=[pod(containerStatuses=[running])], events=[], slices=[load(SLICE)])
    settings: Any = SimpleNamespace(rollout_timeout=30.0, unschedulable_grace=60.0)
    api: Any = None
    async with asyncio.timeout(3):
        await Rollouts(api=api, watches=watches, settings=settings).wait("shop", None, 1)  # type: ignore[arg-type]
