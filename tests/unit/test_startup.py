"""What a provider's start leaves out, it leaves out for itself only."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ssl
from provider.cli.startup import quickly

with quickly():
    import aiohttp.connector

assert "set_default_verify_paths" not in vars(ssl.SSLContext)
assert aiohttp.connector._SSL_CONTEXT_VERIFIED.verify_mode is ssl.CERT_REQUIRED
print(aiohttp.connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509_ca"])
"""


def test_no_authorities_are_read_for_connections_that_nobody_makes() -> None:
    """Were one made all the same, it would trust nobody; contexts that are made later are as ever."""
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert told.stdout == "0\n"


CHILDREN = """
import asyncio, threading
from provider.cli.startup import settle

async def main():
    children = [await asyncio.create_subprocess_exec("true") for _ in range(5)]
    threads = threading.active_count()
    print(threads, [await child.wait() for child in children])

settle()
asyncio.run(main())
"""


def test_no_thread_waits_for_a_child() -> None:
    told = subprocess.run([sys.executable, "-c", CHILDREN], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("1 [0, 0, 0, 0, 0]\n", "")
