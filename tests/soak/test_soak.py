"""The short form of `make soak`."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.soak.run import SHORT, soak
from tests.telling import Tell


@pytest.mark.timeout(300)
async def test_nothing_is_lost(tmp_path: Path, tell: Tell) -> None:
    result = await soak(tmp_path, secrets.randbelow(1 << 32), SHORT, print)
    tell(str(result))
    assert result.ok, str(result)
