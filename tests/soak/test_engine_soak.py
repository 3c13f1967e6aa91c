"""The short form of `make soak ARGS=--engine`."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.soak.engine import SHORT_ENGINE, engine_soak
from tests.telling import Tell


@pytest.mark.timeout(300)
async def test_nothing_is_lost_on_the_engine(tmp_path: Path, tell: Tell) -> None:
    result = await engine_soak(tmp_path, secrets.randbelow(1 << 32), SHORT_ENGINE, print)
    tell(str(result))
    assert result.ok, str(result)
