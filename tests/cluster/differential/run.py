"""Puts a scenario's questions to one server and writes down the normalised answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from tests.cluster.differential.normal import Normaliser
from tests.cluster.differential.steps import Answer, Json, Scenario, Step, at
from tests.cluster.differential.target import Target

PATIENCE = 60.0  # seconds for a controller to do its work; namespaces go slowly where many go at once
PAUSE = 0.1
AT_ONCE = 6


async def run(target: Target, scenarios: Sequence[Scenario]) -> dict[str, Json]:
    """Every step's normalised answer by `scenario/title`. The namespaces are removed again."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(scenario: Scenario) -> dict[str, Json]:
        async with gate:
            return await _run(target, scenario)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(scenario)) for scenario in scenarios]
    return {step: answer for task in tasks for step, answer in task.result().items()}


async def _run(target: Target, scenario: Scenario) -> dict[str, Json]:
    own = f"d-{secrets.token_hex(3)}-{scenario.name}"
    variables = {"ns": own, "other": f"{own}-b"}
    normalise = Normaliser({name: f"${key}" for key, name in variables.items()})
    try:
        for name in variables.values():
            await _make_namespace(target, name, scenario.labels)
        answers = {}
        for step in scenario.steps:
            answer = await _ask(target, step, variables)
            variables |= {name: _look_up(answer.body, path) for name, path in step.keep.items()}
            answers[f"{scenario.name}/{step.title}"] = normalise(answer)
        return answers
    finally:
        for name in (variables["ns"], variables["other"]):
            await target.send("DELETE", at("namespaces", name))
        await _remove_cluster_wide(target, own)


async def _make_namespace(target: Target, name: str, labels: Mapping[str, str]) -> None:
    """Made, and its default service account there: pods are refused before."""
    metadata = {"name": name, "labels": dict(labels)}
    await target.send("POST", at("namespaces"), body={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    account = Step(
        title="",
        code=200,
        method="GET",
        path=at("serviceaccounts", "default", space=name),
        until=lambda a: a.code == 200,
    )
    await _ask(target, account, {})


async def _remove_cluster_wide(target: Target, prefix: str) -> None:
    """Scenarios name what has no namespace after their own namespace."""
    for resource in ("clusterroles", "clusterrolebindings", "ingressclasses"):
        answer = await target.send("GET", at(resource))
        for item in answer.body["items"]:
            if item["metadata"]["name"].startswith(prefix):
                await target.send("DELETE", at(resource, item["metadata"]["name"]))


async def _ask(target: Target, step: Step, variables: Mapping[str, str]) -> Answer:
    """The answer, or where the step waits for something the first that has it (or the last before patience ends)."""
    filled = _fill(
        {"path": step.path, "query": dict(step.query), "headers": dict(step.headers), "body": step.body}, variables
    )
    token = await target.token(variables["ns"], step.account) if step.account else ""
    path = filled.pop("path")
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        answer = await target.send(step.method, path, token=token, **filled)
        if step.until is None or step.until(answer) or asyncio.get_running_loop().time() > deadline:
            return answer
        await asyncio.sleep(PAUSE)


def _fill(value: Json, variables: Mapping[str, str]) -> Any:
    """The value with its variables, in keys too; what is no variable of ours (`$(PORT)`) stays."""
    if isinstance(value, dict):
        return {_fill(key, variables): _fill(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [_fill(part, variables) for part in value]
    return Template(value).safe_substitute(variables) if isinstance(value, str) else value


def _look_up(body: Json, path: str) -> str:
    """The value at a dotted path; where the answer is not as expected, something that is no valid value."""
    for part in path.split("."):
        if isinstance(body, list) and part.isdigit() and int(part) < len(body):
            body = body[int(part)]
        elif isinstance(body, dict) and part in body:
            body = body[part]
        else:
            return "absent"
    return str(body)
