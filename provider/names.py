"""Every derived name, in one place, always valid and always unique.

Kubernetes names of this kind, label values and DNS labels end at 63 characters, and a slug alone may
have that many. A name that would pass the limit is cut and gets a hash of the whole
(contract.md, "Names").
"""

from __future__ import annotations

import hashlib
import re

MAX_NAME = 63
_HASH_CHARS = 10
MAX_BRANCH_BYTES = 244
SLUG_PATTERN = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_NEVER_IN_A_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|\.\.|@\{|//")


def fit(name: str, limit: int = MAX_NAME) -> str:
    """`name` itself if it has at most `limit` characters, else its beginning and a hash of the whole."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_CHARS]
    return f"{name[: limit - _HASH_CHARS - 1].rstrip('-.')}-{digest}"


def is_slug(text: str) -> bool:
    """Whether `text` can be a preview's slug (the grammar of `metadata.name`)."""
    return SLUG_PATTERN.fullmatch(text) is not None


def is_branch(text: str) -> bool:
    """Whether git takes `text` as a branch name (`git check-ref-format --branch`).

    A name with a leading dash is refused as git refuses it: on a command line it would be an option.
    The length leaves room for `refs/heads/` and `.lock` in a file name of 255 bytes.
    """
    if not text or text in ("@", "HEAD") or text.startswith(("-", "/")) or text.endswith(("/", ".")):
        return False
    if _NEVER_IN_A_REF.search(text) or len(text.encode()) > MAX_BRANCH_BYTES:
        return False
    return not any(part.startswith(".") or part.endswith(".lock") for part in text.split("/"))


def host(slug: str, domain: str) -> str:
    """The public host of a preview."""
    return f"{slug}.{domain}"


def url(slug: str, domain: str, port: int = 443) -> str:
    """The public URL of a preview, with the port only where it is not 443."""
    return f"https://{host(slug, domain)}" + ("" if port == 443 else f":{port}")


def image(registry: str, slug: str, commit_sha: str) -> str:
    """The tagged image reference that a build pushes."""
    return f"{registry}/previews/{slug}:{commit_sha[:12]}"


def image_by_digest(registry: str, slug: str, digest: str) -> str:
    """The reference that is deployed: a digest cannot be moved, a tag can."""
    return f"{registry}/previews/{slug}@{digest}"


def pushed_image(by_digest: str) -> str:
    """The name, on the engine that built it, of the image that was pushed as that digest."""
    return by_digest.replace("@sha256:", ":sha256-")


def build_job(slug: str, commit_sha: str) -> str:
    """The build Job's name."""
    return fit(f"preview-build-{slug}-{commit_sha[:8]}")


def secret_bundle(slug: str, generation: int) -> str:
    """The immutable secret bundle of one generation."""
    return fit(f"preview-secrets-{slug}-g{generation}")


def staged_secret(staged: str) -> str:
    """The Secret that holds a deploy's values until its bundle is made."""
    return f"preview-staged-{staged}"


def anchor(slug: str) -> str:
    """The ConfigMap that owns everything of a preview. No slug has a dot, so no other name can be this one."""
    return f"{slug}.anchor"


def alias_ingress(slug: str) -> str:
    """The Ingress of a preview's alias hosts, where these have an issuer of their own."""
    return f"{slug}.aliases"


def header_config(slug: str) -> str:
    """The ConfigMap that tells ingress-nginx a preview's response headers."""
    return f"{slug}.response-headers"


def network_policy(slug: str) -> str:
    """The NetworkPolicy of a preview: no slug has a dot, so it is none of those of the namespace's operator."""
    return f"{slug}.network"


def clone_secret(job: str) -> str:
    """The Secret with a build Job's clone credentials."""
    return fit(f"{job}-git")


def layer_cache(registry: str, repo_full_name: str) -> str:
    """The repository of cached layers, one per source repository: nobody's builds can feed another's."""
    return f"{registry}/cache/{hashlib.sha256(repo_full_name.casefold().encode()).hexdigest()[:32]}"


def alias_tls_secret(slug: str, alias_host: str) -> str:
    """The TLS secret of an alias host."""
    return fit(f"alias-{slug}-{hashlib.sha256(alias_host.encode()).hexdigest()[:16]}")


def container(slug: str, generation: int) -> str:
    """A preview's container on the container engine."""
    return fit(f"{slug}-g{generation}")


def network(slug: str, *, closed: bool = False) -> str:
    """A preview's own network on the container engine; `closed`: the one from which nothing outside is reached."""
    return fit(f"x1-{'closed' if closed else 'preview'}-{slug}")


def bridge(slug: str, installation: str, *, closed: bool = False) -> str:
    """The network interface of a preview's network: at most 15 characters (Linux), unique on the machine.

    By its first letters the firewall knows what may be reached from there.
    """
    return f"x1{'c' if closed else 'p'}{hashlib.sha256(f'{installation}/{slug}'.encode()).hexdigest()[:11]}"
