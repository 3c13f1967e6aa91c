"""`preview deploy`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from provider.cli.ask import ask
from provider.cli.exits import Exit
from provider.cli.options import (
    AsJson,
    Branch,
    Commit,
    Force,
    Installation,
    NatsUrl,
    Prefix,
    Timeout,
    check_names,
    check_value,
    examples,
    number,
    wrong,
)
from provider.cli.output import say, say_fields, short, tell, tell_warnings
from provider.cli.values import parse_checks, parse_env, parse_secrets, read_text

if TYPE_CHECKING:
    from provider.client import Deployed, PreviewClient

EXAMPLES = examples(
    "preview deploy acme/shop --branch main",
    "preview deploy acme/shop -b main --commit 1a2b3c4 --secret STRIPE_KEY --env DEBUG=1",
    "preview deploy acme/shop -b main --check /healthz=200 --check /login --json",
    "preview deploy acme/shop -b main --logs --junit preview.xml",
    "preview deploy acme/shop -b try-it --spec .x1agent/preview.yaml --dry-run",
)


def deploy(
    ctx: typer.Context,
    repo: Annotated[str, typer.Argument(metavar="OWNER/REPO", help="The repository.", show_default=False)],
    branch: Branch = None,
    commit: Commit = None,
    spec: Annotated[
        Path | None,
        typer.Option("--spec", metavar="FILE", help="Use this preview.yaml, not the commit's; - is stdin."),
    ] = None,
    installation_id: Installation = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="NAME[=VALUE]",
            help="A secret; NAME alone takes its value from the environment, where `ps` does not show it.",
        ),
    ] = None,
    secrets_file: Annotated[
        Path | None,
        typer.Option(
            "--secrets-file", metavar="FILE", help="NAME=VALUE lines or a JSON object; - is stdin.", show_default=False
        ),
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="One more environment variable of the app.")
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option("--alias", metavar="HOST", help="One more host name of the preview.")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="/PATH[=STATUS]", help="A path that has to answer, with that status."),
    ] = None,
    acceptance: Annotated[
        Path | None, typer.Option("--acceptance", metavar="FILE", help="A JSON list of acceptance checks; - is stdin.")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="The session that this is for.")
    ] = None,
    force: Force = False,
    notify: Annotated[bool, typer.Option("--notify", help="Tell the session the outcome.")] = False,
    ttl: Annotated[
        int | None,
        typer.Option(
            "--ttl", metavar="SECONDS", parser=number(int, 0), help="Remove it after that long unused; 0: never."
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="SECONDS", parser=number(float, 1.0), help="How long the deploy may take."),
    ] = None,
    deploy_id: Annotated[
        str | None,
        typer.Option("--deploy-id", metavar="ID", help="Idempotency key: a repeated one never deploys twice."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the outcome, or return as soon as it is accepted.")
    ] = True,
    logs: Annotated[bool, typer.Option("--logs", "-l", help="Show the build's log as it comes.")] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the outcome as JUnit XML, for CI.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be made.")] = False,
    as_json: AsJson = False,
    timeout: Timeout = 1200.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Deploy a commit and wait until its URL is verified.

    Progress goes to stderr, the result to stdout. Ctrl-C ends only the waiting.
    """
    environ = cast(Mapping[str, str], ctx.obj)
    _check(deploy_id, alias or [], session, notify)
    if junit and (not wait or dry_run):
        raise typer.BadParameter("needs the outcome: not with --no-wait or --dry-run", param_hint="'--junit'")
    fields = {
        "branch": check_names(repo, branch, commit),
        "commit_sha": commit,
        "preview_yaml": read_text("--spec", spec) if spec else None,
        "installation_id": installation_id,
        "secret_values": parse_secrets(secret or [], secrets_file, environ),
        "extra_env": parse_env(env or []),
        "alias_hosts": alias or [],
        "acceptance": parse_checks(check or [], acceptance),
        "session_id": session,
        "notify": notify,
        "wait": "ready" if wait else "accepted",
        "ttl_seconds": ttl,
        "budget_seconds": budget,
        "force": force,
        "dry_run": dry_run,
        "timeout": timeout,
    }
    _deploy(_Job(repo, deploy_id or _new_id(), fields, environ, logs, junit), nats_url, prefix, as_json)


@dataclass(frozen=True, slots=True)
class _Job:
    """What `PreviewClient.deploy` is called with."""

    repo: str
    deploy_id: str
    fields: dict[str, Any]
    environ: Mapping[str, str]
    logs: bool
    junit: Path | None

    @property
    def waits(self) -> bool:
        """Whether there is progress to be shown."""
        return self.fields["wait"] == "ready" and not self.fields["dry_run"]


def _deploy(job: _Job, nats_url: str | None, prefix: str | None, as_json: bool) -> None:
    from provider.cli.problems import tell_deploy_goes_on
    from provider.cli.progress import progress

    async def call(client: PreviewClient) -> Deployed:
        with progress(job.environ, logs=job.logs) if job.waits and not as_json else nullcontext() as on_event:
            return await _reported(
                job, client.deploy(job.repo, deploy_id=job.deploy_id, on_event=on_event, **job.fields)
            )

    try:
        ask(call, _show, nats_url=nats_url, prefix=prefix, as_json=as_json)
    except KeyboardInterrupt:
        tell("Interrupted.")
        tell_deploy_goes_on(job.deploy_id)
        raise typer.Exit(Exit.INTERRUPTED) from None


async def _reported(job: _Job, call: Awaitable[Deployed]) -> Deployed:
    """What the call comes to, which also goes into the JUnit file, whatever it is."""
    if job.junit is None:
        return await call
    from provider.cli import junit
    from provider.client import ClientError, PreviewFailed

    name = f"{job.repo}@{job.fields['branch']}"
    try:
        deployed = await call
    except PreviewFailed as failure:
        junit.write(job.junit, junit.failed(name, failure))
        raise
    except ClientError as error:
        junit.write(job.junit, junit.unanswered(name, error))
        raise
    junit.write(job.junit, junit.succeeded(name, deployed))
    return deployed


def _check(deploy_id: str | None, aliases: list[str], session: str | None, notify: bool) -> None:
    """The options that need no file and no environment."""
    from provider.models import DeployId

    check_value("--deploy-id", deploy_id, DeployId, "1 to 64 letters, digits, _ and -")
    for alias in aliases:
        # The provider knows the whole grammar; here only what is no host name at all (a URL, a bare word).
        if not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", alias):
            raise wrong("--alias", alias, "a host name with a dot, like shop.example.com")
    if notify and not session:
        raise typer.BadParameter("needs --session ID: who is to be told?", param_hint="'--notify'")


def _new_id() -> str:
    from provider.client import new_deploy_id

    return new_deploy_id()


def _show(deployed: Deployed) -> None:
    """The result as a person reads it; the URL first."""
    took = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in deployed.timings.items())
    passed = f"{sum(check.get('ok') is True for check in deployed.checks)} of {len(deployed.checks)} passed"
    say(_headline(deployed))
    say_fields(
        [
            ("preview", deployed.slug),
            ("commit", short(deployed.commit_sha)),
            ("image", deployed.image),
            (
                "build",
                {True: "built", False: "reused an image"}.get(deployed.built) if deployed.built is not None else "",
            ),
            ("checks", passed if deployed.checks else ""),
            ("took", took),
            ("deploy", deployed.deploy_id),
        ]
    )
    tell_warnings(deployed.warnings)


def _headline(deployed: Deployed) -> str:
    from provider.cli.output import clean

    if deployed.built is None and not deployed.image:
        return f"Would be {clean(deployed.url)}" if deployed.url else f"Accepted: {clean(deployed.deploy_id)}"
    return f"Ready: {clean(deployed.url)}"
