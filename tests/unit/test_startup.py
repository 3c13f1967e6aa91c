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


CANCELLED = """
import asyncio
from provider.cli.startup import settle

async def main():
    answer = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(asyncio.wait_for(answer, 60))
    await asyncio.sleep(0)
    answer.set_result("it came")
    waiting.cancel()
    quick, slow = (asyncio.wait_for(asyncio.sleep(*one), 0.01) for one in ((0, "in time"), (60,)))
    outcomes = await asyncio.gather(waiting, quick, slow, return_exceptions=True)
    print(*(repr(outcome).partition("(")[0] for outcome in outcomes))

settle()
asyncio.run(main())
"""


def test_a_cancellation_counts_even_as_the_answer_comes() -> None:
    """Python 3.11 would return the answer, and the cancelled deploy go on."""
    told = subprocess.run([sys.executable, "-c", CANCELLED], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("CancelledError 'in time' TimeoutError\n", "")
