"""A model of the platform's present provider, as it was seen on a real cluster (facts.md): what ours is compared to.

It creates a Job and asks every 2 s whether it is done; creates Deployment, Service and Ingress, or replaces them;
asks every 2 s whether the Deployment is ready. Nine requests where all goes well, each over a TLS connection of its
own. What that one does beside the cluster (credentials, the spec) costs nothing here.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

Object = dict[str, Any]
POLL_SECONDS = 2.0
CONFLICT = 409
JOBS = "/apis/batch/v1/namespaces/{}/jobs"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
SERVICES = "/api/v1/namespaces/{}/services"
INGRESSES = "/apis/networking.k8s.io/v1/namespaces/{}/ingresses"


class Present:
    """Deploys as the present provider does.

    Args:
        kubeconfig: names the server, and whose rights it has.
        previews: the namespace of what serves.
        builds: the namespace of Jobs.

    Attributes:
        requests: how many it has made.
    """

    def __init__(self, *, kubeconfig: Path, previews: str, builds: str) -> None:
        known = yaml.safe_load(kubeconfig.read_text())
        cluster = known["clusters"][0]["cluster"]
        self._url = cluster["server"]
        self._headers = {"Authorization": f"Bearer {known['users'][0]['user']['token']}"}
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._trust = ssl.create_default_context(cadata=authority)
        self._previews, self._builds = previews, builds
        self.requests = 0

    async def deploy(self, slug: str, host: str) -> str:
        """Build and run; the name of the build's Job."""
        job = f"preview-build-{slug}"
        jobs = JOBS.format(self._builds)
        await self._made(await self._ask("POST", jobs, _job(job)))
        await self._until(f"{jobs}/{job}", lambda found: found.get("status", {}).get("succeeded", 0) > 0)
        deployments = DEPLOYMENTS.format(self._previews)
        await self._create_or_replace(deployments, _deployment(slug))
        await self._create_or_replace(SERVICES.format(self._previews), _service(slug))
        await self._create_or_replace(INGRESSES.format(self._previews), _ingress(slug, host))
        await self._until(f"{deployments}/{slug}", lambda found: found.get("status", {}).get("readyReplicas", 0) > 0)
        return job

    async def _until(self, path: str, done: Callable[[Object], bool]) -> None:
        while not done(await self._made(await self._ask("GET", path))):  # noqa: ASYNC110 - polling is what it does
            await asyncio.sleep(POLL_SECONDS)

    async def _create_or_replace(self, collection: str, body: Object) -> None:
        answer = await self._ask("POST", collection, body)
        if answer.status_code == CONFLICT:
            answer = await self._ask("PUT", f"{collection}/{body['metadata']['name']}", body)
        await self._made(answer)

    async def _ask(self, method: str, path: str, body: Object | None = None) -> httpx.Response:
        self.requests += 1
        async with httpx.AsyncClient(verify=self._trust, trust_env=False, headers=self._headers) as http:
            return await http.request(method, self._url + path, json=body)

    async def _made(self, answer: httpx.Response) -> Object:
        answer.raise_for_status()
        return dict(answer.json())


def _job(name: str) -> Object:
    container = {"name": "build", "image": "registry.local/builder:1"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 1, "template": template},
    }


def _deployment(slug: str) -> Object:
    labels = {"app": slug}
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    container = {
        "name": "app",
        "image": f"registry.local/{slug}:1",
        "ports": [{"containerPort": 8080}],
        "readinessProbe": probe,
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": slug, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def _service(slug: str) -> Object:
    spec = {"selector": {"app": slug}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": slug}, "spec": spec}


def _ingress(slug: str, host: str) -> Object:
    backend = {"service": {"name": slug, "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": slug},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": paths}}]},
    }
