"""What came of a soak."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass
class Result:
    """What happened, and what was found; all found is wrong."""

    seed: int
    seconds: float
    chaos: Counter[str]
    answers: Counter[str]
    claims: str
    builds: int
    found: dict[str, list[str]]

    @property
    def ok(self) -> bool:
        """Whether every count is zero."""
        return not any(self.found.values())

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.seconds:.0f} s"]
        lines += ["  " + ", ".join(f"{name} {number}" for name, number in sorted(one.items())) for one in self._told]
        lines += [f"  {self.claims}", f"  {self.builds} builds"]
        for name, problems in self.found.items():
            lines += [f"{len(problems):5}  {name}", *(f"         {one[:600]}" for one in problems[:10])]
        return "\n".join(lines)

    @property
    def _told(self) -> tuple[Counter[str], Counter[str]]:
        return self.chaos, self.answers
