"""The form of the log: one JSON object a line, also of what libraries log; text for people."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import logging, structlog
from provider import logs
from provider.settings import Settings
logs.configure(Settings(log_format="{form}"))
structlog.contextvars.bind_contextvars(deploy_id="d-1")
structlog.get_logger("x").info("deploy.accepted", slug="shop")
try:
    raise ValueError("of a library")
except ValueError:
    logging.getLogger("asyncio").exception("Task exception was never %s", "retrieved")
logging.getLogger("asyncio").info("too much")
"""


def logged(form: str) -> list[str]:
    script = SCRIPT.replace("{form}", form)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_every_line_is_json_also_of_libraries() -> None:
    own, library = map(json.loads, logged("json"))
    assert (own["event"], own["level"], own["slug"]) == ("deploy.accepted", "info", "shop")
    assert (library["event"], library["level"]) == ("Task exception was never retrieved", "error")
    assert library["logger"] == "asyncio"
    assert "ValueError: of a library" in library["exception"]
    assert own["deploy_id"] == library["deploy_id"] == "d-1"


def test_on_a_terminal_it_is_text() -> None:
    lines = logged("text")
    assert "deploy.accepted" in lines[0]
    assert "slug=shop" in lines[0]
    assert any("Task exception was never retrieved" in line for line in lines)
