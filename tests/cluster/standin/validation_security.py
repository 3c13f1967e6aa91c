"""Security contexts of pods and containers."""

from __future__ import annotations

import re

from tests.cluster.standin.checks import at_least, duplicate, invalid, one_of, required
from tests.cluster.standin.status import Cause
from tests.cluster.standin.values import Object, items, mapping

SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"


def pod_security(path: str, context: Object) -> list[Cause]:
    wrong = _security(path, context)
    wrong += at_least(f"{path}.fsGroup", context.get("fsGroup"), 0)
    wrong += _sysctls(f"{path}.sysctls", items(context, "sysctls"))
    policies = ("Always", "OnRootMismatch")
    return wrong + one_of(f"{path}.fsGroupChangePolicy", context.get("fsGroupChangePolicy"), policies)


def _sysctls(path: str, sysctls: list[Object]) -> list[Cause]:
    wrong, seen = [], set()
    for index, sysctl in enumerate(sysctls):
        place, name = f"{path}[{index}].name", sysctl.get("name", "")
        if not name:
            wrong.append(required(place))
        elif len(name) > 253 or not re.fullmatch(SYSCTL, name):
            wrong.append(invalid(place, name, f"must have at most 253 characters and match regex ^{SYSCTL}$"))
        elif name in seen:
            wrong.append(duplicate(place, name))
        seen.add(name)
    return wrong


def _security(path: str, context: Object) -> list[Cause]:
    """What a pod's and a container's security context have in common."""
    wrong = []
    for key in ("runAsUser", "runAsGroup"):
        value = context.get(key)
        if value is not None and not 0 <= value <= 0xFFFFFFFF:
            wrong.append(invalid(f"{path}.{key}", value, f"must be between 0 and {0xFFFFFFFF}, inclusive"))
    for key in ("seccompProfile", "appArmorProfile"):
        profile = mapping(context, key)
        allowed = ("Localhost", "RuntimeDefault", "Unconfined")
        if key in context and not profile.get("type"):
            wrong.append(required(f"{path}.{key}.type"))
        wrong += one_of(f"{path}.{key}.type", profile.get("type"), allowed)
        if profile.get("type") == "Localhost" and not profile.get("localhostProfile"):
            wrong.append(required(f"{path}.{key}.localhostProfile", "must be set when seccomp type is Localhost"))
    return wrong


def container_security(path: str, context: Object) -> list[Cause]:
    wrong = _security(path, context)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            wrong.append(invalid(path, context, why))
        if "CAP_SYS_ADMIN" in items(context, "capabilities", "add"):
            why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            wrong.append(invalid(path, context, why))
    return wrong + one_of(f"{path}.procMount", context.get("procMount"), ("Default", "Unmasked"))
