"""Pod Security: the levels `baseline` and `restricted`, chosen by labels of the namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.cluster.standin.status import forbidden
from tests.cluster.standin.values import Object, at, items, mapping

PREFIX = "pod-security.kubernetes.io/"
SAFE_SYSCTLS = {
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    *("net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
}
BASELINE_CAPABILITIES = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim"),
    *("projected", "secret"),
}


# Where the pod stands in each kind that makes some.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    **dict.fromkeys(("Deployment", "ReplicaSet", "StatefulSet", "Job"), ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


@dataclass(frozen=True)
class Violation:
    """What is wrong, and where: `privileged (container "app" must not set …)`."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what} ({self.where})" if self.where else self.what


Rule = Callable[[Object], Iterator[Violation]]


def enforce(namespace: Object, pod: Object) -> None:
    """ApiError 403 for a pod that the namespace's level does not allow."""
    level = mapping(namespace, "metadata", "labels").get(f"{PREFIX}enforce", "privileged")
    wrong = violations(level, pod)
    if wrong:
        name = pod["metadata"].get("name", "")
        raise forbidden("", "pods", name, f'violates PodSecurity "{_told(namespace, level)}": {_list(wrong)}')


def warnings(namespace: Object, obj: Object) -> list[str]:
    """What a namespace warns of: in pods, and in the templates of pods to come, which are enforced only later."""
    place = TEMPLATES.get(obj["kind"])
    level = mapping(namespace, "metadata", "labels").get(f"{PREFIX}warn", "privileged")
    wrong = [] if place is None else violations(level, at(obj, *place) if place else obj)
    return [f'would violate PodSecurity "{_told(namespace, level, "warn")}": {_list(wrong)}'] if wrong else []


def _told(namespace: Object, level: str, mode: str = "enforce") -> str:
    version = mapping(namespace, "metadata", "labels").get(f"{PREFIX}{mode}-version", "latest")
    return f"{level}:{version}"


def _list(wrong: list[Violation]) -> str:
    return ", ".join(str(violation) for violation in wrong)


def violations(level: str, pod: Object) -> list[Violation]:
    """Every violation of a level, in the server's order."""
    rules = {"baseline": BASELINE, "restricted": RESTRICTED}.get(level, ())
    return [violation for rule in rules for violation in rule(mapping(pod, "spec"))]


def _containers(spec: Object) -> list[Object]:
    return [*items(spec, "initContainers"), *items(spec, "containers"), *items(spec, "ephemeralContainers")]


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _who(containers: list[Object]) -> str:
    """`container "a"`, or `containers "a", "b"`."""
    names = [str(container.get("name", "")) for container in containers]
    return f"container{'s' if len(names) > 1 else ''} {_quoted(names)}"


def _host_namespaces(spec: Object) -> Iterator[Violation]:
    used = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    if used:
        yield Violation("host namespaces", ", ".join(used))


def _privileged(spec: Object) -> Iterator[Violation]:
    bad = [each for each in _containers(spec) if at(each, "securityContext", "privileged")]
    if bad:
        yield Violation("privileged", f"{_who(bad)} must not set securityContext.privileged=true")


def _baseline_capabilities(spec: Object) -> Iterator[Violation]:
    yield from _capabilities(spec, BASELINE_CAPABILITIES, "non-default capabilities")


def _capabilities(spec: Object, allowed: set[str], what: str) -> Iterator[Violation]:
    bad = [each for each in _containers(spec) if set(items(each, "securityContext", "capabilities", "add")) - allowed]
    added = {name for each in bad for name in items(each, "securityContext", "capabilities", "add")} - allowed
    if bad:
        told = _quoted(sorted(added))
        yield Violation(what, f"{_who(bad)} must not include {told} in securityContext.capabilities.add")


def _host_paths(spec: Object) -> Iterator[Violation]:
    bad = [str(volume["name"]) for volume in items(spec, "volumes") if "hostPath" in volume]
    if bad:
        yield Violation("hostPath volumes", f"volume{'s' if len(bad) > 1 else ''} {_quoted(bad)}")


def _host_ports(spec: Object) -> Iterator[Violation]:
    bad = [each for each in _containers(spec) if any(port.get("hostPort") for port in items(each, "ports"))]
    ports = sorted({port["hostPort"] for each in bad for port in items(each, "ports") if port.get("hostPort")})
    if bad:
        numbers = ", ".join(str(port) for port in ports)
        yield Violation(
            "hostPort",
            f"{_who(bad)} use{'s' if len(bad) == 1 else ''} hostPort{'s' if len(ports) > 1 else ''} {numbers}",
        )


def _seccomp_unconfined(spec: Object) -> Iterator[Violation]:
    places = _setters(spec, lambda each: at(each, "securityContext", "seccompProfile", "type") == "Unconfined")
    if places:
        yield Violation("seccompProfile", f'{places} must not set securityContext.seccompProfile.type to "Unconfined"')


def _setters(spec: Object, test: Callable[[Object], bool]) -> str:
    """Pod and containers of which something is true, as a subject: `pod and container "a"`."""
    bad = [each for each in _containers(spec) if test(each)]
    parts = [*(["pod"] if test(spec) else []), *([_who(bad)] if bad else [])]
    return " and ".join(parts)


def _sysctls(spec: Object) -> Iterator[Violation]:
    bad = [each["name"] for each in items(spec, "securityContext", "sysctls") if each.get("name") not in SAFE_SYSCTLS]
    if bad:
        yield Violation("forbidden sysctls", ", ".join(bad))


def _restricted_volumes(spec: Object) -> Iterator[Violation]:
    kinds: dict[str, list[str]] = {}
    for volume in items(spec, "volumes"):
        for kind in volume.keys() - {"name"} - RESTRICTED_VOLUMES:
            kinds.setdefault(kind, []).append(str(volume["name"]))
    if kinds:
        names = [name for found in kinds.values() for name in found]
        many = "s" if len(names) > 1 else ""
        use = "use restricted volume types" if many else "uses restricted volume type"
        yield Violation("restricted volume types", f"volume{many} {_quoted(names)} {use} {_quoted(sorted(kinds))}")


def _escalation(spec: Object) -> Iterator[Violation]:
    bad = [each for each in _containers(spec) if at(each, "securityContext", "allowPrivilegeEscalation") is not False]
    if bad:
        where = f"{_who(bad)} must set securityContext.allowPrivilegeEscalation=false"
        yield Violation("allowPrivilegeEscalation != false", where)


def _drop_all(spec: Object) -> Iterator[Violation]:
    bad = [each for each in _containers(spec) if "ALL" not in items(each, "securityContext", "capabilities", "drop")]
    added = [
        each
        for each in _containers(spec)
        if set(items(each, "securityContext", "capabilities", "add")) - {"NET_BIND_SERVICE"}
    ]
    parts = []
    if bad:
        parts.append(f'{_who(bad)} must set securityContext.capabilities.drop=["ALL"]')
    if added:
        names = {name for each in added for name in each["securityContext"]["capabilities"]["add"]}
        told = _quoted(sorted(names - {"NET_BIND_SERVICE"}))
        parts.append(f"{_who(added)} must not include {told} in securityContext.capabilities.add")
    if parts:
        yield Violation("unrestricted capabilities", "; ".join(parts))


def _non_root(spec: Object) -> Iterator[Violation]:
    pod = at(spec, "securityContext", "runAsNonRoot")
    explicit = [each for each in _containers(spec) if at(each, "securityContext", "runAsNonRoot") is False]
    unset = [each for each in _containers(spec) if at(each, "securityContext", "runAsNonRoot") is None]
    if pod is False or explicit:
        parts = [*(["pod"] if pod is False else []), *([_who(explicit)] if explicit else [])]
        where = f"{' and '.join(parts)} must not set securityContext.runAsNonRoot=false"
        yield Violation("runAsNonRoot != true", where)
    elif unset and not pod:
        where = f"pod or {_who(unset)} must set securityContext.runAsNonRoot=true"
        yield Violation("runAsNonRoot != true", where)


def _root_user(spec: Object) -> Iterator[Violation]:
    places = _setters(spec, lambda each: at(each, "securityContext", "runAsUser") == 0)
    if places:
        yield Violation("runAsUser=0", f"{places} must not set runAsUser=0")


def _seccomp_set(spec: Object) -> Iterator[Violation]:
    good = ("RuntimeDefault", "Localhost")
    explicit = _setters(spec, lambda each: at(each, "securityContext", "seccompProfile", "type") == "Unconfined")
    unset = [each for each in _containers(spec) if not at(each, "securityContext", "seccompProfile", "type")]
    if explicit:
        where = f'{explicit} must not set securityContext.seccompProfile.type to "Unconfined"'
        yield Violation("seccompProfile", where)
    elif unset and at(spec, "securityContext", "seccompProfile", "type") not in good:
        where = f'pod or {_who(unset)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
        yield Violation("seccompProfile", where)


# The server's order: by its checks' own names, those of `baseline` first.
HOST: tuple[Rule, ...] = (_host_namespaces, _host_paths, _host_ports, _privileged)
BASELINE: tuple[Rule, ...] = (_baseline_capabilities, *HOST, _seccomp_unconfined, _sysctls)
RESTRICTED: tuple[Rule, ...] = (
    # Without `_host_paths`: a restricted volume is told of as such.
    *(_host_namespaces, _host_ports, _privileged, _sysctls, _escalation, _drop_all),
    *(_restricted_volumes, _non_root, _root_user, _seccomp_set),
)
