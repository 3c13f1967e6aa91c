"""Deployments, ReplicaSets, StatefulSets, Jobs and CronJobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Set

from tests.cluster.standin.checks import (
    annotation_map,
    at_least,
    forbidden,
    immutable,
    invalid,
    label_map,
    label_selector,
    one_of,
    required,
    unsupported,
)
from tests.cluster.standin.selectors import matches
from tests.cluster.standin.status import Cause
from tests.cluster.standin.validation_pods import pod_spec
from tests.cluster.standin.values import Object, at, items, mapping

PERCENT = "must be an integer or percentage (e.g '5%')"


def _deployment(obj: Object) -> list[Cause]:
    spec = mapping(obj, "spec")
    wrong = _selecting(obj, "deployment")
    wrong += _strategy(mapping(spec, "strategy"))
    for key in ("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        wrong += at_least(f"spec.{key}", spec.get(key), 0)
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds", 0)
    if deadline is not None and deadline <= ready:
        wrong.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return wrong


def _strategy(strategy: Object) -> list[Cause]:
    path, rolling = "spec.strategy", mapping(strategy, "rollingUpdate")
    wrong = one_of(path, strategy.get("type"), ("Recreate", "RollingUpdate"))
    if strategy.get("type") == "Recreate" and "rollingUpdate" in strategy:
        why = "may not be specified when strategy `type` is 'Recreate'"
        wrong.append(forbidden(f"{path}.rollingUpdate", why))
    if strategy.get("type") != "RollingUpdate":
        return wrong
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    for key, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        wrong += _share(f"{path}.rollingUpdate.{key}", value)
    if _zero(unavailable) and _zero(surge):
        why = "may not be 0 when `maxSurge` is 0"
        wrong.append(invalid(f"{path}.rollingUpdate.maxUnavailable", unavailable, why))
    if isinstance(unavailable, str) and re.fullmatch(r"\d+%", unavailable) and int(unavailable[:-1]) > 100:
        wrong.append(invalid(f"{path}.rollingUpdate.maxUnavailable", unavailable, "must not be greater than 100%"))
    return wrong


def _share(path: str, value: int | str | None) -> list[Cause]:
    """A number of pods, or a percentage of them."""
    if isinstance(value, str):
        return [] if re.fullmatch(r"\d+%", value) else [invalid(path, value, PERCENT)]
    return at_least(path, value, 0)


def _zero(value: int | str | None) -> bool:
    return value == 0 or (isinstance(value, str) and value.rstrip("%").strip("0") == "")


def _replica_set(obj: Object) -> list[Cause]:
    spec = mapping(obj, "spec")
    wrong = _selecting(obj, "deployment")
    for key in ("replicas", "minReadySeconds"):
        wrong += at_least(f"spec.{key}", spec.get(key), 0)
    return wrong


def _stateful_set(obj: Object) -> list[Cause]:
    spec = mapping(obj, "spec")
    wrong = _selecting(obj, "statefulset")
    wrong += one_of("spec.podManagementPolicy", spec.get("podManagementPolicy"), ("OrderedReady", "Parallel"))
    wrong += one_of("spec.updateStrategy.type", at(spec, "updateStrategy", "type"), ("OnDelete", "RollingUpdate"))
    return wrong + at_least("spec.replicas", spec.get("replicas"), 0)


def _selecting(obj: Object, kind: str) -> list[Cause]:
    """What every kind has that selects the pods of its own template."""
    spec = mapping(obj, "spec")
    selector, template = spec.get("selector"), mapping(spec, "template")
    if selector is None:
        wrong = [required("spec.selector")]
    else:
        wrong = label_selector("spec.selector", selector)
        if wrong:
            wrong.append(invalid("spec.selector", selector, "invalid label selector"))
        if not any(selector.values()):
            wrong.append(invalid("spec.selector", selector, f"empty selector is invalid for {kind}"))
    if selector is None or not wrong:
        wrong += _matching(selector, template)
    claims = {str(at(claim, "metadata", "name")) for claim in items(spec, "volumeClaimTemplates")}
    wrong += pod_template("spec.template", template, claims)
    policy = at(template, "spec", "restartPolicy")
    if policy in ("Never", "OnFailure"):
        wrong.append(unsupported("spec.template.spec.restartPolicy", policy, ("Always",)))
    if at(template, "spec", "activeDeadlineSeconds") is not None:
        name = {"deployment": "ReplicaSet", "statefulset": "StatefulSet"}[kind]
        path = "spec.template.spec.activeDeadlineSeconds"
        wrong.append(forbidden(path, f"activeDeadlineSeconds in {name} is not Supported"))
    return wrong


def _matching(selector: Object | None, template: Object) -> list[Cause]:
    """The template's labels must be those that are selected; an absent selector selects none."""
    labels = mapping(template, "metadata", "labels")
    if matches(selector, labels):
        return []
    return [invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")]


def pod_template(path: str, template: Object, claims: Set[str] = frozenset()) -> list[Cause]:
    """Every wrong field; `claims` are volumes that its owner makes for each pod."""
    wrong = label_map(f"{path}.labels", mapping(template, "metadata", "labels"))
    wrong += annotation_map(f"{path}.annotations", mapping(template, "metadata", "annotations"))
    return wrong + pod_spec(f"{path}.spec", mapping(template, "spec"), claims)


def _job(obj: Object) -> list[Cause]:
    spec = mapping(obj, "spec")
    wrong = _job_spec("spec", spec)
    generated = {"batch.kubernetes.io/controller-uid": obj["metadata"].get("uid")}
    selector = spec.get("selector")
    if selector is None:
        wrong.append(required("spec.selector"))
    elif not spec.get("manualSelector") and mapping(selector, "matchLabels") != generated:
        wrong.append(invalid("spec.selector", selector, "`selector` not auto-generated"))
    return wrong + _matching(selector, mapping(spec, "template"))


def _job_spec(path: str, spec: Object) -> list[Cause]:
    wrong = []
    counts = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    for key in counts:
        wrong += at_least(f"{path}.{key}", spec.get(key), 0)
    wrong += one_of(f"{path}.completionMode", spec.get("completionMode"), ("Indexed", "NonIndexed"))
    policies = ("Failed", "TerminatingOrFailed")
    wrong += one_of(f"{path}.podReplacementPolicy", spec.get("podReplacementPolicy"), policies)
    wrong += pod_template(f"{path}.template", mapping(spec, "template"))
    policy = at(spec, "template", "spec", "restartPolicy")
    place = f"{path}.template.spec.restartPolicy"
    if policy == "Always":  # which is the default: who says nothing is told what to say
        wrong.append(required(place, 'valid values: "OnFailure", "Never"'))
    if spec.get("completionMode") == "Indexed" and "completions" not in spec:
        wrong.append(required(f"{path}.completions", "when completion mode is Indexed"))
    return wrong


def _cron_job(obj: Object) -> list[Cause]:
    spec = mapping(obj, "spec")
    wrong = [] if spec.get("schedule") else [required("spec.schedule")]
    if spec.get("schedule") and len(spec["schedule"].split()) != 5 and not spec["schedule"].startswith("@"):
        fields = spec["schedule"].split()
        why = f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]"
        wrong.append(invalid("spec.schedule", spec["schedule"], why))
    wrong += one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
    if len(obj["metadata"].get("name", "")) > 52:
        why = "must be no more than 52 characters"
        wrong.append(invalid("metadata.name", obj["metadata"]["name"], why))
    return wrong + _job_spec("spec.jobTemplate.spec", mapping(spec, "jobTemplate", "spec"))


def _same_selector(old: Object, new: Object) -> list[Cause]:
    return immutable("spec.selector", at(old, "spec", "selector"), at(new, "spec", "selector"))


CHANGEABLE = (
    *("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit"),
    *("persistentVolumeClaimRetentionPolicy", "minReadySeconds"),
)


def _stateful_update(old: Object, new: Object) -> list[Cause]:
    fixed = [{key: value for key, value in mapping(obj, "spec").items() if key not in CHANGEABLE} for obj in (old, new)]
    told = ", ".join(f"'{key}'" for key in CHANGEABLE[:-1])
    why = f"updates to statefulset spec for fields other than {told} and '{CHANGEABLE[-1]}' are forbidden"
    return [] if fixed[0] == fixed[1] else [forbidden("spec", why)]


def _job_update(old: Object, new: Object) -> list[Cause]:
    before, after = mapping(old, "spec"), mapping(new, "spec")
    wrong = []
    for key in ("completions", "selector", "template", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"):
        if key == "template" and before.get("suspend") and not at(old, "status", "startTime"):
            continue
        wrong += immutable(f"spec.{key}", before.get(key), after.get(key))
    return wrong


RULES: dict[str, Callable[[Object], list[Cause]]] = {
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "CronJob": _cron_job,
}
UPDATE_RULES: dict[str, Callable[[Object, Object], list[Cause]]] = {
    "Deployment": _same_selector,
    "ReplicaSet": _same_selector,
    "StatefulSet": _stateful_update,
    "Job": _job_update,
}
