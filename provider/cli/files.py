"""`preview validate`, `render`, `schema`: what can be said about a preview.yaml before anything is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider.cli.ask import ask
from provider.cli.options import (
    AsJson,
    Branch,
    Commit,
    Installation,
    NatsUrl,
    Prefix,
    Timeout,
    check_names,
    examples,
    settings_for,
)
from provider.cli.output import clean, say, say_fields, say_json, tell_warnings

if TYPE_CHECKING:
    from provider.client import Validated
    from provider.spec import Loaded, Spec

VALIDATE_EXAMPLES = examples(
    "preview validate",
    "preview validate ~/shop --strict",
    "preview validate acme/shop --branch main",
)
_NO_COMMIT = "0" * 40
_NO_DIGEST = "sha256:" + "0" * 64


def validate(
    what: Annotated[
        str, typer.Argument(metavar="[FOLDER|OWNER/REPO]", help="A folder here, or with --branch a repository.")
    ] = ".",
    branch: Branch = None,
    commit: Commit = None,
    installation_id: Installation = None,
    strict: Annotated[bool, typer.Option("--strict", help="A folder's unknown fields are errors.")] = False,
    as_json: AsJson = False,
    timeout: Timeout = 120.0,
    nats_url: NatsUrl = None,
    prefix: Prefix = None,
) -> None:
    """Check a preview.yaml, here or in a repository.

    A folder of this machine is checked as it is; with --branch, the provider is asked about a commit.
    """
    if branch is None and commit is None:
        _validate_folder(_folder(what), strict, as_json)
        return
    if strict:
        raise typer.BadParameter("works on a folder; a provider is strict by STRICT_SPEC", param_hint="'--strict'")
    name = check_names(what, branch, commit)
    ask(
        lambda client: client.validate(what, name, commit_sha=commit, installation_id=installation_id, timeout=timeout),
        _show_validated,
        nats_url=nats_url,
        prefix=prefix,
        as_json=as_json,
    )


def _show_validated(validated: Validated) -> None:
    say(f"{clean(validated.slug)} is valid")
    say_fields([("url", validated.url)])
    tell_warnings(validated.warnings)


def _validate_folder(folder: Path, strict: bool, as_json: bool) -> None:
    from provider.cli.exits import blame
    from provider.errors import PreviewError

    try:
        loaded = load_folder(folder, strict)
    except PreviewError as error:
        if not as_json:
            raise
        say_json({"ok": False, "code": error.code, "message": error.message, "evidence": list(error.evidence)})
        raise typer.Exit(blame(error.whose)) from None
    slug = loaded.spec.slug
    if as_json:
        say_json({"ok": True, "slug": slug, "warnings": list(loaded.warnings)})
        return
    say(f"{clean(slug)} is valid")
    tell_warnings(loaded.warnings)


def render(
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where the repository is checked out.")] = ".",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list instead of YAML documents.")] = False,
) -> None:
    """Print the manifests that a folder makes.

    Deployment, Service and Ingress, as its preview.yaml says. Commit and image digest are placeholders of
    zeros, since nothing is built.
    """
    loaded = load_folder(_folder(folder), strict=False)
    manifests = _manifests(loaded.spec)
    if as_json:
        say_json(list(manifests))
    else:
        import yaml

        say(yaml.safe_dump_all(manifests, sort_keys=False).rstrip())
    tell_warnings(loaded.warnings)


def schema(
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="What goes over the bus, in place of that: an AsyncAPI 3 document.")
    ] = False,
    prefix: Prefix = None,
) -> None:
    """Print the JSON Schema of .x1agent/preview.yaml, for editors."""
    if asyncapi:
        from provider.bus.asyncapi import document

        say_json(document(settings_for(None, prefix).subject_prefix))
        return
    from provider.spec import json_schema

    say_json(json_schema())


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        message = f"{clean(text)!r} is no folder here; for a repository give --branch as well"
        raise typer.BadParameter(message, param_hint="'FOLDER'")
    return folder


def load_folder(folder: Path, strict: bool) -> Loaded:
    """The folder's spec, as far as it can be checked here. Raises PreviewError."""
    from provider import spec
    from provider.errors import Code, Permanent

    path = folder / spec.SPEC_PATH
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise Permanent(
            Code.SPEC_NOT_FOUND,
            f"there is no {spec.SPEC_PATH} in {folder}",
            hint="preview schema says what it holds",
            reason="FileNotFound",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(
            Code.INVALID_PREVIEW_SPEC,
            f"cannot read {path}: {error}",
            reason="NotReadable",
            hint="Name a file that can be read, or its folder.",
        ) from error
    loaded = spec.load(text, strict=strict)
    spec.check_supported(loaded.spec)
    entrypoint = loaded.spec.body.entrypoint.path
    if not (folder / entrypoint).exists():
        problem = f"spec.entrypoint.path: {entrypoint} does not exist in {folder}"
        raise Permanent(
            Code.INVALID_PREVIEW_SPEC,
            problem,
            evidence=(problem,),
            reason="PathNotFound",
            hint=f"Correct the path in {spec.SPEC_PATH}, or make what it names.",
        )
    return loaded


def _manifests(spec: Spec) -> tuple[dict[str, Any], ...]:
    """What a deploy would apply, if somebody sent every secret that the spec refers to."""
    from provider import names
    from provider.models import Bundle
    from provider.render import Release
    from provider.render import render as render_manifests

    settings = settings_for(None, None)
    secrets = tuple(sorted({entry.secret for entry in spec.body.env if entry.secret}))
    release = Release(
        repo_full_name="OWNER/REPO",
        branch="BRANCH",
        commit_sha=_NO_COMMIT,
        image=names.image_by_digest(settings.registry_address, spec.slug, _NO_DIGEST),
        bundle=Bundle(name=names.secret_bundle(spec.slug, 1), checksum="0" * 64, keys=secrets) if secrets else None,
    )
    return render_manifests(spec, release, settings)
