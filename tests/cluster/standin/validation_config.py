"""ConfigMaps, Secrets, and the other small kinds that carry configuration."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from tests.cluster.standin import names
from tests.cluster.standin.checks import (
    duplicate,
    forbidden,
    immutable,
    invalid,
    label_selector,
    named,
    one_of,
    required,
    too_long,
)
from tests.cluster.standin.quantities import amount
from tests.cluster.standin.status import Cause
from tests.cluster.standin.values import Object, at, items, mapping

LARGEST = 1024 * 1024
NEEDED_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
# What a quota can limit by number, and by amount.
COUNTED = {"pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps"} | {
    *("persistentvolumeclaims", "services.nodeports", "services.loadbalancers"),
}
AMOUNTS = ("cpu", "memory", "storage")
FROZEN = "field is immutable when `immutable` is set"


def _config_map(obj: Object) -> list[Cause]:
    texts, blobs = mapping(obj, "data"), mapping(obj, "binaryData")
    wrong = [cause for key in texts for cause in named(names.config_key, f"data[{key}]", key)]
    both = texts.keys() & blobs.keys()
    wrong += [invalid(f"data[{key}]", key, "duplicate of key present in binaryData") for key in both]
    wrong += [cause for key in blobs for cause in named(names.config_key, f"binaryData[{key}]", key)]
    size = sum(len(text.encode()) for text in texts.values())
    size += sum(len(base64.b64decode(blob)) for blob in blobs.values())
    return [*wrong, *([too_long("[]", LARGEST)] if size > LARGEST else [])]


def _secret(obj: Object) -> list[Cause]:
    data = mapping(obj, "data")
    wrong = [cause for key in data for cause in named(names.config_key, f"data[{key}]", key)]
    if sum(len(base64.b64decode(blob)) for blob in data.values()) > LARGEST:
        wrong.append(too_long("data", LARGEST))
    kind = obj["type"]
    wrong += [required(f"data[{key}]") for key in NEEDED_KEYS.get(kind, ()) if key not in data]
    for key in (".dockercfg", ".dockerconfigjson"):
        if key in NEEDED_KEYS.get(kind, ()) and key in data and not _is_json(data[key]):
            told = 'Invalid value: "<secret contents redacted>": invalid character in the JSON'
            wrong.append(Cause("FieldValueInvalid", told, f"data[{key}]"))
    if kind == "kubernetes.io/basic-auth" and not data.keys() & {"username", "password"}:
        wrong += [required("data[username]"), required("data[password]")]
    return wrong


def _is_json(blob: str) -> bool:
    try:
        json.loads(base64.b64decode(blob))
    except ValueError:
        return False
    return True


def _frozen(*keys: str) -> Callable[[Object, Object], list[Cause]]:
    """The rule of kinds that `immutable` freezes."""

    def rule(old: Object, new: Object) -> list[Cause]:
        wrong = immutable("type", old.get("type"), new.get("type"))
        if not old.get("immutable"):
            return wrong
        changed = [key for key in keys if (old.get(key) or {}) != (new.get(key) or {})]
        if not new.get("immutable"):
            changed.insert(0, "immutable")
        return wrong + [forbidden(key, FROZEN) for key in changed]

    return rule


def _resource_quota(obj: Object) -> list[Cause]:
    wrong = []
    for key, value in mapping(obj, "spec", "hard").items():
        wrong += named(names.qualified_name, f"spec.hard[{key}]", key)
        if "/" not in key and key not in COUNTED and not key.endswith(AMOUNTS):
            wrong.append(invalid(f"spec.hard[{key}]", key, "must be a standard resource for quota"))
        if str(value).startswith("-"):
            wrong.append(invalid(f"spec.hard[{key}]", value, "must be greater than or equal to 0"))
        elif key in COUNTED and amount(value) % 1:
            wrong.append(invalid(f"spec.hard[{key}]", value, "must be an integer"))
    return wrong


def _limit_range(obj: Object) -> list[Cause]:
    wrong, seen = [], set()
    for index, item in enumerate(items(obj, "spec", "limits")):
        path = f"spec.limits[{index}]"
        if not item.get("type"):
            wrong.append(required(f"{path}.type"))
        elif item["type"] in seen:
            wrong.append(duplicate(f"{path}.type", item["type"]))
        seen.add(item.get("type"))
        for unit, most in mapping(item, "max").items():
            for kind in ("default", "defaultRequest"):
                given = mapping(item, kind).get(unit)
                if given is not None and amount(given) > amount(most):
                    words = "default" if kind == "default" else "default request"
                    why = f"{words} value {given} is greater than max value {most}"
                    wrong.append(invalid(f"{path}.{kind}[{unit}]", most, why))
    return wrong


def _event(obj: Object) -> list[Cause]:
    involved = at(obj, "involvedObject", "namespace")
    if involved and involved != obj["metadata"].get("namespace"):
        return [invalid("involvedObject.namespace", involved, "does not match event.namespace")]
    return []


def _disruption_budget(obj: Object) -> list[Cause]:
    spec = mapping(obj, "spec")
    wrong = label_selector("spec.selector", mapping(spec, "selector"))
    if "minAvailable" in spec and "maxUnavailable" in spec:
        wrong.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    return wrong


def _claim(obj: Object) -> list[Cause]:
    modes = items(obj, "spec", "accessModes")
    allowed = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
    wrong = [] if modes else [required("spec.accessModes", "at least 1 access mode is required")]
    wrong += [cause for mode in modes for cause in one_of("spec.accessModes", mode, allowed)]
    if not at(obj, "spec", "resources", "requests", "storage"):
        wrong.append(required("spec.resources[storage]"))
    return wrong


RULES: dict[str, Callable[[Object], list[Cause]]] = {
    "ConfigMap": _config_map,
    "Secret": _secret,
    "ResourceQuota": _resource_quota,
    "LimitRange": _limit_range,
    "Event": _event,
    "PodDisruptionBudget": _disruption_budget,
    "PersistentVolumeClaim": _claim,
}
UPDATE_RULES: dict[str, Callable[[Object, Object], list[Cause]]] = {
    "ConfigMap": _frozen("data", "binaryData"),
    "Secret": _frozen("data"),
}
