"""Answers that refuse: one ApiError, which carries a meta/v1 Status in the API server's own words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cause:
    """One wrong field, as it stands in `details.causes`."""

    reason: str  # FieldValueInvalid, FieldValueRequired, …
    message: str  # as in the cause: without the field's name
    field: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ApiError(Exception):
    """A request that was refused; `status` is the answer's body."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            **({"reason": reason} if reason else {}),
            **({"details": details} if details else {}),
            "code": code,
        }


def _about(group: str, kind: str, name: str = "") -> dict[str, Any]:
    return {
        **({"name": name} if name else {}),
        **({"group": group} if group else {}),
        **({"kind": kind} if kind else {}),
    }


def qualified(group: str, plural: str) -> str:
    """`deployments.apps`, or `pods` for the core group."""
    return f"{plural}.{group}" if group else plural


def not_found(group: str, plural: str, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{qualified(group, plural)} "{name}" not found', _about(group, plural, name))


def no_such_path() -> ApiError:
    """What stands for a resource type that the server does not serve."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(group: str, plural: str, name: str) -> ApiError:
    message = f'{qualified(group, plural)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _about(group, plural, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(group: str, plural: str, name: str, why: str = MODIFIED) -> ApiError:
    message = f'Operation cannot be fulfilled on {qualified(group, plural)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _about(group, plural, name))


def apply_conflict(causes: list[Cause], message: str) -> ApiError:
    listed = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
    return ApiError(409, "Conflict", message, {"causes": listed})


def invalid(group: str, kind: str, name: str, causes: Iterable[Cause]) -> ApiError:
    """422 with every wrong field at once."""
    wrong = list(causes)
    words = [str(cause) for cause in wrong]
    told = words[0] if len(words) == 1 else f"[{', '.join(words)}]"
    listed = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in wrong]
    message = f'{qualified(group, kind)} "{name}" is invalid: {told}'
    return ApiError(422, "Invalid", message, {**_about(group, kind, name), "causes": listed})


def forbidden(group: str, plural: str, name: str, why: str, causes: Iterable[Cause] = ()) -> ApiError:
    subject = f'{qualified(group, plural)} "{name}"' if name else qualified(group, plural)
    listed = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
    details = {**_about(group, plural, name), **({"causes": listed} if listed else {})}
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def internal(message: str) -> ApiError:
    """A plain error inside the real server: code 500 and no reason."""
    return ApiError(500, "", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unsupported_media_type(accepted: Iterable[str]) -> ApiError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return ApiError(415, "UnsupportedMediaType", message)


def not_acceptable(accepted: Iterable[str]) -> ApiError:
    message = f"only the following media types are accepted: {', '.join(accepted)}"
    return ApiError(406, "NotAcceptable", message)


def too_large_version(wanted: int, current: int) -> ApiError:
    """A resource version that the server has not reached; the real one waits three seconds before it says so."""
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    message = f"Too large resource version: {wanted}, current: {current}"
    return ApiError(504, "Timeout", f"Timeout: {message}", {"causes": causes, "retryAfterSeconds": 1})
