"""Field names and types of every kind, read off the installed client's models; what those don't know is added here.

The models come from the API's own OpenAPI document, so nobody's memory of a field name is trusted. They don't say how
lists are merged, what is a quantity, and they are one version newer than the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args

import kubernetes.client.models as models

# How a list is merged by server-side apply: by these keys; lists that are not named here are replaced as a whole.
MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "V1ObjectMeta.ownerReferences": ("uid",),
    "V1PodSpec.containers": ("name",),
    "V1PodSpec.initContainers": ("name",),
    "V1PodSpec.ephemeralContainers": ("name",),
    "V1PodSpec.volumes": ("name",),
    "V1PodSpec.imagePullSecrets": ("name",),
    "V1PodSpec.hostAliases": ("ip",),
    "V1PodSpec.topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "V1PodSpec.resourceClaims": ("name",),
    "V1PodSpec.schedulingGates": ("name",),
    "V1Container.env": ("name",),
    "V1Container.ports": ("containerPort", "protocol"),
    "V1Container.volumeMounts": ("mountPath",),
    "V1Container.volumeDevices": ("devicePath",),
    "V1ResourceRequirements.claims": ("name",),
    "V1PodStatus.conditions": ("type",),
    "V1PodStatus.podIPs": ("ip",),
    "V1DeploymentStatus.conditions": ("type",),
    "V1ReplicaSetStatus.conditions": ("type",),
    "V1StatefulSetStatus.conditions": ("type",),
    "V1NamespaceStatus.conditions": ("type",),
    "V1NodeStatus.conditions": ("type",),
    "V1PersistentVolumeClaimStatus.conditions": ("type",),
    "V1PodDisruptionBudgetStatus.conditions": ("type",),
    "V1ServiceStatus.conditions": ("type",),
    "V1ServiceSpec.ports": ("port", "protocol"),
    "V1ServiceAccount.secrets": ("name",),
}
SETS = {"V1ObjectMeta.finalizers", "V1NodeSpec.podCIDRs"}
# Structures and mappings that are replaced as a whole.
ATOMIC = {"V1LabelSelector", "V1ObjectReference", "V1LocalObjectReference", "V1SecretKeySelector"} | {
    "V1ConfigMapKeySelector",
    "V1ObjectFieldSelector",
    "V1ResourceFieldSelector",
    "V1NodeSelector",
    "V1NodeSelectorTerm",
    "V1TypedLocalObjectReference",
    "V1ScopeSelector",
    "V1RoleRef",
    "V1SecretReference",
    "V1OwnerReference",
    "V1ServiceBackendPort",
}
ATOMIC_MAPS = {"V1PodSpec.nodeSelector", "V1LabelSelector.matchLabels", "V1ServiceSpec.selector"}
# Defaults that a key of a merged list takes when the item leaves it out: every required key has one, if only "".
KEY_DEFAULTS: dict[str, str | int] = {
    **dict.fromkeys(("name", "ip", "uid", "type", "mountPath", "devicePath", "topologyKey", "whenUnsatisfiable"), ""),
    "containerPort": 0,
    "port": 0,
    "protocol": "TCP",
}
QUANTITIES = {
    *("limits", "requests", "capacity", "allocatable", "hard", "used", "overhead", "max", "min", "default"),
    *("defaultRequest", "maxLimitRequestRatio", "sizeLimit", "divisor", "allocatedResources"),
}
NOT_QUANTITIES = {"V1NodeSwapStatus.capacity"}
# Fields of the client's version that the server (1.36) does not know.
NEWER = {"V1HTTPGetAction.protocol", "V1PodSpec.evictionResponders", "V1VolumeMount.bindMountOptions"}
LONG = {
    *("generation", "observedGeneration", "deletionGracePeriodSeconds", "terminationGracePeriodSeconds", "runAsUser"),
    *("runAsGroup", "fsGroup", "activeDeadlineSeconds", "startingDeadlineSeconds", "tolerationSeconds", "seconds"),
    *("expirationSeconds", "sizeBytes"),
}


@dataclass(eq=False)
class Schema:
    """One value's type: `kind` is object, map, list, string, integer, number, boolean, time, quantity, bytes,
    int-or-string or any. `merge` says how apply combines two of them.
    """

    kind: str
    name: str = ""  # a structure's name as the server says it: PodSpec
    long: bool = False
    fields: dict[str, Schema] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    item: Schema | None = None
    merge: str = ""  # "atomic", "set", "keys" or ""
    keys: tuple[str, ...] = ()

    @property
    def go_type(self) -> str:
        """The type's name in the server's own messages about what it could not decode."""
        scalar = {"string": "string", "boolean": "bool", "number": "float64"}.get(self.kind)
        if self.kind == "integer":
            return "int64" if self.long else "int32"
        if self.kind in ("list", "map") and self.item is not None:
            return ("[]" if self.kind == "list" else "map[string]") + self.item.go_type
        return scalar or (f"v1.{self.name}" if self.name else self.kind)


SCALARS = {"str": "string", "int": "integer", "bool": "boolean", "float": "number", "datetime": "time"}
SCALARS["bytes"] = "bytes"


@cache
def schema_for(model: str) -> Schema:
    """The structure that a model describes, with everything below it."""
    cls = getattr(models, model)
    name = re.sub(r"^(?:Core|Discovery|Rbac|Storage)?V1(?:alpha\d|beta\d)?", "", model)
    schema = Schema("object", name, merge="atomic" if model in ATOMIC else "")
    _OPEN[model] = schema
    annotations = {(info.serialization_alias or key): info for key, info in cls.model_fields.items()}
    required = set()
    for attribute, wire in cls.attribute_map.items():
        place = f"{model}.{wire}"
        if place in NEWER:
            continue
        schema.fields[wire] = _of(cls.openapi_types[attribute], place, annotations[wire].annotation)
        if annotations[wire].is_required():
            required.add(wire)
    schema.required = frozenset(required)
    return schema


# Structures under construction: some contain themselves.
_OPEN: dict[str, Schema] = {}


def _of(type_name: str, place: str, annotation: Any) -> Schema:
    """The schema of one field, from the type's name in the model; `place` is Model.field."""
    wire = place.partition(".")[2]
    amount = wire in QUANTITIES and place not in NOT_QUANTITIES
    if type_name.startswith("List["):
        keys = MERGE_KEYS.get(place.replace("V1EphemeralContainer.", "V1Container."), ())
        merge = "keys" if keys else "set" if place in SETS else "atomic"
        return Schema("list", item=_of(type_name[5:-1], place, None), merge=merge, keys=keys)
    if type_name.startswith("Dict["):
        item = Schema("quantity") if amount else _of(type_name[10:-1], place, None)
        return Schema("map", item=item, merge="atomic" if place in ATOMIC_MAPS else "")
    if type_name == "object":
        return Schema("int-or-string" if int in _members(annotation) else "any")
    if type_name == "str" and amount:
        return Schema("quantity")
    if type_name in SCALARS:
        return Schema(SCALARS[type_name], "MicroTime" if wire in MICRO else "", long=wire in LONG)
    return _OPEN[type_name] if type_name in _OPEN else schema_for(type_name)


MICRO = {"eventTime", "acquireTime", "renewTime", "lastObservedTime"}


def _members(annotation: Any) -> set[Any]:
    """The plain types inside a union such as `Annotated[int, …] | Annotated[str, …] | None`."""
    found = set()
    for part in get_args(annotation):
        found.add(part)
        found |= set(get_args(part)[:1])
    return found
