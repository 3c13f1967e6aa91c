"""What others put beside ours: webhooks, injected containers, challenges for certificates, Secrets."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from provider import names
from provider.platforms.kubernetes.api import Api
from provider.platforms.kubernetes.pod_log import last_lines
from provider.platforms.kubernetes.resources import BUILD_LOGS, POD_LOGS
from provider.settings import Settings
from tests.cluster.apps import App
from tests.cluster.standin import admission
from tests.cluster.standin.script import AppScript
from tests.cluster.standin.status import bad_request
from tests.cluster.standin.world import World
from tests.cluster.test_takeover import theirs
from tests.cluster.world import ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(120)


def solver(namespace: str, host: str) -> dict[str, Any]:
    """cert-manager's (pkg/issuer/acme/http/ingress.go, buildIngressResource)."""
    backend = {"service": {"name": "cm-acme-http-solver-abcde", "port": {"number": 8089}}}
    path = {"path": "/.well-known/acme-challenge/token", "pathType": "ImplementationSpecific", "backend": backend}
    labels = {
        "acme.cert-manager.io/http-domain": "1234",
        "acme.cert-manager.io/http-token": "5678",
        "acme.cert-manager.io/http01-solver": "true",
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "cm-acme-http-solver-xyz12", "namespace": namespace, "labels": labels},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": [path]}}]},
    }


@pytest.mark.parametrize("own_cluster", [{"ALIAS_CLUSTER_ISSUER": "letsencrypt"}], indirect=True)
async def test_a_certificate_on_its_way_is_no_other_preview(own_cluster: ClusterWorld, standin: World) -> None:
    host, place = "shop.example.org", own_cluster.place
    await own_cluster.deploy("certified", alias_hosts=[host])
    made = await place.api.create(solver(place.previews, host))
    try:
        sha = await own_cluster.commit("certified", App(body="two\n"))
        done = await own_cluster.deploy("certified", sha, alias_hosts=[host])
    finally:
        await place.api.delete("Ingress", place.previews, made["metadata"]["name"])
    assert done.url


async def test_somebody_elses_secret_is_not_deleted_for_its_name(cluster: ClusterWorld, standin: World) -> None:
    """`preview-secrets-keeps-g1` may be the present provider's, of a preview `keeps-g1`, or anybody's."""
    place, name = cluster.place, names.secret_bundle("keeps", 1)
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": place.previews},
        "data": {"THEIRS": base64.b64encode(b"only here").decode()},
    }
    before = await place.api.create(body)
    failed = await refused(cluster.deploy("keeps", extra_env={"A": "1"}))
    assert (failed.code, failed.reason, failed.whose) == ("conflict", "SecretTaken", "platform")
    after = await place.api.get("Secret", place.previews, name)
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "it was deleted, and its values with it"


@pytest.mark.parametrize(("resource", "container"), [(POD_LOGS, "app"), (BUILD_LOGS, "kaniko")])
async def test_a_log_is_read_beside_an_injected_container(
    cluster_place: Any, standin: World, resource: Any, container: str
) -> None:
    """Service meshes and secret agents add one to each pod."""
    place = cluster_place
    told = {name.lower(): value for name, value in place.environment().items()}
    api = await Api.connect(Settings.model_validate(told))
    namespace = place.previews if resource is POD_LOGS else place.builds
    small = {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"cpu": "10m", "memory": "8Mi"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"meshed-{container}", "namespace": namespace, "labels": {"app": f"meshed-{container}"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {"name": name, "image": place.base_image, "resources": small} for name in (container, "mesh-proxy")
            ],
        },
    }
    standin.scripts.app(f"meshed-{container}", AppScript(log=("hello from it",)))
    await place.api.create(pod)

    async def runs() -> bool:
        found = await place.api.get("Pod", namespace, f"meshed-{container}")
        states = [one.get("state", {}) for one in (found or {}).get("status", {}).get("containerStatuses") or []]
        return len(states) == 2 and all("running" in one for one in states)

    try:
        await eventually(runs, what="it runs")
        assert await last_lines(api, resource, f"meshed-{container}", 10) == ("hello from it",)
    finally:
        await place.api.delete("Pod", namespace, f"meshed-{container}")
        await api.close()


def with_nginx_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ingress-nginx's admission webhook, which its chart switches on, refuses a host that another Ingress has."""
    plain = admission.validate

    def validate(storage: Any, resource: Any, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        plain(storage, resource, obj, old)
        if resource.kind != "Ingress":
            return
        taken = {
            (rule["host"], path["path"]): one["metadata"]
            for one in storage.scan(resource, obj["metadata"]["namespace"])
            if one["metadata"]["name"] != obj["metadata"]["name"]
            for rule in one["spec"]["rules"]
            for path in rule["http"]["paths"]
        }
        for rule in obj["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                if (other := taken.get((rule["host"], path["path"]))) is not None:
                    raise bad_request(
                        'admission webhook "validate.nginx.ingress.kubernetes.io" denied the request: host '
                        f'"{rule["host"]}" and path "{path["path"]}" is already defined in ingress '
                        f"{other['namespace']}/{other['name']}"
                    )

    monkeypatch.setattr(admission, "validate", validate)


@pytest.mark.parametrize("own_cluster", [{"ALIAS_CLUSTER_ISSUER": "letsencrypt"}], indirect=True)
async def test_a_preview_with_an_alias_is_taken_over(
    own_cluster: ClusterWorld, standin: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The present provider's Ingress has the alias, ours is `<slug>.aliases`: asked for while that still has it."""
    slug, alias = "moved-alias", "moved.example.org"
    with_nginx_webhook(monkeypatch)
    for body in theirs(own_cluster, slug):
        if body["kind"] == "Ingress":
            (rule,) = body["spec"]["rules"]
            body["spec"]["rules"] = [rule, {**rule, "host": alias}]
        await own_cluster.place.api.create(body)
    done = await own_cluster.deploy(slug, alias_hosts=[alias])
    assert done.url
