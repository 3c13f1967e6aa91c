"""The Protocol that every platform fulfils, and the few types that cross it.

A platform builds images, runs revisions and routes traffic. It keeps nothing that a record does not
say: every call is idempotent and can be repeated by another process after a crash. Errors are
`Permanent` or `Temporary`; a platform's own exceptions never leave it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from provider.models import Bundle, Revision, Secret, SecretValues
from provider.platforms.looks import Inspector
from provider.platforms.needs import Known, Orphan

LogSink = Callable[[list[str]], None]
"""Takes lines of a log as they appear; never blocks."""

TreeExporter = Callable[[Path], Awaitable[None]]
"""Writes the commit's tree into an empty folder (see `source.Source.export`)."""


class CloneCredential(Protocol):
    """What a clone of a private repository needs."""

    @property
    def username(self) -> str:
        """Sent as the user of Basic authorization."""

    @property
    def token(self) -> Secret:
        """Sent as its password; lives an hour (contract.md, "Clone credentials")."""


Told = Callable[[str | None], None]
"""Takes the slug of a preview of which something changed, None when it may be any; never blocks."""

CredentialSource = Callable[[], Awaitable[CloneCredential | None]]
"""Mints a credential for the plan's repository; None where none is needed."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a repository says of a build: its Dockerfile as the user wrote it, and the paths of its submodules."""

    dockerfile: str = ""
    submodules: tuple[str, ...] = ()


async def nothing_written() -> Written:
    """Nobody can tell."""
    return Written()


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Everything that decides what a build makes, and where its image goes.

    `base_images` are the registries, or beginnings of names there, that base images may come from; None: any.
    `written` is asked only to say why a build failed; it never raises.
    """

    deploy_id: str
    slug: str
    generation: int
    repo_full_name: str
    branch: str
    commit_sha: str
    build_inputs: str
    job_name: str
    image: str
    dockerfile: str
    context: str
    args: dict[str, str]
    timeout_seconds: float
    export: TreeExporter
    credential: CredentialSource
    base_images: tuple[str, ...] | None = None
    written: Callable[[], Awaitable[Written]] = nothing_written


@dataclass(frozen=True, slots=True)
class Candidate:
    """Where the new revision can be asked directly, before traffic is switched to it.

    `base_url` has no trailing slash; `strip_prefix` is what public paths have before those asked here.
    """

    base_url: str
    strip_prefix: str = ""
    http2: bool = False


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """How the public URL is reached and what proves that the right revision answered.

    Args:
        connect: host:port to connect to, or None to follow DNS.
        ca_pem: certificate authority of the public certificate, or None for the system's.
        commit_header: whether answers carry `X-Preview-Commit`.
    """

    connect: str | None
    ca_pem: str | None
    commit_header: bool


@dataclass(frozen=True, slots=True)
class Removed:
    """What a teardown removed, as `kind/name`: the contract's kinds, and ours beside them."""

    deleted: list[str] = field(default_factory=list)
    also_deleted: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drift:
    """What of a revision at rest is not as it was made.

    Args:
        what: what can be put back, in a few words each.
        bundle_lost: the name of its secret bundle, where that is gone: nobody has its values any more.
    """

    what: tuple[str, ...]
    bundle_lost: str | None = None


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part that the platform needs, for `doctor` and `/readyz`."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


class Platform(Protocol):
    """What the pipeline asks of a platform. `slug` and `Revision` name things; no call needs more state."""

    @property
    def exclusive(self) -> bool:
        """Whether one provider alone works on it: then whoever started it knows that every other one has ended."""

    @property
    def inspector(self) -> Inspector:
        """What looks at previews for those who ask."""

    def renew(self, epoch: int) -> None:
        """From now on this process acts by that epoch; it is higher than those of all that are dead by now."""

    async def start(self, serving: AsyncIterator[tuple[str, Revision]]) -> None:
        """Connect, take the platform's lock, and bring up what serves by slug, as the records say.

        They are read as they are asked for: not at all where what serves comes up by itself.
        """

    async def close(self) -> None:
        """Stop watching and disconnect; builds and previews run on."""

    async def parts(self) -> list[PartStatus]:
        """The state of every part that this platform needs."""

    async def permissions(self) -> list[PartStatus]:
        """What the platform lets the provider do, line by line, for `doctor`."""

    def visited(self) -> frozenset[str]:
        """The previews whose URL was asked since the last call; none, always, where the ingress tells nobody."""

    # Secrets: staged under the deploy before its record exists, then a bundle of the generation.
    async def stage_secrets(self, staged: str, values: SecretValues) -> str:
        """Keep `values` as `staged` until a bundle is made; returns their keyed checksum ("" for none)."""

    async def drop_staged(self, staged: str) -> None:
        """Forget staged secrets; nothing happens if there are none."""

    async def make_bundle(
        self, staged: str, slug: str, generation: int, secret_names: tuple[str, ...], reuse: tuple[Bundle, ...]
    ) -> Bundle | None:
        """The immutable bundle of staged `extra_env` values and of the named secrets, or None when empty.

        A bundle of `reuse` with the same checksum is returned instead of a new one. Keys are the secret
        names, and `env.<NAME>` for `extra_env`.
        """

    async def secret_values(self, staged: str, bundles: tuple[Bundle, ...]) -> frozenset[str]:
        """The values that are staged under that name, and those of bundles, to be masked.

        Raises:
            Permanent: `secret_missing` where a bundle is gone: whoever runs with it may say its values all the same.
        """

    # Build.
    async def build(self, plan: BuildPlan, log: LogSink) -> str:
        """Build and push; joins a running build of the same inputs. Returns the pushed digest."""

    async def stop_build(self, slug: str, build_inputs: str) -> None:
        """Stop a running build and remove what only it made."""

    def forget_build(self, slug: str, build_inputs: str) -> None:
        """The digest of a build stands in a record: what is kept for a process that goes on with it may go."""

    async def has_image(self, slug: str, digest: str) -> bool:
        """Whether the registry still has that digest of the preview's repository."""

    # Run.
    async def admit(self, revision: Revision) -> list[str]:
        """Check that the platform would take these manifests; returns warnings."""

    def generation(self, slug: str) -> int | None:
        """The newest generation of which the platform has something, whatever the records say; 0: of none.

        None: it does not tell, and need not: nobody else makes anything there.
        """

    async def anchor(self, slug: str, generation: int) -> str | None:
        """From now on only this generation, by this provider, changes the preview (design.md, "Fencing").

        Returns the id of what owns the preview's objects, to be put into its record; None where the platform needs
        none.

        Raises:
            Permanent: `superseded` when a newer generation, or a provider that took over, has it already.
        """

    async def drop_anchor(self, slug: str) -> None:
        """Give up the anchor that was just taken, since the preview's record did not take it.

        One that was there before stays: what serves is below it.
        """

    async def deploy(self, slug: str, revision: Revision, log: LogSink) -> Revision:
        """Make the revision run beside what serves now. An unchanged one that runs already is returned as it is."""

    async def rollout(self, slug: str, revision: Revision, log: LogSink) -> None:
        """Wait until the revision is ready; a terminal failure ends the wait at once."""

    async def candidate(self, slug: str, revision: Revision) -> Candidate | None:
        """Where the revision can be asked before it gets traffic, if the platform can do that."""

    async def expose(self, slug: str, revision: Revision, log: LogSink) -> None:
        """Send the public URL's traffic to the revision, atomically; again, where it was sent there already."""

    async def public_address(self) -> PublicAddress:
        """How to reach public URLs."""

    async def restore(self, slug: str, generation: int, failed: Revision | None, last_good: Revision | None) -> None:
        """Put the last good revision back in traffic; without one, take the failed one out of traffic.

        `generation` is that of whoever asks: only the newest that changed the preview may.
        """

    # What a URL shows while nothing serves there.
    async def hold(self, slug: str, page: str) -> None:
        """Answer the preview's URL with this HTML page and 503 while it has no traffic, from now on and by itself.

        Nothing happens where the ingress can't do that.
        """

    async def hold_only(self, slugs: frozenset[str]) -> None:
        """Forget the pages of all other previews."""

    # At rest: nothing is under way, and somebody may change what runs.
    def on_change(self, told: Told) -> None:
        """From `start` on, tell of which previews something changed on the platform."""

    async def drift(self, serving: Mapping[str, Revision]) -> dict[str, Drift]:
        """What is not as it was made, by slug, of these previews at rest; the others are well."""

    async def put_back(self, slug: str, revision: Revision, generation: int) -> str | None:
        """Make the preview again what the revision says, as that generation; returns what `anchor` does.

        Raises:
            Permanent: `superseded` when a newer generation has it; else it can't be put back.
        """

    async def retire(self, slug: str, keep: tuple[Revision, ...], up_to: int) -> None:
        """Remove workloads and bundles of generations up to `up_to` that no kept revision needs."""

    async def teardown(self, slug: str, up_to: int | None) -> Removed:
        """Remove everything of the preview, of generations up to `up_to` (None: of all); can be repeated."""

    async def orphans(self, known: Known) -> list[Orphan]:
        """What has our marks, this installation's, and is needed by no record; nothing is removed yet."""

    async def app_log(self, slug: str, revision: Revision, lines: int) -> tuple[str, ...]:
        """The last lines that the revision's app wrote."""
