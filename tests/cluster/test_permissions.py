"""The provider holds just the power that it uses: table, Roles and requests say the same."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from provider import names
from provider.demo.processes import clean_environment, run
from provider.platforms.kubernetes.resources import ALL, Where
from tests.cluster.apps import App
from tests.cluster.kustomize import BASES, built
from tests.cluster.places import ACCOUNT, BUILDS, DOMAIN, PREVIEWS, USER
from tests.cluster.standin.world import World
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

Grant = tuple[str, str, str, str]
NAMESPACES = {Where.PREVIEWS: PREVIEWS, Where.BUILDS: BUILDS}


def test_the_roles_allow_what_the_table_says_and_nothing_else() -> None:
    bodies = built("base")
    roles = {body["roleRef"]["name"] for body in bodies if body["kind"] == "RoleBinding" and _binds(body, ACCOUNT)}
    granted = {
        grant
        for body in bodies
        if body["kind"] == "Role" and body["metadata"]["name"] in roles
        for grant in _granted(body)
    }
    assert granted == _table()


@pytest.mark.parametrize("name", BASES)
def test_nothing_is_granted_for_the_whole_cluster(name: str) -> None:
    """To nobody but the ingress controller that the kind overlay brings."""
    subjects = [one for body in built(name) if body["kind"] == "ClusterRoleBinding" for one in body["subjects"]]
    assert [one["name"] for one in subjects] == ["traefik"] * (name == "overlays/kind")


def _binds(binding: dict[str, Any], account: str) -> bool:
    return any(subject["name"] == account for subject in binding["subjects"])


async def test_every_permission_is_used_and_none_is_missing(cluster: ClusterWorld, standin: World) -> None:
    """One life of a preview, over objects of somebody else's, takes every line of the table."""
    slug = "allowed"
    sha = await cluster.commit(slug, App(spec={"ingress": {"additionalHeaders": {"X-One": "1"}}}))
    late = standin.api.faults.slow_watch(2.0, resource="jobs")
    for body in _somebody_elses(slug, names.build_job(slug, sha)):
        await cluster.place.api.create(body)
    first = asyncio.create_task(cluster.deploy(slug, sha, extra_env={"A": "1"}))
    await eventually(lambda: _is_used(standin, "jobs", "get"), what="the Job that the watch does not show is looked at")
    standin.api.faults.lift(late)  # all that other tests leave comes late, too
    await first
    await refused(cluster.app(slug, App(crash=3)))
    await cluster.deploy("allowed-anew")
    await _changed_unseen(cluster, standin, "allowed-anew")
    await cluster.client.teardown(slug)
    assert _used(standin) == _table()


def _used(standin: World) -> set[Grant]:
    """What the provider has asked for in its namespaces."""
    every = (one for one in standin.api.metrics.used if one.user == USER and one.namespace)
    return {(one.namespace, one.group, one.resource, one.verb) for one in every}


async def _is_used(standin: World, resource: str, verb: str) -> bool:
    return any((one[2], one[3]) == (resource, verb) for one in _used(standin))


async def _changed_unseen(cluster: ClusterWorld, standin: World, slug: str) -> None:
    """A redeploy over a NetworkPolicy that somebody changed, and the watch has not told yet."""
    api, namespace = cluster.place.api, cluster.place.previews
    late = standin.api.faults.slow_watch(30.0, resource="networkpolicies")
    (name,) = [name for name in await api.names("NetworkPolicy", namespace) if name.startswith(slug)]
    await api.edit("NetworkPolicy", namespace, name, {"metadata": {"annotations": {"somebody": "else"}}})
    await cluster.deploy(slug)
    standin.api.faults.lift(late)


async def test_doctor_asks_for_every_line(cluster: ClusterWorld) -> None:
    status, parts = await _doctor(cluster)
    place = {Where.PREVIEWS: cluster.place.previews, Where.BUILDS: cluster.place.builds}
    lines = {f"{resource.plural} in {place[resource.where]}" for resource in ALL}
    assert lines <= parts.keys()
    assert [name for name, part in parts.items() if not part["ok"]] == []
    assert status == 0


async def test_doctor_names_what_is_missing(cluster: ClusterWorld) -> None:
    api, namespace = cluster.place.api, cluster.place.previews
    role = await api.get("Role", namespace, ACCOUNT)
    assert role is not None
    fewer = [rule for rule in role["rules"] if "endpointslices" not in rule["resources"]]
    await api.edit("Role", namespace, ACCOUNT, {"rules": fewer})
    try:
        status, parts = await _doctor(cluster)
    finally:
        await api.edit("Role", namespace, ACCOUNT, {"rules": role["rules"]})
    assert status != 0
    lacking = {name: part["detail"] for name, part in parts.items() if not part["ok"]}
    assert lacking == {f"endpointslices in {namespace}": "may not list, watch"}


async def _doctor(cluster: ClusterWorld) -> tuple[int, dict[str, dict[str, Any]]]:
    environment = {**clean_environment(cluster.folder), **cluster.settings}
    status, output = await run(sys.executable, "-m", "provider", "doctor", "--json", env=environment, timeout=60)
    return status, {part["name"]: part for part in json.loads(output)["parts"]}


def _somebody_elses(slug: str, job: str) -> list[dict[str, Any]]:
    """What the platform's present provider could have left, and a Job and a Secret that are in the way."""
    labels = {"app": slug}
    pod = {"containers": [{"name": "old", "image": "old"}], "restartPolicy": "Never"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": pod["containers"]}}
    backend = {"service": {"name": slug, "port": {"number": 80}}}
    rule = {"host": f"{slug}.{DOMAIN}", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    return [
        _body("Service", "v1", slug, {"selector": labels, "ports": [{"port": 80}]}),
        _body("Deployment", "apps/v1", slug, {"selector": {"matchLabels": labels}, "template": template}),
        _body("Ingress", "networking.k8s.io/v1", slug, {"rules": [rule]}),
        _body("NetworkPolicy", "networking.k8s.io/v1", slug, {"podSelector": {"matchLabels": labels}}),
        _body("Job", "batch/v1", job, {"template": {"spec": pod}}, BUILDS),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": names.clone_secret(job), "namespace": BUILDS}},
    ]


def _body(kind: str, version: str, name: str, spec: dict[str, Any], namespace: str = "x1-previews") -> dict[str, Any]:
    labels = {"component": "preview-build"} if kind == "Job" else {}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _granted(role: dict[str, Any]) -> Iterator[Grant]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield role["metadata"]["namespace"], group, resource, verb


def _table() -> set[Grant]:
    return {(NAMESPACES[one.where], one.group, one.plural, verb) for one in ALL for verb in one.verbs}
