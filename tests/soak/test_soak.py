"""The short form of `make soak`."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.soak.run import SHORT, soak


@pytest.mark.timeout(300)
async def test_nothing_is_lost(tmp_path: Path) -> None:
    result = await soak(tmp_path, secrets.randbelow(1 << 32), SHORT, print)
    print(result)
    assert result.ok, str(result)
