"""The README is a promise: its commands and its program run here as they stand there, its spec deploys."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import yaml

from provider import spec
from provider.demo.processes import clean_environment, run
from provider.demo.world import World
from tests.e2e.apps import app_files

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TIMEOUT = 90.0


def blocks(language: str) -> list[str]:
    """The fenced blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[str]:
    """Every line of a shell block that starts with `program`."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.split()[0] == program]


async def test_the_commands_and_the_program_of_the_readme_work(world: World, tmp_path: Path) -> None:
    files = app_files("shop", world.base_image)
    await world.commit("acme/shop", {**files, "www/healthz": "ok"})
    env = {**clean_environment(tmp_path), **world.stack.environment(), "PYTHONPATH": str(ROOT)}
    assert len(commands("preview")) >= 5
    for command in commands("preview"):
        argv = [sys.executable, "-m", "provider", *shlex.split(command)[1:]]
        code, output = await run(*argv, env=env, timeout=TIMEOUT)
        assert code == 0, f"{command}\n{output}"
    (program,) = blocks("python")
    code, output = await run(sys.executable, "-c", program, env=env, timeout=TIMEOUT)
    assert (code, output.strip()) == (0, f"https://shop.preview.localhost:{world.stack.environment()['PUBLIC_PORT']}")
    await world.client.teardown("shop")


def test_the_smallest_spec_of_the_readme_is_the_one_of_the_hint() -> None:
    (text,) = [block for block in blocks("yaml") if "kind: PreviewSpec" in block]
    assert spec.load(text).warnings == ()
    assert yaml.safe_load(text) == yaml.safe_load(spec.SMALLEST_SPEC)


def test_every_make_target_of_the_readme_exists() -> None:
    quoted = re.findall(r"`([^`\n]+)`", README) + [line for block in blocks("sh") for line in block.splitlines()]
    named = {match[1] for text in quoted if (match := re.match(r"make ([a-z-]+)", text))}
    assert named >= {"demo", "test", "bench", "lint"}
    for target in named:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
