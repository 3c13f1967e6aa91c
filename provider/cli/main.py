"""The `preview` command: its sub-commands, and the one place where errors become messages and exit codes.

Exit codes: 0 ok; 1 a bug of this program; 2 wrong usage or configuration; 3 failed, and whoever asked can
fix it; 4 failed, and whoever runs the platform has to act; 5 no answer: no provider, no connection, or out
of time; 130 interrupted.

No command imports at module level what only it needs: `preview --help` is quick, and `serve` never loads rich.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence

import typer

from provider.cli import deploy, files, looking, operate, policy, previews, tenure, waiting
from provider.cli.exits import EXIT_CODES_HELP, Exit
from provider.cli.options import examples

DEBUG = "PREVIEW_DEBUG"


def build() -> typer.Typer:
    """The command line. Plain help, and no pretty tracebacks: `main` says what went wrong."""
    app = typer.Typer(
        name="preview",
        help="Preview environments: (repository, commit) in, verified HTTPS URL out.",
        epilog=EXIT_CODES_HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command("serve", epilog=examples("preview serve", "NATS_URL=nats://bus:4222 preview serve"))(operate.serve)
    app.command("deploy", epilog=deploy.EXAMPLES)(deploy.deploy)
    app.command("teardown", epilog=examples("preview teardown my-app", "preview teardown my-app --session s-1"))(
        previews.teardown
    )
    app.command("validate", epilog=files.VALIDATE_EXAMPLES)(files.validate)
    app.command("render", epilog=examples("preview render .", "preview render ~/shop --json"))(files.render)
    app.command("status", epilog=examples("preview status my-app", "preview status --deploy-id d-1 --json"))(
        previews.status
    )
    app.command("logs", epilog=examples("preview logs my-app -f", "preview logs --deploy-id d-1 --build"))(looking.logs)
    app.command("wait", epilog=examples("preview wait my-app", "preview wait --deploy-id d-1 --timeout 600"))(
        waiting.wait
    )
    app.command("events", epilog=examples("preview events my-app --since 1h", "preview events -f --json"))(
        waiting.events
    )
    app.command("open", epilog=examples("preview open my-app", "preview open my-app --print"))(waiting.open_)
    app.command(
        "list", epilog=examples("preview list", "preview list --repo acme/shop --state failed", "preview list -w")
    )(previews.list_)
    app.command("cancel", epilog=examples("preview cancel my-app", "preview cancel --deploy-id d-1"))(previews.cancel)
    app.command("touch", epilog=examples("preview touch my-app", "preview touch my-app --ttl 604800"))(tenure.touch)
    app.command("claim", epilog=examples("preview claim my-app --session s-1 --ttl 1800"))(tenure.claim)
    app.command("release", epilog=examples("preview release my-app --session s-1"))(tenure.release)
    app.command("attach", epilog=examples("preview attach my-app --session s-2 --from s-1"))(tenure.attach)
    app.command("approve", epilog=examples("preview approve d-1 --by ada --note reviewed"))(policy.approve)
    app.command("reject", epilog=examples("preview reject d-1 --by ada --note 'not on this branch'"))(policy.reject)
    group = typer.Typer(help="Look at a policy file, without a provider.", no_args_is_help=True, rich_markup_mode=None)
    group.command("check", epilog=policy.CHECK_EXAMPLES)(policy.check)
    app.add_typer(group, name="policy", epilog=policy.CHECK_EXAMPLES)
    app.command("schema", epilog=examples("preview schema > preview.schema.json"))(files.schema)
    app.command("doctor", epilog=examples("preview doctor", "preview doctor --json"))(operate.doctor)
    app.command("demo", epilog=examples("preview demo", "preview demo --once"))(operate.demo)
    return app


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Run the command line and exit; defaults: the process's own arguments and environment."""
    environ = os.environ if environ is None else environ
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe of a lesser encoding gets \\u2026 for what it cannot show, not a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        build()(args=arguments, prog_name="preview", obj=environ)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except Exception as error:
        if environ.get(DEBUG) == "1":
            raise
        from provider.cli.problems import explain

        sys.exit(explain(error))
