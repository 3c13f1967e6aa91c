"""JSON Schemas of what goes over the bus, made from the very models that read requests and write answers.

They stand in the metadata of the service's endpoints (`nats micro info`) and in the AsyncAPI document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Any

from pydantic import BaseModel, TypeAdapter

from provider import models
from provider.bus import queries
from provider.bus.subjects import ENDPOINTS
from provider.models import FailureReply

Schema = dict[str, Any]
Metadata = dict[str, str]

SCHEMA_ID = "https://x1agent.io/schemas/preview-provider/v1/asyncapi.json"
HOW_TO_GET = "Too large to stand here; `preview schema --asyncapi` prints the whole document."

REQUESTS: dict[str, type[BaseModel]] = {
    "provision": models.ProvisionRequest,
    "teardown": queries.TeardownRequest,
    "validate": models.ProvisionRequest,
    "status": queries.DeployOrSlugRequest,
    "list": queries.ListRequest,
    "wait": queries.WaitRequest,
    "cancel": queries.DeployOrSlugRequest,
    "touch": queries.TouchRequest,
    "claim": queries.ClaimRequest,
    "release": queries.ReleaseRequest,
    "attach": queries.AttachRequest,
    "introspect": queries.IntrospectRequest,
    "approve": queries.VerdictRequest,
    "reject": queries.VerdictRequest,
}
"""What each endpoint is asked."""

REPLIES: dict[str, tuple[type[BaseModel], ...]] = {
    "provision": (models.ProvisionReply, models.AcceptedReply, models.ValidateReply),
    "teardown": (models.TeardownReply,),
    "validate": (models.ValidateReply,),
    "status": (models.PreviewReply, models.DeployReply),
    "list": (models.ListReply,),
    "wait": (models.WaitedPreview, models.WaitedDeploy),
    "cancel": (models.CancelReply,),
    "touch": (models.TenureReply,),
    "claim": (models.ClaimReply,),
    "release": (models.ReleaseReply,),
    "attach": (models.AttachReply,),
    "introspect": (models.IntrospectReply,),
    "approve": (models.VerdictReply,),
    "reject": (models.VerdictReply,),
}
"""What each endpoint answers when all went well; each may answer a `FailureReply`, too."""


def request_schema(endpoint: str) -> Schema:
    """What may be asked. Fields that it does not know are warnings in the answer, and a null is as good as nothing."""
    return REQUESTS[endpoint].model_json_schema(by_alias=True, mode="validation")


def reply_schema(endpoint: str) -> Schema:
    """What is answered. A later provider may add fields."""
    forms: Any = reduce(or_, (*REPLIES[endpoint], FailureReply))
    return TypeAdapter(forms).json_schema(by_alias=True, mode="serialization")


def metadata(most_bytes: int) -> dict[str, Metadata]:
    """`request_schema` and `response_schema` of each endpoint as JSON, for the service's metadata.

    Args:
        most_bytes: of all of it as it goes over the bus. The largest are replaced by references until it fits, as the
            client would close for good over an answer that is larger than the bus carries.
    """
    texts = {(name, "request_schema"): _text(request_schema(name)) for name in ENDPOINTS}
    texts |= {(name, "response_schema"): _text(reply_schema(name)) for name in ENDPOINTS}
    for key in sorted(texts, key=lambda one: -len(texts[one])):
        if _size(texts) <= most_bytes:
            break
        texts[key] = _text({"$ref": f"{SCHEMA_ID}#/components/messages/{message_name(*key)}", "$comment": HOW_TO_GET})
    return {
        name: {kind: text for (endpoint, kind), text in texts.items() if endpoint == name} | {"schemas": SCHEMA_ID}
        for name in ENDPOINTS
    }


def message_name(endpoint: str, kind: str) -> str:
    """What the message of an endpoint is called in the AsyncAPI document; `kind` is a key of its metadata."""
    return endpoint + {"request_schema": "Request", "response_schema": "Reply"}[kind]


def _text(schema: Schema) -> str:
    return json.dumps(schema, separators=(",", ":"))


def _size(texts: Mapping[tuple[str, str], str]) -> int:
    return sum(len(json.dumps(text)) for text in texts.values())
