"""What a cluster's own words mean: admission, quota, the scheduler, the kubelet."""

from __future__ import annotations

from provider.diagnose.table import Case, Table
from provider.errors import Code, Whose

BUILD_PODS = Table(
    Case(
        "build-quota",
        r"exceeded quota: (?P<quota>[^,\s]+)",
        "PodRefused",
        "The ResourceQuota {quota} of BUILD_NAMESPACE leaves no room for a build: raise it, or let fewer builds run at"
        " once (BUILDS_AT_ONCE), smaller ones (BUILD_CPU, BUILD_MEMORY, BUILD_DISK).",
        Whose.PLATFORM,
    ),
    Case(
        "build-unschedulable",
        r"\d+/\d+ nodes are available: (?P<why>[^\n]*)",
        "Unschedulable",
        "No node takes the build's pod ({why}): add a node, or correct BUILD_NODE_SELECTOR and BUILD_TOLERATIONS; a"
        " build"
        " asks for little, its limits are BUILD_CPU, BUILD_MEMORY and BUILD_DISK.",
        Whose.PLATFORM,
    ),
    Case(
        "build-image",
        r"(?i:back-off pulling image|errimagepull|failed to pull|invalidimagename)",
        "ImagePullBackOff",
        "The nodes can't pull the builder's own image: correct KANIKO_IMAGE, or let them reach its registry.",
        Whose.PLATFORM,
    ),
    Case(
        "build-secret",
        r"secret \\?\"(?P<secret>[^\"\\]+)\\?\" not found",
        "CreateContainerConfigError",
        "The clone credentials' Secret {secret} went away before the build began: ask again; if it stays so, somebody"
        " deletes Secrets in BUILD_NAMESPACE.",
        Whose.PLATFORM,
    ),
)
"""Why a build's pod does not run."""

CLUSTER = Table(
    Case(
        "quota",
        r"exceeded quota: (?P<quota>[^,\s]+)(?:, requested: (?P<asked>.+?), used: (?P<used>.+?), limited: "
        r"(?P<limited>[^\n]+))?",
        "QuotaExceeded",
        "The ResourceQuota {quota} leaves no room{asks}: tear down a preview that is not needed, ask for less in"
        " spec.resources of .x1agent/preview.yaml, or raise the quota.",
        code=Code.QUOTA_EXCEEDED,
    ),
    Case(
        "pod-security",
        r"violates PodSecurity \\?\"(?P<level>[^\"\\]+)\\?\": (?P<what>[^\n]*)",
        "PodSecurity",
        "The namespace's Pod Security ({level}) and POD_SECURITY have to agree: set POD_SECURITY=restricted, or change"
        " the namespace's label. It names {what}",
        Whose.PLATFORM,
        code=Code.POLICY_DENIED,
    ),
    Case(
        "limit-range",
        r"(?:maximum|minimum) (?P<resource>\S+) usage per (?P<per>\w+) is (?P<limit>\S+?),? but (?:limit|request) is "
        r"(?P<asked>\S+?)\.?(?:\s|$)",
        "LimitRange",
        "The namespace allows {limit} of {resource} a {per}, asked was {asked}: correct spec.resources in"
        " .x1agent/preview.yaml, or have the LimitRange changed.",
        code=Code.POLICY_DENIED,
    ),
    Case(
        "webhook",
        r"admission webhook \\?\"(?P<webhook>[^\"\\]+)\\?\" denied the request:? ?(?P<what>[^\n]*)",
        "AdmissionDenied",
        "The policy {webhook} says: {what}. Change what it names in .x1agent/preview.yaml or the Dockerfile, or ask the"
        " cluster's operator.",
        Whose.PLATFORM,
        code=Code.POLICY_DENIED,
    ),
    Case(
        "unschedulable",
        r"\d+/\d+ nodes are available: (?P<why>[^\n]*)|^Unschedulable: (?P<why2>[^\n]*)",
        "Unschedulable",
        "The pod asks for {requests}; there is: {why} Ask for less in spec.resources.requests of"
        " .x1agent/preview.yaml, or add a node.",
        Whose.PLATFORM,
    ),
    Case(
        "pull-tls",
        r"server gave HTTP response to HTTPS client|x509: ",
        "ImagePullBackOff",
        "The nodes do not trust the registry: configure it in their container runtime (as plain HTTP, or its"
        " authority);"
        " REGISTRY_PULL_ADDRESS is the name that they use.",
        Whose.PLATFORM,
        retryable=True,
        code=Code.IMAGE_UNPULLABLE,
    ),
    Case(
        "pull",
        r"(?i:back-off pulling image|errimage|failed to pull|InvalidImageName)",
        "ImagePullBackOff",
        "Check REGISTRY_PULL_ADDRESS: the nodes must reach the registry by that name, and trust it.",
        Whose.PLATFORM,
        retryable=True,
        code=Code.IMAGE_UNPULLABLE,
    ),
    Case(
        "node-pressure",
        r"The node was low on resource: (?P<resource>[\w-]+)",
        "Evicted",
        "The node ran out of {resource} and ended the pod: add a node, or let what runs there ask for what it needs"
        " (spec.resources.requests in .x1agent/preview.yaml).",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "evicted",
        r"(?i)ephemeral[- ](?:local )?storage",
        "Evicted",
        "The app wrote more than it may: raise spec.resources.ephemeralStorage in .x1agent/preview.yaml, or write less"
        " (also to standard output).",
    ),
)
