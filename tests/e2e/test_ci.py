"""The GitHub action and the GitLab snippet of the README: their shell steps run here, against a running provider."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from provider.demo.processes import clean_environment, run
from provider.demo.world import World
from tests.e2e.apps import app_files
from tests.e2e.test_readme import README, ROOT

ACTION = ROOT / ".github/actions/preview/action.yml"


@pytest.fixture
def ci(world: World, tmp_path: Path) -> dict[str, str]:
    """The environment of a CI job: `preview` is installed, the bus is known."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "preview"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m provider "$@"\n')
    command.chmod(0o755)
    env = {**clean_environment(tmp_path), "NATS_URL": world.stack.nats.address, "PYTHONPATH": str(ROOT)}
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_PATH"):
        (tmp_path / name).touch()  # as a runner does
        env[name] = str(tmp_path / name)
    return env | {"PATH": f"{command.parent}:{env['PATH']}", "HOME": str(tmp_path)}


async def committed(world: World, name: str, dockerfile: str = "") -> str:
    files = app_files(name, world.base_image, dockerfile_extra=dockerfile)
    return await world.commit(f"acme/{name}", {**files, "www/healthz": "ok"})


def outcomes(file: Path) -> dict[str, str]:
    cases = ElementTree.parse(file).getroot().iter("testcase")
    return {case.attrib["name"]: case[0].tag if len(case) else "passed" for case in cases}


async def action(world: World, ci: dict[str, str], folder: Path, **inputs: str) -> tuple[int, str]:
    """Run the action's steps as a runner would: expressions in `env` and nowhere else, bash with -e and pipefail."""
    found: dict[str, Any] = yaml.safe_load(ACTION.read_text())
    given = {name: str(one.get("default", "")) for name, one in found["inputs"].items()} | inputs
    code, said = 0, ""
    for step in found["runs"]["steps"]:
        assert "${{" not in step["run"], "an input in a script could be a command"
        env = {name: expression(value, given, folder) for name, value in step["env"].items()}
        shell = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", f"cd {folder}\n{step['run']}")
        code, said = await run(*shell, env={**ci, **env}, timeout=90)
        if code:
            break
    return code, said


def expression(text: str, inputs: dict[str, str], folder: Path) -> str:
    """What the runner makes of it."""
    context = {"runner.temp": str(folder), "github.action_path": str(ACTION.parent)}
    context |= {f"inputs.{name}": one for name, one in inputs.items()}
    return re.sub(r"\${{ ([^}]+) }}", lambda match: context[match[1]], text)


async def test_the_action_deploys_and_tells_the_url(world: World, ci: dict[str, str], tmp_path: Path) -> None:
    sha = await committed(world, "ci-github")
    asked = {"nats-url": ci["NATS_URL"], "repository": "acme/ci-github", "branch": "main", "commit": sha}
    asked |= {"installation-id": str(world.installation_id), "checks": "/healthz=200\n/\n"}
    code, said = await action(world, ci, tmp_path, **asked)
    assert code == 0, said
    url = (await world.client.status("ci-github")).url
    output = dict(line.split("=", 1) for line in Path(ci["GITHUB_OUTPUT"]).read_text().splitlines())
    assert output["url"] == url
    assert (await world.client.status(deploy_id=output["deploy-id"])).state == "ready"
    assert Path(ci["GITHUB_STEP_SUMMARY"]).read_text() == f"Preview: {url}\n"
    assert set(outcomes(tmp_path / "preview.xml").values()) == {"passed"}
    await world.client.teardown("ci-github")


async def test_the_action_fails_with_the_diagnosis(world: World, ci: dict[str, str], tmp_path: Path) -> None:
    sha = await committed(world, "ci-broken", "RUN echo about to fail; exit 3")
    asked = {"nats-url": ci["NATS_URL"], "repository": "acme/ci-broken", "branch": "main", "commit": sha}
    code, said = await action(world, ci, tmp_path, **asked, **{"installation-id": str(world.installation_id)})
    assert code == 3, said
    for text in ("Failed in phase build", "kaniko_build_failed", "whose turn      yours", "about to fail", "next step"):
        assert text in said
    assert outcomes(tmp_path / "preview.xml")["build"] == "failure"
    assert "url=" not in Path(ci["GITHUB_OUTPUT"]).read_text()


async def test_the_gitlab_snippet_runs_as_it_stands(world: World, ci: dict[str, str], tmp_path: Path) -> None:
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "CI_PROJECT_PATH" in block]
    job = yaml.safe_load(text)["preview"]
    sha = await committed(world, "ci-gitlab")
    given = {"CI_PROJECT_PATH": "acme/ci-gitlab", "CI_COMMIT_REF_NAME": "main", "CI_COMMIT_SHA": sha}
    script = [line for line in job["script"] if not line.startswith("pip install")]
    assert len(script) == len(job["script"]) - 1, "only the installation is left out: it is here"
    # The repository of the test wants credentials; on GitLab it would be a project's own.
    script = [line.replace("--wait", f"--wait --installation-id {world.installation_id}") for line in script]
    shell = ("bash", "-e", "-o", "pipefail", "-c", "\n".join([f"cd {tmp_path}", *script]))
    code, said = await run(*shell, env={**ci, **given}, timeout=90)
    assert code == 0, said
    url = (await world.client.status("ci-gitlab")).url
    assert (tmp_path / job["artifacts"]["reports"]["dotenv"]).read_text() == f"PREVIEW_URL={url}\n"
    assert set(outcomes(tmp_path / job["artifacts"]["reports"]["junit"]).values()) == {"passed"}
    await world.client.teardown("ci-gitlab")


def test_the_readmes_github_snippet_gives_only_inputs_that_there_are() -> None:
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "uses:" in block]
    (step,) = yaml.safe_load(text)["steps"]
    inputs = yaml.safe_load(ACTION.read_text())["inputs"]
    assert set(step["with"]) <= set(inputs)
    assert {name for name, one in inputs.items() if one.get("required")} <= set(step["with"])
    assert step["uses"].partition("@")[0].endswith("/.github/actions/preview")
