"""From an error to a message and an exit code, in one place. Imported only once something went wrong."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from provider.cli.exits import Exit, blame
from provider.cli.output import clean, print_failure, tell
from provider.client import BadAnswer, ClientError, NoProvider, PreviewFailed, TimedOut
from provider.errors import PreviewError
from provider.settings import Settings


def explain(error: Exception) -> Exit:
    """Print what is known about `error`; returns the exit code."""
    if isinstance(error, PreviewFailed | PreviewError):
        print_failure(error)
        return blame(error.whose)
    if isinstance(error, ClientError):
        return _no_answer(error)
    if isinstance(error, ValidationError) and error.title == Settings.__name__:
        return _settings(error)
    tell(f"Internal error: {clean(type(error).__name__)}: {clean(error)}")
    tell("  This is a bug of preview. PREVIEW_DEBUG=1 shows where it happened; please report it.")
    return Exit.BUG


def _no_answer(error: ClientError) -> Exit:
    tell(f"Error: {clean(error)}")
    if isinstance(error, BadAnswer):
        return Exit.PLATFORM
    if isinstance(error, NoProvider):
        tell("  Is a provider running (`preview serve`), and is the prefix right (--prefix, SUBJECT_PREFIX)?")
    elif isinstance(error, TimedOut):
        if error.deploy_id:
            tell_deploy_goes_on(error.deploy_id)
    else:
        tell("  Is NATS running, and is the URL right (--nats-url, NATS_URL)?")
    return Exit.NO_ANSWER


def tell_deploy_goes_on(deploy_id: str) -> None:
    """What can be done about a deploy that nobody waits for any more."""
    tell("  The deploy may still go on. To look, to wait again, to stop it:")
    tell(f"    preview status --deploy-id {clean(deploy_id)}")
    tell(f"    the same `preview deploy …` with --deploy-id {clean(deploy_id)}")
    tell(f"    preview cancel --deploy-id {clean(deploy_id)}")


def _settings(error: ValidationError) -> Exit:
    """The environment's mistakes, each with its variable."""
    tell("Error: the configuration is wrong:")
    for problem in error.errors(include_input=True, include_url=False):
        variable = "_".join(str(part) for part in problem["loc"]).upper() or "settings"
        tell(f"  {variable}={_shown(variable, problem)}: {clean(problem['msg'])}")
    return Exit.USAGE


def _shown(variable: str, problem: Mapping[str, object]) -> str:
    """The wrong value, unless it may be a secret."""
    hidden = "TOKEN" in variable or "URL" in variable
    return "***" if hidden else repr(clean(problem.get("input")))
