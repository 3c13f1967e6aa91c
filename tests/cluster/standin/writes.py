"""POST, PUT, PATCH and DELETE: from the body of a request to a write of the store."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.cluster.standin import bodies, patches, pod_security, typed_patch
from tests.cluster.standin.auth import Attributes, Authorizer, User
from tests.cluster.standin.deletion import Deletion
from tests.cluster.standin.metadata import RV
from tests.cluster.standin.reads import matcher_for
from tests.cluster.standin.requests import Asked, WriteOptions, number, one_of, partial_view, write_options
from tests.cluster.standin.resources import BY_KIND, Resource
from tests.cluster.standin.schema import schema_for
from tests.cluster.standin.status import ApiError, Cause, bad_request, invalid, unsupported_media_type
from tests.cluster.standin.store import Apply, Store
from tests.cluster.standin.values import Object, clone

PROPAGATIONS = ("Foreground", "Background", "Orphan")
ORPHANED_PODS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


@dataclass
class Done:
    """The answer to a write."""

    body: Object
    code: int = 200
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Writer:
    """One write request: who asks for what, with its body read."""

    store: Store
    authorizer: Authorizer
    user: User
    resource: Resource
    asked: Asked
    request: web.BaseRequest
    body: bytes

    def create(self) -> Done:
        options = write_options("CreateOptions", self.request)
        obj, warnings = self._typed(options)
        self._placed(obj)
        made = self.store.create(obj, manager=options.manager, dry_run=options.dry_run)
        return Done(self._view(made), 201, warnings + self._warned(made))

    def update(self) -> Done:
        options = write_options("UpdateOptions", self.request)
        obj, warnings = self._typed(options)
        self._placed(obj)
        self._named(obj)
        there = self.store.storage.get(self.resource, self._key)
        if there is not None and not self.resource.unconditional_update and not obj["metadata"].get("resourceVersion"):
            cause = Cause("FieldValueInvalid", "Invalid value: 0: must be specified for an update", RV)
            raise invalid(self.resource.group, self.resource.plural, self.asked.name, [cause])
        done = self._update(obj, options)
        return Done(self._view(done), 200 if there is not None else 201, warnings + self._warned(done))

    def patch(self) -> Done:
        kind = self.request.content_type
        if kind == patches.APPLY_PATCH:
            return self._apply()
        if kind not in patches.TYPES:
            raise unsupported_media_type(patches.TYPES)
        options = write_options("PatchOptions", self.request)
        live = clone(self.store.find(self.resource, self.asked.namespace, self.asked.name))
        patched = self._patched(kind, live)
        obj, warnings = self._typed_patched(patched, options)
        self._placed(obj)
        self._named(obj)
        done = self._update(obj, options)
        return Done(self._view(done), 200, warnings + self._warned(done))

    def _typed_patched(self, patched: Any, options: WriteOptions) -> tuple[Object, list[str]]:
        """The patched object; what it can't be decoded for is put down to the patch."""
        try:
            return bodies.typed(self.resource, patched, options.validation)
        except ApiError as refused:
            told = f"Invalid value: {json.dumps(json.dumps(patched))}: {refused.message}"
            raise invalid("", "", "", [Cause("FieldValueInvalid", told, "patch")]) from None

    def _patched(self, kind: str, live: Object) -> Any:
        try:
            patch = json.loads(self.body)
        except ValueError as wrong:
            raise bad_request(f"error decoding patch: {wrong}") from None
        if kind == patches.JSON_PATCH:
            return patches.json_patch(live, patch)
        if not isinstance(patch, dict):
            raise bad_request(
                "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}"
            )
        if kind == patches.MERGE_PATCH:
            return patches.merge_patch(live, patch)
        return patches.strategic_patch(schema_for(self.resource.model), live, patch)

    def _apply(self) -> Done:
        options = write_options("PatchOptions", self.request, applied=True)
        config, doubled = bodies.applied(self.body)
        config.setdefault("metadata", {}).setdefault("name", self.asked.name)
        typed_patch.check(self.resource, config)
        self._placed(config)
        self._named(config)
        if self.store.storage.get(self.resource, self._key) is None:
            self._may_create()
        if doubled and options.validation == "Strict":
            told = "\n  ".join(doubled)
            raise bad_request(
                f"error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {told}"
            )
        wanted = Apply(options.manager, options.force, options.dry_run, self.asked.subresource or None)
        done, created = self.store.apply(config, wanted)
        warnings = doubled if options.validation == "Warn" else []
        return Done(self._view(done), 201 if created else 200, warnings + self._warned(done))

    def _may_create(self) -> None:
        """An apply that makes the object needs the permission to create it."""
        asked = self.asked
        self.authorizer.check(
            self.user, Attributes("create", asked.group, asked.plural, asked.subresource, asked.namespace, asked.name)
        )

    def delete(self) -> Done:
        wanted = self._deletion()
        there = self.store.find(self.resource, self.asked.namespace, self.asked.name)
        last = self.store.remove(self.resource, self.asked.namespace, self.asked.name, wanted)
        gone = self.store.storage.get(self.resource, self._key) is None or wanted.dry_run
        warnings = [ORPHANED_PODS] if self.resource.orphans and wanted.propagation is None else []
        if gone and not self.resource.returns_deleted:
            return Done(_success(self.resource, there), 200, warnings)
        return Done(self._view(last), 200, warnings)

    def delete_collection(self) -> Done:
        matcher = matcher_for(self.resource, self.asked)
        found = [obj for obj in self.store.storage.scan(self.resource, self.asked.namespace or None) if matcher(obj)]
        wanted = self._deletion()
        for obj in found:
            self.store.remove(self.resource, obj["metadata"].get("namespace"), obj["metadata"]["name"], wanted)
        bare = [{key: value for key, value in obj.items() if key not in ("kind", "apiVersion")} for obj in found]
        metadata = {"resourceVersion": str(self.store.storage.version)}
        listed = {"kind": f"{self.resource.kind}List", "apiVersion": self.resource.api_version}
        return Done({**listed, "metadata": metadata, "items": bare})

    def _deletion(self) -> Deletion:
        """DeleteOptions, from the body or else from the query."""
        said: Object = bodies.parse(self.body, self.request.content_type) if self.body.strip() else {}
        query = self.request.query
        propagation = said.get("propagationPolicy") or query.get("propagationPolicy")
        wrong = one_of(propagation or "Background", PROPAGATIONS, "propagationPolicy")
        wrong += one_of(([*(said.get("dryRun") or []), *query.getall("dryRun", [])] or ["All"])[0], ("All",), "dryRun")
        if wrong:
            raise invalid("meta.k8s.io", "DeleteOptions", "", wrong)
        grace = said.get("gracePeriodSeconds", number(query, "gracePeriodSeconds"))
        conditions = said.get("preconditions") or {}
        return Deletion(
            propagation=propagation,
            uid=conditions.get("uid"),
            version=conditions.get("resourceVersion"),
            grace=None if grace is None else max(int(grace), 0),
            dry_run=bool(said.get("dryRun") or "dryRun" in query),
        )

    @property
    def _key(self) -> tuple[str | None, str]:
        return (self.asked.namespace if self.resource.namespaced else None, self.asked.name)

    def _typed(self, options: WriteOptions) -> tuple[Object, list[str]]:
        return bodies.typed(self.resource, bodies.parse(self.body, self.request.content_type), options.validation)

    def _update(self, obj: Object, options: WriteOptions) -> Object:
        subresource = self.asked.subresource or None
        return self.store.update(obj, manager=options.manager, subresource=subresource, dry_run=options.dry_run)

    def _placed(self, obj: Object) -> None:
        """The object takes the path's namespace, and must not name another."""
        meta = obj.setdefault("metadata", {})
        expected = self.asked.namespace if self.resource.namespaced else ""
        if meta.get("namespace") and meta["namespace"] != expected:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        if expected:
            meta["namespace"] = expected

    def _named(self, obj: Object) -> None:
        name = obj["metadata"].get("name")
        if not name:
            told = f"the name of the object ({self.asked.name} based on URL) was undeterminable"
            raise bad_request(f"{told}: name must be provided")
        if name != self.asked.name:
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({self.asked.name})")

    def _warned(self, obj: Object) -> list[str]:
        """Warnings of the namespace's Pod Security level."""
        namespace = self.store.storage.get(BY_KIND["Namespace"], (None, self.asked.namespace))
        return pod_security.warnings(namespace, obj) if namespace and not self.asked.subresource else []

    def _view(self, obj: Object) -> Object:
        return partial_view(obj) if self.asked.partial else obj


def _success(resource: Resource, obj: Object) -> Object:
    details = {"name": obj["metadata"]["name"], "kind": resource.plural, "uid": obj["metadata"]["uid"]}
    if resource.group:
        details["group"] = resource.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
