"""Who asks (bearer tokens), and whether the RBAC objects in the store let them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.cluster.standin.resources import BY_KIND
from tests.cluster.standin.status import ApiError, Cause, forbidden, invalid, unauthorized
from tests.cluster.standin.storage import Storage
from tests.cluster.standin.values import Object, items

MASTERS = "system:masters"
RBAC_GROUP = "rbac.authorization.k8s.io"
# What every authenticated user may create: questions about themselves.
REVIEWS = ("selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews")


@dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...]


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True)
class Attributes:
    """What is asked for; `resource` alone, `subresource` beside it."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def whole(self) -> str:
        """`pods/log`, as rules name a subresource."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Tokens:
    """Bearer tokens that were handed out."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}

    def issue(self, name: str, groups: Sequence[str] = ()) -> str:
        """A token for `admin` (may do everything) or for `system:serviceaccount:NAMESPACE:NAME`."""
        known = [*groups, "system:authenticated"]
        if name == "admin":
            known.append(MASTERS)
        if name.startswith("system:serviceaccount:"):
            known += ["system:serviceaccounts", f"system:serviceaccounts:{name.split(':')[2]}"]
        token = secrets.token_urlsafe(24)
        self._users[token] = User(name, tuple(known))
        return token

    def user(self, header: str | None) -> User:
        """Whose token an Authorization header carries; ApiError 401 for one that nobody has."""
        if not header:
            return ANONYMOUS
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or token.strip() not in self._users:
            raise unauthorized()
        return self._users[token.strip()]


class Authorizer:
    """Role-based access control over the objects in the store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def check(self, user: User, wanted: Attributes) -> None:
        """ApiError 403 in the server's own words."""
        allowed, why = self.decide(user, wanted)
        if not allowed:
            raise refusal(user, wanted, why)

    def decide(self, user: User, wanted: Attributes) -> tuple[bool, str]:
        """Whether it is allowed, and the reason that the server gives beside it."""
        if MASTERS in user.groups:
            return True, ""
        if wanted.resource in REVIEWS and wanted.verb == "create" and "system:authenticated" in user.groups:
            return True, ""
        missing = []
        for binding, role in self._bindings(user, wanted.namespace):
            reference = binding["roleRef"]
            if role is None:
                kind = reference["kind"].lower()
                missing.append(f'{kind}.{RBAC_GROUP} "{reference["name"]}" not found')
            elif any(covers(rule, wanted) for rule in items(role, "rules")):
                return True, f"RBAC: allowed by {_told(binding, user)}"
        return False, f"RBAC: {_listed(missing)}" if missing else ""

    def _bindings(self, user: User, namespace: str) -> Iterator[tuple[Object, Object | None]]:
        """The bindings of a user, each with its role."""
        kinds = [("ClusterRoleBinding", None), *([("RoleBinding", namespace)] if namespace else [])]
        for kind, where in kinds:
            for binding in self._storage.scan(BY_KIND[kind], where):
                if any(_is(subject, user, where) for subject in items(binding, "subjects")):
                    reference = binding["roleRef"]
                    place = where if reference["kind"] == "Role" else None
                    yield binding, self._storage.get(BY_KIND[reference["kind"]], (place, reference["name"]))


def _is(subject: Object, user: User, namespace: str | None) -> bool:
    if subject.get("kind") == "ServiceAccount":
        return user.name == f"system:serviceaccount:{subject.get('namespace') or namespace}:{subject['name']}"
    return subject.get("name") in (user.groups if subject.get("kind") == "Group" else (user.name,))


def covers(rule: Object, wanted: Attributes) -> bool:
    """Whether one rule of a role allows what is wanted."""
    resources = items(rule, "resources")
    named = items(rule, "resourceNames")
    return (
        _has(items(rule, "verbs"), wanted.verb)
        and _has(items(rule, "apiGroups"), wanted.group)
        and (_has(resources, wanted.whole) or bool(wanted.subresource and f"*/{wanted.subresource}" in resources))
        and (not named or wanted.name in named)
    )


def _has(allowed: list[str], wanted: str) -> bool:
    return "*" in allowed or wanted in allowed


def _told(binding: Object, user: User) -> str:
    meta, reference = binding["metadata"], binding["roleRef"]
    place = f"{meta['name']}/{meta['namespace']}" if meta.get("namespace") else meta["name"]
    subject = next(each for each in binding["subjects"] if _is(each, user, meta.get("namespace")))
    who = f'{subject["kind"]} "{subject["name"]}'
    who += f'/{subject.get("namespace") or meta.get("namespace")}"' if subject["kind"] == "ServiceAccount" else '"'
    return f'{binding["kind"]} "{place}" of {reference["kind"]} "{reference["name"]}" to {who}'


def _listed(errors: list[str]) -> str:
    return errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"


def refusal(user: User, wanted: Attributes, why: str = "") -> ApiError:
    place = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    told = f'User "{user.name}" cannot {wanted.verb} resource "{wanted.whole}" in API group "{wanted.group}" {place}'
    return forbidden(wanted.group, wanted.resource, wanted.name, f"{told}: {why}" if why else told)


def refused_path(user: User, verb: str, path: str) -> ApiError:
    """For paths that belong to no resource."""
    message = f'forbidden: User "{user.name}" cannot {verb} path "{path}"'
    return ApiError(403, "Forbidden", message, {})


def _path_allowed(user: User, wanted: Object) -> tuple[bool, str]:
    """Everybody with a name may ask what the server is; other paths are for administrators."""
    if MASTERS in user.groups:
        return True, ""
    public = wanted.get("path", "").startswith(("/version", "/api", "/healthz", "/livez", "/readyz", "/openapi"))
    if not public or wanted.get("verb") != "get" or "system:authenticated" not in user.groups:
        return False, ""
    told = 'ClusterRoleBinding "system:discovery" of ClusterRole "system:discovery" to Group "system:authenticated"'
    return True, f"RBAC: allowed by {told}"


def review(authorizer: Authorizer, user: User, body: Object) -> Object:
    """The answer to a SelfSubjectAccessReview."""
    spec = body.get("spec") or {}
    asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (asked is None) == (path is None):
        told = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise invalid("authorization.k8s.io", "", "", [Cause("FieldValueInvalid", told, "spec.resourceAttributes")])
    if asked is None:
        allowed, why = _path_allowed(user, path or {})
    else:
        keys = ("verb", "group", "resource", "subresource", "namespace", "name")
        allowed, why = authorizer.decide(user, Attributes(*(asked.get(key, "") for key in keys)))
    status = {"allowed": allowed, **({"reason": why} if why else {})}
    return {**body, "metadata": body.get("metadata") or {}, "status": status}
