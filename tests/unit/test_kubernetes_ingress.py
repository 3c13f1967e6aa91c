"""What an ingress controller is told, and what is refused because it could not do it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from provider import names
from provider.errors import Code, Permanent
from provider.platforms.kubernetes.ingress import controller, translate
from provider.settings import Settings
from tests.unit.test_render import make_spec, manifests, options, release

NGINX = "nginx.ingress.kubernetes.io/"
ALIASES = ("one.example.com", "two.example.com")


def translated(settings: Settings, *aliases: str, **parts: Any) -> list[Any]:
    changes = {"alias_cluster_issuer": settings.alias_cluster_issuer}
    _, service, ingress = manifests(make_spec(**parts), release(alias_hosts=aliases), **changes)
    return translate(service, ingress, settings)


def of_kind(kind: str, made: list[Any]) -> list[Any]:
    return [one for one in made if one["kind"] == kind]


def ingress(made: list[Any]) -> Any:
    (only,) = of_kind("Ingress", made)
    return only


def notes(made: list[Any]) -> dict[str, str]:
    """The controller's annotations; ours are not its business."""
    found = ingress(made)["metadata"]["annotations"].items()
    return {name: value for name, value in found if not name.startswith("preview.x1agent.io/")}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"ingress_class": "nginx"}, "nginx"),
        ({"ingress_class": "internal-NGINX"}, "nginx"),
        ({"ingress_class": "traefik-public"}, "traefik"),
        ({"ingress_class": "haproxy"}, "plain"),
        ({"ingress_class": "edge", "ingress_controller": "nginx"}, "nginx"),
        ({"ingress_class": "nginx", "ingress_controller": "plain"}, "plain"),
    ],
)
def test_whose_annotations_are_written(settings: dict[str, Any], expected: str) -> None:
    assert controller(options(**settings)) == expected


@pytest.mark.parametrize("kind", ["nginx", "traefik", "plain"])
def test_a_plain_preview_needs_no_annotations(kind: str) -> None:
    made = translated(options(ingress_controller=kind))
    assert [one["kind"] for one in made] == ["Service", "Ingress"]
    assert notes(made) == {}
    (path,) = ingress(made)["spec"]["rules"][0]["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")


def test_nginx_strips_a_path() -> None:
    made = translated(options(), runtime={"path": "/app.v1"})
    assert notes(made) == {NGINX + "use-regex": "true", NGINX + "rewrite-target": "/$2"}
    (path,) = ingress(made)["spec"]["rules"][0]["http"]["paths"]
    assert path["pathType"] == "ImplementationSpecific"
    seen = {asked: bool(re.match(path["path"], asked)) for asked in ("/app.v1", "/app.v1/", "/app.v1/x", "/app.v12", "/appxv1/")}  # fmt: skip  # noqa: E501
    assert seen == {"/app.v1": True, "/app.v1/": True, "/app.v1/x": True, "/app.v12": False, "/appxv1/": False}
    found = re.match(path["path"], "/app.v1/x/y")
    assert found is not None
    assert found.group(2) == "x/y"


def test_nginx_speaks_http2_to_the_app_as_grpc_only() -> None:
    assert notes(translated(options(), runtime={"protocol": "http2"})) == {NGINX + "backend-protocol": "GRPC"}


def test_nginx_takes_response_headers_from_a_config_map() -> None:
    made = translated(options(), ingress={"additionalHeaders": {"X-Robots-Tag": "noindex"}})
    (config,) = of_kind("ConfigMap", made)
    metadata = config["metadata"]
    assert config["data"] == {"X-Robots-Tag": "noindex"}
    assert metadata["name"] == names.header_config("my-app")
    assert notes(made) == {NGINX + "custom-headers": f"{metadata['namespace']}/{metadata['name']}"}


def test_traefik_speaks_http2_by_the_service() -> None:
    made = translated(options(ingress_controller="traefik"), runtime={"protocol": "http2"})
    (service,) = of_kind("Service", made)
    assert service["metadata"]["annotations"]["traefik.ingress.kubernetes.io/service.serversscheme"] == "h2c"
    assert notes(made) == {}


def test_others_read_the_services_app_protocol() -> None:
    (service,) = of_kind("Service", translated(options(ingress_controller="plain"), runtime={"protocol": "http2"}))
    assert service["spec"]["ports"][0]["appProtocol"] == "kubernetes.io/h2c"


@pytest.mark.parametrize("kind", ["traefik", "plain"])
@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("stripPath", {"runtime": {"path": "/app"}}),
        ("additionalHeaders", {"ingress": {"additionalHeaders": {"X-One": "1"}}}),
    ],
)
def test_what_it_can_not_do_is_refused_by_name(kind: str, field: str, parts: dict[str, Any]) -> None:
    with pytest.raises(Permanent) as caught:
        translated(options(ingress_controller=kind), **parts)
    error = caught.value
    assert (error.code, error.evidence) == (Code.UNSUPPORTED_FEATURE, (f"spec.ingress.{field}",))
    assert f"spec.ingress.{field}" in error.message
    assert error.hint


def test_a_path_that_is_not_stripped_is_fine_anywhere() -> None:
    made = translated(options(ingress_controller="plain"), runtime={"path": "/app"}, ingress={"stripPath": False})
    assert ingress(made)["spec"]["rules"][0]["http"]["paths"][0]["path"] == "/app"


def test_aliases_without_an_issuer_stand_in_the_one_ingress() -> None:
    only = ingress(translated(options(), *ALIASES))
    assert [rule["host"] for rule in only["spec"]["rules"]][1:] == list(ALIASES)
    assert [one["secretName"] for one in only["spec"]["tls"]][1:] == [names.alias_tls_secret("my-app", host) for host in ALIASES]  # fmt: skip  # noqa: E501


def test_an_issuer_issues_for_aliases_alone() -> None:
    """cert-manager reads an Ingress as a whole: the wildcard's secret must not stand in one that names an issuer."""
    settings = options(alias_cluster_issuer="letsencrypt")
    own, aliases = of_kind("Ingress", translated(settings, *ALIASES))
    issuer = "cert-manager.io/cluster-issuer"
    assert issuer not in own["metadata"]["annotations"]
    assert [entry["secretName"] for entry in own["spec"]["tls"]] == [settings.tls_secret_name]
    assert aliases["metadata"]["annotations"][issuer] == "letsencrypt"
    assert aliases["metadata"]["name"] == names.alias_ingress("my-app")
    assert [rule["host"] for rule in aliases["spec"]["rules"]] == list(ALIASES)
    assert settings.tls_secret_name not in [entry["secretName"] for entry in aliases["spec"]["tls"]]


def test_an_issuer_without_aliases_changes_nothing() -> None:
    assert notes(translated(options(alias_cluster_issuer="letsencrypt"))) == {}


def test_what_is_stored_in_a_record_stays_as_it_is() -> None:
    _, service, stored = manifests(make_spec(runtime={"path": "/app"}))
    before = (str(service), str(stored))
    translate(service, stored, options())
    assert (str(service), str(stored)) == before


@pytest.mark.parametrize("value", ["", "café", "“quoted”"])
def test_a_header_value_that_nginx_denies_is_refused(value: str) -> None:
    """Of one such value it answers 503 for the whole path (its annotation custom-headers)."""
    with pytest.raises(Permanent):
        translated(options(), ingress={"additionalHeaders": {"X-One": value}})
