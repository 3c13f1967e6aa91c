"""A step of a build: a process that waits, and becomes a command."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

import pytest

from provider.platforms.container.build_step import Step


def said(step: Step) -> str:
    with os.fdopen(step.output) as output:
        return output.read()


def test_it_becomes_a_command_whose_output_and_exit_code_are_had() -> None:
    step = Step()
    assert not step.ended()
    step.become(["sh", "-c", "cat; echo out; echo err >&2; exit 3"])
    assert said(step) == "out\nerr\n"
    assert (step.wait(), step.ended()) == (3, True)


def test_nothing_of_this_process_is_handed_on() -> None:
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kept = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        step = Step()
    finally:
        signal.signal(signal.SIGTERM, handler)
    step.become(["sh", "-c", "ls /proc/self/fd | wc -l; kill -TERM $$"])
    os.close(kept)
    assert said(step).split() == ["4"], "the three usual ones, and that of ls"
    assert step.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("command", "walls", "problem"),
    [(["/no/such/program"], (), "No such file"), (["true"], ("/no/such/network", "/", ""), "/no/such/network")],
)
def test_what_keeps_it_from_running_is_told(command: list[str], walls: tuple[str, ...], problem: str) -> None:
    step = Step()
    if walls:
        step.enclose(walls)
    with pytest.raises(OSError, match=problem):
        step.become(command)
    assert said(step) == ""
    assert step.wait() == 127


def test_it_is_stopped_by_a_signal_also_before_it_is_told_anything() -> None:
    step = Step()
    step.signal(signal.SIGKILL)
    assert step.wait() == -signal.SIGKILL
    step.signal(signal.SIGKILL)
    assert said(step) == ""


def test_it_ends_with_the_process_that_made_it() -> None:
    code = "from provider.platforms.container.build_step import Step; step = Step(); print(step._pid)"
    made = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    with contextlib.suppress(ProcessLookupError):  # gone altogether
        handle = os.pidfd_open(int(made.stdout))
        assert select.select([handle], [], [], 5.0)[0], "it lives on"
        os.close(handle)
