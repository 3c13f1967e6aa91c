"""From the Ingress that `render` makes, in words of our own, to what an ingress controller understands.

Pure. What a controller can't do by a plain Ingress and annotations is refused, and the field named.
"""

from __future__ import annotations

import copy
import json
import re

from provider import names, render
from provider.errors import Code, Permanent
from provider.platforms.kubernetes.api import Object
from provider.platforms.kubernetes.watches import annotation, label
from provider.settings import Settings

NGINX = "nginx.ingress.kubernetes.io/"
TRAEFIK = "traefik.ingress.kubernetes.io/"
_HEADER = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_VALUE = re.compile(r"[a-zA-Z\d_ :;.,\\/\"'?!(){}\[\]@<>=\-+*#$&`|~^%]+")
"""Of any other the controller answers nothing at all at that path (ingress-nginx, annotation custom-headers)."""
ISSUER = "cert-manager.io/cluster-issuer"
_SOLVER = "acme.cert-manager.io/http01-solver"
"""cert-manager labels the Ingresses so that it makes to prove a host, and removes: they have the alias's host."""


def controller(settings: Settings) -> str:
    """nginx, traefik or plain."""
    if settings.ingress_controller != "auto":
        return settings.ingress_controller
    known = (name for name in ("nginx", "traefik") if name in settings.ingress_class.lower())
    return next(known, "plain")


def translate(service: Object, ingress: Object, settings: Settings) -> list[Object]:
    """The Service, the Ingress (two where alias hosts have an issuer), and what they need beside them.

    Raises:
        Permanent: `unsupported_feature`, naming the field.
    """
    service, ingress = copy.deepcopy(service), copy.deepcopy(ingress)
    extra = {
        "nginx": _for_nginx,
        "traefik": _for_traefik,
        "plain": _plain,
    }[controller(settings)](service, ingress)
    return [*extra, service, *_with_alias_issuer(ingress)]


def _for_nginx(service: Object, ingress: Object) -> list[Object]:
    notes = ingress["metadata"]["annotations"]
    if _ours(ingress, "backend-protocol") == "http2":
        notes[NGINX + "backend-protocol"] = "GRPC"  # ingress-nginx has no other HTTP/2 to the app
    if prefix := _ours(ingress, "strip-path"):
        notes |= {NGINX + "use-regex": "true", NGINX + "rewrite-target": "/$2"}
        for path in _paths(ingress):
            path |= {"path": f"{re.escape(prefix)}(/|$)(.*)", "pathType": "ImplementationSpecific"}
    headers = json.loads(_ours(ingress, "response-headers") or "{}")
    if not headers:
        return []
    if strange := [name for name in headers if not _HEADER.fullmatch(name)]:
        raise unsupported("additionalHeaders", "ingress-nginx", f"it knows no header {strange[0]}")
    if strange := [name for name, value in headers.items() if not _HEADER_VALUE.fullmatch(value)]:
        why = f"of {strange[0]} it takes no such value: it may not be empty, nor have letters beyond ASCII"
        raise unsupported("additionalHeaders", "ingress-nginx", why)
    metadata = ingress["metadata"]
    name = names.header_config(metadata["name"])
    notes[NGINX + "custom-headers"] = f"{metadata['namespace']}/{name}"
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {**{key: metadata[key] for key in ("namespace", "labels")}, "name": name, "annotations": {}},
            "data": headers,
        }
    ]


def _for_traefik(service: Object, ingress: Object) -> list[Object]:
    for note, field in (("strip-path", "stripPath"), ("response-headers", "additionalHeaders")):
        if _ours(ingress, note):
            raise unsupported(field, "Traefik", "it needs a Middleware, which is no part of a plain Ingress")
    if _ours(ingress, "backend-protocol") == "http2":
        service["metadata"]["annotations"][TRAEFIK + "service.serversscheme"] = "h2c"
    return []


def _plain(service: Object, ingress: Object) -> list[Object]:
    for note, field in (("strip-path", "stripPath"), ("response-headers", "additionalHeaders")):
        if _ours(ingress, note):
            raise unsupported(field, "this ingress class", "INGRESS_CONTROLLER names no controller that we know")
    return []  # the Service's appProtocol says what the app speaks


def _with_alias_issuer(ingress: Object) -> list[Object]:
    """cert-manager issues for every TLS entry of an Ingress that names an issuer: aliases get one of their own."""
    issuer = _ours(ingress, "alias-cluster-issuer")
    if not issuer:
        return [ingress]
    own, aliases = ingress, copy.deepcopy(ingress)
    own["spec"]["tls"], aliases["spec"]["tls"] = ingress["spec"]["tls"][:1], ingress["spec"]["tls"][1:]
    own["spec"]["rules"], aliases["spec"]["rules"] = ingress["spec"]["rules"][:1], ingress["spec"]["rules"][1:]
    aliases["metadata"]["name"] = names.alias_ingress(own["metadata"]["name"])
    aliases["metadata"]["annotations"][ISSUER] = issuer
    return [own, aliases]


def hosts_of(ingress: Object) -> list[str]:
    """The hosts that an Ingress claims; none where it only proves that somebody else has one."""
    if label(ingress, _SOLVER):
        return []
    rules = (ingress.get("spec") or {}).get("rules") or []
    return [rule["host"] for rule in rules if rule.get("host")]


def _paths(ingress: Object) -> list[Object]:
    return [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]


def _ours(ingress: Object, name: str) -> str:
    return annotation(ingress, render.PREFIX + name)


def unsupported(field: str, who: str, why: str) -> Permanent:
    """A field of `spec.ingress` that the cluster's ingress can't give."""
    return Permanent(
        Code.UNSUPPORTED_FEATURE,
        f"spec.ingress.{field} can't be given by {who}: {why}.",
        reason="IngressClass",
        hint=f"Leave spec.ingress.{field} out, or do in the app what it would do.",
        evidence=(f"spec.ingress.{field}",),
    )
