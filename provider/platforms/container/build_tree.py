"""What a build gets of its commit's tree, which is hostile: nothing of it may lead to this machine's own files."""

from __future__ import annotations

from pathlib import Path

from provider.errors import Code, Permanent
from provider.platforms.base import BuildPlan


def dockerfile(tree: Path, plan: BuildPlan) -> str:
    """The Dockerfile's text, if it and the context really lie in the commit's tree.

    A symlink that leads out of the tree would show the build files of this machine.

    Raises:
        Permanent: `kaniko_build_failed`, with the field that leads nowhere or out of the tree.
    """
    root = tree.resolve()
    context = (tree / plan.context).resolve()
    if not context.is_relative_to(root) or not context.is_dir():
        raise _misplaced("spec.entrypoint.buildContext", plan.context, "ContextNotFound")
    path = (tree / plan.dockerfile).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise _misplaced("spec.entrypoint.path", plan.dockerfile, "DockerfileNotFound")
    for name in (".dockerignore", ".containerignore"):
        if not (context / name).resolve().is_relative_to(root):
            raise _misplaced(name, name, "IgnoreFileOutside")
    return path.read_text(errors="replace")


def _misplaced(field: str, value: str, reason: str) -> Permanent:
    return Permanent(
        Code.KANIKO_BUILD_FAILED,
        f"{field}: {value!r} is not in the commit's tree.",
        reason=reason,
        hint=f"Make {field} name something inside the repository, not a link out of it.",
    )
