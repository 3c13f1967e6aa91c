"""From a revision to the objects that are applied for it. Pure.

A record keeps what `render` made; here it gets what only a cluster knows: the ingress controller's words, the
network policy, and the marks by which an applied object is recognised.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network

from provider import names, render, templates
from provider.models import Revision
from provider.platforms import notes
from provider.platforms.kubernetes import ingress, resources
from provider.platforms.kubernetes.api import Object
from provider.platforms.kubernetes.fence import GENERATION
from provider.platforms.kubernetes.resources import Resource
from provider.platforms.kubernetes.watches import annotation
from provider.settings import Settings

CHECKSUM = render.PREFIX + "checksum"
PRIVATE = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
)  # fmt: skip
"""Private, shared, link-local (metadata services), loopback or reserved."""
PUBLIC_IPV6 = IPv6Network("2000::/3")
CONTAINER_PORT = "http"
"""What `templates/deployment.yaml.j2` calls the app's port."""
ORDER = (
    resources.CONFIG_MAPS,
    resources.NETWORK_POLICIES,
    resources.DEPLOYMENTS,
    resources.SERVICES,
    resources.INGRESSES,
)
"""Walls before the app, the app before its traffic: that is made while the app starts."""
TRAFFIC = (resources.CONFIG_MAPS, resources.INGRESSES)
"""Where a URL leads to an earlier revision these wait until the new one is ready: path, headers, protocol and hosts are
the earlier one's until then. The Service leads to both (see `over_present`)."""


def objects(revision: Revision, settings: Settings) -> list[tuple[Resource, Object]]:
    """What runs the revision, in the order in which it is applied.

    Raises:
        Permanent: `unsupported_feature` (see `ingress.translate`).
    """
    found = {manifest["kind"]: manifest for manifest in revision.manifests}
    traffic = ingress.translate(found["Service"], found["Ingress"], settings)
    made = [_network_policy(found["Deployment"], settings), found["Deployment"], *traffic]
    mark = mark_of(revision)
    return list(_in_order([_marked(one, mark) for one in made]))


def mark_of(revision: Revision) -> str:
    """What every applied object of the revision is marked with."""
    return render.checksum(revision.manifests)


def _marked(body: Object, mark: str) -> Object:
    metadata = body["metadata"]
    return {**body, "metadata": {**metadata, "annotations": {**metadata["annotations"], CHECKSUM: mark}}}


def owned(body: Object, owner: Object, generation: int, version: str) -> Object:
    """The object as it is applied: below its anchor, at that generation, over that version."""
    metadata = body["metadata"]
    return {
        **body,
        "metadata": {
            **metadata,
            "annotations": {**metadata["annotations"], GENERATION: str(generation)},
            "ownerReferences": [owner],
            "resourceVersion": version,
        },
    }


def noted(deployment: Object, revision: Revision) -> Object:
    """The Deployment with a note of what it runs; not in `objects`: no two deploys of the same make the same note."""
    note = notes.write(revision)
    if note is None:
        return deployment
    metadata = deployment["metadata"]
    return {**deployment, "metadata": {**metadata, "annotations": {**metadata["annotations"], notes.NOTE: note}}}


def over_present(service: Object, present: Object) -> Object:
    """The Service as it may be applied over one that serves, which goes on serving.

    Its port is named as it is already: one that gets another name has no endpoints until their slices are written anew,
    half a second (seen). To another port of the app it leads by the name that our pods give theirs: old ones and new
    ones each get their own. (A number stays where it is the same: another client's pods need not name their port.)
    """
    (port,), there = service["spec"]["ports"], present["spec"].get("ports", [])
    before = next((one for one in there if (one["port"], one["protocol"]) == (port["port"], port["protocol"])), port)
    kept = {key: value for key, value in port.items() if key != "name"}
    if "name" in before:
        kept["name"] = before["name"]
    if before.get("targetPort") != port["targetPort"]:
        kept["targetPort"] = CONTAINER_PORT
    return {**service, "spec": {**service["spec"], "ports": [kept]}}


def is_marked(found: Object | None, mark: str) -> bool:
    """Whether the object is that revision's, at whatever generation it was applied."""
    return found is not None and annotation(found, CHECKSUM) == mark


def is_applied(found: Object | None, mark: str, generation: int) -> bool:
    """Whether the object is that revision's, applied at that generation."""
    return found is not None and is_marked(found, mark) and annotation(found, GENERATION) == str(generation)


def _network_policy(deployment: Object, settings: Settings) -> Object:
    metadata = deployment["metadata"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    more = settings.private_networks
    return templates.manifest(
        "network-policy",
        {
            "name": names.network_policy(metadata["name"]),
            "slug": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": metadata["labels"],
            "annotations": metadata["annotations"],
            "ingress_namespace": settings.ingress_namespace,
            "port": container["ports"][0]["containerPort"],
            "internet": metadata["annotations"].get(render.EGRESS) != "none",
            "private_ipv4": [*PRIVATE, *(str(one) for one in more if one.version == 4)],
            "private_ipv6": [str(one) for one in more if one.version == 6 and one.subnet_of(PUBLIC_IPV6)],
        },
    )


def _in_order(made: list[Object]) -> Iterator[tuple[Resource, Object]]:
    for resource in ORDER:
        for one in made:
            if one["kind"] == resource.kind:
                yield resource, one
