"""From a decoded message to a checked request: pure, and every problem named at once.

The caller is a program written by somebody else, so a refusal says where, what was found and what is
allowed. Only one thing is never said: a secret's value, or anything that stood in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from rapidfuzz import fuzz, process

from provider.bus.queries import SLUG_ALLOWED, DeployOrSlugRequest, ListRequest
from provider.errors import Code, InvalidRequest
from provider.models import ProvisionRequest, SecretValues, StoredRequest

MAX_BYTES = 512 * 1024
MAX_DEPTH = 32
MAX_SHOWN = 80
MAX_WARNINGS = 20
_SECRET_FIELDS = ("secret_values", "extra_env")
_SURROGATE = re.compile("[\ud800-\udfff]")
_USERINFO = re.compile(r"//[^/@\s]*@")
_ALLOWED = {
    "repo_full_name": "owner/repo",
    "repo": "owner/repo",
    "branch": "a valid git branch name without refs/heads/",
    "commit_sha": "7 to 40 hexadecimal digits",
    "alias_hosts": "a DNS host name with at least one dot",
    "session_id": "1 to 128 of A-Z a-z 0-9 _ -",
    "deploy_id": "1 to 64 of A-Z a-z 0-9 _ -",
    "reply_to": "a NATS subject without wildcards that does not begin with $",
    "slug": SLUG_ALLOWED,
    "from_session": "1 to 128 of A-Z a-z 0-9 _ -",
    "by": "1 to 200 characters without control characters",
    "secret_values": "{name: string}, names ^[A-Za-z_][A-Za-z0-9_]{0,63}$",
    "extra_env": "{name: string}, names ^[A-Za-z_][A-Za-z0-9_]{0,127}$",
}

M = TypeVar("M", bound=BaseModel)
D = TypeVar("D", bound=DeployOrSlugRequest)


# ------------------------------------------------------------------------------ decode


def decode(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises:
        InvalidRequest: `bad_request_decode` for anything that is not one unambiguous, bounded JSON object.
    """
    if len(data) > MAX_BYTES:
        raise _undecodable(f"The message has {len(data)} bytes; at most {MAX_BYTES} are allowed.")
    try:
        body = json.loads(
            data.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique
        )
    except UnicodeDecodeError:
        raise _undecodable("The message is not UTF-8.") from None
    except json.JSONDecodeError as error:
        # `error.doc` is the whole message, secrets included: the cause is cut off on purpose.
        raise _undecodable(f"The message is not JSON: {error.msg} at byte {error.pos}.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise _undecodable("The message holds a number that is out of range, or a field twice.") from None
    if not isinstance(body, dict):
        raise _undecodable("The message is not a JSON object.")
    _check_nesting(body)
    return body


def _undecodable(message: str) -> InvalidRequest:
    return InvalidRequest(
        Code.BAD_REQUEST_DECODE, message, hint="Send one JSON object, UTF-8, as contract.md says.", reason="NotReadable"
    )


def _too_deep() -> InvalidRequest:
    return _undecodable(f"The message is nested deeper than {MAX_DEPTH} levels.")


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("out of range")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON readers disagree on which of two wins; a request must not mean two things.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field twice")
    return found


def _check_nesting(body: dict[str, Any]) -> None:
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [child for node in level for child in _children(node)]
    if level:
        raise _too_deep()


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, str):
        if _SURROGATE.search(node):
            raise _undecodable("The message holds half of a surrogate pair, which is no character.")
        return ()
    if isinstance(node, dict):
        return (*node.keys(), *node.values())
    return node if isinstance(node, list) else ()


# ------------------------------------------------------------------------------- parse


def provision_request(body: Mapping[str, Any]) -> ProvisionRequest:
    """The provision request that `body` is.

    Raises:
        InvalidRequest: `missing_fields` or `invalid_request`, with one evidence line per problem.
    """
    present = _without_nulls(body)
    acceptance = present.get("acceptance")
    if isinstance(acceptance, list):
        present["acceptance"] = [_without_nulls(item) if isinstance(item, dict) else item for item in acceptance]
    return _parse(ProvisionRequest, present)


def query(model: type[M], body: Mapping[str, Any]) -> M:
    """The request of that kind (see `queries`) that `body` is; raises as `provision_request` does."""
    return _parse(model, _without_nulls(body))


def deploy_or_slug_request(body: Mapping[str, Any]) -> DeployOrSlugRequest:
    """The request of `status` and `cancel`; raises as `provision_request` does."""
    return one_of_them(DeployOrSlugRequest, body)


def one_of_them(model: type[D], body: Mapping[str, Any]) -> D:
    """A request that names a preview or a deploy; raises as `provision_request` does."""
    present = _without_nulls(body)
    if not present.get("slug") and not present.get("deploy_id"):
        raise InvalidRequest(
            Code.MISSING_FIELDS,
            "Required field is absent: slug or deploy_id.",
            reason="MissingFields",
            hint="Send slug or deploy_id.",
        )
    return _parse(model, present)


def list_request(body: Mapping[str, Any]) -> ListRequest:
    """The request of `list`; raises as `provision_request` does."""
    return _parse(ListRequest, _without_nulls(body))


def unknown_fields(body: Mapping[str, Any], model: type[BaseModel] = ProvisionRequest) -> tuple[str, ...]:
    """One warning per field that `model` does not know, with the nearest known name."""
    known = [field.alias or name for name, field in model.model_fields.items()]
    unknown = sorted(set(body) - set(known))
    warnings = [_unknown(name, known) for name in unknown[:MAX_WARNINGS]]
    if len(unknown) > MAX_WARNINGS:
        warnings.append(f"{len(unknown) - MAX_WARNINGS} more unknown fields were ignored.")
    return tuple(warnings)


def _unknown(name: str, known: list[str]) -> str:
    nearest = process.extractOne(name[:MAX_SHOWN], known, scorer=fuzz.ratio, score_cutoff=65)
    return f"Unknown field {name[:MAX_SHOWN]!r} was ignored" + (f"; did you mean {nearest[0]!r}?" if nearest else ".")


def _without_nulls(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _parse(model: type[M], present: dict[str, Any]) -> M:
    missing = [
        name for name, field in model.model_fields.items() if field.is_required() and present.get(name, "") == ""
    ]
    present = {name: value for name, value in present.items() if name not in missing}
    try:
        # By way of JSON, because only there "strict" still takes an array for a tuple.
        return model.model_validate_json(json.dumps(present))
    except (ValidationError, RecursionError, ValueError) as error:
        # Without a cause: pydantic's error holds the whole input, secrets included.
        raise _refusal(error, missing) from None


def _refusal(error: Exception, missing: list[str]) -> InvalidRequest:
    details = error.errors(include_url=False) if isinstance(error, ValidationError) else []
    problems = tuple(_problem(detail) for detail in details if detail["type"] != "missing" or len(detail["loc"]) > 1)
    if missing:
        fields = "field is" if len(missing) == 1 else "fields are"
        message = f"Required {fields} absent: {', '.join(missing)}."
        return InvalidRequest(
            Code.MISSING_FIELDS,
            message,
            evidence=problems,
            reason="MissingFields",
            hint=f"Send {', '.join(missing)}, too.",
        )
    if not problems:
        return _undecodable("The message's JSON cannot be read.")
    plural = "a value" if len(problems) == 1 else f"{len(problems)} values"
    return InvalidRequest(
        Code.INVALID_REQUEST,
        f"The request has {plural} not allowed; {problems[0]}",
        evidence=problems,
        reason="InvalidField",
        hint=f"Correct {', '.join(one.partition(':')[0] for one in problems)}; the evidence says what is allowed.",
    )


def _problem(detail: ErrorDetails) -> str:
    loc = detail["loc"]
    field = str(loc[0]) if loc else "request"
    if field in _SECRET_FIELDS:
        return f"{_secret_path(loc)}: allowed {_allowed(detail, field)}"
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)[1:MAX_SHOWN] or field
    found = "" if detail["type"] == "missing" or not loc else f" found {_shown(detail['input'])},"
    return f"{path}:{found} allowed {_allowed(detail, field)}"


def _secret_path(loc: tuple[int | str, ...]) -> str:
    # A name that is not allowed may be a value in the wrong place, so it is not shown either.
    named = len(loc) > 1 and loc[-1] != "[key]" and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", str(loc[1]))
    return f"{loc[0]}.{loc[1]}" if named else str(loc[0]) + (" (a name)" if len(loc) > 1 else "")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = _USERINFO.sub("//***@", json.dumps(value, ensure_ascii=False))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _allowed(detail: ErrorDetails, field: str) -> str:
    kind = detail["type"]
    if kind == "value_error":
        return str(detail.get("ctx", {}).get("error", "another value"))
    if kind in ("string_pattern_mismatch", "string_type", "string_too_long") and field in _ALLOWED:
        return _ALLOWED[field]
    if kind == "extra_forbidden":
        return "only known fields"
    return detail["msg"].removeprefix("Input should be ")


# ------------------------------------------------------------------------ what is kept


def to_stored(request: ProvisionRequest, secrets_checksum: str = "") -> StoredRequest:
    """What a record keeps of the request: everything but the secrets, of those the names."""
    fields = request.model_dump(by_alias=True, include=set(StoredRequest.model_fields))
    return StoredRequest.model_validate(
        fields
        | {
            "secret_names": sorted(request.secret_values),
            "extra_env_names": sorted(request.extra_env),
            "secrets_checksum": secrets_checksum,
        }
    )


def secret_values(request: ProvisionRequest) -> SecretValues:
    """The inline secrets, to be staged before the record is made."""
    return SecretValues(secrets=request.secret_values, extra_env=request.extra_env)
