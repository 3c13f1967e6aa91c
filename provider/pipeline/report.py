"""From a record to what callers read: the reply, and the text for a session. Pure."""

from __future__ import annotations

from provider import names
from provider.models import DeployRecord, Failure, PreviewRecord, PreviewState, Report, Revision, now

NOT_PUT_BACK = "the last good revision could not be put back yet; that is tried again and again"
"""Among a deploy's warnings: what its URL serves is not known."""


def success(record: DeployRecord, revision: Revision, url: str) -> Report:
    """The reply of a deploy that is up."""
    return Report(
        ok=True,
        deploy_id=record.answer_id,
        slug=record.slug,
        url=url,
        image=revision.image,
        job_name=names.build_job(str(record.slug), revision.commit_sha),
        commit_sha=revision.commit_sha,
        digest=revision.digest,
        built=record.built,
        timings=timings(record),
        checks=record.checks,
        warnings=record.warnings,
    )


def failure(record: DeployRecord, cause: Failure, preview: PreviewRecord | None) -> Report:
    """The reply of a deploy that failed; it names what the URL still serves."""
    going = preview is None or preview.removed_at is not None or preview.state is PreviewState.REMOVING
    known = preview is not None and not going and NOT_PUT_BACK not in record.warnings
    serving = preview.last_good if preview is not None and known else None
    own = preview is not None and preview.repo_full_name.casefold() == record.request.repo_full_name.casefold()
    return Report(
        ok=False,
        deploy_id=record.answer_id,
        slug=record.slug,
        commit_sha=record.commit_sha,
        timings=timings(record),
        warnings=record.warnings,
        still_serving=serving.commit_sha if serving is not None and own else None,
        **cause.model_dump(),
    )


def timings(record: DeployRecord) -> dict[str, float]:
    """Seconds by phase, and from acceptance until now as `total`."""
    spent: dict[str, float] = {}
    for timing in record.timings:
        if timing.seconds is not None:
            spent[timing.phase] = round(spent.get(timing.phase, 0.0) + timing.seconds, 4)
    spent["total"] = round((now() - record.created_at).total_seconds(), 4)
    return spent


def session_text(report: Report, repo: str, branch: str) -> str:
    """What a session is told: outcome, URL or cause, and the next step, in words that stand alone."""
    sha = (report.commit_sha or "")[:12]
    what = f"{repo}@{branch}" + (f" ({sha})" if sha else "")
    if report.ok:
        return f"The preview of {what} is up: {report.url}"
    lines = [f"The preview of {what} failed in phase {report.phase}: {report.message} [{report.code}]"]
    if report.hint:
        lines.append(f"Next step: {report.hint}")
    if report.still_serving:
        lines.append(f"The URL still serves commit {report.still_serving[:12]}.")
    if report.log_tail:
        lines.append("Last lines of the log:\n" + "\n".join(report.log_tail[-10:]))
    return "\n".join(lines)
