"""Pods: containers, their ports, variables, mounts and resources; volumes stand in validation_volumes.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Set

from tests.cluster.standin import names, quantities
from tests.cluster.standin.checks import (
    address,
    duplicate,
    forbidden,
    invalid,
    label_map,
    label_selector,
    must_name,
    named,
    one_of,
    port_number,
    required,
    unknown,
)
from tests.cluster.standin.status import Cause
from tests.cluster.standin.validation_probes import handlers, probes
from tests.cluster.standin.validation_security import container_security, pod_security
from tests.cluster.standin.validation_volumes import volumes
from tests.cluster.standin.values import Object, at, clone, items, mapping

PROTOCOLS = ("SCTP", "TCP", "UDP")
POD_FIELDS = {
    *("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName"),
    *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"),
}
STANDARD = ("cpu", "memory", "ephemeral-storage")
UPDATABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _pod(obj: Object) -> list[Cause]:
    return pod_spec("spec", mapping(obj, "spec"))


def pod_spec(path: str, spec: Object, claims: Set[str] = frozenset()) -> list[Cause]:
    """Every wrong field of a pod's spec; `claims` are volumes that do not stand in it."""
    wrong = volumes(f"{path}.volumes", items(spec, "volumes"))
    known: set[str | None] = {*claims, *(volume.get("name") for volume in items(spec, "volumes"))}
    if not spec.get("containers"):
        wrong.append(required(f"{path}.containers"))
    seen: set[str] = set()
    for group in ("containers", "initContainers"):
        for index, container in enumerate(items(spec, group)):
            place = f"{path}.{group}[{index}]"
            wrong += _container(place, container, known, init=group == "initContainers")
            if container.get("name") in seen:
                wrong.append(duplicate(f"{place}.name", container["name"]))
            seen.add(container.get("name", ""))
    return wrong + _pod_fields(path, spec)


def _pod_fields(path: str, spec: Object) -> list[Cause]:
    wrong = one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), ("Always", "Never", "OnFailure"))
    policies = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
    wrong += one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), policies)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 2**31:
        wrong.append(invalid(f"{path}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive"))
    wrong += label_map(f"{path}.nodeSelector", mapping(spec, "nodeSelector"))
    for key in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        if spec.get(key):
            wrong += named(names.dns_subdomain, f"{path}.{key}", spec[key])
    for key in ("hostname", "subdomain"):
        if spec.get(key):
            wrong += named(names.dns_label, f"{path}.{key}", spec[key])
    for index, toleration in enumerate(items(spec, "tolerations")):
        wrong += _toleration(f"{path}.tolerations[{index}]", toleration)
    for index, alias in enumerate(items(spec, "hostAliases")):
        wrong += address(f"{path}.hostAliases[{index}].ip", alias.get("ip", ""))
    for index, constraint in enumerate(items(spec, "topologySpreadConstraints")):
        place = f"{path}.topologySpreadConstraints[{index}]"
        actions = ("DoNotSchedule", "ScheduleAnyway")
        wrong += one_of(f"{place}.whenUnsatisfiable", constraint.get("whenUnsatisfiable"), actions)
        wrong += label_selector(f"{place}.labelSelector", mapping(constraint, "labelSelector"))
    return wrong + pod_security(f"{path}.securityContext", mapping(spec, "securityContext"))


def _toleration(path: str, toleration: Object) -> list[Cause]:
    wrong = one_of(f"{path}.operator", toleration.get("operator"), ("Equal", "Exists"))
    if toleration.get("key"):
        wrong += named(names.qualified_name, f"{path}.key", toleration["key"])
    elif toleration.get("operator") != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        wrong.append(invalid(f"{path}.operator", toleration.get("operator", ""), why))
    if toleration.get("operator") == "Exists" and toleration.get("value"):
        wrong.append(invalid(f"{path}.operator", toleration, "value must be empty when `operator` is 'Exists'"))
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        wrong.append(invalid(f"{path}.effect", toleration.get("effect", ""), why))
    effects = ("NoExecute", "NoSchedule", "PreferNoSchedule")
    return wrong + one_of(f"{path}.effect", toleration.get("effect") or None, effects)


def _container(path: str, container: Object, known: set[str | None], *, init: bool) -> list[Cause]:
    wrong = must_name(names.dns_label, f"{path}.name", container.get("name"))
    image = container.get("image", "")
    if not image:
        wrong.append(required(f"{path}.image"))
    elif image != image.strip():
        wrong.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    wrong += one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), ("Always", "IfNotPresent", "Never"))
    policies = ("FallbackToLogsOnError", "File")
    wrong += one_of(f"{path}.terminationMessagePolicy", container.get("terminationMessagePolicy"), policies)
    wrong += _ports(f"{path}.ports", items(container, "ports"))
    wrong += _env(f"{path}.env", items(container, "env"))
    wrong += _env_from(f"{path}.envFrom", items(container, "envFrom"))
    wrong += _mounts(f"{path}.volumeMounts", items(container, "volumeMounts"), known)
    wrong += _resources(f"{path}.resources", mapping(container, "resources"))
    wrong += probes(path, container, init=init)
    for hook, handler in mapping(container, "lifecycle").items():
        if isinstance(handler, dict):
            wrong += handlers(f"{path}.lifecycle.{hook}", handler)
    return wrong + container_security(f"{path}.securityContext", mapping(container, "securityContext"))


def _ports(path: str, ports: list[Object]) -> list[Cause]:
    wrong, seen = [], set()
    for index, port in enumerate(ports):
        place = f"{path}[{index}]"
        name = port.get("name")
        if name:
            wrong += named(names.port_name, f"{place}.name", name)
            if name in seen:
                wrong.append(duplicate(f"{place}.name", name))
            seen.add(name)
        if not port.get("containerPort"):
            wrong.append(required(f"{place}.containerPort"))
        else:
            wrong += port_number(f"{place}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            wrong += port_number(f"{place}.hostPort", port["hostPort"])
        wrong += one_of(f"{place}.protocol", port.get("protocol"), PROTOCOLS)
    return wrong


def _env(path: str, variables: list[Object]) -> list[Cause]:
    wrong = []
    for index, variable in enumerate(variables):
        place = f"{path}[{index}]"
        wrong += must_name(names.env_name, f"{place}.name", variable.get("name"))
        if "valueFrom" in variable:
            wrong += _source(f"{place}.valueFrom", variable)
    return wrong


def _source(path: str, variable: Object) -> list[Cause]:
    source = mapping(variable, "valueFrom")
    wrong = []
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            wrong += must_name(names.dns_subdomain, f"{path}.{kind}.name", source[kind].get("name"))
            wrong += must_name(names.config_key, f"{path}.{kind}.key", source[kind].get("key"))
    if "fieldRef" in source:
        wrong += _field(f"{path}.fieldRef.fieldPath", source["fieldRef"].get("fieldPath", ""))
    if not source:
        wrong.append(
            invalid(
                path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            )
        )
    elif variable.get("value"):
        wrong.append(invalid(path, "", "may not be specified when `value` is not empty"))
    if len(source) > 1:
        wrong.append(invalid(path, "", "may not have more than one field specified at a time"))
    return wrong


def _field(path: str, field: str) -> list[Cause]:
    """A field of the pod that a variable may show."""
    if not field:
        return [required(path)]
    if field in POD_FIELDS or re.fullmatch(r"metadata\.(labels|annotations)\['.+'\]", field):
        return []
    return [invalid(path, field, f"error converting fieldPath: field label not supported: {field}")]


def _env_from(path: str, sources: list[Object]) -> list[Cause]:
    wrong = []
    for index, source in enumerate(sources):
        place = f"{path}[{index}]"
        kinds = [kind for kind in ("configMapRef", "secretRef") if kind in source]
        if not kinds:
            wrong.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        if len(kinds) > 1:
            wrong.append(invalid(path, "", "may not have more than one field specified at a time"))
        for kind in kinds:
            wrong += must_name(names.dns_subdomain, f"{place}.{kind}.name", source[kind].get("name"))
    return wrong


def _mounts(path: str, mounts: list[Object], known: set[str | None]) -> list[Cause]:
    wrong, seen = [], set()
    for index, mount in enumerate(mounts):
        place = f"{path}[{index}]"
        if not mount.get("name"):
            wrong.append(required(f"{place}.name"))
        elif mount["name"] not in known:
            wrong.append(unknown(f"{place}.name", mount["name"]))
        if not mount.get("mountPath"):
            wrong.append(required(f"{place}.mountPath"))
        elif mount["mountPath"] in seen:
            wrong.append(invalid(f"{place}.mountPath", mount["mountPath"], "must be unique"))
        seen.add(mount.get("mountPath"))
        sub = mount.get("subPath", "")
        if sub.startswith("/"):
            wrong.append(invalid(f"{path}.subPath", sub, "must be a relative path"))  # the server leaves the index out
        if ".." in sub.split("/"):
            wrong.append(invalid(f"{path}.subPath", sub, "must not contain '..'"))
    return wrong


def _resources(path: str, resources: Object) -> list[Cause]:
    wrong = []
    limits, requests = mapping(resources, "limits"), mapping(resources, "requests")
    for group, amounts in (("limits", limits), ("requests", requests)):
        for unit, value in amounts.items():
            place = f"{path}.{group}[{unit}]"
            wrong += named(names.qualified_name, place, unit)
            if "/" not in unit and unit not in STANDARD and not unit.startswith("hugepages-"):
                wrong.append(invalid(place, unit, "must be a standard resource type or fully qualified"))
                wrong.append(invalid(place, unit, "must be a standard resource for containers"))
            if quantities.amount(value) < 0:
                wrong.append(invalid(place, value, "must be greater than or equal to 0"))
    for unit, value in requests.items():
        if unit in limits and quantities.amount(value) > quantities.amount(limits[unit]):
            why = f"must be less than or equal to {unit} limit of {limits[unit]}"
            wrong.append(invalid(f"{path}.requests", value, why))
    return wrong


def _pod_update(old: Object, new: Object) -> list[Cause]:
    """A pod's spec stays as it is but for a few fields; what a scheduler binds may be bound once."""
    return [] if _fixed(new, old) == _fixed(old, old) else [forbidden("spec", UPDATABLE)]


def _fixed(pod: Object, old: Object) -> Object:
    spec = clone(mapping(pod, "spec"))
    for key in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        spec.pop(key, None)
    if not at(old, "spec", "nodeName"):
        spec.pop("nodeName", None)
    for container in (*items(spec, "containers"), *items(spec, "initContainers")):
        container.pop("image", None)
    return spec


RULES: dict[str, Callable[[Object], list[Cause]]] = {"Pod": _pod}
UPDATE_RULES: dict[str, Callable[[Object, Object], list[Cause]]] = {"Pod": _pod_update}
