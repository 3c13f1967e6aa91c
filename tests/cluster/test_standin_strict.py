"""What is refused, and in which words: unknown and mistyped fields, names, values, and what must not change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cluster.standin.client import Api, config_map, deployment, job, pod, pod_spec, running_api, service
from tests.cluster.standin.quantities import canonical
from tests.cluster.standin.values import Object


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api() as api:
        yield api


def with_container(**more: Any) -> Object:
    made = deployment()
    made["spec"]["template"]["spec"]["containers"][0].update(more)
    return made


def ingress(**spec: Any) -> Object:
    backend = {"service": {"name": "app", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend, **spec.pop("path", {})}
    whole = {"rules": [{"host": "app.test", "http": {"paths": [path]}, **spec.pop("rule", {})}], **spec}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "app"}, "spec": whole}


def policy(**spec: Any) -> Object:
    whole = {"podSelector": {}, **spec}
    metadata = {"name": "app"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": whole}


def secret(**more: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, **more}


def role(**rule: Any) -> Object:
    whole = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], **rule}
    metadata = {"name": "r"}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [whole]}


async def test_unknown_fields_by_the_wanted_strictness(api: Api) -> None:
    body = deployment(foo=1)
    body["spec"]["template"]["spec"]["containers"][0]["bar"] = 1
    refused = await api.create(body, fieldValidation="Strict")
    assert (refused.status_code, refused.json()["reason"]) == (400, "BadRequest")
    assert refused.json()["message"] == (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: '
        'unknown field "spec.template.spec.containers[0].bar", unknown field "spec.foo"'
    )
    warned = await api.create(body)
    assert warned.status_code == 201
    assert '299 - "unknown field \\"spec.foo\\""' in warned.headers.get_list("Warning")
    ignored = await api.create({**body, "metadata": {"name": "other"}}, fieldValidation="Ignore")
    assert (ignored.status_code, "Warning" in ignored.headers) == (201, False)


async def test_a_doubled_field_is_refused_when_strict(api: Api) -> None:
    text = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","name":"b"}}'
    refused = await api.ask("POST", api.path("ConfigMap"), text, fieldValidation="Strict")
    assert 'duplicate field "metadata.name"' in refused.json()["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            deployment(replicas="two"),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            with_container(env=[{"name": "A", "value": 1}]),
            "json: cannot unmarshal number into Go struct field "
            "EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (with_container(resources={"limits": {"cpu": "a lot"}}), "quantities must match the regular expression"),
        (secret(data={"a": "%%%"}), "illegal base64 data at input byte 0"),
    ],
)
async def test_mistyped_fields(api: Api, body: Object, words: str) -> None:
    refused = await api.create(body)
    assert (refused.status_code, refused.json()["reason"]) == (400, "BadRequest")
    assert words in refused.json()["message"]


LONG = "x" * 64
INVALID: list[tuple[Object, str, str, str]] = [
    (config_map("Bad_Name"), "metadata.name", "FieldValueInvalid", "a lowercase RFC 1123 subdomain must consist"),
    (service("a.b"), "metadata.name", "FieldValueInvalid", "must not contain dots"),
    (config_map(metadata={"labels": {"a": LONG}}), "metadata.labels", "FieldValueInvalid", "must be no more than 63"),
    (config_map(metadata={"labels": {LONG: "a"}}), "metadata.labels", "FieldValueInvalid", "name part must be no more"),
    (config_map(metadata={"annotations": {"a b": ""}}), "metadata.annotations", "FieldValueInvalid", "name part must"),
    (config_map(data={"a/b": ""}), "data[a/b]", "FieldValueInvalid", "a valid config key must consist"),
    (deployment(selector={}), "spec.selector", "FieldValueInvalid", "empty selector is invalid for deployment"),
    (
        deployment(selector={"matchLabels": {"app": "other"}}),
        "spec.template.metadata.labels",
        "FieldValueInvalid",
        "`selector` does not match template `labels`",
    ),
    (deployment(replicas=-1), "spec.replicas", "FieldValueInvalid", "must be greater than or equal to 0"),
    (
        deployment(strategy={"type": "Recreate", "rollingUpdate": {}}),
        "spec.strategy.rollingUpdate",
        "FieldValueForbidden",
        "may not be specified when strategy `type` is 'Recreate'",
    ),
    (deployment(strategy={"type": "Fast"}), "spec.strategy", "FieldValueNotSupported", '"Recreate", "RollingU'),
    (
        deployment(template={"metadata": {"labels": {"app": "app"}}, "spec": pod_spec(restartPolicy="Never")}),
        "spec.template.spec.restartPolicy",
        "FieldValueNotSupported",
        'supported values: "Always"',
    ),
    (job(template={"spec": pod_spec()}), "spec.template.spec.restartPolicy", "FieldValueRequired", '"Never"'),
    (job(LONG), "spec.template.labels", "FieldValueInvalid", "must be no more than 63"),
    (job(selector={"matchLabels": {"a": "b"}}), "spec.selector", "FieldValueInvalid", "`selector` not auto-generated"),
    (pod(containers=[]), "spec.containers", "FieldValueRequired", "Required value"),
    (pod(containers=[{"name": "a"}]), "spec.containers[0].image", "FieldValueRequired", "Required value"),
    (pod(dnsPolicy="x"), "spec.dnsPolicy", "FieldValueNotSupported", 'Unsupported value: "x"'),
    (service(ports=[]), "spec.ports", "FieldValueRequired", "Required value"),
    (service(ports=[{"port": 70000}]), "spec.ports[0].port", "FieldValueInvalid", "must be between 1 and 65535"),
    (service(ports=[{"port": 1}, {"port": 2}]), "spec.ports[0].name", "FieldValueRequired", "Required value"),
    (service(type="Public"), "spec.type", "FieldValueNotSupported", '"ClusterIP", "ExternalName"'),
    (ingress(rule={"host": "10.0.0.1"}), "spec.rules[0].host", "FieldValueInvalid", "must be a DNS name"),
    (ingress(path={"pathType": ""}), "spec.rules[0].http.paths[0].pathType", "FieldValueRequired", "must be specified"),
    (ingress(path={"path": "x"}), "spec.rules[0].http.paths[0].path", "FieldValueInvalid", "must be an absolute path"),
    (ingress(rules=[]), "spec", "FieldValueInvalid", "either `defaultBackend` or `rules` must be specified"),
    (policy(policyTypes=["Up"]), "spec.policyTypes[0]", "FieldValueNotSupported", '"Egress", "Ingress"'),
    (
        policy(egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0"}}]}]),
        "spec.egress[0].to[0].ipBlock.cidr",
        "FieldValueInvalid",
        "must be a valid CIDR value",
    ),
    (
        policy(egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}]),
        "spec.egress[0].to[0].ipBlock.except[0]",
        "FieldValueInvalid",
        "must be a strict subset of `cidr`",
    ),
    (secret(type="kubernetes.io/tls"), "data[tls.crt]", "FieldValueRequired", "Required value"),
    (role(verbs=[]), "rules[0].verbs", "FieldValueRequired", "verbs must contain at least one value"),
]
CONTAINERS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"name": "Bad"}, "name", "FieldValueInvalid", "a lowercase RFC 1123 label"),
    ({"imagePullPolicy": "Often"}, "imagePullPolicy", "FieldValueNotSupported", '"Always", "IfNotPresent", "Never"'),
    ({"ports": [{"containerPort": 0}]}, "ports[0].containerPort", "FieldValueRequired", "Required value"),
    ({"ports": [{"containerPort": 80, "name": "x" * 16}]}, "ports[0].name", "FieldValueInvalid", "no more than 15"),
    ({"env": [{"name": "A=B", "value": ""}]}, "env[0].name", "FieldValueInvalid", "printable ASCII characters"),
    ({"env": [{"name": "A", "valueFrom": {}}]}, "env[0].valueFrom", "FieldValueInvalid", "must specify one of"),
    ({"volumeMounts": [{"name": "x", "mountPath": "/x"}]}, "volumeMounts[0].name", "FieldValueNotFound", "Not found"),
    ({"livenessProbe": {}}, "livenessProbe", "FieldValueRequired", "must specify a handler type"),
    (
        {"livenessProbe": {"httpGet": {"port": 80}, "successThreshold": 2}},
        "livenessProbe.successThreshold",
        "FieldValueInvalid",
        "must be 1",
    ),
    (
        {"readinessProbe": {"httpGet": {"port": 80, "scheme": "http"}}},
        "readinessProbe.httpGet.scheme",
        "FieldValueNotSupported",
        '"HTTP", "HTTPS"',
    ),
    (
        {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
        "resources.requests",
        "FieldValueInvalid",
        "must be less than or equal to cpu limit of 1",
    ),
    ({"resources": {"limits": {"disk": "1"}}}, "resources.limits[disk]", "FieldValueInvalid", "standard resource"),
    (
        {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
        "securityContext",
        "FieldValueInvalid",
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "None"}}},
        "securityContext.seccompProfile.type",
        "FieldValueNotSupported",
        '"Localhost", "RuntimeDefault", "Unconfined"',
    ),
]
INVALID += [
    (with_container(**wrong), f"spec.template.spec.containers[0].{field}", reason, words)
    for wrong, field, reason, words in CONTAINERS
]


@pytest.mark.parametrize(("body", "field", "reason", "words"), INVALID, ids=[f"{row[1]}" for row in INVALID])
async def test_invalid_objects_name_the_field(api: Api, body: Object, field: str, reason: str, words: str) -> None:
    refused = await api.create(body)
    status = refused.json()
    assert (refused.status_code, status["reason"]) == (422, "Invalid"), status
    causes = [cause for cause in status["details"]["causes"] if cause["field"] == field and cause["reason"] == reason]
    assert any(words in cause["message"] for cause in causes), status
    assert f"{field}: " in status["message"]


FIXED: list[tuple[Object, dict[str, Any], str, str]] = [
    (deployment(), {"selector": {"matchLabels": {"app": "b"}}}, "spec.selector", "field is immutable"),
    (job(), {"completions": 2}, "spec.completions", "field is immutable"),
    (service(), {"clusterIP": "10.0.0.99", "clusterIPs": ["10.0.0.99"]}, "spec.clusterIPs[0]", "may not change"),
    (pod(automountServiceAccountToken=False), {"hostname": "b"}, "spec", "pod updates may not change fields"),
]


@pytest.mark.parametrize(("body", "change", "field", "words"), FIXED, ids=[row[2] for row in FIXED])
async def test_what_must_not_change(api: Api, body: Object, change: dict[str, Any], field: str, words: str) -> None:
    path = api.path(body["kind"], body["metadata"]["name"])
    assert (await api.create(body)).status_code == 201
    refused = await api.ask("PATCH", path, {"spec": change}, content_type="application/merge-patch+json")
    assert refused.status_code == 422
    causes = {cause["field"]: cause["message"] for cause in refused.json()["details"]["causes"]}
    assert words in causes[field]


async def test_a_changed_job_template_is_refused_by_apply_too(api: Api) -> None:
    await api.apply(job())
    changed = job()
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    refused = await api.apply(changed)
    assert refused.status_code == 422
    assert refused.json()["details"]["causes"][0]["field"] == "spec.template"


async def test_what_is_immutable_stays(api: Api) -> None:
    made = (await api.create(secret(stringData={"a": "b"}, immutable=True))).json()
    refused = await api.replace({**made, "data": {"a": "Yw=="}})
    told = "Forbidden: field is immutable when `immutable` is set"
    assert refused.json()["details"]["causes"] == [{"reason": "FieldValueForbidden", "message": told, "field": "data"}]
    loosened = {key: value for key, value in made.items() if key != "immutable"}
    assert (await api.replace(loosened)).json()["details"]["causes"][0]["field"] == "immutable"
    labelled = {**made, "metadata": {**made["metadata"], "labels": {"a": "b"}}}
    assert (await api.replace(labelled)).status_code == 200


async def test_the_object_must_be_the_one_in_the_path(api: Api) -> None:
    made = (await api.create(config_map("a"))).json()
    other = await api.ask("PUT", api.path("ConfigMap", "b"), made)
    assert other.json()["message"] == "the name of the object (a) does not match the name on the URL (b)"
    elsewhere = await api.ask("POST", api.path("ConfigMap", namespace="kube-public"), made)
    assert "does not match the namespace sent on the request" in elsewhere.json()["message"]
    wrong_kind = await api.ask("POST", api.path("Deployment"), {**deployment(), "kind": "Nothing"})
    assert 'no kind "Nothing" is registered for version "apps/v1"' in wrong_kind.json()["message"]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        *[("1000m", "1"), ("0.5", "500m"), ("1024Ki", "1Mi"), ("1.5Gi", "1536Mi"), ("1e3", "1e3")],
        *[("0", "0"), ("100M", "100M"), ("1000Ki", "1000Ki"), ("0.1Gi", "107374182400m"), ("500", "500")],
    ],
)
def test_quantities_have_one_form(written: str, kept: str) -> None:
    assert canonical(written) == kept
