"""The AsyncAPI document and the endpoints' schemas: well-formed, whole, and of the models."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from provider.bus import schemas
from provider.bus.asyncapi import document
from provider.bus.subjects import AUDIT, ENDPOINTS, UNSUPPORTED, Subjects, session_input

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # some of its fields shadow pydantic's
    from asyncapi3 import AsyncAPI3

PREFIX = "a.b"


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    return document(PREFIX)


def test_its_structure_is_asyncapi_3s(api: dict[str, Any]) -> None:
    read = AsyncAPI3.model_validate(api)
    assert read.asyncapi == "3.0.0"
    with pytest.raises(ValueError, match="wrong"):
        AsyncAPI3.model_validate({**api, "wrong": 1})


def test_every_reference_leads_somewhere(api: dict[str, Any]) -> None:
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(api)))
    assert len(references) > 50
    for reference in references:
        place: Any = api
        for part in reference.split("/"):
            place = place[part]


def test_every_subject_is_in_it(api: dict[str, Any]) -> None:
    subjects = Subjects(PREFIX)
    expected = {subjects.request(name) for name in (*ENDPOINTS, *UNSUPPORTED)} | {subjects.queue, AUDIT}
    expected |= {subjects.events("{slug}"), session_input("{session_id}")}
    assert {one["address"] for one in api["channels"].values() if one["address"]} == expected
    received = {name for name, one in api["operations"].items() if one["action"] == "receive"}
    assert received == {*ENDPOINTS, *UNSUPPORTED, "queue"}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_schemas_of_an_endpoint_are_schemas(name: str) -> None:
    for schema in (schemas.request_schema(name), schemas.reply_schema(name)):
        Draft202012Validator.check_schema(schema)
    failure = {"ok": False, "code": "not_found", "message": "m", "retryable": False, "whose": "user"}
    replies = Draft202012Validator(schemas.reply_schema(name))
    assert replies.is_valid(failure)
    assert not replies.is_valid({**failure, "code": "nope"})
    assert not replies.is_valid({"ok": True})


@pytest.mark.parametrize(("most", "whole"), [(10**9, True), (64 << 10, False), (6000, False)])
def test_metadata_that_would_be_too_large_says_how_to_get_it(most: int, whole: bool, api: dict[str, Any]) -> None:
    metadata = schemas.metadata(most)
    assert set(metadata) == set(ENDPOINTS)
    assert len(json.dumps(metadata)) < most + 3000
    texts = [json.loads(one[kind]) for one in metadata.values() for kind in ("request_schema", "response_schema")]
    left_out = [text for text in texts if "$comment" in text]
    assert bool(left_out) is not whole
    for text in left_out:
        assert "preview schema --asyncapi" in text["$comment"]
        document_id, _, path = text["$ref"].partition("#/components/messages/")
        assert document_id == api["id"]
        assert path in api["components"]["messages"]


def test_no_secret_value_has_a_default_or_example(api: dict[str, Any]) -> None:
    request = api["components"]["schemas"]["ProvisionRequest"]
    for field in ("secret_values", "extra_env"):
        values = next(iter(request["properties"][field].get("patternProperties", {}).values()))
        assert (values["format"], values["writeOnly"]) == ("password", True)
