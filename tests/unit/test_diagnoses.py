"""From what was seen of an app or of an answer to the cause; the words themselves are in `test_causes`."""

from __future__ import annotations

from typing import Any

import pytest

from provider.diagnose import checks, exits, rollouts, steps
from provider.diagnose.rollouts import App, crashed, killed, lacks_secret, not_placed, unready
from provider.errors import Code, Permanent, Whose

REFUSED = "GET /: All connection attempts failed"


def app(**seen: Any) -> App:
    return App(**{"port": 8080, "memory": "512Mi", **seen})


# --------------------------------------------------------------------------------- it ended


@pytest.mark.parametrize(
    ("code", "said"),
    [(0, "foreground"), (1, "not known here"), (137, "spec.resources.limits.memory"), (143, "not known here")],
)
def test_an_exit_code_alone_says_what_is_known_of_it(code: int, said: str) -> None:
    found = crashed(app(exits=3, exit_code=code, log=("bye",)))
    assert (found.code, found.reason, found.whose) == (Code.DEPLOYMENT_NOT_READY, "CrashLoop", Whose.USER)
    assert said in found.hint
    assert f"exited 3 times with code {code}" in found.message
    assert "bye" in found.evidence


def test_the_kernel_knows_better_than_the_log() -> None:
    found = crashed(app(exits=1, exit_code=1, oom=True, log=("KeyError: 'DATABASE_URL'",)))
    assert found.reason == "OutOfMemory"
    assert "512Mi" in found.hint


def test_no_exit_code_is_no_guess() -> None:
    assert exits.told(None) == "no exit code"
    assert exits.told(3) == "exit code 3"
    assert exits.told(139).startswith("exit code 139 (SIGSEGV")


# ------------------------------------------------------------------------------ it runs, but


@pytest.mark.parametrize(
    ("sockets", "reason", "named"),
    [
        ((("0.0.0.0", 3000), ("::", 9229)), "ListensOnAnotherPort", ("3000, 9229", "spec.runtime.port")),
        ((("127.0.0.1", 8080),), "ListensOnLoopback", ("127.0.0.1:8080", "0.0.0.0:8080")),
        ((("::1", 8080),), "ListensOnLoopback", ("::1:8080",)),
        ((), "ListensNowhere", ("8080",)),
    ],
)
def test_where_it_listens_counts_more_than_a_refusal(
    sockets: tuple[tuple[str, int], ...], reason: str, named: tuple[str, ...]
) -> None:
    found = unready(app(probe=REFUSED, sockets=sockets, seconds=3.0))
    assert found.reason == reason
    assert all(name in found.hint for name in named)
    assert "within 3 s" in found.message


def test_who_listens_where_it_should_is_judged_by_its_answer() -> None:
    found = unready(app(path="/up", probe="GET /up answered 404", sockets=(("0.0.0.0", 8080),)))
    assert found.reason == "Unhealthy"
    assert "/up answers 404" in found.hint


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Listening on http://0.0.0.0:3000", "ListensOnAnotherPort"),
        ("Server running at http://localhost:8080/", "ListensOnLoopback"),
        ("ready - started server on [::]:3000, url: http://localhost:3000", "ListensOnAnotherPort"),
        ("Server started on port 5000", "ListensOnAnotherPort"),
        ("Listening on http://0.0.0.0:8080", "ListensNowhere"),
        ("warming up the cache", "ListensNowhere"),
    ],
)
def test_where_sockets_can_not_be_seen_the_log_says_where_it_listens(line: str, reason: str) -> None:
    assert unready(app(probe="dial tcp 10.0.0.1:8080: connect: connection refused", log=(line,))).reason == reason


def test_one_that_was_ready_is_killed_by_its_liveness_probe() -> None:
    words = "Liveness probe failed: HTTP probe failed with statuscode: 500"
    assert killed(app(probe=words), was_ready=False).reason == "Unhealthy"
    found = killed(app(probe=words), was_ready=True)
    assert found.reason == "LivenessFailed"
    assert "500" in found.hint
    assert "failureThreshold" in found.hint


def test_what_no_row_knows_of_a_pod_is_told_as_it_is() -> None:
    found = not_placed("Mystery", "the moon is too near", told=("pod shop-1",))
    assert (found.reason, found.code) == ("Mystery", Code.DEPLOYMENT_NOT_READY)
    assert "not known here" in found.hint
    assert "Mystery: the moon is too near" in found.evidence


def test_asked_and_there() -> None:
    words = "0/3 nodes are available: 3 Insufficient memory."
    found = not_placed("Unschedulable", words, requests="cpu 200m, memory 900Gi")
    assert "memory 900Gi" in found.hint
    assert "3 Insufficient memory" in found.hint


def test_a_limit_range_says_what_was_asked_and_not_what_is_used() -> None:
    words = 'pods "a" is forbidden: maximum memory usage per Container is 8Gi, but limit is 9Gi'
    found = not_placed("FailedCreate", words)
    assert (found.code, found.reason) == (Code.POLICY_DENIED, "LimitRange")
    assert "asked was 9Gi" in found.hint


def test_a_secret_that_nobody_sent_is_the_cause_where_the_app_names_it() -> None:
    empty = {"API_TOKEN": "PARTNER_TOKEN"}
    assert lacks_secret(["sh: API_TOKEN: is empty"], empty) == ("API_TOKEN", "PARTNER_TOKEN")
    assert lacks_secret(["out of luck"], empty) is None


def test_a_finding_is_an_error_of_its_kind() -> None:
    error = rollouts.crashed(app(exits=1, exit_code=1, log=("x" * 5000,))).error(("tail",))
    assert isinstance(error, Permanent)
    assert error.log_tail == ("tail",)
    assert len(error.message) < 1000


# ---------------------------------------------------------------------------------- answers


def check(**seen: Any) -> checks.Check:
    given: dict[str, Any] = {"name": "GET /", "url": "https://shop.preview.test/", "expected": "status below 400"}
    return checks.Check(**{**given, "answered": True, "public": True, "field": "spec.runtime.path", **seen})


@pytest.mark.parametrize(
    ("seen", "reason", "whose"),
    [
        ({"got": "status 503: down for maintenance"}, "CheckFailed", Whose.USER),
        ({"got": "status 503: 503 Service Temporarily Unavailable"}, "GatewayError", Whose.PLATFORM),
        ({"got": "status 404: not found, says the app"}, "CheckFailed", Whose.USER),
        ({"got": "status 404: default backend - 404"}, "IngressHasNoRoute", Whose.PLATFORM),
        ({"got": "status 404: default backend - 404", "public": False}, "CheckFailed", Whose.USER),
        ({"got": "something odd", "answered": False}, "NoAnswer", Whose.PLATFORM),
        ({"got": "something odd", "answered": False, "public": False}, "NoAnswer", Whose.USER),
        ({"got": "hello", "expected": "body contains 'bye'"}, "CheckFailed", Whose.USER),
    ],
)
def test_whose_answer_it_was(seen: dict[str, Any], reason: str, whose: Whose) -> None:
    found = checks.cause(check(**seen))
    assert (found.code, found.reason, found.whose) == (Code.VERIFY_FAILED, reason, whose)
    assert seen["got"] in found.message
    assert found.evidence[0] == "https://shop.preview.test/"


# ------------------------------------------------------------------------------------ steps


def test_lines_are_the_users_own() -> None:
    text = "\ufeff# syntax\r\nFROM a \\\r\n  AS b\r\n\r\nRUN one && \\\n# why\n\n  two\n  copy x /\n"
    found = steps.steps(text)
    assert [(one.line, one.word) for one in found] == [(2, "FROM"), (5, "RUN"), (9, "COPY")]
    assert found[1].shown == "RUN one && two"
    assert steps.stages(found) == ["b"]
    assert steps.naming(found, "a") == found[0]
    assert steps.naming(found, "absent") is None


def test_the_same_step_twice_is_told_apart_by_its_place() -> None:
    of = steps.steps("FROM a\nRUN make\nFROM b\nRUN make\n")
    log = ["[1/2] STEP 1/2: FROM a", "[1/2] STEP 2/2: RUN make", "[2/2] STEP 1/2: FROM b", "[2/2] STEP 2/2: RUN make"]
    assert steps.reached(of, log) == of[3]
    assert steps.reached(of, log[:2]) == of[1]
    assert steps.reached(of, [], 'Error: building at STEP "RUN make": x') is None
