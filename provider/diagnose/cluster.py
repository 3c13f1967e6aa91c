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
        "build-volume",
        r"MountVolume\.SetUp failed for volume [^\n]*: secret \\?\"(?P<secret>[^\"\\]+)\\?\" not found",
        "FailedMount",
        "Make the Secret {secret} in BUILD_NAMESPACE (BUILD_REGISTRY_SECRET), or correct that setting.",
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
        "webhook-away",
        r"failed calling webhook \\?\"(?P<webhook>[^\"\\]+)\\?\"",
        "WebhookUnavailable",
        "The admission webhook {webhook} did not answer: ask again; if it stays so, the cluster's operator has to look"
        " at what serves it.",
        Whose.PLATFORM,
        retryable=True,
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
        "node-shutdown",
        r"in response to imminent node shutdown",
        "NodeShutdown",
        "The node was shut down under the pod: ask again.",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "pod-rejected",
        r"Pod was rejected: (?P<why>[^\n]*)",
        "PodRejected",
        "The node did not take the pod ({why}): ask again; if it stays so, it lacks what the scheduler thinks it has.",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "sandbox",
        r"(?i:failed to create pod sandbox|FailedCreatePodSandBox)",
        "PodNetwork",
        "The node can't make the pod's network or sandbox: ask again; if it stays so, the evidence is for the cluster's"
        " operator (addresses, the network plugin).",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "pulling",
        r"^Pulling: Pulling image",
        "StillPulling",
        "The node was still pulling the image, and goes on with it: ask again. If that is usual, make the image"
        " smaller, or have ROLLOUT_TIMEOUT raised.",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "paused",
        r"^Paused: ",
        "Paused",
        "Somebody paused the Deployment: `kubectl rollout resume` it, and ask again.",
        Whose.PLATFORM,
        retryable=True,
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
