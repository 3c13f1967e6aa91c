"""rollout: the new revision is ready, or it is known why not."""

from __future__ import annotations

from provider.diagnose import rollouts
from provider.errors import Code, Permanent
from provider.models import DeployRecord, Revision
from provider.pipeline.context import Context

NO_CAUSE = ("CrashLoop", "SettingMissing", "Unhealthy")
"""Reasons that say what happened, not why."""


async def rollout(ctx: Context, record: DeployRecord) -> DeployRecord:
    """Ends when the revision is ready; a terminal failure ends it at once."""
    revision: Revision | None = record.revision
    assert revision is not None, "the runner goes on to rollout only after deploy"
    try:
        await ctx.platform.rollout(str(record.slug), revision, ctx.log_sink(record))
    except Permanent as error:
        _blame_secret(ctx, record, error)
        raise
    return record


def _blame_secret(ctx: Context, record: DeployRecord, error: Permanent) -> None:
    """Where the app's last words complain of a secret that nobody sent, that is why, unless more is known."""
    sent = {*record.request.secret_names, *record.request.extra_env_names}
    entries = ctx.spec_of(record).body.env
    empty = {one.name: one.secret for one in entries if one.secret is not None and not {one.name, one.secret} & sent}
    found = rollouts.lacks_secret(error.log_tail, empty) if error.code is Code.DEPLOYMENT_NOT_READY else None
    if found is not None and error.reason in NO_CAUSE:
        name, secret = found
        error.reason = "SecretMissing"
        error.hint = (
            f"{name} is empty, since nobody sent the secret {secret}: send it in secret_values, or {name} in extra_env."
        )
        error.evidence = (*error.evidence, f"secret:{secret} was not sent")
