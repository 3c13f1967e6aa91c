"""Rendered objects: what they say, that equal inputs give equal objects, and that nothing can be injected."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from provider import render, spec, templates
from provider.errors import Code, Permanent
from provider.models import Bundle
from provider.settings import Settings

SHA = "0123456789abcdef0123456789abcdef01234567"
IMAGE = "x1-registry:5000/previews/my-app@sha256:" + "0" * 64
HOST = "my-app.preview.local.x1agent.dev"
LONGEST = "a" + "b" * 62
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")


def make_spec(slug: str = "my-app", **parts: Any) -> spec.Spec:
    data: dict[str, Any] = yaml.safe_load(spec.SMALLEST_SPEC)
    data["metadata"]["name"] = slug
    for name, value in parts.items():
        at = data["spec"].get(name)
        data["spec"][name] = {**at, **value} if isinstance(at, dict) else value
    return spec.load(yaml.safe_dump(data), strict=True).spec


def release(**changes: Any) -> render.Release:
    fields = {"repo_full_name": "acme/shop", "branch": "main", "commit_sha": SHA, "image": IMAGE}
    return render.Release(**{**fields, **changes})


def options(**changes: Any) -> Settings:
    return Settings(_env_file=None, **changes)


def bundle(*keys: str, checksum: str = "c1") -> Bundle:
    return Bundle(name="preview-secrets-my-app-g1", checksum=checksum, keys=keys)


def manifests(a_spec: spec.Spec | None = None, a_release: render.Release | None = None, **changes: Any) -> Any:
    return render.render(a_spec or make_spec(), a_release or release(), options(**changes))


def pod(deployment: Any) -> Any:
    return deployment["spec"]["template"]["spec"]


def container(deployment: Any) -> Any:
    return pod(deployment)["containers"][0]


def env_of(deployment: Any) -> list[Any]:
    variables = container(deployment)["env"]
    assert isinstance(variables, list)
    return variables


def reference(key: str) -> dict[str, Any]:
    return {"valueFrom": {"secretKeyRef": {"name": "preview-secrets-my-app-g1", "key": key}}}


# ------------------------------------------------------------------------------- identity


def test_names_labels_and_annotations() -> None:
    deployment, service, ingress = manifests()
    assert [made["kind"] for made in (deployment, service, ingress)] == ["Deployment", "Service", "Ingress"]
    for made in (deployment, service, ingress):
        assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("my-app", "x1-previews")
        labels = made["metadata"]["labels"]
        assert (labels["app"], labels["x1-preview"], labels["x1-component"]) == ("my-app", "true", "preview-app")
        assert labels["app.kubernetes.io/managed-by"] == "x1-preview-provider"
        assert labels["preview.x1agent.io/platform-id"] == "preview.local.x1agent.dev"
        annotations = made["metadata"]["annotations"]
        assert annotations["preview.x1agent.io/repo"] == "acme/shop"
        assert annotations["preview.x1agent.io/branch"] == "main"
        assert annotations["preview.x1agent.io/commit-sha"] == SHA
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": "my-app"}}
    assert service["spec"]["selector"] == {"app": "my-app"}
    assert deployment["spec"]["template"]["metadata"]["labels"] == deployment["metadata"]["labels"]


def test_the_longest_slug_fits_everywhere() -> None:
    made = manifests(make_spec(LONGEST), platform_id="p" * 200)
    for one in made:
        assert one["metadata"]["name"] == LONGEST
        assert all(LABEL_VALUE.fullmatch(value) for value in one["metadata"]["labels"].values())


@settings(max_examples=80)
@given(st.lists(st.text(max_size=80), min_size=2, max_size=4, unique=True))
def test_label_values_are_valid_and_unique(texts: list[str]) -> None:
    values = [render.label_value(text) for text in texts]
    assert all(LABEL_VALUE.fullmatch(value) for value in values)
    assert len(set(values)) == len(values)


def test_equal_inputs_give_equal_objects_and_checksums() -> None:
    one, other = manifests(), manifests()
    assert one == other
    assert render.checksum(one) == render.checksum(json.loads(json.dumps(other, sort_keys=True)))
    assert render.checksum(one) != render.checksum(manifests(a_release=release(image=IMAGE[:-1] + "1")))


def test_pods_roll_for_a_commit_or_a_secret_and_for_nothing_else() -> None:
    def template(**changes: Any) -> Any:
        return manifests(a_release=release(**{"bundle": bundle("A"), **changes}))[0]["spec"]["template"]

    assert template()["metadata"]["annotations"] == {
        "preview.x1agent.io/commit-sha": SHA,
        "preview.x1agent.io/secrets-checksum": "c1",
    }
    assert template(branch="other", alias_hosts=("www.example.com",)) == template()
    assert template(commit_sha="f" * 40) != template()
    assert template(bundle=bundle("A", checksum="c2")) != template()


# ------------------------------------------------------------------------------- workload


def test_the_deployment_rolls_without_a_gap() -> None:
    deployment = manifests(rollout_timeout=90.5)[0]["spec"]
    assert (deployment["replicas"], deployment["revisionHistoryLimit"]) == (1, 2)
    assert deployment["progressDeadlineSeconds"] == 91
    assert deployment["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] == 10


def test_hardening() -> None:
    deployment = manifests()[0]
    assert pod(deployment)["automountServiceAccountToken"] is False
    assert pod(deployment)["securityContext"] == {
        "seccompProfile": {"type": "RuntimeDefault"},
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
    }
    assert container(deployment)["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(pod(deployment))


def test_hardening_by_settings() -> None:
    deployment = manifests(pod_security="restricted", read_only_root=True)[0]
    assert pod(deployment)["securityContext"]["runAsNonRoot"] is True
    assert container(deployment)["securityContext"]["readOnlyRootFilesystem"] is True


def test_image_and_port() -> None:
    deployment, service, _ = manifests(make_spec(runtime={"port": 8080}))
    assert container(deployment)["image"] == IMAGE
    assert container(deployment)["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"], port["appProtocol"]) == (80, 8080, "http")


def test_resources_are_strings_with_disk() -> None:
    resources = {"requests": {"cpu": 2}, "limits": {"memory": "256Mi"}, "ephemeralStorage": "1Gi"}
    assert container(manifests(make_spec(resources=resources))[0])["resources"] == {
        "requests": {"cpu": "2", "memory": "256Mi", "ephemeral-storage": "1Gi"},
        "limits": {"cpu": "2", "memory": "256Mi", "ephemeral-storage": "1Gi"},
    }


def test_volumes() -> None:
    volumes = [
        {"name": "a", "kind": "emptyDir", "mountPath": "/a"},
        {"name": "b", "kind": "tmpfs", "mountPath": "/b", "sizeLimit": "64Mi"},
    ]
    deployment = manifests(make_spec(volumes=volumes))[0]
    assert pod(deployment)["volumes"] == [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
    ]
    assert container(deployment)["volumeMounts"] == [
        {"name": "a", "mountPath": "/a"},
        {"name": "b", "mountPath": "/b"},
    ]


def probes(**healthcheck: Any) -> Any:
    return container(manifests(make_spec(runtime={"healthcheck": healthcheck}))[0])


def test_a_given_delay_is_honoured() -> None:
    made = probes(path="/healthz", initialDelaySeconds=7, periodSeconds=4, timeoutSeconds=2, failureThreshold=5)
    get = {"path": "/healthz", "port": 3000, "scheme": "HTTP"}
    common = {"httpGet": get, "timeoutSeconds": 2, "failureThreshold": 5}
    assert made["readinessProbe"] == {**common, "initialDelaySeconds": 7, "periodSeconds": 4}
    assert made["livenessProbe"] == {**common, "initialDelaySeconds": 14, "periodSeconds": 12}
    assert "startupProbe" not in made


def test_a_startup_probe_takes_the_place_of_a_delay_that_is_left_out() -> None:
    made = probes()
    assert made["startupProbe"]["periodSeconds"] == 1
    assert made["startupProbe"]["failureThreshold"] == 2 * 15 + 3 * 10 * 3
    for name in ("readinessProbe", "livenessProbe"):
        assert "initialDelaySeconds" not in made[name]
    assert (made["readinessProbe"]["periodSeconds"], made["livenessProbe"]["periodSeconds"]) == (10, 30)


def test_the_startup_budget_is_bounded() -> None:
    assert probes(periodSeconds=3600, failureThreshold=1000)["startupProbe"]["failureThreshold"] == 600


def test_http2_is_probed_by_its_port() -> None:
    deployment, service, ingress = manifests(make_spec(runtime={"protocol": "http2"}))
    assert container(deployment)["readinessProbe"]["tcpSocket"] == {"port": 3000}
    assert service["spec"]["ports"][0]["appProtocol"] == "kubernetes.io/h2c"
    assert ingress["metadata"]["annotations"]["preview.x1agent.io/backend-protocol"] == "http2"


# ------------------------------------------------------------------------------ environment

ENV = [
    {"name": "LITERAL", "value": 3000},
    {"name": "TOKEN", "from": "secret:API_TOKEN"},
    {"name": "SELF", "from": "preview.self_url"},
    {"name": "SHARE", "from": "preview.share_base_url"},
]


def test_env_is_in_the_order_of_the_spec() -> None:
    deployment = manifests(
        make_spec(env=ENV), release(bundle=bundle("API_TOKEN")), public_port=8443, share_base_url="https://s.test/"
    )[0]
    assert env_of(deployment) == [
        {"name": "LITERAL", "value": "3000"},
        {"name": "TOKEN", **reference("API_TOKEN")},
        {"name": "SELF", "value": f"https://{HOST}:8443"},
        {"name": "SHARE", "value": "https://s.test"},
    ]


@pytest.mark.parametrize("a_bundle", [None, bundle("OTHER")])
def test_a_secret_that_nobody_sent_is_empty(a_bundle: Bundle | None) -> None:
    deployment = manifests(make_spec(env=ENV), release(bundle=a_bundle))[0]
    assert env_of(deployment)[1] == {"name": "TOKEN", "value": ""}


def test_extra_env_wins_and_comes_last_where_the_spec_has_no_entry() -> None:
    keys = ("env.Z", "env.TOKEN", "env.LITERAL", "env.B", "API_TOKEN")
    deployment = manifests(make_spec(env=ENV), release(bundle=bundle(*keys)))[0]
    assert env_of(deployment)[:2] == [
        {"name": "LITERAL", **reference("env.LITERAL")},
        {"name": "TOKEN", **reference("env.TOKEN")},
    ]
    assert env_of(deployment)[4:] == [{"name": "B", **reference("env.B")}, {"name": "Z", **reference("env.Z")}]


def test_no_port_is_injected() -> None:
    assert env_of(manifests()[0]) == []


# ----------------------------------------------------------------------------------- traffic


def test_the_ingress_of_the_slug_and_of_aliases() -> None:
    aliases = ("www.example.com", HOST, "www.example.com", "b.example.com")
    ingress = manifests(a_release=release(alias_hosts=aliases), ingress_class="traefik", tls_secret_name="wild")[2]
    assert ingress["spec"]["ingressClassName"] == "traefik"
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [HOST, "www.example.com", "b.example.com"]
    tls = ingress["spec"]["tls"]
    assert tls[0] == {"hosts": [HOST], "secretName": "wild"}
    assert tls[1] == {"hosts": ["www.example.com"], "secretName": "alias-my-app-80fc0fb9266db7b8"}
    (path,) = ingress["spec"]["rules"][1]["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    assert path["backend"] == {"service": {"name": "my-app", "port": {"number": 80}}}


def test_the_alias_issuer_never_touches_the_wildcard() -> None:
    with_alias = manifests(a_release=release(alias_hosts=("www.example.com",)), alias_cluster_issuer="letsencrypt")[2]
    annotations = with_alias["metadata"]["annotations"]
    assert annotations["preview.x1agent.io/alias-cluster-issuer"] == "letsencrypt"
    assert not any("cert-manager" in name for name in annotations)
    without = manifests(alias_cluster_issuer="letsencrypt")[2]["metadata"]["annotations"]
    assert "preview.x1agent.io/alias-cluster-issuer" not in without


def test_headers_and_prefix_are_annotations() -> None:
    a_spec = make_spec(runtime={"path": "/app/"}, ingress={"additionalHeaders": {"X-B": "ü", "X-A": 1}})
    ingress = manifests(a_spec)[2]
    annotations = ingress["metadata"]["annotations"]
    assert json.loads(annotations["preview.x1agent.io/response-headers"]) == {"X-A": "1", "X-B": "ü"}
    assert annotations["preview.x1agent.io/strip-path"] == "/app"
    assert annotations["preview.x1agent.io/backend-protocol"] == "http"
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["path"] == "/app"


@pytest.mark.parametrize(
    ("path", "strip", "health", "public", "probed"),
    [
        (None, True, None, "/", "/"),
        (None, True, "/healthz", "/healthz", "/healthz"),
        ("/", True, "/healthz", "/", "/healthz"),
        ("/app", True, None, "/app", "/"),
        ("/app/", True, "/healthz?x=1", "/app/", "/healthz?x=1"),
        ("/app", False, None, "/app", "/app"),
        ("/app", False, "/healthz", "/app", "/healthz"),
    ],
)
def test_paths_to_check(path: str | None, strip: bool, health: str | None, public: str, probed: str) -> None:
    runtime = {"healthcheck": {"path": health} if health else {}} | ({"path": path} if path else {})
    a_spec = make_spec(runtime=runtime, ingress={"stripPath": strip})
    assert render.public_path(a_spec) == public
    assert container(manifests(a_spec)[0])["readinessProbe"]["httpGet"]["path"] == probed
    annotated = "preview.x1agent.io/strip-path" in manifests(a_spec)[2]["metadata"]["annotations"]
    assert annotated is (strip and path not in (None, "/"))


def test_what_is_unsupported_is_not_rendered() -> None:
    with pytest.raises(Permanent) as caught:
        manifests(make_spec(runtime={"protocol": "tcp"}))
    assert caught.value.code is Code.UNSUPPORTED_FEATURE


# ---------------------------------------------------------------------------------- injection

HOSTILE = [
    'x"\n  injected: true\n',
    "x'\ninjected: yes",
    "- a: b\n  c: &x *x # !!python/object/apply:os.system",
    "{{ 7*7 }}{% for x in ().__class__ %}{{ x }}{% endfor %}{# c #}",
    "${HOME} $(id) `id` ; rm -rf / && $((1)) %s %n",
    "a\r\nSet-Cookie: x=1\r\n\r\n<script>alert(1)</script>",
    "\\u0022 \\n \\\\ \x7f \x85 \u2028 \ufeff \U0001f600 \uffff ü \t",
    "yes",
    "null",
    "0755",
    "",
    " leading and trailing ",
    "x" * 5000,
]


def strings(value: Any) -> list[str]:
    """Every string in `value`, keys as well."""
    if isinstance(value, dict):
        return [one for pair in value.items() for part in pair for one in strings(part)]
    if isinstance(value, list | tuple):
        return [one for part in value for one in strings(part)]
    return [value] if isinstance(value, str) else []


def shape(value: Any) -> Any:
    """`value` without its leaves."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [shape(part) for part in value]
    return type(value)


def hostile(text: str) -> Any:
    """Manifests with `text` in every place that is not narrowed by a grammar."""
    a_spec = make_spec(env=[{"name": "A", "value": text}, {"name": "B", "value": "b"}])
    a_release = release(
        repo_full_name=text,
        branch=text,
        commit_sha=text,
        image=text,
        bundle=Bundle(name=text, checksum=text, keys=(f"env.{text}",)),
        alias_hosts=(text,),
    )
    # Empty values of settings mean their defaults.
    named = text or "x"
    return manifests(a_spec, a_release, preview_namespace=named, ingress_class=named, tls_secret_name=named)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_strings_appear_unchanged_and_nowhere_else(text: str) -> None:
    made, harmless = hostile(text), hostile("harmless")
    assert shape(made) == shape(harmless)
    deployment, _, ingress = made
    assert env_of(deployment)[0] == {"name": "A", "value": render.literal_env(text)}
    assert render.env_value(render.literal_env(text)) == text
    assert container(deployment)["image"] == text
    assert deployment["metadata"]["annotations"]["preview.x1agent.io/branch"] == text
    assert ingress["spec"]["rules"][1]["host"] == text
    if len(text) > 6:  # "yes" or "" may stand elsewhere by right; a string as odd as the others may not
        for exactly in (text, f"env.{text}"):
            found = sum(one in {exactly, render.literal_env(exactly)} for one in strings(made))
            assert found == strings(harmless).count(exactly.replace(text, "harmless"))


@pytest.mark.parametrize("text", [one for one in HOSTILE if one and "\n" not in one and "\x7f" not in one])
def test_hostile_headers_appear_unchanged(text: str) -> None:
    a_spec = make_spec(ingress={"additionalHeaders": {"X-A": text}})
    annotation = manifests(a_spec)[2]["metadata"]["annotations"]["preview.x1agent.io/response-headers"]
    assert json.loads(annotation) == {"X-A": text}


@pytest.mark.parametrize("path", ['/a"b', "/a{{x}}", "/a'b  c", "/${X}", "/#x", "/- a"])
def test_hostile_paths_appear_unchanged(path: str) -> None:
    a_spec = make_spec(volumes=[{"name": "v", "kind": "emptyDir", "mountPath": path}])
    assert container(manifests(a_spec)[0])["volumeMounts"] == [{"name": "v", "mountPath": path}]


@settings(max_examples=200)
@given(st.text(max_size=60) | st.lists(st.text(max_size=20)) | st.dictionaries(st.text(max_size=20), st.text()))
def test_every_interpolation_reads_back_as_what_it_was(value: Any) -> None:
    names = ("slug", "namespace", "labels", "annotations", "port", "app_protocol")
    made = templates.manifest("service", {**dict.fromkeys(names, "x"), "annotations": value})
    assert made["metadata"]["annotations"] == value


def test_what_looks_like_a_placeholder_is_a_value_like_any_other() -> None:
    names = ("slug", "namespace", "labels", "annotations", "port", "app_protocol")
    made = templates.manifest("service", {**dict.fromkeys(names, "<3>"), "annotations": {"<0>": ["<1>"]}})
    assert (made["metadata"]["name"], made["metadata"]["annotations"]) == ("<3>", {"<0>": ["<1>"]})


def test_no_template_holds_what_a_placeholder_looks_like() -> None:
    environment = templates._environment()
    assert environment.loader is not None
    for name in environment.loader.list_templates():
        assert not re.search(r"<\d", environment.loader.get_source(environment, name)[0]), name


def test_objects_of_one_template_share_nothing() -> None:
    names = ("slug", "namespace", "labels", "annotations", "port", "app_protocol")
    shared = {"a": "b"}
    one, other = (templates.manifest("service", dict.fromkeys(names, shared)) for _ in range(2))
    one["metadata"]["labels"]["a"] = one["spec"]["ports"][0]["name"] = "changed"
    assert other["metadata"]["labels"] == other["metadata"]["annotations"] == shared == {"a": "b"}
    assert other["spec"]["ports"][0]["name"] != "changed"


def test_a_name_that_a_template_lacks_is_an_error() -> None:
    environment = templates._environment()
    with pytest.raises(UndefinedError, match="slug"):
        environment.get_template("service.yaml.j2").render({})


def test_templates_leave_escaping_to_the_environment() -> None:
    loader = templates._environment().loader
    assert loader is not None
    for name in loader.list_templates():
        source = loader.get_source(templates._environment(), name)[0]
        assert not re.search(r"[\"']\s*\{\{|\|\s*safe|\|\s*tojson", source), name
