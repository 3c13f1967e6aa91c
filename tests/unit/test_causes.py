"""Each row of the tables of causes, by a sample of what was really said (see `tests.samples`)."""

from __future__ import annotations

from collections import defaultdict

import pytest

from provider.diagnose.answers import CHECKS, INGRESS, NO_ANSWER
from provider.diagnose.apps import APPS, STARTS
from provider.diagnose.builders import BUILD_MACHINE, BUILDERS
from provider.diagnose.cluster import BUILD_PODS, CLUSTER
from provider.diagnose.health import HEALTH
from provider.diagnose.images import IMAGES
from provider.diagnose.tools import TOOLS
from tests.samples import SAMPLES, sample

TABLES = {
    "apps": APPS,
    "build-machine": BUILD_MACHINE,
    "build-pods": BUILD_PODS,
    "builders": BUILDERS,
    "checks": CHECKS,
    "cluster": CLUSTER,
    "health": HEALTH,
    "images": IMAGES,
    "ingress": INGRESS,
    "no-answer": NO_ANSWER,
    "starts": STARTS,
    "tools": TOOLS,
}
ROWS = [(name, case.name) for name, table in TABLES.items() for case in table.cases]
FACTS = {
    "where": "Dockerfile:7",
    "step": "RUN make",
    "path": "Dockerfile",
    "context": ".",
    "memory": "2Gi",
    "image": "registry.test/base/a:1",
    "nearest": "; RUN is",
    "stages": "",
    "code_means": " with exit code 3",
    "line": "the line",
    "port": 3000,
    "timeout": "3",
    "field": "spec.runtime.healthcheck.path",
    "check": "GET /api",
    "fix": "spec.runtime.path",
    "host": "shop.preview.test",
    "domain": "preview.test",
    "connect": "127.0.0.1:443",
    "protocol": "http",
    "requests": "cpu 200m",
    "asks": " (asked pods=1)",
    "folder": "/var/cache",
}


@pytest.mark.parametrize(("table", "case"), ROWS, ids=lambda value: value)
def test_a_row_is_found_by_what_was_really_said(table: str, case: str) -> None:
    seen = sample(table, case)
    found = TABLES[table].find(seen.lines)
    assert found is not None
    assert found.case.name == case
    assert found.line.strip() in "\n".join(seen.lines)
    path = {"path": "/healthz"} if table == "health" else {}
    facts: dict[str, object] = defaultdict(str, {**FACTS, **path})
    hint = found.hint(facts)
    assert seen.origin
    assert seen.names
    assert [name for name in seen.names if name not in hint] == [], hint
    assert hint.endswith((".", '"', ")")), hint


def test_each_sample_is_a_rows() -> None:
    files = {(path.parent.name, path.stem) for path in SAMPLES.glob("*/*.txt")}
    assert files == set(ROWS)


@pytest.mark.parametrize("table", TABLES)
def test_what_nobody_knows_is_not_guessed(table: str) -> None:
    assert TABLES[table].find(["something that nobody has seen yet", "", "\x1b[31mred\x1b[0m"]) is None


@pytest.mark.parametrize(
    "line",
    [
        "booting in environment NODE_ENV=production",
        'TypeError [ERR_INVALID_ARG_TYPE]: The "path" argument must be of type string. Received undefined',
        "GET /api/users: not found",
        "user 17 not found",
        "settings reset, MAX_CONNECTIONS is 10",
        "0 vulnerabilities found",
        "panic: runtime error: index out of range [3] with length 3",
    ],
)
@pytest.mark.parametrize("table", ["apps", "tools", "starts"])
def test_what_only_looks_like_it_is_not_taken_for_it(table: str, line: str) -> None:
    assert TABLES[table].find([line]) is None


@pytest.mark.parametrize("text", ["x" * 1_000_000, "a b " * 300_000, "/" * 500_000, "ECONNREFUSED" * 50_000])
def test_a_hostile_log_takes_linear_time(text: str) -> None:
    for table in TABLES.values():
        table.find([text])


def test_values_of_the_log_stay_short() -> None:
    found = TOOLS.find([f"sh: {'x' * 5000}: not found"])
    assert found is not None
    assert len(found.hint(FACTS)) < 400


def test_rows_have_names_of_their_own() -> None:
    for table in TABLES.values():
        assert len({case.name for case in table.cases}) == len(table.cases)
