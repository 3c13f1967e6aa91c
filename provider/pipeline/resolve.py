"""resolve: branch → commit, the spec at that commit, and what decides the build."""

from __future__ import annotations

from provider import spec
from provider.errors import Code, Permanent
from provider.models import DeployRecord, digest_of
from provider.pipeline import policing
from provider.pipeline.context import Context
from provider.source import GITMODULES, submodules

MOST_NAMED = 5
BUILDER_VERSION = 1
"""Raised whenever the same inputs would be built differently by a newer provider."""
BUILDER = {
    "container": ("build_memory",),
    "kubernetes": ("build_memory", "kaniko_image", "kaniko_flags", "registry_maps", "registry_mirrors"),
}
"""The settings of each platform on which an image may depend."""


async def resolve(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Ends with sha, spec and build inputs in the record.

    A spec that came with the request is read first: its mistakes need no git.
    """
    request = record.request
    policing.check_repository(ctx, request)
    extra_env = frozenset(request.extra_env_names)
    if request.preview_yaml is not None:
        spec.load(request.preview_yaml, strict=ctx.settings.strict_spec, extra_env_names=extra_env)
    sha = await ctx.source.resolve(request.repo_full_name, request.branch, request.commit_sha, request.installation_id)
    text = request.preview_yaml if request.preview_yaml is not None else await _spec_at(ctx, record, sha)
    loaded = spec.load(text, strict=ctx.settings.strict_spec, extra_env_names=extra_env)
    noted = await _check_paths(ctx, record, sha, loaded.spec)
    return record.model_copy(
        update={
            "slug": loaded.spec.slug,
            "commit_sha": sha,
            "spec_text": text,
            "build_inputs": _build_inputs(ctx, record, sha, loaded.spec),
            "warnings": (*record.warnings, *loaded.warnings, *noted),
        }
    )


async def _spec_at(ctx: Context, record: DeployRecord, sha: str) -> str:
    repo = record.request.repo_full_name
    content = await ctx.source.read(repo, sha, spec.SPEC_PATH, spec.MAX_SPEC_BYTES)
    if content is None:
        raise Permanent(
            Code.SPEC_NOT_FOUND,
            f"{repo} has no {spec.SPEC_PATH} at {sha} of branch {record.request.branch}.",
            reason="FileNotFound",
            hint=f"Commit this file as {spec.SPEC_PATH}:\n{spec.SMALLEST_SPEC}",
            evidence=(f"repo {repo}", f"branch {record.request.branch}", f"commit {sha}"),
        )
    return content.decode(errors="replace")


async def _check_paths(ctx: Context, record: DeployRecord, sha: str, parsed: spec.Spec) -> tuple[str, ...]:
    """The entrypoint, and the build context, exist at the commit; a warning where parts of it are in submodules."""
    entrypoint = parsed.body.entrypoint
    wanted = {"spec.entrypoint.path": entrypoint.path, "spec.entrypoint.buildContext": entrypoint.build_context}
    repo = record.request.repo_full_name
    found = await ctx.source.look(repo, sha, [*wanted.values(), GITMODULES])
    wrong = [field for field, path in wanted.items() if path not in found]
    problems = [f"{field}: {wanted[field]!r} does not exist at {sha}" for field in wrong]
    if problems:
        raise Permanent(
            Code.INVALID_PREVIEW_SPEC,
            "; ".join(problems),
            reason="PathNotFound",
            hint=f"Correct {' and '.join(wrong)} in {spec.SPEC_PATH}, or commit what is named there.",
            evidence=tuple(problems),
        )
    if GITMODULES not in found:
        return ()
    text = await ctx.source.read(repo, sha, GITMODULES, spec.MAX_SPEC_BYTES) or b""
    paths = ", ".join(submodules(text.decode(errors="replace"))[:MOST_NAMED])
    return (f"{GITMODULES}: builds do not have the files of submodules ({paths})",) if paths else ()


def _build_inputs(ctx: Context, record: DeployRecord, sha: str, parsed: spec.Spec) -> str:
    """Everything that decides the image; an image is reused only where this is the same."""
    entrypoint, platform = parsed.body.entrypoint, ctx.settings.platform
    return digest_of(
        {
            "repo": record.request.repo_full_name,
            "sha": sha,
            "dockerfile": entrypoint.path,
            "context": entrypoint.build_context,
            "args": entrypoint.args,
            "builder": [BUILDER_VERSION, platform, *(getattr(ctx.settings, name) for name in BUILDER[platform])],
        }
    )
