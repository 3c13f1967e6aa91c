"""A build's container as the kubelet sees it: a program that ends."""

from __future__ import annotations

from tests.cluster.standin.kaniko.executor import Executor, Network
from tests.cluster.standin.node.program import Exit, Life
from tests.cluster.standin.script import Answer, Asked, BuildScript


class Build:
    """One attempt of a build; see `BuildScript` for what a test decides."""

    stop_after = 0.0
    serves = False

    def __init__(self, script: BuildScript, network: Network, lacking: str) -> None:
        self._script = script
        self._network = network
        self._lacking = lacking

    async def run(self, life: Life) -> Exit:
        """Build and push."""
        return await Executor(life, self._script, self._network, self._lacking).run()

    def listens(self, life: Life, port: int) -> bool:
        """Never."""
        return False

    def will_listen(self, life: Life) -> bool:
        """Never."""
        return False

    async def answer(self, life: Life, asked: Asked) -> Answer:
        """Nobody can ask."""
        raise ConnectionRefusedError
