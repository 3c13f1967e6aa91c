"""The kinds that the stand-in serves: where they live in the API, which model describes them, what may be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Resource:
    """One kind. `model` names its class in `kubernetes.client.models`."""

    group: str
    version: str
    kind: str
    plural: str
    model: str
    namespaced: bool = True
    status: bool = False  # has a /status subresource
    create_only: bool = False  # reviews: answered, never stored
    unconditional_update: bool = True  # PUT without a resourceVersion is allowed
    update_creates: bool = False  # PUT of an absent object makes it
    returns_deleted: bool = False  # DELETE answers with the object, not with a Status
    orphans: bool = False  # DELETE without a propagation policy leaves the dependents
    short: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def verbs(self) -> tuple[str, ...]:
        if self.create_only:
            return ("create",)
        return tuple(verb for verb in VERBS if verb != "deletecollection" or self.kind != "Namespace")


RBAC = "rbac.authorization.k8s.io"
NETWORKING = "networking.k8s.io"

RESOURCES = (
    Resource("", "v1", "Namespace", "namespaces", "V1Namespace", namespaced=False, status=True, short="ns"),
    Resource("", "v1", "Node", "nodes", "V1Node", namespaced=False, status=True, short="no"),
    Resource("", "v1", "ConfigMap", "configmaps", "V1ConfigMap", short="cm"),
    Resource("", "v1", "Secret", "secrets", "V1Secret"),
    Resource("", "v1", "Service", "services", "V1Service", status=True, returns_deleted=True, short="svc"),
    Resource("", "v1", "ServiceAccount", "serviceaccounts", "V1ServiceAccount", returns_deleted=True, short="sa"),
    Resource("", "v1", "Pod", "pods", "V1Pod", status=True, returns_deleted=True, short="po"),
    Resource("", "v1", "Event", "events", "CoreV1Event", update_creates=True, short="ev"),
    Resource(
        "", "v1", "ResourceQuota", "resourcequotas", "V1ResourceQuota", status=True, returns_deleted=True, short="quota"
    ),
    Resource("", "v1", "LimitRange", "limitranges", "V1LimitRange", update_creates=True, short="limits"),
    Resource(
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "V1PersistentVolumeClaim",
        status=True,
        returns_deleted=True,
        short="pvc",
    ),
    Resource("apps", "v1", "Deployment", "deployments", "V1Deployment", status=True, short="deploy"),
    Resource("apps", "v1", "ReplicaSet", "replicasets", "V1ReplicaSet", status=True, short="rs"),
    Resource("apps", "v1", "StatefulSet", "statefulsets", "V1StatefulSet", status=True, short="sts"),
    Resource("batch", "v1", "Job", "jobs", "V1Job", status=True, orphans=True),
    Resource("batch", "v1", "CronJob", "cronjobs", "V1CronJob", status=True, short="cj"),
    Resource(NETWORKING, "v1", "Ingress", "ingresses", "V1Ingress", status=True, short="ing"),
    Resource(NETWORKING, "v1", "IngressClass", "ingressclasses", "V1IngressClass", namespaced=False),
    Resource(NETWORKING, "v1", "NetworkPolicy", "networkpolicies", "V1NetworkPolicy", short="netpol"),
    Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "V1EndpointSlice"),
    Resource(RBAC, "v1", "Role", "roles", "V1Role", update_creates=True),
    Resource(RBAC, "v1", "RoleBinding", "rolebindings", "V1RoleBinding", update_creates=True),
    Resource(RBAC, "v1", "ClusterRole", "clusterroles", "V1ClusterRole", namespaced=False, update_creates=True),
    Resource(
        RBAC,
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        "V1ClusterRoleBinding",
        namespaced=False,
        update_creates=True,
    ),
    Resource(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        "V1PodDisruptionBudget",
        status=True,
        unconditional_update=False,
        short="pdb",
    ),
    Resource(
        "coordination.k8s.io", "v1", "Lease", "leases", "V1Lease", unconditional_update=False, update_creates=True
    ),
    Resource(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "V1SelfSubjectAccessReview",
        namespaced=False,
        create_only=True,
    ),
)

BY_KIND = {resource.kind: resource for resource in RESOURCES}
BY_PATH = {(resource.group, resource.version, resource.plural): resource for resource in RESOURCES}
BY_PLURAL = {(resource.group, resource.plural): resource for resource in RESOURCES}
GROUPS = tuple(dict.fromkeys(resource.group for resource in RESOURCES))


def resource_of(obj: Mapping[str, Any]) -> Resource:
    """The kind of an object; KeyError if it is not served."""
    resource = BY_KIND[str(obj.get("kind"))]
    if resource.api_version != obj.get("apiVersion"):
        raise KeyError(obj.get("apiVersion"))
    return resource
