"""What was measured, and whether it is good enough: rows, a table, JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One target. `value` and `target` are in `unit`; smaller is better, unless it is to be `at_least` the target.

    A row without a target only tells what another one is made of.
    """

    name: str
    value: float
    target: float | None
    unit: str
    detail: str = ""
    samples: tuple[float, ...] = ()
    parts: dict[str, float] = field(default_factory=dict)
    at_least: bool = False

    @property
    def ok(self) -> bool:
        """Whether the target is met."""
        if self.target is None:
            return True
        return self.value >= self.target if self.at_least else self.value <= self.target


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    """The value that 99 of 100 do not exceed; of few values, the largest."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def as_json(rows: Sequence[Row], load: tuple[float, float]) -> dict[str, Any]:
    """The outcome for programs."""
    return {
        "ok": all(row.ok for row in rows),
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "load_before": load[0],
            "load_after": load[1],
        },
        "results": [
            {
                "name": row.name,
                "value": round(row.value, 4),
                "target": row.target,
                "at_least": row.at_least,
                "unit": row.unit,
                "ok": row.ok,
                "detail": row.detail,
                "parts": {name: round(value, 4) for name, value in row.parts.items()},
                "samples": [round(sample, 4) for sample in row.samples],
            }
            for row in rows
        ],
    }


def print_table(rows: Sequence[Row], load: tuple[float, float], console: Console) -> None:
    """The outcome for people."""
    table = Table(title="preview provider, and what it is measured against in the same run", title_justify="left")
    for heading, justify in (("what", "left"), ("measured", "right"), ("target", "right"), ("", "left"), ("", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        verdict, target = "", ""
        if row.target is not None:
            verdict = "[green]ok[/]" if row.ok else "[red]MISSED[/]"
            target = f"{'≥' if row.at_least else '≤'} {_shown(row.target, row.unit)}"
        table.add_row(row.name, _shown(row.value, row.unit), target, verdict, row.detail)
    console.print(table)
    for row in rows:
        if row.parts:
            parts = ", ".join(f"{name} {value:.0f}" for name, value in row.parts.items())
            what = "the most" if row.unit == "" else "medians in ms"
            console.print(f"{row.name}, {what}: {parts}", style="dim")
    console.print(
        f"{os.cpu_count()} CPUs, Python {platform.python_version()}, load {load[0]:.1f} before, {load[1]:.1f} after",
        style="dim",
    )


def _shown(value: float, unit: str) -> str:
    match unit:
        case "ms" | "MB":
            return f"{value:.0f} {unit}"
        case "ratio":
            return f"{value:.2f} ×"
        case "" | "lines/s":
            return f"{value:.0f} {unit}".rstrip()
        case _:
            return f"{value:.2f} {unit}"
