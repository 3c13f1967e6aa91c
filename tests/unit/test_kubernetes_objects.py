"""Every object as it is applied: taken by the client's own strict models, and walled in."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio import client
from pydantic import BaseModel, ValidationError

from provider.models import Revision
from provider.platforms.kubernetes import kaniko
from provider.platforms.kubernetes.objects import CHECKSUM, is_applied, mark_of, objects, over_present, owned
from provider.settings import Settings
from tests.unit import test_kaniko_job as builds
from tests.unit.test_render import LONGEST, bundle, make_spec, manifests, options, release

MODELS: dict[str, type[BaseModel]] = {
    "ConfigMap": client.V1ConfigMap,
    "Deployment": client.V1Deployment,
    "Ingress": client.V1Ingress,
    "Job": client.V1Job,
    "NetworkPolicy": client.V1NetworkPolicy,
    "Secret": client.V1Secret,
    "Service": client.V1Service,
}
NETWORK = Path(__file__).resolve().parents[2] / "manifests" / "base" / "network.yaml"
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "my-app.anchor", "uid": "u1"}
VOLUMES = [
    {"name": "data", "kind": "emptyDir", "mountPath": "/data", "sizeLimit": "1Gi"},
    {"name": "fast", "kind": "tmpfs", "mountPath": "/fast"},
]
ENV = [{"name": "TOKEN", "from": "secret:TOKEN"}, {"name": "SELF", "from": "preview.self_url"}]

EVERYTHING: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {}, {}),
    ({"slug": LONGEST}, {}, {}),
    ({"env": ENV, "volumes": VOLUMES}, {"bundle": bundle("TOKEN", "env.EXTRA")}, {}),
    ({"runtime": {"path": "/app"}, "ingress": {"additionalHeaders": {"X-One": "1"}}}, {}, {}),
    ({"runtime": {"protocol": "http2"}}, {}, {"ingress_controller": "traefik"}),
    (
        {"resources": {"limits": {"cpu": 2, "memory": "2Gi"}}},
        {},
        {"read_only_root": True, "pod_security": "restricted"},
    ),
    ({}, {"alias_hosts": ("a.example.com", "b.example.com")}, {"alias_cluster_issuer": "letsencrypt"}),
    ({}, {"commit_sha": "1234567890" * 4, "branch": "feature/1e3"}, {"platform_id": "yes"}),
]


def revision(made: Any) -> Revision:
    return Revision(
        generation=3, deploy_id="d-1", commit_sha="0" * 40, branch="main", image="i", digest="sha256:" + "0" * 64,
        inputs="x", manifests=made, made_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def applied(settings: Settings, parts: dict[str, Any] | None = None, fields: dict[str, Any] | None = None) -> list[Any]:
    """The objects as they go over the wire."""
    shown = {name: getattr(settings, name) for name in settings.model_fields_set}
    made = manifests(make_spec(**(parts or {})), release(**(fields or {})), **shown)
    return [owned(body, OWNER, 3, "1") for _, body in objects(revision(made), settings)]


def check(body: Any) -> None:
    """Unknown, missing and mistyped fields are errors of the models."""
    MODELS[body["kind"]].model_validate(body)


@pytest.mark.parametrize(("parts", "fields", "settings"), EVERYTHING)
def test_the_clients_models_take_it(parts: dict[str, Any], fields: dict[str, Any], settings: dict[str, Any]) -> None:
    for body in applied(options(**settings), parts, fields):
        check(body)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"git_base_url": "http://git:3000"},
        {
            "build_node_selector": {"pool": "builds"},
            "build_tolerations": ({"key": "builds", "operator": "Exists"},),
            "build_runtime_class": "gvisor",
            "build_service_account": "builder",
        },
    ],
)
def test_they_take_the_build(settings: dict[str, Any]) -> None:
    check(builds.job(options(**settings)))
    check(kaniko.clone_secret(builds.plan(), options(), "x-access-token", "t"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec.update(replica=1),
        lambda spec: spec.pop("selector"),
        lambda spec: spec.update(replicas="one"),
        lambda spec: spec["template"]["spec"]["containers"][0].update(imagePullPolice="Always"),
    ],
)
def test_they_would_refuse_a_mistake(spoil: Any) -> None:
    (body,) = [one for one in applied(options()) if one["kind"] == "Deployment"]
    spoil(body["spec"])
    with pytest.raises(ValidationError):
        check(body)


def test_walls_come_before_the_app_and_the_app_before_its_traffic() -> None:
    parts = {"ingress": {"additionalHeaders": {"X-One": "1"}}}
    kinds = [body["kind"] for body in applied(options(), parts)]
    assert kinds == ["ConfigMap", "NetworkPolicy", "Deployment", "Service", "Ingress"]


def test_each_is_the_anchors_and_says_what_it_was_made_from() -> None:
    settings = options()
    wanted = revision(manifests())
    for _, body in objects(wanted, settings):
        one = owned(body, OWNER, 3, "77")
        assert one["metadata"]["ownerReferences"] == [OWNER]
        assert one["metadata"]["resourceVersion"] == "77"
        assert is_applied(one, mark_of(wanted), 3)
        assert not is_applied(one, mark_of(wanted), 4)
        assert not is_applied(one, mark_of(revision(manifests(a_release=release(branch="other")))), 3)
        assert "resourceVersion" not in body["metadata"], "what was rendered stays as it is"


def test_the_checksum_is_of_what_the_record_keeps() -> None:
    """A changed setting of the ingress alone rolls nothing and is not taken for another revision."""
    nginx, plain = (applied(options(ingress_controller=kind)) for kind in ("nginx", "plain"))
    assert {one["metadata"]["annotations"][CHECKSUM] for one in (*nginx, *plain)} == {
        nginx[0]["metadata"]["annotations"][CHECKSUM]
    }


def test_nothing_that_was_never_applied_is() -> None:
    assert not is_applied(None, mark_of(revision(manifests())), 3)
    assert not is_applied({"metadata": {}}, mark_of(revision(manifests())), 3)


@pytest.mark.parametrize("name", ["http", "web", None])
def test_a_services_port_keeps_its_name(name: str | None) -> None:
    (service,) = [one for one in applied(options()) if one["kind"] == "Service"]
    named = {} if name is None else {"name": name}
    present = {"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 3000, **named}]}}
    (port,) = over_present(service, present)["spec"]["ports"]
    assert port.get("name") == name
    assert port["targetPort"] == 3000


@pytest.mark.parametrize("before", [8080, "http"])
def test_a_service_that_leads_to_another_port_leads_by_name(before: int | str) -> None:
    """Each pod gives its own port that name, so old and new ones are both reached."""
    (service,) = [one for one in applied(options()) if one["kind"] == "Service"]
    (port,) = over_present(service, {"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": before}]}})[
        "spec"
    ]["ports"]
    (deployment,) = [one for one in applied(options()) if one["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert port["targetPort"] == container["ports"][0]["name"]


def test_a_port_that_it_has_not_yet_is_named_as_rendered() -> None:
    (service,) = [one for one in applied(options()) if one["kind"] == "Service"]
    assert over_present(service, {"spec": {"ports": [{"port": 81, "protocol": "TCP"}]}}) == service


# --------------------------------------------------------------------------- the walls


def policy(settings: Settings | None = None) -> Any:
    (found,) = [one for one in applied(settings or options()) if one["kind"] == "NetworkPolicy"]
    return found["spec"]


def reaches(address: str, settings: Settings | None = None) -> bool:
    """Whether a preview may open a connection there."""
    at = ipaddress.ip_address(address)
    inside = [block for block in blocks(policy(settings or options())) if at in ipaddress.ip_network(block["cidr"])]
    return any(not any(at in ipaddress.ip_network(one) for one in block.get("except", ())) for block in inside)


@pytest.mark.parametrize("address", ["2600:1f14::7", "203.0.113.9"])
def test_networks_of_ones_own_are_reached_no_more(address: str) -> None:
    """On some clusters nodes and pods have public addresses."""
    private = options(private_networks=["2600:1f14::/35", "203.0.113.0/24", "fd12::/16"])
    assert reaches(address)
    assert not reaches(address, private)
    assert reaches("2606:4700::1111", private)


def blocks(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The addresses that a policy lets out to."""
    return [to["ipBlock"] for rule in spec["egress"] for to in rule["to"] if "ipBlock" in to]


def test_the_policy_is_for_the_previews_pods_alone_and_both_ways() -> None:
    assert policy()["podSelector"] == {"matchLabels": {"app": "my-app"}}
    assert policy()["policyTypes"] == ["Ingress", "Egress"]


def test_only_the_ingress_gets_in_and_only_to_the_app() -> None:
    (rule,) = policy(options(ingress_namespace="edge"))["ingress"]
    (source,) = rule["from"]
    assert source == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}}
    assert rule["ports"] == [{"protocol": "TCP", "port": 3000}, {"protocol": "TCP", "port": "http"}]


@pytest.mark.parametrize("address", ["1.1.1.1", "140.82.112.3", "2606:4700::1111"])
def test_the_public_internet_is_reached(address: str) -> None:
    assert reaches(address)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "169.254.169.254", "127.0.0.1",
     "0.0.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "255.255.255.255",
     "fd00::1", "fe80::1", "64:ff9b::a00:1", "::1", "::ffff:10.0.0.1"],
)  # fmt: skip
def test_nothing_private_is(address: str) -> None:
    assert not reaches(address)


def test_what_is_public_is_so_to_builds_and_previews_alike() -> None:
    found = {one["metadata"]["name"]: one["spec"] for one in yaml.safe_load_all(NETWORK.read_text())}
    assert blocks(policy()) == blocks(found["x1-builds"])


def test_names_are_asked_for_in_the_cluster() -> None:
    (rule,) = [one for one in policy()["egress"] if "ports" in one]
    assert rule["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]
    assert [(port["protocol"], port["port"]) for port in rule["ports"]] == [("UDP", 53), ("TCP", 53)]
