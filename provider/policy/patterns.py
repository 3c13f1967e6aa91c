"""Names with `*` in a policy: what they match, and what may be one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated

from provider.spec import fields

MOST = 200
_STARS = re.compile(r"(\*\*|\*)")
_HOST = r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
_REGISTRY = r"(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:))(:[0-9]{1,5})?"
_IMAGES = rf"{_REGISTRY}(/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
DOCKER_HUB = "docker.io"

Glob = Annotated[
    str,
    fields.pattern(
        rf"(?=.{{1,{MOST}}}$)[^\s\x00-\x1f\x7f]+",
        f"1 to {MOST} characters without spaces; `*` stands for anything but `/`, `**` for anything",
    ),
]
SecretGlob = Annotated[
    str, fields.pattern(r"[A-Za-z0-9_*]{1,64}", "a secret's name: letters, digits and `_`; `*` stands for any of them")
]
HostPattern = Annotated[
    str, fields.pattern(_HOST, "a host in lower case, or `*.` and a domain for every host below it")
]
ImagePrefix = Annotated[
    str,
    fields.pattern(
        _IMAGES, "a registry's host, and perhaps the beginning of names there, like ghcr.io/acme; no tag, no `*`"
    ),
]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is the whole name's."""
    return any(_compiled(pattern).fullmatch(name) is not None for pattern in patterns)


def matches_host(host: str, patterns: Iterable[str]) -> bool:
    """Whether the host is one of the named ones, or below one that begins with `*.`."""
    return any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in patterns)


def matches_image(image: str, prefixes: Iterable[str]) -> bool:
    """Whether the image's name begins with one of the prefixes, part by part."""
    name = repository(image)
    return any(f"{name}/".startswith(f"{_lower_host(one)}/") for one in prefixes)


def repository(image: str) -> str:
    """An image's name with its registry, without tag and digest: `nginx:1` is `docker.io/library/nginx`."""
    name = image.partition("@")[0]
    host, slash, path = name.partition("/")
    if not slash or not re.search(r"[.:]|^localhost$", host):
        host, path = DOCKER_HUB, name
    host, path = _lower_host(host), path.partition(":")[0]
    if host == f"index.{DOCKER_HUB}":
        host = DOCKER_HUB
    return f"{host}/library/{path}" if host == DOCKER_HUB and "/" not in path else f"{host}/{path}"


def _lower_host(name: str) -> str:
    host, slash, path = name.partition("/")
    return host.lower() + slash + path


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    import re2  # searches in linear time, and only who has a policy pays for it

    text = "".join({"*": "[^/]*", "**": ".*"}.get(part, re.escape(part)) for part in _STARS.split(pattern))
    return re2.compile(f"(?s){text}")  # type: ignore[no-any-return]
