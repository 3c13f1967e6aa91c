"""Services, Ingresses, NetworkPolicies and EndpointSlices."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from tests.cluster.standin import names
from tests.cluster.standin.checks import (
    ADDRESS,
    duplicate,
    forbidden,
    immutable,
    invalid,
    is_address,
    label_map,
    label_selector,
    must_name,
    named,
    one_of,
    port,
    port_number,
    required,
)
from tests.cluster.standin.status import Cause
from tests.cluster.standin.values import Object, at, items, mapping

PROTOCOLS = ("SCTP", "TCP", "UDP")
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def _service(obj: Object) -> list[Cause]:
    spec = mapping(obj, "spec")
    kind, ports = spec.get("type"), items(spec, "ports")
    wrong = one_of("spec.type", kind, TYPES)
    if kind == "ExternalName":
        wrong += must_name(names.dns_subdomain, "spec.externalName", spec.get("externalName"))
    elif not ports and spec.get("clusterIP") != "None":
        wrong.append(required("spec.ports"))
    wrong += one_of("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    wrong += label_map("spec.selector", mapping(spec, "selector"))
    address = spec.get("clusterIP", "None")
    if address not in ("None", "") and not is_address(address):
        wrong.append(invalid("spec.clusterIPs[0]", address, ADDRESS))
    if kind == "ClusterIP":
        why = "may not be used when `type` is 'ClusterIP'"
        wrong += [forbidden(f"spec.ports[{i}].nodePort", why) for i, each in enumerate(ports) if each.get("nodePort")]
    return wrong + _service_ports(ports)


def _service_ports(ports: list[Object]) -> list[Cause]:
    wrong, seen, named_before = [], set(), set()
    for index, each in enumerate(ports):
        path = f"spec.ports[{index}]"
        name = each.get("name")
        if not name and len(ports) > 1:
            wrong.append(required(f"{path}.name"))
        elif name:
            wrong += named(names.dns_label, f"{path}.name", name)
            if name in named_before:
                wrong.append(duplicate(f"{path}.name", name))
            named_before.add(name)
        wrong += port_number(f"{path}.port", each.get("port"))
        wrong += one_of(f"{path}.protocol", each.get("protocol"), PROTOCOLS)
        wrong += port(f"{path}.targetPort", each.get("targetPort"))
        if each.get("appProtocol"):
            wrong += named(names.qualified_name, f"{path}.appProtocol", each["appProtocol"])
        place = (each.get("protocol"), each.get("port"))
        if place in seen:
            wrong.append(duplicate(path, {"protocol": place[0], "port": place[1]}))
        seen.add(place)
    return wrong


def _service_update(old: Object, new: Object) -> list[Cause]:
    before, after = at(old, "spec", "clusterIP"), at(new, "spec", "clusterIP")
    kept = "ExternalName" not in (at(old, "spec", "type"), at(new, "spec", "type"))
    if before and kept and before != after:
        return [invalid("spec.clusterIPs[0]", [after], "may not change once set")]
    return []


def _ingress(obj: Object) -> list[Cause]:
    spec = mapping(obj, "spec")
    wrong = []
    if not spec.get("rules") and "defaultBackend" not in spec:
        wrong.append(invalid("spec", spec, "either `defaultBackend` or `rules` must be specified"))
    if "defaultBackend" in spec:
        wrong += _backend("spec.defaultBackend", spec["defaultBackend"])
    if "ingressClassName" in spec:
        wrong += must_name(names.dns_subdomain, "spec.ingressClassName", spec["ingressClassName"])
    for index, rule in enumerate(items(spec, "rules")):
        wrong += _ingress_rule(f"spec.rules[{index}]", rule)
    for index, block in enumerate(items(spec, "tls")):
        for number, host in enumerate(items(block, "hosts")):
            wrong += _host(f"spec.tls[{index}].hosts[{number}]", host)
        if block.get("secretName"):
            wrong += named(names.dns_subdomain, f"spec.tls[{index}].secretName", block["secretName"])
    return wrong


def _host(path: str, host: str) -> list[Cause]:
    return named(names.wildcard_subdomain if "*" in host else names.dns_subdomain, path, host)


def _ingress_rule(path: str, rule: Object) -> list[Cause]:
    wrong = []
    host = rule.get("host", "")
    if host and is_address(host):
        wrong.append(invalid(f"{path}.host", host, "must be a DNS name, not an IP address"))
    elif host:
        wrong += _host(f"{path}.host", host)
    if "http" in rule and not items(rule, "http", "paths"):
        wrong.append(required(f"{path}.http.paths"))
    for index, each in enumerate(items(rule, "http", "paths")):
        wrong += _ingress_path(f"{path}.http.paths[{index}]", each)
    return wrong


def _ingress_path(path: str, each: Object) -> list[Cause]:
    kind, url = each.get("pathType"), each.get("path", "")
    wrong = []
    if not kind:
        wrong.append(required(f"{path}.pathType", "pathType must be specified"))
    wrong += one_of(f"{path}.pathType", kind or None, ("Exact", "ImplementationSpecific", "Prefix"))
    if kind in ("Exact", "Prefix"):
        if not url.startswith("/"):
            wrong.append(invalid(f"{path}.path", url, "must be an absolute path"))
        for piece in ("//", "/./", "/../", "%2f", "%2F"):
            if piece in url:
                wrong.append(invalid(f"{path}.path", url, f"must not contain '{piece}'"))
    elif kind and url and not url.startswith("/"):
        wrong.append(invalid(f"{path}.path", url, "must be an absolute path"))
    return wrong + _backend(f"{path}.backend", mapping(each, "backend"))


def _backend(path: str, backend: Object) -> list[Cause]:
    service = backend.get("service")
    if service is None:
        return [] if "resource" in backend else [invalid(path, "", "resource or service backend is required")]
    wrong = must_name(names.dns_label, f"{path}.service.name", service.get("name"))
    wanted = mapping(service, "port")
    if wanted.get("name") and wanted.get("number"):
        wrong.append(invalid(path, "", "cannot set both port name & port number"))
    elif wanted.get("name"):
        wrong += named(names.port_name, f"{path}.service.port.name", wanted["name"])
    elif wanted.get("number"):
        wrong += port_number(f"{path}.service.port.number", wanted["number"])
    else:
        wrong.append(required(path, "port name or number is required"))
    return wrong


def _network_policy(obj: Object) -> list[Cause]:
    spec = mapping(obj, "spec")
    wrong = label_selector("spec.podSelector", mapping(spec, "podSelector"))
    for index, kind in enumerate(items(spec, "policyTypes")):
        wrong += one_of(f"spec.policyTypes[{index}]", kind, ("Egress", "Ingress"))
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(items(spec, direction)):
            path = f"spec.{direction}[{index}]"
            for number, each in enumerate(items(rule, "ports")):
                wrong += _policy_port(f"{path}.ports[{number}]", each)
            for number, peer in enumerate(items(rule, side)):
                wrong += _peer(f"{path}.{side}[{number}]", peer)
    return wrong


def _policy_port(path: str, each: Object) -> list[Cause]:
    wrong = one_of(f"{path}.protocol", each.get("protocol"), PROTOCOLS)
    first, last = each.get("port"), each.get("endPort")
    if first is not None:
        wrong += port(f"{path}.port", first)
    if last is not None:
        if not isinstance(first, int):
            wrong.append(invalid(f"{path}.endPort", last, "may not be specified when `port` is non-numeric"))
        elif last < first:
            wrong.append(invalid(f"{path}.endPort", first, "must be greater than or equal to `port`"))
    return wrong


def _peer(path: str, peer: Object) -> list[Cause]:
    if not peer:
        return [required(path, "must specify a peer")]
    wrong = []
    for key in ("podSelector", "namespaceSelector"):
        wrong += label_selector(f"{path}.{key}", mapping(peer, key))
    if "ipBlock" not in peer:
        return wrong
    if len(peer) > 1:
        wrong.append(forbidden(path, "may not specify both ipBlock and another peer"))
    return wrong + _block(f"{path}.ipBlock", peer["ipBlock"])


def _block(path: str, block: Object) -> list[Cause]:
    if not block.get("cidr"):
        return [required(f"{path}.cidr")]
    outer = _network(block["cidr"])
    if outer is None:
        return [invalid(f"{path}.cidr", block["cidr"], CIDR)]
    wrong = []
    for index, text in enumerate(items(block, "except")):
        place, inner = f"{path}.except[{index}]", _network(text)
        if inner is None:
            wrong.append(invalid(place, text, CIDR))
        elif inner.version != outer.version or inner == outer or not _within(inner, outer):
            wrong.append(invalid(place, text, "must be a strict subset of `cidr`"))
    return wrong


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _within(inner: Network, outer: Network) -> bool:
    return outer.network_address <= inner.network_address and inner.broadcast_address <= outer.broadcast_address  # type: ignore[operator]


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def _endpoint_slice(obj: Object) -> list[Cause]:
    kind = obj.get("addressType")
    wrong = [] if kind else [required("addressType")]
    wrong += one_of("addressType", kind or None, ("FQDN", "IPv4", "IPv6"))
    for index, endpoint in enumerate(items(obj, "endpoints")):
        addresses = items(endpoint, "addresses")
        if not addresses:
            wrong.append(required(f"endpoints[{index}].addresses", "must contain at least 1 addresses"))
        for number, address in enumerate(addresses):
            if kind == "IPv4" and not is_address(address):
                wrong.append(invalid(f"endpoints[{index}].addresses[{number}]", address, ADDRESS))
    return wrong


def _same_address_type(old: Object, new: Object) -> list[Cause]:
    return immutable("addressType", old.get("addressType"), new.get("addressType"))


RULES: dict[str, Callable[[Object], list[Cause]]] = {
    "Service": _service,
    "Ingress": _ingress,
    "NetworkPolicy": _network_policy,
    "EndpointSlice": _endpoint_slice,
}
UPDATE_RULES: dict[str, Callable[[Object, Object], list[Cause]]] = {
    "Service": _service_update,
    "EndpointSlice": _same_address_type,
}
