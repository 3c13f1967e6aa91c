"""Where the HTTP server listens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from provider.http_server import HttpServer


@pytest.mark.parametrize("address", ["[::1]:0", "[::]:0"])
async def test_an_ipv6_address_is_listened_on(address: str) -> None:
    server = HttpServer(address, [])
    try:
        assert await server.start()
    finally:
        await server.close()


def test_the_provider_listens_where_pods_have_no_ipv4() -> None:
    """Kubelets probe a pod's own address, which is IPv6 on IPv6 clusters (EKS with IPv6 has no other)."""
    (told,) = re.findall(r"HTTP_ADDRESS\n\s+value: (\S+)", Path("manifests/base/provider.yaml").read_text())
    assert not told.startswith("0.0.0.0:"), told
