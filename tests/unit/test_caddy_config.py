"""Caddy's configuration as pure data: what is ours, what stays, and when nothing changes."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from provider.platforms.container import caddy_config
from provider.platforms.container.routes import ENTRY_PATTERN, Route, Shape

DOMAIN = "preview.localhost"
FOREIGN: dict[str, Any] = {
    "admin": {"listen": "127.0.0.1:2019"},
    "apps": {
        "http": {"grace_period": "5s", "servers": {"theirs": {"listen": [":8080"]}}},
        "pki": {"certificate_authorities": {"local": {"name": "theirs"}}},
        "tls": {
            "certificates": {"automate": ["their.example"]},
            "automation": {"policies": [{"subjects": ["their.example"]}, {"issuers": [{"module": "acme"}]}]},
        },
    },
}


def merge(
    config: dict[str, Any] | None, shapes: tuple[Shape, ...] = (), aliases: tuple[str, ...] = ()
) -> dict[str, Any]:
    return caddy_config.merge(
        config,
        root=Path("/state/routes"),
        domain=DOMAIN,
        listen=":443",
        access="127.0.0.1:2020",
        shapes=shapes,
        aliases=aliases,
    )


def shape_ids(config: dict[str, Any]) -> set[str]:
    routes = config["apps"]["http"]["servers"][caddy_config.SERVER]["routes"][0]["handle"][0]["routes"]
    return {route["@id"] for route in routes if "@id" in route}


def test_merging_twice_changes_nothing() -> None:
    once = merge(None, (Shape(path_prefix="/app"),), ("alias.example",))
    assert merge(once) == once
    assert merge(once, (Shape(path_prefix="/app"),), ("alias.example",)) == once


def test_what_is_not_ours_stays() -> None:
    before = deepcopy(FOREIGN)
    merged = merge(FOREIGN)
    assert before == FOREIGN, "the input was changed"
    apps, theirs = merged["apps"], FOREIGN["apps"]
    assert merged["admin"] == FOREIGN["admin"]
    assert apps["http"]["grace_period"] == "5s"
    assert apps["http"]["servers"]["theirs"] == theirs["http"]["servers"]["theirs"]
    assert apps["pki"] == theirs["pki"]
    assert apps["tls"]["automation"]["policies"][1:] == theirs["tls"]["automation"]["policies"]
    assert apps["tls"]["certificates"]["automate"] == ["their.example", f"*.{DOMAIN}"]


def test_our_policy_comes_first_and_only_once() -> None:
    merged = merge(merge(FOREIGN), (), ("b.example", "a.example"))
    policies = merged["apps"]["tls"]["automation"]["policies"]
    assert [policy.get("@id") for policy in policies] == [caddy_config.TLS_POLICY_ID, None, None]
    assert policies[0]["subjects"] == [f"*.{DOMAIN}", "a.example", "b.example"]


def test_shapes_and_aliases_of_others_stay() -> None:
    first = merge(None, (Shape(path_prefix="/one"),), ("one.example",))
    second = merge(first, (Shape(path_prefix="/two"),), ("two.example",))
    assert shape_ids(second) > shape_ids(first)
    assert "one.example" in second["apps"]["tls"]["automation"]["policies"][0]["subjects"]


def test_a_layout_of_an_older_provider_is_replaced() -> None:
    old: dict[str, Any] = {"apps": {"http": {"servers": {caddy_config.SERVER: {"routes": [{"handle": []}]}}}}}
    assert merge(old) == merge(None)


def test_the_plain_shapes_are_always_there() -> None:
    ids = shape_ids(merge(None))
    assert ids == {caddy_config.SHAPE_ID + shape.key for shape in (Shape(), Shape(http2=True))}


def test_placeholders_in_values_are_literal() -> None:
    shape = Shape(response_headers=(("X-Mine", "{env.SECRET}"),), path_prefix="/{env.A}", strip_prefix="/{env.A}")
    text = str(caddy_config.shape_route(shape)["handle"])
    assert not re.search(r"(?<!\\){env\.", text)


def test_visits_are_told_without_what_was_asked_and_in_no_other_log() -> None:
    merged = merge({"logging": {"logs": {"default": {"level": "WARN", "exclude": ["theirs"]}, "theirs": {}}}})
    logger = f"http.log.access.{caddy_config.ACCESS_LOG}"
    logs = merged["logging"]["logs"]
    assert logs["default"] == {"level": "WARN", "exclude": ["theirs", logger]}
    assert logs["theirs"] == {}
    assert logs[caddy_config.ACCESS_LOG]["include"] == [logger]
    assert logs[caddy_config.ACCESS_LOG]["writer"] == {"output": "net", "address": "udp/127.0.0.1:2020"}
    assert "request>uri" in logs[caddy_config.ACCESS_LOG]["encoder"]["fields"]


def test_the_etag_is_caddys() -> None:
    # The trailer that `curl --raw -i` showed for this body.
    body = b'{"admin":{"listen":"127.0.0.1:29191"}}\n'
    assert caddy_config.etag("/config/", body) == '"/config/ e5592d30"'


@pytest.mark.parametrize(
    "change",
    [
        {"slug": "../x"},
        {"hosts": ()},
        {"hosts": ("UPPER.example",)},
        {"hosts": ("a/b",)},
        {"hosts": ("..",)},
        {"upstream": "x/../y:80"},
        {"upstream": "{env.X}:80"},
        {"commit_sha": "a~b"},
    ],
)
def test_a_route_that_is_no_file_name_is_refused(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"slug": "a", "hosts": ("a.x",), "upstream": "10.0.0.1:80", "commit_sha": "abc"}
    Route(**good)
    with pytest.raises(ValueError, match="not "):
        Route(**{**good, **change})


def test_a_shape_is_named_by_its_content() -> None:
    keys = [Shape(), Shape(http2=True), Shape(path_prefix="/a"), Shape(response_headers=(("a", "b"),))]
    assert len({shape.key for shape in keys}) == len(keys)
    assert Shape().key == Shape().key
    assert re.search(ENTRY_PATTERN, f"/a.x/{1:012d}~{Shape().key}~3~abc~[fd00::1]:80")
