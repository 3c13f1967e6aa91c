"""The house itself: what the README promises about it is what stands in the tree."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from provider.errors import CODES, Code
from provider.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PACKAGE = ROOT / "provider"
TOP = (
    ("manifests/", "kustomize: base/ components/ (the bus, its users' permissions) overlays/"),
    ("templates/", "Jinja2 for what is applied per preview"),
    (
        "tests/",
        "unit/ (mirrors provider/) bus/ (a real NATS) cluster/ (a Kubernetes API) e2e/ (the local stack) bench/",
    ),
)


def summary(path: Path) -> str:
    """The first sentence of a module's docstring, or its first line."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.partition("\n")[0].rstrip(".")


def house_map() -> str:
    """The picture of the house: each module with what its docstring says, each package with its files."""
    lines = ["provider/"]
    modules = sorted(path for path in PACKAGE.glob("*.py") if path.name not in {"__init__.py", "__main__.py"})
    lines += [f"  {path.name:<13} {summary(path)}" for path in modules]
    for package in sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE):
        lines.append(f"  {package.relative_to(PACKAGE)}/  {summary(package / '__init__.py')}")
        files = sorted(path.name for path in package.glob("*.py") if path.name != "__init__.py")
        lines += textwrap.wrap(" ".join(files), 110, initial_indent="      ", subsequent_indent="      ")
    lines += [f"{name:<15} {what}" for name, what in TOP]
    return "\n".join(lines)


def code_row(code: Code) -> str:
    info = CODES[code]
    return f"| `{code.value}` | {info.whose.value} | {'yes' if info.retryable else 'no'} | {info.meaning} |"


def setting_row(name: str) -> str:
    field = Settings.model_fields[name]
    value = "" if isinstance(field.default, SecretStr) or field.default is None else field.default
    if isinstance(value, bool | tuple):
        value = json.dumps(value)
    shown = f"`{int(value) if isinstance(value, float) and value == int(value) else value}`" if value != "" else "–"
    return f"| `{name.upper()}` | {shown} | {field.description} |"


def test_the_readme_shows_the_house_as_it_is() -> None:
    expected = house_map()
    assert expected in README, f"put this into README.md:\n{expected}"


def test_the_readme_shows_the_layers_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = "\n".join(contracts[0]["layers"]).replace("provider.", "")
    assert layers in README, f"put this into README.md:\n{layers}"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert setting_row(name) in README, f"put this into README.md:\n{setting_row(name)}"


@pytest.mark.parametrize("code", Code)
def test_every_code_is_in_the_table_and_in_the_source(code: Code) -> None:
    assert code_row(code) in README, f"put this into README.md:\n{code_row(code)}"
    used = [
        path for path in PACKAGE.rglob("*.py") if path.name != "errors.py" and f"Code.{code.name}" in path.read_text()
    ]
    assert used, f"{code} is promised, but nothing answers it"


def test_the_readme_promises_no_other_codes_or_settings() -> None:
    codes = set(re.findall(r"^\| `([a-z_]+)` \| (?:user|platform)", README, re.MULTILINE))
    assert codes == {code.value for code in Code}
    settings = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert settings == {name.upper() for name in Settings.model_fields}


def test_what_security_md_says_shows_it_is_there() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", (ROOT / "SECURITY.md").read_text()))
    text = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) >= 30
    assert sorted(name for name in named if f"def {name}(" not in text) == []


def raised(path: Path) -> list[tuple[int, set[str | None]]]:
    """Line and keywords of each error that a file makes; one that takes them from elsewhere has None among them."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    errors = {"Permanent", "Temporary", "InvalidRequest"}
    named = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id in errors)
    return [(call.lineno, {word.arg for word in call.keywords}) for call in named]


def test_every_error_has_a_reason_and_a_next_step() -> None:
    lacking = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        for line, words in raised(path)
        if None not in words and not {"reason", "hint"} <= words
    ]
    assert lacking == []


def test_nobody_but_settings_reads_the_environment() -> None:
    allowed = {"settings.py", "source/git.py", "demo/world.py", "demo/processes.py", "demo/stack.py", "cli/main.py"}
    readers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"\bos\.(environ|getenv)\b", path.read_text())
    }
    assert readers <= allowed


def test_imports_keep_to_the_walls() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_running_provider_carries_neither_command_line_nor_demo() -> None:
    heavy = ("typer", "provider.cli", "provider.demo", "provider.otel", "opentelemetry")
    script = f"import sys, provider.service; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
