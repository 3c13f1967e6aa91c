"""What a registry's words about a base image mean, as Podman and Kaniko pass them on. `{where}` is the FROM's line."""

from __future__ import annotations

from provider.diagnose.network import PUBLIC
from provider.diagnose.table import Case, Table
from provider.errors import Code, Whose

PULL_FAILED = "PullFailed"
_NOT_ANSWERED = (
    r"connection refused|connection reset|i/o timeout|TLS handshake timeout|no route to host|network is unreachable"
    r"|received unexpected HTTP status: 5\d\d|context deadline exceeded"
)

IMAGES = Table(
    Case(
        "image-limit",
        r"(?i)toomanyrequests|too many requests|pull rate limit",
        "RateLimited",
        "{where}: the registry of {image} gives this platform no more images for now. Wait some hours, or use a mirror"
        " of it (REGISTRY_MIRRORS), or a copy in a registry of your own after FROM.",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "image-platform",
        r"no (?:image found in|child with platform)[^\n]*?(?:for architecture|platform) (?P<platform>[\w/]+)",
        "BaseImageNotFound",
        "{where}: {image} has no build for {platform}, which is what runs here: take another tag or image after FROM.",
    ),
    Case(
        "image-denied",
        r"(?i)unauthorized|requested access to the resource is denied|\bdenied\b|authentication required|\b403\b",
        "BaseImageDenied",
        "{where}: the registry does not show {image} to builds here: it is private, or its name is wrong. Correct it,"
        " or publish it where builds may pull (the registry at REGISTRY_ADDRESS).",
    ),
    Case(
        "image-absent",
        r"(?i)manifest[ _]unknown|name[ _]unknown|repository name not known|image not known|not found: manifest",
        "BaseImageNotFound",
        "{where}: there is no image {image} in its registry: correct name and tag after FROM.",
    ),
    Case(
        "image-host-of-the-world",
        rf"lookup {PUBLIC}(?: on [\w.:]+)?: ",
        "NetworkUnreachable",
        "{where}: builds can't look up {host}, the registry of {image}: give the builds' network DNS and a way out, or"
        " name a mirror or copy of the image that they reach after FROM (REGISTRY_MIRRORS is Kaniko's).",
        Whose.PLATFORM,
        retryable=True,
        code=Code.REGISTRY_UNREACHABLE,
    ),
    Case(
        "image-host",
        r"lookup (?P<host>[\w.-]+)(?: on [\w.:]+)?: no such host",
        "BaseImageNotFound",
        "{where}: no name server knows {host}, the registry of {image}: correct the name after FROM.",
    ),
    Case(
        "image-tls",
        r"http: server gave HTTP response to HTTPS client|x509: ",
        "BaseImageNotFound",
        "{where}: the registry of {image} is not trusted: it has to speak TLS with a public certificate, or be allowed"
        " by the platform (registries.conf, KANIKO_FLAGS). Or name a copy in another registry after FROM.",
    ),
    Case(
        "image-away",
        _NOT_ANSWERED,
        PULL_FAILED,
        "{where}: the registry of {image} did not answer: check that it is up, and that builds may reach it.",
        Whose.PLATFORM,
        retryable=True,
        code=Code.REGISTRY_UNREACHABLE,
    ),
    Case(
        "image-other",
        r"failed to get filesystem from image|initializing source docker://|unable to retrieve image",
        "BaseImageNotFound",
        "{where}: {image} could not be pulled; the evidence has the registry's words. Check the name after FROM.",
    ),
)
