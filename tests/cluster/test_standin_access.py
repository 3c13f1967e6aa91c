"""Who may do what: tokens, RBAC, questions about it, and what a namespace allows its pods."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cluster.standin.client import APPLY, Api, config_map, deployment, pod, running_api
from tests.cluster.standin.metrics import Permission
from tests.cluster.standin.status import ApiError
from tests.cluster.standin.values import Object

PROVIDER = "system:serviceaccount:default:provider"
RBAC = "rbac.authorization.k8s.io/v1"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api() as api:
        yield api


async def allow(api: Api, *rules: Object) -> str:
    """A token of the provider's account, which these rules apply to."""
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    subject = {"kind": "ServiceAccount", "name": "provider", "namespace": "default"}
    metadata = {"name": "r"}
    await api.create({"apiVersion": RBAC, "kind": "Role", "metadata": metadata, "rules": list(rules)})
    binding = {"apiVersion": RBAC, "kind": "RoleBinding", "metadata": metadata, "roleRef": reference}
    await api.create({**binding, "subjects": [subject]})
    return api.server.token(PROVIDER)


def rule(resource: str, *verbs: str, group: str = "", **more: Any) -> Object:
    return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs), **more}


async def test_only_what_a_role_allows(api: Api) -> None:
    token = await allow(api, rule("deployments", "get", group="apps"))
    await api.create(deployment())
    assert (await api.get("Deployment", "app", token=token)).status_code == 200
    refused = await api.ask("PATCH", api.path("Deployment", "app"), {}, content_type=APPLY, token=token)
    assert (refused.status_code, refused.json()["reason"]) == (403, "Forbidden")
    assert refused.json()["message"] == (
        'deployments.apps "app" is forbidden: User "system:serviceaccount:default:provider" cannot patch resource '
        '"deployments" in API group "apps" in the namespace "default"'
    )
    listed = await api.ask("GET", "/api/v1/nodes", token=token)
    told = 'cannot list resource "nodes" in API group "" at the cluster scope'
    assert listed.json()["message"] == f'nodes is forbidden: User "{PROVIDER}" {told}'
    assert (await api.get("Deployment", "app", namespace="kube-public", token=token)).status_code == 403


async def test_rules_for_single_names_and_subresources(api: Api) -> None:
    token = await allow(api, rule("configmaps", "get", "list", resourceNames=["mine"]), rule("pods/log", "get"))
    await api.create(config_map("mine"))
    assert (await api.get("ConfigMap", "mine", token=token)).status_code == 200
    assert (await api.get("ConfigMap", "other", token=token)).status_code == 403
    assert (await api.get("ConfigMap", token=token)).status_code == 403
    assert (await api.get("ConfigMap", token=token, fieldSelector="metadata.name=mine")).status_code == 200
    assert (await api.ask("GET", f"{api.path('Pod', 'app')}/log", token=token)).status_code == 404
    assert (await api.get("Pod", "app", token=token)).status_code == 403


async def test_an_apply_that_creates_needs_the_permission_to_create(api: Api) -> None:
    token = await allow(api, rule("configmaps", "patch"))
    refused = await api.apply(config_map(), token=token)
    assert 'cannot create resource "configmaps"' in refused.json()["message"]
    await api.apply(config_map())
    assert (await api.apply(config_map(), token=token)).status_code == 200


async def test_tokens(api: Api) -> None:
    unknown = await api.get("ConfigMap", token="x")
    assert (unknown.status_code, unknown.json()["reason"]) == (401, "Unauthorized")
    nobody = await api.client.get(api.path("ConfigMap"))
    assert nobody.status_code == 403
    assert 'User "system:anonymous" cannot list resource' in nobody.json()["message"]


async def test_a_user_may_ask_what_it_may_do(api: Api) -> None:
    token = await allow(api, rule("pods", "get"))
    answers = []
    for verb in ("get", "delete"):
        attributes = {"namespace": "default", "verb": verb, "resource": "pods"}
        body = {"spec": {"resourceAttributes": attributes}}
        path = api.path("SelfSubjectAccessReview")
        answer = await api.ask("POST", path, body, token=token)
        answers.append((answer.status_code, answer.json()["status"]["allowed"]))
    assert answers == [(201, True), (201, False)]


async def test_permissions_that_were_used_are_known(api: Api) -> None:
    token = await allow(api, rule("configmaps", "list"))
    await api.get("ConfigMap", token=token)
    await api.get("Pod", token=token)
    used = {permission for permission in api.server.metrics.used if permission.user == PROVIDER}
    assert used == {Permission(PROVIDER, "list", "", "configmaps", "default")}
    assert api.server.metrics.total(PROVIDER) == 2


async def levelled(api: Api, level: str) -> None:
    labels = {"labels": {"pod-security.kubernetes.io/enforce": level}}
    await api.ask(
        "PATCH", "/api/v1/namespaces/default", {"metadata": labels}, content_type="application/merge-patch+json"
    )


async def test_a_pod_below_its_namespaces_level_is_refused(api: Api) -> None:
    await levelled(api, "restricted")
    refused = await api.create(pod())
    assert refused.status_code == 403
    assert refused.json()["message"] == (
        'pods "app" is forbidden: violates PodSecurity "restricted:latest": '
        'allowPrivilegeEscalation != false (container "app" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "app" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "app" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "app" must set securityContext.seccompProfile.type to "RuntimeDefault" '
        'or "Localhost")'
    )
    assert (await api.create(deployment())).status_code == 201  # only its pods are judged


async def test_what_a_builder_needs_fits_baseline(api: Api) -> None:
    await levelled(api, "baseline")
    needed = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"], "add": needed}}
    builder = pod("builder")
    builder["spec"]["containers"][0]["securityContext"] = context
    assert (await api.create(builder)).status_code == 201
    open_port = pod(
        "port", securityContext={"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]}
    )
    assert (await api.create(open_port)).status_code == 201
    refused = await api.create(pod("host", hostNetwork=True, volumes=[{"name": "v", "hostPath": {"path": "/"}}]))
    told = 'violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true), hostPath volumes (volume "v")'
    assert refused.json()["message"] == f'pods "host" is forbidden: {told}'


async def test_quotas(api: Api) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}}
    await api.create({**quota, "spec": {"hard": {"requests.cpu": "1", "pods": "5"}}})
    unsaid = await api.create(pod())
    assert "failed quota: small: must specify requests.cpu for: app" in unsaid.json()["message"]
    first = pod("first")
    first["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "600m"}}
    assert (await api.create(first)).status_code == 201
    first["metadata"]["name"] = "second"
    refused = await api.create(first)
    told = "exceeded quota: small, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1"
    assert (refused.status_code, refused.json()["message"]) == (403, f'pods "second" is forbidden: {told}')


async def test_limit_ranges_give_defaults_and_bounds(api: Api) -> None:
    limits = [{"type": "Container", "default": {"cpu": "100m"}, "max": {"cpu": "1"}}]
    metadata = {"name": "bounds"}
    await api.create({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}})
    made = (await api.create(pod())).json()
    assert made["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "100m"}, "requests": {"cpu": "100m"}}
    large = pod("large")
    large["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "2"}}
    assert "maximum cpu usage per Container is 1, but limit is 2" in (await api.create(large)).json()["message"]


async def test_a_pod_needs_its_service_account(api: Api) -> None:
    refused = await api.create(pod(serviceAccountName="ghost"))
    told = 'error looking up service account default/ghost: serviceaccount "ghost" not found'
    assert refused.json()["message"] == f'pods "app" is forbidden: {told}'


async def test_controllers_meet_the_same_rules(api: Api) -> None:
    await levelled(api, "baseline")
    body = pod(hostPID=True)
    body["metadata"]["namespace"] = "default"
    with pytest.raises(ApiError, match="host namespaces") as refused:
        api.store.create(body, manager="kube-controller-manager")
    assert refused.value.code == 403
