"""Every kind of object that the provider touches, where, and by which verbs.

This table is the whole of the provider's power: the adapter refuses what does not stand here, the Roles in
`manifests/` say the same (a test compares them), and `doctor` asks the API server for each line.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Where(StrEnum):
    """The two namespaces."""

    PREVIEWS = "PREVIEW_NAMESPACE"
    BUILDS = "BUILD_NAMESPACE"


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind in one of the namespaces.

    Args:
        selector: labels of the objects that are ours there; "" where the namespace holds nothing else.
        container: of a log, whose: service meshes and agents for secrets put containers of their own into each pod.
    """

    kind: str
    group: str
    plural: str
    where: Where
    verbs: tuple[str, ...]
    selector: str = ""
    container: str = ""

    @property
    def api_version(self) -> str:
        """As in a manifest."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def root(self) -> str:
        """The path of the API group."""
        return f"/apis/{self.group}/v1" if self.group else "/api/v1"


OURS = "app.kubernetes.io/managed-by=x1-preview-provider"
OUR_BUILDS = "component=preview-build"

READ = ("list", "watch")
APPLY = ("get", "list", "watch", "create", "patch", "delete")
"""Server-side apply of what is absent needs `create` as well as `patch`."""

CONFIG_MAPS = Resource("ConfigMap", "", "configmaps", Where.PREVIEWS, (*APPLY, "update"), OURS)
SECRETS = Resource("Secret", "", "secrets", Where.PREVIEWS, ("get", "list", "watch", "create", "delete"), OURS)
SERVICES = Resource("Service", "", "services", Where.PREVIEWS, APPLY)
DEPLOYMENTS = Resource("Deployment", "apps", "deployments", Where.PREVIEWS, APPLY)
INGRESSES = Resource("Ingress", "networking.k8s.io", "ingresses", Where.PREVIEWS, APPLY)
NETWORK_POLICIES = Resource("NetworkPolicy", "networking.k8s.io", "networkpolicies", Where.PREVIEWS, APPLY)
REPLICA_SETS = Resource("ReplicaSet", "apps", "replicasets", Where.PREVIEWS, READ)
PODS = Resource("Pod", "", "pods", Where.PREVIEWS, READ)
POD_LOGS = Resource("Pod", "", "pods/log", Where.PREVIEWS, ("get",), container="app")
EVENTS = Resource("Event", "", "events", Where.PREVIEWS, READ)
ENDPOINT_SLICES = Resource("EndpointSlice", "discovery.k8s.io", "endpointslices", Where.PREVIEWS, READ)

JOBS = Resource("Job", "batch", "jobs", Where.BUILDS, ("get", "list", "watch", "create", "delete"), OUR_BUILDS)
CLONE_SECRETS = Resource("Secret", "", "secrets", Where.BUILDS, ("create", "patch", "delete"))
BUILD_PODS = Resource("Pod", "", "pods", Where.BUILDS, READ, OUR_BUILDS)
BUILD_LOGS = Resource("Pod", "", "pods/log", Where.BUILDS, ("get",), container="kaniko")
BUILD_EVENTS = Resource("Event", "", "events", Where.BUILDS, READ)

ALL = (
    CONFIG_MAPS, SECRETS, SERVICES, DEPLOYMENTS, INGRESSES, NETWORK_POLICIES, REPLICA_SETS, PODS, POD_LOGS, EVENTS,
    ENDPOINT_SLICES, JOBS, CLONE_SECRETS, BUILD_PODS, BUILD_LOGS, BUILD_EVENTS,
)  # fmt: skip
