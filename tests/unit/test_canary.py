"""The search for secrets finds them: else finding none would say nothing."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.canary import CHUNK, Arguments, forms, in_bytes, in_files

CANARY = 'canary "Zürich"/+?~42-x'


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "token="])
@pytest.mark.parametrize("after", ["", "z", "yz", "\n"])
def test_a_secret_is_found_however_it_is_written(before: str, after: str) -> None:
    text = before + CANARY + after
    written = [text, quote(text), json.dumps(text), base64.b64encode(text.encode()).decode()]
    written.append(base64.urlsafe_b64encode(text.encode()).decode())
    assert [one for one in written if not in_bytes(one.encode(), [CANARY])] == []


def test_something_else_is_not_found() -> None:
    assert not in_bytes(base64.b64encode(b"canary of another colour") + b'canary "Z', [CANARY])
    assert all(len(one) >= 8 for one in forms("x" * 12))


def test_files_are_searched_whole(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "allowed").write_text(CANARY)
    (tmp_path / "log").write_bytes(b"x" * (CHUNK - 5) + CANARY.encode() + b"x" * CHUNK)
    (tmp_path / "clean").write_text("nothing")
    assert in_files(tmp_path, [CANARY], ["kept"]) == ["log"]
    assert in_files(tmp_path, [CANARY]) == ["kept/allowed", "log"]


def test_arguments_of_processes_are_seen() -> None:
    with Arguments([CANARY]) as looked:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.8)", f"--token={CANARY}"], check=True)
    assert [one for one in looked.found if CANARY.encode() in one]
