"""Whether a revision is ready: what the cluster shows, and the one true conclusion."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from provider.errors import Code, Whose
from provider.platforms.kubernetes.rollout import error_of
from provider.platforms.kubernetes.rollout_state import Broken, Ready, Seen, State, Waiting, judge, overdue

Object = dict[str, Any]

DEPLOYMENT = """
kind: Deployment
metadata: {name: shop, uid: d1, generation: 4, annotations: {deployment.kubernetes.io/revision: "2"}}
spec: {replicas: 1}
status:
  observedGeneration: 4
  replicas: 1
  updatedReplicas: 1
  availableReplicas: 1
  conditions: [{type: Progressing, status: "True", reason: NewReplicaSetAvailable}]
"""
OLD_SET = """
kind: ReplicaSet
metadata: {name: shop-old, uid: r1, annotations: {deployment.kubernetes.io/revision: "1"}, ownerReferences: [{uid: d1}]}
"""
NEW_SET = """
kind: ReplicaSet
metadata: {name: shop-new, uid: r2, annotations: {deployment.kubernetes.io/revision: "2"}, ownerReferences: [{uid: d1}]}
"""
OLD_POD = "{kind: Pod, metadata: {name: shop-old-1, uid: p1, ownerReferences: [{uid: r1}]}, status: {phase: Running}}"
NEW_POD = """
kind: Pod
metadata: {name: shop-new-1, uid: p2, ownerReferences: [{uid: r2}]}
status:
  phase: Running
  containerStatuses: [{name: app, restartCount: 0, ready: true, state: {running: {}}}]
"""
SLICE = """
kind: EndpointSlice
endpoints: [{targetRef: {kind: Pod, name: shop-new-1}, conditions: {ready: true}}]
"""


def load(text: str) -> Any:
    return yaml.safe_load(text)


def seen(**changes: Any) -> Seen:
    good: dict[str, Any] = {
        "deployment": load(DEPLOYMENT),
        "applied": True,
        "replica_sets": [load(OLD_SET), load(NEW_SET)],
        "pods": [load(NEW_POD)],
        "slices": [load(SLICE)],
        "events": [],
    }
    return Seen(**{**good, **changes})


def deployment(**status: Any) -> Object:
    found: Object = load(DEPLOYMENT)
    found["status"] |= status
    return found


def pod(**status: Any) -> Object:
    found: Object = load(NEW_POD)
    found["status"] |= status
    return found


def container(**status: Any) -> Object:
    return pod(containerStatuses=[{"name": "app", "restartCount": 0, **status}])


def crashed(reason: str = "Error", code: int = 3, restarts: int = 2) -> Object:
    return container(
        restartCount=restarts,
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}},
        lastState={"terminated": {"reason": reason, "exitCode": code}},
    )


def event(reason: str, message: str, uid: str = "p2") -> Object:
    return {"kind": "Event", "reason": reason, "message": message, "involvedObject": {"uid": uid}}


def state(found: Seen, age: float = 0.0, grace: float = 60.0) -> State:
    before = copy.deepcopy(found)
    verdict = judge(found, lambda _: age, grace)
    assert found == before, "it only looks"
    return verdict


def broken(found: Seen, age: float = 0.0, grace: float = 60.0) -> Broken:
    verdict = state(found, age, grace)
    assert isinstance(verdict, Broken), verdict
    return verdict


def test_ready_is_when_the_new_pod_serves_alone() -> None:
    assert state(seen()) == Ready()


def test_restarts_are_told_with_it() -> None:
    assert state(seen(pods=[container(restartCount=2, state={"running": {}})])) == Ready(restarts=2)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"deployment": None}, "does not show"),
        ({"applied": False}, "does not show"),
        ({"deployment": deployment(observedGeneration=3)}, "controller has not seen"),
        ({"replica_sets": [load(OLD_SET)]}, "no ReplicaSet"),
        ({"replica_sets": [{**load(NEW_SET), "metadata": {**load(NEW_SET)["metadata"], "ownerReferences": [{"uid": "gone"}]}}]}, "no ReplicaSet"),  # noqa: E501
        ({"deployment": deployment(updatedReplicas=0)}, "not there yet"),
        ({"deployment": {**load(DEPLOYMENT), "status": {"observedGeneration": 4}}}, "not there yet"),
        ({"deployment": deployment(availableReplicas=0)}, "not available"),
        ({"deployment": deployment(replicas=2)}, "old pod is still there"),
        ({"slices": []}, "no endpoint of the new pod"),
        ({"pods": []}, "no endpoint of the new pod"),
    ],
)  # fmt: skip
def test_not_ready_yet(changes: dict[str, Any], why: str) -> None:
    verdict = state(seen(**changes))
    assert isinstance(verdict, Waiting)
    assert why in verdict.why


def test_a_redeploy_is_not_ready_by_the_old_pods_readiness() -> None:
    """The platform's present provider said ok here (facts.md): the old replica is available, the new one is not."""
    rolling = deployment(replicas=2, updatedReplicas=1, availableReplicas=1)
    old = {"endpoints": [{"targetRef": {"name": "shop-old-1"}, "conditions": {"ready": True}}]}
    verdict = state(seen(deployment=rolling, pods=[load(OLD_POD), pod()], slices=[old]))
    assert isinstance(verdict, Waiting)


@pytest.mark.parametrize("conditions", [{"ready": True}, {"ready": False, "terminating": True}, {}])
def test_an_old_endpoint_keeps_it_waiting(conditions: Object) -> None:
    """Ready or ending, a proxy may still send somebody there."""
    both: Object = load(SLICE)
    both["endpoints"].append({"targetRef": {"name": "shop-old-1"}, "conditions": conditions})
    verdict = state(seen(pods=[load(OLD_POD), load(NEW_POD)], slices=[both]))
    assert isinstance(verdict, Waiting)
    assert "old pod" in verdict.why


@pytest.mark.parametrize(("conditions", "ready"), [({"ready": False}, False), ({}, True), ({"ready": None}, True)])
def test_a_new_endpoint_counts_unless_it_says_no(conditions: Object, ready: bool) -> None:
    one = {"endpoints": [{"targetRef": {"name": "shop-new-1"}, "conditions": conditions}]}
    assert isinstance(state(seen(slices=[one])), Ready) == ready


def test_slices_without_endpoints_are_null() -> None:
    assert isinstance(state(seen(slices=[{"kind": "EndpointSlice", "endpoints": None}])), Waiting)


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_can_not_be_pulled_ends_it(reason: str) -> None:
    waiting = {"waiting": {"reason": reason, "message": 'Back-off pulling image "registry/shop"'}}
    found = broken(seen(pods=[container(state=waiting)]))
    error = error_of(found, ())
    assert (found.reason, error.code, error.reason) == (reason, Code.IMAGE_UNPULLABLE, reason)
    assert "Back-off pulling" in error.message
    assert "REGISTRY_PULL_ADDRESS" in (error.hint or "")


def test_the_first_failed_pull_may_be_chance() -> None:
    assert isinstance(state(seen(slices=[], pods=[container(state={"waiting": {"reason": "ErrImagePull"}})])), Waiting)


def test_a_crash_is_told_with_its_code() -> None:
    error = error_of(broken(seen(pods=[crashed()])), ("last words",))
    assert (error.code, error.reason, error.whose) == (Code.DEPLOYMENT_NOT_READY, "CrashLoop", Whose.USER)
    assert "exited 3 times with code 3" in error.message, "restarted twice"
    assert error.log_tail == ("last words",)


def test_the_first_crash_is_not_the_end() -> None:
    once = container(restartCount=1, state={"running": {}}, lastState={"terminated": {"exitCode": 1}})
    assert not isinstance(state(seen(slices=[], pods=[once])), Broken)


def test_out_of_memory_is_not_any_crash() -> None:
    error = error_of(broken(seen(pods=[crashed("OOMKilled", 137)])), ())
    assert (error.reason, error.whose) == ("OutOfMemory", Whose.USER)
    assert "limits.memory" in (error.hint or "")


def test_killed_for_its_probes_is_no_crash() -> None:
    told = [
        event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500"),
        event("Killing", "Container app failed liveness probe, will be restarted"),
    ]
    error = error_of(broken(seen(pods=[crashed(code=143)], events=told)), ())
    assert error.reason == "Unhealthy"
    assert "statuscode: 500" in error.message
    once = crashed(code=143)
    once["status"]["conditions"] = [
        {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:09Z"},
    ]
    error = error_of(broken(seen(pods=[once], events=told)), ())
    assert error.reason == "LivenessFailed"
    assert "statuscode: 500" in error.message


def test_an_old_pods_probes_say_nothing_about_the_new_one() -> None:
    told = [event("Unhealthy", "old", "p1"), event("Killing", "Container app failed liveness probe", "p1")]
    assert broken(seen(pods=[load(OLD_POD), crashed()], events=told)).reason == "CrashLoopBackOff"


@pytest.mark.parametrize(("age", "ended"), [(9.0, False), (11.0, True)])
def test_a_missing_secret_may_come_for_a_while(age: float, ended: bool) -> None:
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "bundle" not found'}}
    found = seen(slices=[], pods=[container(state=waiting)])
    assert isinstance(state(found, age), Broken) == ended
    if ended:
        error = error_of(broken(found, age), ())
        assert (error.code, error.reason, error.whose) == (Code.SECRET_MISSING, "BundleGone", Whose.USER)
        assert 'secret "bundle" not found' in error.message


@pytest.mark.parametrize(("age", "ended"), [(59.0, False), (61.0, True)])
def test_a_pod_waits_for_a_node_so_long(age: float, ended: bool) -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: Insufficient cpu."}
    found = seen(slices=[], pods=[pod(phase="Pending", conditions=[unscheduled], containerStatuses=[])])
    assert isinstance(state(found, age), Broken) == ended
    if ended:
        error = error_of(broken(found, age), ())
        assert (error.reason, error.whose) == ("Unschedulable", Whose.PLATFORM)
        assert "Insufficient cpu" in error.message


REFUSED = 'pods "shop-1" is forbidden: exceeded quota: small'


def refused_set() -> Object:
    found: Object = load(NEW_SET)
    found["status"] = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": REFUSED}]}
    return found


@pytest.mark.parametrize(("age", "ended"), [(2.0, False), (4.0, True)])
def test_refused_pods_end_it_after_a_moment(age: float, ended: bool) -> None:
    found = seen(replica_sets=[refused_set()], pods=[], deployment=deployment(updatedReplicas=0))
    assert isinstance(state(found, age), Broken) == ended


@pytest.mark.parametrize(
    ("words", "code", "reason", "whose"),
    [
        ('pods "shop-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1', Code.QUOTA_EXCEEDED, "QuotaExceeded", Whose.USER),  # noqa: E501
        ('pods "shop-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', Code.POLICY_DENIED, "PodSecurity", Whose.PLATFORM),  # noqa: E501
        ('admission webhook "policy.example" denied the request: no', Code.POLICY_DENIED, "AdmissionDenied", Whose.PLATFORM),  # noqa: E501
    ],
)  # fmt: skip
def test_who_refused_it_is_told(words: str, code: Code, reason: str, whose: Whose) -> None:
    told = [event("FailedCreate", "Error creating: " + words, "r2")]
    error = error_of(broken(seen(replica_sets=[refused_set()], pods=[], events=told), age=5.0), ())
    assert (error.code, error.reason, error.whose) == (code, reason, whose)
    assert words in error.message


def test_without_an_event_the_condition_speaks() -> None:
    assert broken(seen(replica_sets=[refused_set()], pods=[]), age=5.0).message == REFUSED


def late(*events: Object) -> Broken:
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    stuck = deployment(availableReplicas=0, conditions=[condition])
    return broken(seen(deployment=stuck, slices=[], events=events))


def test_the_progress_deadline_ends_it_in_the_probes_words() -> None:
    words = "Readiness probe failed: statuscode: 404"
    found = late(event("Unhealthy", words))
    assert (found.reason, found.message, found.pod) == ("Unhealthy", words, "shop-new-1")


def test_or_in_its_own() -> None:
    found = late()
    assert (found.reason, found.message) == ("RolloutIncomplete", "timed out")


def test_what_may_have_passed_by_itself_is_the_cause_once_the_deadline_passed() -> None:
    stuck = deployment(availableReplicas=0, conditions=[{"type": "Progressing", "status": "False", "reason": "late"}])
    lacks = container(state={"waiting": {"reason": "CreateContainerConfigError", "message": "no secret"}})
    assert broken(seen(deployment=stuck, slices=[], pods=[lacks])).reason == "CreateContainerConfigError"
    assert broken(seen(deployment=stuck, replica_sets=[refused_set()], pods=[])).reason == "FailedCreate"


def test_an_evicted_pod_says_why() -> None:
    """Where nothing took its place in all the time that there was."""
    evicted = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert isinstance(state(seen(slices=[], pods=[evicted])), Waiting)
    error = error_of(overdue(seen(slices=[], pods=[evicted]), "a pod"), ())
    assert (error.code, error.reason) == (Code.DEPLOYMENT_NOT_READY, "Evicted")
    assert "low on resource" in error.message


def test_pods_that_are_going_decide_nothing() -> None:
    going = crashed()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not isinstance(state(seen(pods=[going])), Broken)


def test_what_was_evicted_once_does_not_count_beside_the_pod_that_took_its_place() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message="Pod ephemeral local storage usage exceeds a limit.")
    evicted["metadata"] |= {"name": "shop-new-0", "uid": "p0"}
    evicted["status"]["containerStatuses"][0]["restartCount"] = 7
    assert state(seen(pods=[evicted, load(NEW_POD)])) == Ready()
