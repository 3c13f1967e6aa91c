"""What the platform's present provider made is taken over in place, and removed like our own."""

from __future__ import annotations

from typing import Any

import pytest

from provider import names
from tests.cluster.apps import App
from tests.cluster.places import DOMAIN
from tests.cluster.standin.script import Answer, AppScript, Pod, commit_of
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, steady_load

pytestmark = pytest.mark.timeout(120)

Object = dict[str, Any]
PORT = 8080
SERVE = f"mkdir -p /www; echo old > /www/index.html; exec httpd -f -p {PORT} -h /www"


def theirs(world: ClusterWorld, slug: str) -> list[Object]:
    """Deployment, Service and Ingress as another client creates them: nothing in them says that they are ours."""

    def body(kind: str, version: str, spec: Object) -> Object:
        metadata = {
            "name": slug,
            "namespace": world.place.previews,
            "labels": {"app": slug, "x1-preview": "true", "theirs": "yes"},
            "annotations": {"theirs.example/note": "set once"},
        }
        return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}

    container = {
        "name": "app",
        "image": world.place.base_image,
        "command": ["sh", "-c", SERVE],
        "env": [{"name": "DROPPED", "value": "old"}, {"name": "KEPT", "value": "old"}],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        "livenessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 30},
        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    template = {"metadata": {"labels": {"app": slug}}, "spec": {"containers": [container]}}
    rolling = {"maxUnavailable": 1, "maxSurge": 1}
    backend = {"service": {"name": slug, "port": {"number": 80}}}
    host = f"{slug}.{DOMAIN}"
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return [
        body("Service", "v1", {"selector": {"app": slug}, "ports": [{"port": 80, "targetPort": PORT}]}),
        body(
            "Deployment",
            "apps/v1",
            {
                "replicas": 1,
                "selector": {"matchLabels": {"app": slug}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
                "template": template,
            },
        ),
        body(
            "Ingress",
            "networking.k8s.io/v1",
            {
                "ingressClassName": "nginx",
                "tls": [{"hosts": [host], "secretName": "x1agent-wildcard"}],
                "rules": [{"host": host, "http": {"paths": paths}}],
            },
        ),
    ]


async def installed(world: ClusterWorld, slug: str) -> dict[str, Object]:
    """Their objects, at work."""
    if world.place.standin is not None:
        old = AppScript(answers=lambda asked: Answer(200, "old\n"))

        def chosen(pod: Pod) -> AppScript:
            return world.apps[commit_of(pod)].app_script() if commit_of(pod) else old

        world.place.standin.scripts.app(slug, chosen)
    made = {body["kind"]: await world.place.api.create(body) for body in theirs(world, slug)}

    async def serves() -> bool:
        answer = await world.guest.get(f"https://{slug}.{DOMAIN}")
        return (answer.status_code, answer.text) == (200, "old\n")

    await eventually(serves, what="the present provider's preview serves")
    return made


async def found(world: ClusterWorld, kind: str, slug: str) -> Object:
    one = await world.place.api.get(kind, world.place.previews, slug)
    assert one is not None, kind
    return one


async def test_a_deploy_takes_over_in_place(cluster: ClusterWorld) -> None:
    slug = "taken-over"
    env = [{"name": "KEPT", "value": "new"}, {"name": "MADE", "value": "new"}]
    sha = await cluster.commit(slug, App(body="new\n", spec={"env": env}))
    before = await installed(cluster, slug)
    async with steady_load(cluster.guest, f"https://{slug}.{DOMAIN}") as load:
        done = await cluster.deploy(slug, sha)
    assert load.failed == []
    assert {answer.text for answer in load.answers} <= {"old\n", "new\n"}
    assert await cluster.guest.text(done.url) == "new\n"
    after = {kind: await found(cluster, kind, slug) for kind in before}
    for kind, one in after.items():
        metadata = one["metadata"]
        assert metadata["uid"] == before[kind]["metadata"]["uid"], "in place"
        assert "theirs.example/note" not in metadata["annotations"]
        assert "theirs" not in metadata["labels"]
        assert [owner["name"] for owner in metadata["ownerReferences"]] == [names.anchor(slug)]
    spec = after["Deployment"]["spec"]
    assert spec["selector"] == {"matchLabels": {"app": slug}}
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (container,) = spec["template"]["spec"]["containers"]
    assert {one["name"]: one.get("value") for one in container["env"]} == {"KEPT": "new", "MADE": "new"}
    assert "command" not in container
    assert "tcpSocket" not in container.get("livenessProbe", {})
    (port,) = after["Service"]["spec"]["ports"]
    assert "name" not in port, "a renamed port would have no endpoints for a moment"
    await cluster.client.teardown(slug)
    await cluster.nothing_left(slug)


async def test_a_failed_first_deploy_over_theirs_keeps_theirs_until_it_is_applied(cluster: ClusterWorld) -> None:
    slug = "taken-not"
    sha = await cluster.commit(slug, App(build_exit=1))
    before = await installed(cluster, slug)
    with pytest.raises(Exception, match="kaniko_build_failed"):
        await cluster.deploy(slug, sha)
    deployment = await found(cluster, "Deployment", slug)
    assert deployment["spec"] == before["Deployment"]["spec"]
    assert await cluster.guest.text(f"https://{slug}.{DOMAIN}") == "old\n"


async def test_a_teardown_without_a_record_removes_that_slugs_alone(cluster: ClusterWorld) -> None:
    for slug in ("torn", "torn-not", "not-torn"):
        await installed(cluster, slug)
    removed = await cluster.client.teardown("torn")
    assert set(removed.deleted) == {"ingress/torn", "service/torn", "deployment/torn"}
    await cluster.nothing_left("torn")
    for slug in ("torn-not", "not-torn"):
        assert await cluster.guest.text(f"https://{slug}.{DOMAIN}") == "old\n"
        assert await cluster.leftovers(slug) == {f"{kind}/{slug}" for kind in ("Service", "Deployment", "Ingress")}
    assert (await cluster.client.teardown("torn")).deleted == ()
