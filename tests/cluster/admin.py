"""The tests' own way to the API server: raw calls with an administrator's rights, whatever the server is."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

Object = dict[str, Any]

PATHS = {
    "Namespace": "/api/v1/namespaces",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Event": "/api/v1/namespaces/{}/events",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Ingress": "/apis/networking.k8s.io/v1/namespaces/{}/ingresses",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}


class Refusal(Exception):
    """The server's own no."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code


class Admin:
    """Raw calls; plain objects in and out."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def call(self, method: str, path: str, body: object = None, *, content: str = "application/json") -> Object:
        """One request; raises `Refusal` for an answer of 400 and above."""
        headers = {"Accept": "application/json", "Content-Type": content}
        method, url, headers, body, _ = await self._client.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        response = await self._client.call_api(method, url, headers, body, _request_timeout=15)
        answer = json.loads(await response.read() or b"{}")
        if response.status >= 400:
            raise Refusal(response.status, str(answer.get("message")))
        return dict(answer)

    async def create(self, body: Mapping[str, Any]) -> Object:
        """Make an object; its namespace stands in it."""
        namespace = body["metadata"].get("namespace", "")
        return await self.call("POST", PATHS[body["kind"]].format(namespace), dict(body))

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        try:
            return await self.call("GET", f"{PATHS[kind].format(namespace)}/{name}")
        except Refusal as refusal:
            if refusal.code == 404:
                return None
            raise

    async def list(self, kind: str, namespace: str) -> list[Object]:
        """Every object of that kind in the namespace."""
        return list((await self.call("GET", PATHS[kind].format(namespace)))["items"] or [])

    async def names(self, kind: str, namespace: str) -> set[str]:
        """Their names."""
        return {str(found["metadata"]["name"]) for found in await self.list(kind, namespace)}

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object; one that is gone is well."""
        try:
            await self.call("DELETE", f"{PATHS[kind].format(namespace)}/{name}")
        except Refusal as refusal:
            if refusal.code != 404:
                raise

    async def edit(self, kind: str, namespace: str, name: str, patch: object) -> Object:
        """Merge patch, as `kubectl patch --type=merge` does."""
        path = f"{PATHS[kind].format(namespace)}/{name}"
        return await self.call("PATCH", path, patch, content="application/merge-patch+json")


@asynccontextmanager
async def admin(kubeconfig: Path) -> AsyncIterator[Admin]:
    """An administrator by that kubeconfig."""
    configuration = Configuration()
    await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield Admin(client)


async def service_account_kubeconfig(api: Admin, base: Path, namespace: str, name: str, into: Path) -> Path:
    """A kubeconfig for a service account's own token (TokenRequest), at the server of `base`."""
    path = f"{PATHS['ServiceAccount'].format(namespace)}/{name}/token"
    spec = {"expirationSeconds": 7200}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    token = (await api.call("POST", path, request))["status"]["token"]
    config = yaml.safe_load(base.read_text())
    cluster = config["clusters"][0]["cluster"]
    if "certificate-authority" in cluster:
        authority = (base.parent / cluster.pop("certificate-authority")).read_bytes()
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    config["users"] = [{"name": name, "user": {"token": token}}]
    config["contexts"] = [{"name": "test", "context": {"cluster": config["clusters"][0]["name"], "user": name}}]
    config["current-context"] = "test"
    into.write_text(yaml.safe_dump(config))
    into.chmod(0o600)
    return into
