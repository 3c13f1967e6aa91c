"""`preview approve`, `reject`, `policy check`: deploys that the policy holds, and what a policy would say."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider.cli.ask import ask
from provider.cli.exits import Exit
from provider.cli.options import (
    AsJson,
    NatsUrl,
    Prefix,
    Timeout,
    check_names,
    check_value,
    examples,
    number,
)
from provider.cli.output import clean, say, say_fields, say_json, short, tell_warnings

if TYPE_CHECKING:
    from provider.client import Decided
    from provider.policy import Asked, Decision

DeployIdArgument = Annotated[
    str, typer.Argument(metavar="DEPLOY_ID", help="The deploy that waits.", show_default=False)
]
By = Annotated[str | None, typer.Option("--by", metavar="WHO", help="Who decides; default: the user's name.")]
Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why.", show_default=False)]
CHECK_EXAMPLES = examples(
    "preview policy check policy.yaml --repo acme/shop --branch main",
    "preview policy check policy.yaml --repo acme/shop --branch main --spec ~/shop --ttl 0",
)


def approve(
    deploy_id: DeployIdArgument,
    by: By = None,
    note: Note = None,
    as_json: AsJson = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Let a deploy go on that the policy holds."""
    who = _who(deploy_id, by)
    ask(
        lambda client: client.approve(deploy_id, who, note=note, timeout=timeout),
        _show,
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def reject(
    deploy_id: DeployIdArgument,
    by: By = None,
    note: Note = None,
    as_json: AsJson = False,
    timeout: Timeout = 30.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """End a deploy that the policy holds."""
    who = _who(deploy_id, by)
    ask(
        lambda client: client.reject(deploy_id, who, note=note, timeout=timeout),
        _show,
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The policy file; -: stdin.", show_default=False)],
    repo: Annotated[str | None, typer.Option("--repo", metavar="OWNER/REPO", help="Whose request.")] = None,
    branch: Annotated[str | None, typer.Option("--branch", "-b", metavar="NAME", help="Of which branch.")] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="DIR", help="A checkout: its spec and Dockerfile.")
    ] = None,
    ttl: Annotated[
        int | None, typer.Option("--ttl", metavar="SECONDS", parser=number(int, 0), help="ttl_seconds of the request.")
    ] = None,
    alias: Annotated[list[str] | None, typer.Option("--alias", metavar="HOST", help="An alias host.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the decision as one JSON object.")] = False,
) -> None:
    """Say what a policy file makes of a request, and why.

    Without --repo it only checks the file. How many previews there are is not known here. Ends with 3 if the request
    would be denied.
    """
    from provider.cli.values import read_text
    from provider.policy import Counts, decide, load

    policy = load(read_text("FILE", file))
    if repo is None:
        say_json({"ok": True, "rules": len(policy.rules)}) if as_json else say(f"{clean(file)} is valid")
        return
    name = check_names(repo, branch, None)
    decision = decide(policy, _asked(repo, name, spec, ttl, alias or []), Counts())
    if as_json:
        say_json(_data(decision))
    else:
        _show_decision(decision)
    raise typer.Exit(Exit.USER if decision.action == "deny" else Exit.OK)


def _who(deploy_id: str, by: str | None) -> str:
    from provider.models import DeployId

    check_value("DEPLOY_ID", deploy_id, DeployId, "1 to 64 letters, digits, _ and -")
    try:
        return by or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        raise typer.BadParameter("is required: who decides?", param_hint="'--by'") from None


def _asked(repo: str, branch: str, folder: Path | None, ttl: int | None, aliases: list[str]) -> Asked:
    """What a request would be, as far as it can be told here."""
    from provider.models import StoredRequest
    from provider.policy import Asked

    request = StoredRequest(repo_full_name=repo, branch=branch, ttl_seconds=ttl, alias_hosts=tuple(aliases))
    if folder is None:
        return Asked(repo, branch, ttl_seconds=ttl, alias_hosts=request.alias_hosts)
    from provider.cli.files import load_folder
    from provider.errors import Code, Permanent
    from provider.platforms import dockerfile

    spec = load_folder(folder, strict=False).spec
    entrypoint = spec.body.entrypoint
    try:
        text = (folder / entrypoint.path).read_text("utf-8", errors="replace")
        images = dockerfile.images_as_is(text, dict(entrypoint.args or {}))
    except dockerfile.NotAllowed as refused:
        raise Permanent(Code.POLICY_DENIED, str(refused), reason=refused.reason, hint=refused.hint) from None
    return Asked.of(request, spec, images)


def _data(decision: Decision) -> dict[str, Any]:
    """The decision for programs."""
    breaches = [{"limit": one.limit, "allowed": one.allowed, "asked": one.asked} for one in decision.breaches]
    rule = decision.rule.model_dump(mode="json", exclude_none=True)
    return {"ok": True, "decision": decision.action, "rule": rule, "breaches": breaches}


def _show_decision(decision: Decision) -> None:
    rule, limits = decision.rule, decision.rule.limits.model_dump(by_alias=True, exclude_none=True)
    words = {"allow": "allowed", "deny": "denied", "hold": "held for an approval"}
    say(f"{words[decision.action]}, by rule {clean(rule.name)}")
    for breach in decision.breaches:
        say(f"  beyond {clean(breach)}")
    say_fields(
        [
            ("limits", ", ".join(f"{name} {value}" for name, value in limits.items())),
            ("entrypoints", _listed(rule.entrypoints)),
            ("secrets", _listed(rule.secrets)),
            ("alias hosts", _listed(rule.alias_hosts)),
            ("base images", _listed(rule.base_images)),
            ("egress", rule.egress),
        ]
    )


def _listed(names: tuple[str, ...] | None) -> str:
    return "" if names is None else ", ".join(names) or "none"


def _show(decided: Decided) -> None:
    say(f"{clean(decided.decision)}: {clean(decided.slug or decided.deploy_id)}")
    say_fields([("commit", short(decided.commit_sha)), ("by", decided.by), ("at", decided.at)])
    tell_warnings(decided.warnings)
