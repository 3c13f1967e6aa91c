"""`manifests/`: what kubectl makes of it, a cluster takes, and what the provider does there with no other rights."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from provider.settings import Settings
from tests.cluster.kustomize import BASES, FOLDER, KUBECTL, Object, built, named
from tests.cluster.places import BUILDS, PREVIEWS, stand_in
from tests.cluster.standin.manifests import load_manifests
from tests.cluster.standin.world import World
from tests.cluster.world import cluster_world

PROVIDER = "x1-preview-provider"
HERE = {
    "NATS_URL",
    "NATS_USER",
    "API_URL",
    "API_INTERNAL_TOKEN",
    "GIT_BASE_URL",
    "INSTANCE_NAME",
    "HTTP_ADDRESS",
    "STATE_DIR",
}
"""What the tests have a server or a place of their own for."""
CUSTOM = {"cert-manager.io/v1", "monitoring.coreos.com/v1"}
"""Kinds that others bring: the stand-in does not know them."""


@pytest.mark.parametrize("name", BASES)
async def test_a_cluster_takes_every_object(name: str) -> None:
    known = [body for body in built(name) if body["apiVersion"] not in CUSTOM]
    async with World() as world:
        load_manifests(world.store, known)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", BASES)
async def test_the_provider_works_with_what_is_installed_and_nothing_else(name: str, tmp_path: Path) -> None:
    """Its Roles, the quotas, limits and Pod Security of that overlay, and the settings of its Deployment."""
    objects = [body for body in built(name) if body["apiVersion"] not in CUSTOM]
    told = _environment(objects)
    elsewhere = {key for key in told if key in HERE or key.endswith(("_FILE", "_CERT", "_KEY"))}
    async with stand_in(tmp_path, objects, ingress_class=told.get("INGRESS_CLASS", "nginx")) as place:
        elsewhere |= place.environment().keys() - {"BUILD_NAMESPACE", "PREVIEW_NAMESPACE"}
        own = {key: value for key, value in told.items() if key not in elsewhere}
        if "BUILD_REGISTRY_SECRET" in own:
            await place.api.create(_registry_secret(own["BUILD_REGISTRY_SECRET"]))
        async with cluster_world(place, tmp_path, {**own, "PLATFORM_ID": name.replace("/", "-")}) as world:
            done = await world.deploy("installed")
            assert await world.guest.text(done.url)
            await world.client.teardown("installed")
            await world.nothing_left_but_jobs("installed")


@pytest.mark.parametrize("namespace", [BUILDS, PREVIEWS])
async def test_a_pod_that_says_no_limits_takes_little_of_the_quota(namespace: str, tmp_path: Path) -> None:
    """Where a LimitRange names just the most, that is what such a pod asks for (seen)."""
    pod = {"containers": [{"name": "a", "image": "a"}]}
    async with stand_in(tmp_path, built("base")) as place:
        metadata = {"name": "a", "namespace": namespace}
        made = await place.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
    assert made["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "100m"


@pytest.mark.parametrize("name", BASES)
def test_every_variable_of_the_provider_is_a_setting(name: str) -> None:
    values = _environment(built(name))
    assert {key.lower() for key in values} <= Settings.model_fields.keys()
    assert Settings(**{key.lower(): value for key, value in values.items()}).build_namespace == BUILDS  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BASES)
def test_what_runs_beside_it_is_no_root_and_can_write_nowhere_else(name: str) -> None:
    for pod in _pods(built(name)):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["resources"]["limits"]["memory"]
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            assert tag, f"{container['image']} has no version"
            assert tag != "latest"


def test_the_registry_is_where_the_contract_says() -> None:
    service = named(built("base"), "Service", "x1-registry")
    assert service["spec"]["ports"][0]["port"] == 5000


def test_builds_reach_no_private_address() -> None:
    """But for DNS and the registry, which are named as pods."""
    policy = named(built("base"), "NetworkPolicy", BUILDS)["spec"]
    assert (policy["podSelector"], policy["ingress"], policy["policyTypes"]) == ({}, [], ["Ingress", "Egress"])
    blocks = [one["ipBlock"] for rule in policy["egress"] for one in rule["to"] if "ipBlock" in one]
    for address in ("10.96.0.1", "172.17.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.1", "100.100.100.200"):
        assert not any(_reaches(block, address) for block in blocks), address
    for address in ("fd00::1", "fe80::1", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"):
        assert not any(_reaches(block, address) for block in blocks), address
    assert any(_reaches(block, "140.82.121.4") for block in blocks)
    pods = [one for rule in policy["egress"] for one in rule["to"] if "podSelector" in one]
    assert [one["podSelector"]["matchLabels"] for one in pods] == [
        {"k8s-app": "kube-dns"},
        {"app.kubernetes.io/name": "x1-registry"},
    ]


def test_previews_are_shut_until_a_policy_of_their_own_opens_them() -> None:
    policy = named(built("base"), "NetworkPolicy", PREVIEWS)["spec"]
    assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}


def test_only_builds_the_provider_and_nodes_reach_the_registry() -> None:
    policy = named(built("base"), "NetworkPolicy", "x1-registry")["spec"]
    pods = [one for rule in policy["ingress"] for one in rule["from"] if "ipBlock" not in one]
    assert pods == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": BUILDS}}},
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": PROVIDER}}},
    ]


def test_previews_can_be_restricted(tmp_path: Path) -> None:
    component = FOLDER / "components" / "restricted-previews"
    folder = FOLDER / "overlays" / "nats"
    text = f"resources: ['{_relative(folder, tmp_path)}']\ncomponents: ['{_relative(component, tmp_path)}']\n"
    (tmp_path / "kustomization.yaml").write_text(text)
    done = subprocess.run([KUBECTL, "kustomize", tmp_path], capture_output=True, text=True, check=True)
    assert "POD_SECURITY\n          value: restricted" in done.stdout
    assert "pod-security.kubernetes.io/enforce: restricted" in done.stdout


def test_the_registry_collects_garbage_before_it_serves(tmp_path: Path) -> None:
    """Its start, with Debian's registry: on an empty volume, and on one that has been used."""
    pod = named(built("base"), "Deployment", "x1-registry")["spec"]["template"]["spec"]
    (collector,) = pod["initContainers"]
    root = tmp_path / "data"
    root.mkdir()
    (tmp_path / "config.yml").write_text(f"{{version: '0.1', storage: {{filesystem: {{rootdirectory: {root}}}}}}}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "registry").symlink_to("/usr/bin/docker-registry")
    (script,) = collector["args"]
    script = script.replace("/var/lib/registry", str(root)).replace("/etc/docker/registry", str(tmp_path))
    start = [*collector["command"], script]
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    subprocess.run(start, env=environment, check=True, capture_output=True)
    layer = root / "docker/registry/v2/blobs/sha256/aa" / ("a" * 64) / "data"
    layer.parent.mkdir(parents=True)
    layer.write_bytes(b"nobody's")
    subprocess.run(start, env=environment, check=True, capture_output=True)
    assert not layer.exists()


def test_pods_reach_previews_by_their_public_name() -> None:
    """CoreDNS's rewrite, as its plugin does it: an expression searched for in a name with its closing dot."""
    objects = built("overlays/kind")
    corefile = named(objects, "ConfigMap", "coredns")["data"]["Corefile"]
    ((expression, target),) = re.findall(r"rewrite name regex (\S+) (\S+) answer auto", corefile)
    domain = _environment(objects)["PREVIEW_DOMAIN"]
    assert re.search(expression, f"shop.{domain}.")
    for other in (f"shop.{domain}.evil.test.", f"shop.{domain.replace('.', 'x')}.", "example.com."):
        assert not re.search(expression, other)
    service, namespace, rest = target.split(".", 2)
    assert named(objects, "Service", service)["metadata"]["namespace"] == namespace
    assert rest == "svc.cluster.local"
    assert _environment(objects)["INGRESS_ADDRESS"] == f"{service}.{namespace}.svc:443"


def test_the_wildcard_certificate_is_where_previews_look_for_it() -> None:
    objects = built("overlays/production")
    domain = _environment(objects)["PREVIEW_DOMAIN"]
    certificate, issuer = named(objects, "Certificate", "x1agent-wildcard"), named(objects, "Issuer", "x1-previews")
    assert certificate["metadata"]["namespace"] == issuer["metadata"]["namespace"] == PREVIEWS
    assert certificate["spec"]["secretName"] == Settings().tls_secret_name
    assert certificate["spec"]["dnsNames"] == [f"*.{domain}"]
    assert certificate["spec"]["issuerRef"]["name"] == "x1-previews"
    (solver,) = issuer["spec"]["acme"]["solvers"]
    assert solver["selector"]["dnsZones"] == [domain]
    assert "dns01" in solver, "no other challenge gives wildcards"


def test_aliases_can_be_proven_beside_what_the_base_forbids() -> None:
    """By HTTP-01: a pod labelled so on port 8089, below a Service that is a NodePort unless the issuer says so."""
    objects = built("overlays/production")
    issuer = named(objects, "ClusterIssuer", _environment(objects)["ALIAS_CLUSTER_ISSUER"])
    (solver,) = issuer["spec"]["acme"]["solvers"]
    assert solver["http01"]["ingress"]["serviceType"] == "ClusterIP", "the quota allows no node ports"
    assert named(objects, "ResourceQuota", "x1-previews")["spec"]["hard"]["services.nodeports"] == "0"
    policy = named(objects, "NetworkPolicy", "x1-previews-acme-solver")
    assert policy["metadata"]["namespace"] == PREVIEWS
    assert policy["spec"]["podSelector"]["matchLabels"] == {"acme.cert-manager.io/http01-solver": "true"}
    (rule,) = policy["spec"]["ingress"]
    (source,) = rule["from"]
    labels = source["namespaceSelector"]["matchLabels"]
    assert labels == {"kubernetes.io/metadata.name": Settings().ingress_namespace}
    assert rule["ports"] == [{"protocol": "TCP", "port": 8089}]


# ------------------------------------------------------------------------- parts


def _environment(objects: list[Object]) -> dict[str, str]:
    pod = named(objects, "Deployment", PROVIDER)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return {entry["name"]: str(entry.get("value", "")) for entry in container["env"]}


def _pods(objects: list[Object]) -> list[dict[str, Any]]:
    found = []
    for body in objects:
        spec = body.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template:
            found.append(template["spec"])
    return found


def _reaches(block: dict[str, Any], address: str) -> bool:
    where = ipaddress.ip_address(address)
    inside = [ipaddress.ip_network(block["cidr"]), *map(ipaddress.ip_network, block.get("except", ()))]
    return where in inside[0] and not any(where in one for one in inside[1:])


def _registry_secret(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": BUILDS}
    kind = "kubernetes.io/dockerconfigjson"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": kind,
        "stringData": {".dockerconfigjson": '{"auths": {}}'},
    }


def _relative(target: Path, start: Path) -> str:
    return "/".join([".."] * (len(start.parts) - 1)) + str(target)
