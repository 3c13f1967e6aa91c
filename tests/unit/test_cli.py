"""The command line without a bus: help, usage errors, exit codes, printing, local folders."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from provider.cli.main import main
from provider.cli.output import clean, lines_of, print_failure, say_table
from provider.cli.progress import Plain, progress
from provider.client import Event, shown_url
from provider.errors import Code, Permanent

COMMANDS = [
    *("serve", "deploy", "teardown", "validate", "render", "status", "list", "cancel", "schema", "doctor", "demo"),
    *("touch", "claim", "release", "attach", "logs", "approve", "reject", "policy", "wait", "events", "open"),
]
SPEC = {
    "apiVersion": "x1agent.io/v1",
    "kind": "PreviewSpec",
    "metadata": {"name": "my-app"},
    "spec": {"entrypoint": {"kind": "dockerfile", "path": "./Dockerfile"}, "runtime": {"port": 3000}},
}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `preview` in this process; gives exit code, stdout, stderr."""

    def call(*arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments), environ or {})
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checked-out repository with the smallest spec."""
    (tmp_path / ".x1agent").mkdir()
    (tmp_path / ".x1agent/preview.yaml").write_text(yaml.safe_dump(SPEC))
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return tmp_path


# ---------------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_has_an_example(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Examples:\n    preview {command}" in out


def test_the_help_names_every_command_and_exit_code(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in out
    for exit_code in ("0", "1", "2", "3", "4", "5", "130"):
        assert f"\n    {exit_code} " in out
    assert "..." not in out.partition("Commands:")[2]  # every first line fits


def test_help_loads_nothing_heavy() -> None:
    heavy = ("rich", "nats", "pydantic", "httpx", "provider.service")
    code = f"import provider.cli, sys; print(set({heavy}) & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("set()\n", "")


def test_the_package_runs_as_a_module() -> None:
    ended = subprocess.run([sys.executable, "-m", "provider", "nope"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "No such command 'nope'" in ended.stderr


# --------------------------------------------------------------------------- usage errors

DEPLOY = ("deploy", "acme/shop", "--branch", "main")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("deploy", "shop", "-b", "main"), ("OWNER/REPO", "'shop'", "acme/shop")),
        (("deploy", "acme/shop"), ("--branch", "required")),
        ((*DEPLOY, "--commit", "xyz"), ("--commit", "'xyz'", "7 to 40 hex digits")),
        ((*DEPLOY, "--env", "DEBUG"), ("--env", "'DEBUG'", "NAME=VALUE")),
        ((*DEPLOY, "--env", "1X=2"), ("--env", "'1X'", "letters")),
        ((*DEPLOY, "--secret", "KEY"), ("--secret", "KEY is not in the environment", "NAME=VALUE")),
        ((*DEPLOY, "--alias", "nodot"), ("--alias", "'nodot'", "host name")),
        ((*DEPLOY, "--check", "healthz"), ("--check", "'healthz'", "/path=STATUS")),
        ((*DEPLOY, "--deploy-id", "a b"), ("--deploy-id", "'a b'", "1 to 64")),
        ((*DEPLOY, "--ttl", "-1"), ("--ttl", "'-1'", "a whole number from 0 up")),
        ((*DEPLOY, "--ttl", "soon"), ("--ttl", "'soon'", "a whole number from 0 up")),
        (("touch", "my-app", "--ttl", "-1"), ("--ttl", "'-1'", "a whole number from 0 up")),
        (("claim", "my-app"), ("--session",)),
        (("claim", "my-app", "--session", "a.b"), ("--session", "'a.b'", "1 to 128")),
        (("claim", "my-app", "--session", "a", "--ttl", "0"), ("--ttl", "'0'", "a whole number from 1 up")),
        (("release", "My_App", "--session", "a"), ("SLUG", "'My_App'")),
        (("attach", "my-app", "--session", "a", "--from", "b c"), ("--from", "'b c'", "1 to 128")),
        (("teardown", "my-app", "--session", "*"), ("--session", "'*'", "1 to 128")),
        ((*DEPLOY, "--budget", "inf"), ("--budget", "'inf'", "a number from 1.0 up")),
        ((*DEPLOY, "--timeout", "0"), ("--timeout", "'0'", "a number from 0.1 up")),
        ((*DEPLOY, "--notify"), ("--notify", "--session")),
        ((*DEPLOY, "--spec", "/nope"), ("--spec", "/nope", "No such file")),
        ((*DEPLOY, "--prefix", "a..b"), ("--prefix", "'a..b'", "dots")),
        (("teardown", "My_App"), ("SLUG", "'My_App'", "lower case")),
        (("status",), ("SLUG", "--deploy-id")),
        (("status", "my-app", "--deploy-id", "d"), ("SLUG", "--deploy-id")),
        (("list", "--state", "gone"), ("--state", "'gone'", "ready, degraded")),
        (("validate", "/nope"), ("FOLDER", "/nope", "--branch")),
        (("validate", "acme/shop", "-b", "main", "--strict"), ("--strict", "folder")),
    ],
)
def test_a_wrong_value_names_option_value_and_what_is_allowed(
    run: Run, arguments: tuple[str, ...], says: tuple[str, ...]
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    for text in says:
        assert text in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("KEY=a\nhunter2\n", "line 2 is not NAME=VALUE"),
        ('{"KEY": 5}', "not a string: KEY"),
        ('{"KEY": hunter2}', "line 1 is not JSON"),
        ("1KEY=hunter2", "a name of letters"),
    ],
)
def test_a_wrong_secrets_file_is_explained_without_its_values(run: Run, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "secrets").write_text(text)
    code, _, err = run(*DEPLOY, "--secrets-file", str(tmp_path / "secrets"))
    assert code == 2
    assert says in err
    assert "hunter2" not in err


@pytest.mark.parametrize("text", ["{}", '[{"path": "healthz"}]', '[{"path": "/", "colour": 1}]', "oops"])
def test_a_wrong_acceptance_file_is_a_usage_error(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "checks.json").write_text(text)
    code, _, err = run(*DEPLOY, "--acceptance", str(tmp_path / "checks.json"))
    assert code == 2
    assert "--acceptance" in err
    assert "a JSON list of acceptance checks" in err


def test_a_wrong_setting_names_its_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_PORT", "70000")
    code, _, err = run("status", "my-app")
    assert code == 2
    assert "PUBLIC_PORT='70000'" in err


@pytest.mark.parametrize("url", ["nope://me:hunter2@x", "nats://me:hunter2@x:port", "nats://[me:hunter2@x"])
def test_an_unusable_url_ends_with_5(run: Run, url: str) -> None:
    code, out, err = run("status", "my-app", "--nats-url", url)
    assert "hunter2" not in err
    assert (code, out) == (5, "")
    assert "--nats-url, NATS_URL" in err


def test_a_tls_file_that_is_not_there_names_the_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_CA_FILE", "/nope.pem")
    code, _, err = run("status", "my-app")
    assert code == 5
    assert "NATS_CA_FILE" in err


def test_a_bug_is_one_line_and_a_traceback_only_with_debug(run: Run, tmp_path: Path) -> None:
    # A folder where the state should be makes nobody crash; a directory as spec file does, without a translation.
    (tmp_path / ".x1agent/preview.yaml").mkdir(parents=True)
    code, _, err = run("validate", str(tmp_path))
    assert code == 3
    assert "Is a directory" in err
    with pytest.raises(Permanent):
        main(["validate", str(tmp_path)], {"PREVIEW_DEBUG": "1"})


# --------------------------------------------------------------------------- local folders


def test_a_valid_folder(run: Run, folder: Path) -> None:
    assert run("validate", str(folder))[:2] == (0, "my-app is valid\n")
    code, out, _ = run("validate", str(folder), "--json")
    assert (code, json.loads(out)) == (0, {"ok": True, "slug": "my-app", "warnings": []})


def test_an_entrypoint_that_is_not_there(run: Run, folder: Path) -> None:
    (folder / "Dockerfile").unlink()
    code, out, err = run("validate", str(folder), "--json")
    assert (code, err) == (3, "")
    assert json.loads(out)["code"] == "invalid_preview_spec"
    code, _, err = run("validate", str(folder))
    assert code == 3
    assert "./Dockerfile does not exist" in err


def test_a_folder_without_a_spec(run: Run, tmp_path: Path) -> None:
    code, _, err = run("validate", str(tmp_path))
    assert code == 3
    assert "spec_not_found" in err


def test_render_prints_documents(run: Run, folder: Path) -> None:
    code, out, _ = run("render", str(folder))
    assert code == 0
    assert "Deployment" in [document["kind"] for document in yaml.safe_load_all(out)]
    code, out, _ = run("render", str(folder), "--json")
    assert "Deployment" in [document["kind"] for document in json.loads(out)]


def test_schema_is_json(run: Run) -> None:
    code, out, _ = run("schema")
    assert code == 0
    assert json.loads(out)["type"] == "object"


# -------------------------------------------------------------------------------- printing


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link", "link"),
        ("\x9b2Jx", "2Jx"),
        ("a\rb\x08c", "abc"),
        ("a\nb\tc", "a b    c"),
        ("abc\u202etxt.exe", "abctxt.exe"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
        ("größe ✓", "größe ✓"),
    ],
)
def test_nothing_that_a_terminal_would_act_on_gets_through(hostile: str, shown: str) -> None:
    assert clean(hostile) == shown


def test_a_block_keeps_its_lines() -> None:
    assert lines_of(["a\nb\x1b[K", "c\n"]) == ["a", "b", "c"]


def test_a_hint_of_several_lines_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_failure(Permanent(Code.SPEC_NOT_FOUND, "No file.", hint="kind: PreviewSpec\nspec:\n  runtime: x"))
    assert "  next step:\n    kind: PreviewSpec\n    spec:\n      runtime: x\n" in capsys.readouterr().err


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(("A", "BB"), [("xyz", None), ("u\x1b[2J", "v")])
    assert capsys.readouterr().out == "A    BB\nxyz  -\nu    v\n"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://a:b@h:1", "nats://h:1"),
        ("nats://tok@h:1,nats://u:p@i:2", "nats://h:1,nats://i:2"),
        ("nats://h:1", "nats://h:1"),
    ],
)
def test_a_shown_url_has_no_credentials(url: str, shown: str) -> None:
    assert shown_url(url) == shown


# -------------------------------------------------------------------------------- progress

START = datetime(2026, 1, 1, tzinfo=UTC)


def event(kind: str, phase: str | None = None, after: float = 0, **data: object) -> Event:
    at = START + timedelta(seconds=after)
    return Event(event_id="e", deploy_id="d", at=at, type=kind, phase=phase, data=data)


def test_plain_progress_measures_phases(capsys: pytest.CaptureFixture[str]) -> None:
    show = Plain()
    show(event("phase.started", "build"))
    show(event("log", "build", lines=["step 1"]))
    show(event("warning", message="the answer has it"))
    show(event("phase.finished", "build", after=2.5))
    show(event("phase.finished", "of-the-future"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["build: started", "build: finished in 2.5 s", "of-the-future: finished"]


def test_progress_says_where_a_deploy_waits(capsys: pytest.CaptureFixture[str]) -> None:
    show = Plain()
    show(event("state", waits_for="build", position=2, of=5))
    show(event("state", waits_for="deploy", position=1, of=1))
    show(event("state", ok=True))
    assert capsys.readouterr().err == "waiting to build: 2 of 5\nwaiting for its turn: 1 of 1\n"


def test_live_progress_interprets_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress({}) as show:
        for kind in ("phase.started", "log", "phase.finished"):
            show(event(kind, "[/nope]", lines=["[red]x[/red] [/nope]"], seconds=1))
    assert "[/nope]  1.0 s" in capsys.readouterr().err
