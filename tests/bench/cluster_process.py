"""The stand-in cluster as a process of its own: what it takes of the CPU is not taken from who measures.

    python -m tests.bench.cluster_process FOLDER

Writes FOLDER/place.json, says `cluster.ready`, and answers GET /figures until SIGTERM. Its clock runs as ours does,
and builds do nothing for a fixed time: those of slugs that begin with MANY for longer, so that many deploys can be
under way without more than a few a second that begin and end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from provider.demo.processes import cancelled_by_signals
from tests.cluster.places import ACCOUNT, LOOPBACK, Place, stand_in
from tests.cluster.standin.node.scheduler import Node
from tests.cluster.standin.script import BuildScript
from tests.cluster.standin.world import World

BUILD_SECONDS = 0.3
MANY = "many"
MANY_SECONDS = 15.0
READY = "cluster.ready"
NODE = Node(cpu="4k", memory="16Ti", ephemeral_storage="64Ti", pods=10_000)
"""As much room as a thousand previews and hundreds of builds ask for."""


async def serve(folder: Path) -> None:
    """Until cancelled."""
    async with cancelled_by_signals(), stand_in(folder, speed=1.0, node=NODE) as place:
        cluster = place.standin
        assert cluster is not None
        cluster.scripts.build("*", BuildScript(fetch=False, seconds=BUILD_SECONDS))
        cluster.scripts.build(f"preview-build-{MANY}-*", BuildScript(fetch=False, seconds=MANY_SECONDS))
        app = web.Application()

        async def answer(request: web.Request) -> web.Response:
            return web.json_response(_figures(cluster))

        app.router.add_get("/figures", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        (folder / "place.json").write_text(json.dumps(_as_json(place, runner.addresses[0][1])))
        print(READY, flush=True)
        try:
            await asyncio.Future()
        finally:
            await runner.cleanup()


def _as_json(place: Place, port: int) -> dict[str, Any]:
    known = {field.name: getattr(place, field.name) for field in dataclasses.fields(place)}
    told = {name: str(value) for name, value in known.items() if name not in {"api", "standin", "more"}}
    return {"place": told, "figures": f"http://{LOOPBACK}:{port}/figures"}


def _figures(cluster: World) -> dict[str, Any]:
    """Counters and times; these are of the clock that all processes of a machine share."""
    metrics, timings = cluster.api.metrics, cluster.timings
    requests = {
        f"{call.verb} {call.resource}": number
        for call, number in metrics.requests.items()
        if call.user.endswith(f":{ACCOUNT}")
    }
    return {
        "requests": requests,
        "connections": metrics.connections,
        "watches": metrics.watches,
        "cpu": time.process_time(),
        "answering": sum(spent for user, spent in metrics.answering.items() if user.endswith(f":{ACCOUNT}")),
        "builds": {name: dataclasses.asdict(span) for (_, name), span in timings.builds.items()},
        "rollouts": {slug: dataclasses.asdict(span) for (_, slug, _), span in timings.rollouts.items()},
        "led": cluster.ingress.led,
    }


if __name__ == "__main__":
    # What a cluster holds is data without cycles: to look through all of it for some would stop every answer for a
    # tenth of a second now and then, which no API server does.
    gc.disable()
    try:
        asyncio.run(serve(Path(sys.argv[1])))
    except asyncio.CancelledError:
        sys.exit(0)
