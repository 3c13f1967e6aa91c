"""The stand-in answers as a real Kubernetes did; and the comparison that says so would notice if it did not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.cluster.differential.compare import Known, compare
from tests.cluster.differential.known import KNOWN
from tests.cluster.differential.normal import Normaliser
from tests.cluster.differential.report import report
from tests.cluster.differential.run import run
from tests.cluster.differential.saved import load
from tests.cluster.differential.scenarios import SCENARIOS
from tests.cluster.differential.standin import standin
from tests.cluster.differential.steps import Answer, Json


async def test_the_stand_in_answers_as_kubernetes_did() -> None:
    _, real = load()
    async with standin() as target:
        ours = await run(target, SCENARIOS)
    comparisons = [compare(step, answer, real[step], KNOWN) for step, answer in ours.items()]
    assert not [one for one in comparisons if one.verdict == "different"], "\n".join(report(comparisons, KNOWN))


def test_the_saved_answers_are_those_that_the_scenarios_tell_of() -> None:
    _, real = load()
    told = {f"{scenario.name}/{step.title}": step.code for scenario in SCENARIOS for step in scenario.steps}
    assert {step: answer["code"] for step, answer in real.items()} == told


def answer(code: int = 200, warnings: tuple[str, ...] = (), **body: Json) -> Answer:
    return Answer(code, "application/json", warnings, body)


def config_map(space: str, uid: str, version: str, data: Mapping[str, str], **metadata: Json) -> Answer:
    meta = {"name": "cm", "namespace": space, "uid": uid, "resourceVersion": version, **metadata}
    return answer(kind="ConfigMap", metadata=meta, data=dict(data))


UID = "11111111-2222-4333-8444-{:012d}"


def verdict(one: Answer, other: Answer, *known: Known) -> str:
    left, right = Normaliser({"space-1": "$ns"}), Normaliser({"space-2": "$ns"})
    return compare("s/step", left(one), right(other), known).verdict


def test_names_uids_times_and_versions_can_not_be_equal() -> None:
    one = config_map("space-1", UID.format(1), "7", {"k": "v"}, creationTimestamp="2026-01-01T00:00:00Z")
    other = config_map("space-2", UID.format(2), "123", {"k": "v"}, creationTimestamp="2027-02-03T04:05:06Z")
    assert verdict(one, other) == "equal"


def test_a_value_a_type_a_code_a_warning_a_length_differ() -> None:
    base = answer(kind="X", spec={"replicas": 1, "ports": [1]})
    others = (
        answer(kind="X", spec={"replicas": 2, "ports": [1]}),
        answer(kind="X", spec={"replicas": True, "ports": [1]}),
        answer(kind="X", spec={"replicas": 1, "ports": [1, 1]}),
        answer(kind="X", spec={"replicas": 1}),
        answer(201, kind="X", spec={"replicas": 1, "ports": [1]}),
        answer(200, ("careful",), kind="X", spec={"replicas": 1, "ports": [1]}),
    )
    assert verdict(base, base) == "equal"
    assert [verdict(base, other) for other in others] == ["different"] * len(others)


def test_whether_the_version_changed_is_compared() -> None:
    def two(first: str, second: str) -> list[Json]:
        normalise = Normaliser({"space-1": "$ns"})
        return [normalise(config_map("space-1", UID.format(1), version, {})) for version in (first, second)]

    assert two("5", "6") == two("70", "99")
    assert two("5", "5") == two("70", "70")
    assert two("5", "6")[1] != two("70", "70")[1]


def test_only_another_sentence_is_no_difference() -> None:
    def refusal(message: str, field: str) -> Answer:
        causes = [{"reason": "FieldValueInvalid", "message": message, "field": field}]
        return answer(422, kind="Status", reason="Invalid", message=message, details={"causes": causes})

    assert verdict(refusal("no", "spec.a"), refusal("never", "spec.a")) == "equal"
    assert verdict(refusal("no", "spec.a"), refusal("no", "spec.b")) == "different"


def test_events_of_a_watch_are_compared_in_their_order_without_counting_bookmarks() -> None:
    def watched(*kinds: str) -> Answer:
        events: list[Any] = [{"type": kind, "object": {"kind": "X", "n": 1}} for kind in kinds]
        return Answer(200, "application/json", (), events)

    assert verdict(watched("ADDED", "BOOKMARK"), watched("ADDED", "BOOKMARK", "BOOKMARK")) == "equal"
    assert verdict(watched("ADDED", "DELETED"), watched("DELETED", "ADDED")) == "different"
    assert verdict(watched("ADDED", "BOOKMARK"), watched("ADDED")) == "different"


def test_what_is_known_is_accepted_and_nothing_else() -> None:
    one, other = answer(kind="X", a=1, b=1), answer(kind="X", a=2, b=1)
    known = Known("s/*", "body.a", "because")
    assert verdict(one, other, known) == "accepted"
    assert verdict(one, answer(kind="X", a=2, b=2), known) == "different"
    assert verdict(one, other, Known("t/*", "body.a", "because")) == "different"


def test_the_report_counts_and_tells_what_is_known_but_not_seen() -> None:
    normal = Normaliser({})(answer(kind="X", a=1))
    other = Normaliser({})(answer(kind="X", a=2))
    unseen = Known("elsewhere", "**", "because")
    known = (Known("s/b", "body.*", "why not"), unseen)
    comparisons = [
        compare(f"s/{name}", normal, right, known) for name, right in (("a", normal), ("b", other), ("c", other))
    ]
    text = list(report(comparisons, known))
    assert text[2].split() == ["all", "3", "1", "1", "1"]
    assert f"NOT SEEN: {unseen}" in text
    assert "\nDIFFERENT s/c" in text
