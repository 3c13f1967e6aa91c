"""Answers in the form in which they go out."""

from __future__ import annotations

import json

from aiohttp import web

from tests.cluster.standin.status import ApiError
from tests.cluster.standin.values import Object
from tests.cluster.standin.writes import Done


def json_answer(body: Object, code: int = 200) -> web.Response:
    text = json.dumps(body, separators=(",", ":")).encode()
    return web.Response(body=text, status=code, content_type="application/json")


def done_answer(done: Done) -> web.Response:
    response = json_answer(done.body, done.code)
    for warning in done.warnings:
        response.headers.add("Warning", f"299 - {json.dumps(warning)}")
    return response


def refusal(refused: ApiError) -> web.Response:
    return json_answer(refused.status, refused.code)


def too_many(seconds: int) -> web.Response:
    refused = ApiError(
        429,
        "TooManyRequests",
        "too many requests, please try again later.",
        {"retryAfterSeconds": seconds},
    )
    response = refusal(refused)
    response.headers["Retry-After"] = str(seconds)
    return response
