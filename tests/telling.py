"""What a test has to tell beside that it passed: a fixture `tell`, whose texts stand at the end of pytest's output.

What a worker of pytest-xdist prints is lost, even with `-s`; the properties of its reports are not.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

Tell = Callable[[str], None]
PROPERTY = "told"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Tell one thing; a text may have several lines."""
    return lambda text: record_property(PROPERTY, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """All that was told, by the tests' order."""
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.getreports(outcome)]
    told = [(one.nodeid, text) for one in reports for name, text in one.user_properties if name == PROPERTY]
    if told:
        terminalreporter.section("told")
    for nodeid, text in told:
        terminalreporter.write_line(f"{nodeid}\n{text}")
