"""The objects of the cluster, and the way of a write: complete, check, admit, record who owns what, commit.

Everything is synchronous and belongs to one event loop. Controllers use `create`, `update`, `delete`, `list`, `get` and
`subscribe`; the HTTP server uses the same ones with more options.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.cluster.standin import admission, defaults, deletion, metadata, strategies, validation
from tests.cluster.standin.apply import Manager, apply, record_update, same_but_for_times
from tests.cluster.standin.decode import Decoder, Undecodable, timestamp
from tests.cluster.standin.gc import GarbageCollector
from tests.cluster.standin.namespaces import Namespaces
from tests.cluster.standin.resources import BY_KIND, Resource, resource_of
from tests.cluster.standin.schema import Schema, schema_for
from tests.cluster.standin.status import (
    ApiError,
    Cause,
    already_exists,
    bad_request,
    conflict,
    internal,
    invalid,
    not_found,
)
from tests.cluster.standin.storage import HISTORY, Change, Key, Storage
from tests.cluster.standin.values import Object, clone, mapping

__all__ = ["ApiError", "Apply", "Store"]

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Apply:
    """Options of a server-side apply."""

    manager: str
    force: bool = False
    dry_run: bool = False
    subresource: str | None = None


class Store:
    """See the module's docstring; every object goes in and out as a copy."""

    def __init__(self, now: Callable[[], datetime] = utc_now, *, history: int = HISTORY) -> None:
        self.now = now
        self.storage = Storage(history)
        self.allocator = strategies.Allocator()
        self.gc = GarbageCollector(self)
        self.namespaces = Namespaces(self)
        for name in SYSTEM_NAMESPACES:
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.create(namespace, manager="kube-apiserver")

    # Reading

    def get(self, kind: str, namespace: str | None, name: str) -> Object:
        return clone(self.find(BY_KIND[kind], namespace, name))

    def find(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """The stored object itself, not to be changed; ApiError 404."""
        found = self.storage.get(resource, (namespace if resource.namespaced else None, name))
        if found is None:
            raise not_found(resource.group, resource.plural, name)
        return found

    def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Object]:
        wanted = (labels or {}).items()
        found = self.storage.scan(BY_KIND[kind], namespace)
        return [clone(obj) for obj in found if wanted <= mapping(obj, "metadata", "labels").items()]

    def subscribe(self, callback: Callable[[str, Object], None]) -> Callable[[], None]:
        """Calls back with ("ADDED" | "MODIFIED" | "DELETED", object) after each commit; returns the way out."""

        def tell(change: Change) -> None:
            callback(change.event, clone(change.obj))

        return self.storage.listen(tell)

    # Writing

    def create(self, obj: Object, *, manager: str, dry_run: bool = False) -> Object:
        resource = self._resource(obj)
        new = self._decoded(resource, obj)
        return self._insert(resource, new, manager, dry_run=dry_run, applied=False)

    def update(self, obj: Object, *, manager: str, subresource: str | None = None, dry_run: bool = False) -> Object:
        """Replaces an object, or its status; ApiError 404, 409 if `obj`'s resourceVersion is stale, 422."""
        resource = self._resource(obj)
        key = self._key(resource, obj.get("metadata") or {})
        old = self.storage.get(resource, key)
        new = self._decoded(resource, obj, known=old or {})
        new.setdefault("metadata", {})
        if old is None:
            if resource.update_creates and subresource is None:
                return self._insert(resource, new, manager, dry_run=dry_run, applied=False)
            raise not_found(resource.group, resource.plural, key[1])
        metadata.check_preconditions(resource, old, new)
        owner = Manager(manager, "Update", resource.api_version, subresource or "")
        return clone(self._replace(resource, key, old, new, subresource, owner, dry_run=dry_run))

    def apply(self, config: Object, options: Apply) -> tuple[Object, bool]:
        """Server-side apply; the object, and whether it was created."""
        resource = self._resource(config)
        config = clone(config)
        meta = config.setdefault("metadata", {})
        key = self._key(resource, meta)
        old = self.storage.get(resource, key)
        if old is not None:
            metadata.check_applied_uid(resource, old, config)
            metadata.check_preconditions(resource, old, config)
        elif meta.get("uid"):
            why = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
            raise conflict(resource.group, resource.plural, key[1], why)
        for server_side in ("resourceVersion", "uid", "creationTimestamp"):
            meta.pop(server_side, None)
        schema = self._schema(resource)
        owner = Manager(options.manager, "Apply", resource.api_version, options.subresource or "")
        if options.subresource is None and resource.status:
            config.pop("status", None)
        merged = apply(schema, old, config, owner, force=options.force, now=timestamp(self.now()))
        new = self._decoded(resource, merged, applied=True)
        if old is None:
            return self._insert(resource, new, options.manager, dry_run=options.dry_run, applied=True), True
        done = self._replace(resource, key, old, new, options.subresource, None, dry_run=options.dry_run)
        return clone(done), False

    def delete(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        *,
        propagation: str = "Background",
        uid: str | None = None,
        grace: int | None = None,
    ) -> None:
        """Deletes, or begins to: a scheduled pod only gets its deletionTimestamp, unless `grace` is 0."""
        wanted = deletion.Deletion(propagation=propagation, uid=uid, grace=grace)
        self.remove(BY_KIND[kind], namespace, name, wanted)

    def remove(self, resource: Resource, namespace: str | None, name: str, wanted: deletion.Deletion) -> Object:
        """As `delete`, with every option; the object as it was last."""
        old = self.find(resource, namespace, name)
        key = self._key(resource, old["metadata"])
        new = deletion.marked(resource, old, wanted, self.now())
        if wanted.dry_run:
            return clone(new or old)
        if new is None:
            if resource.kind == "Pod":  # pods always end gracefully, if only within no time
                self.storage.put(resource, key, deletion.stamped(old, self.now()))
            return clone(self.storage.remove(resource, key))
        return clone(old if new == old else self.storage.put(resource, key, new))

    def _insert(self, resource: Resource, new: Object, manager: str, *, dry_run: bool, applied: bool) -> Object:
        meta = new.setdefault("metadata", {})
        if meta.get("resourceVersion") and not dry_run:
            raise internal("resourceVersion should not be set on objects to be created")
        generated = not meta.get("name") and meta.get("generateName")
        if generated:
            meta["name"] = f"{meta['generateName'][:58]}{secrets.token_hex(3)[:5]}"
        key = self._key(resource, meta)
        if resource.namespaced:
            admission.namespace_of(self.storage, resource, new)
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = timestamp(self.now())
        for absent in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.pop(absent, None)
        strategies.strip_status(resource, new)
        strategies.merge_string_data(new)
        defaults.default(new)
        if not applied:  # before admission and strategy: what those add belongs to nobody
            owner = Manager(manager, "Update", resource.api_version)
            record_update(self._schema(resource), None, new, owner, timestamp(self.now()))
        admission.mutate(self.storage, resource, new)
        strategies.before_create(resource, new, self.allocator)
        self._check(resource, new, validation.validate(resource, new))
        admission.validate(self.storage, resource, new, None)
        if self.storage.get(resource, key) is not None:
            raise already_exists(resource.group, resource.plural, key[1])
        return clone(new if dry_run else self.storage.put(resource, key, new))

    def _replace(
        self,
        resource: Resource,
        key: Key,
        old: Object,
        new: Object,
        subresource: str | None,
        owner: Manager | None,
        *,
        dry_run: bool,
    ) -> Object:
        """Commits a new state of an object that is there; `owner` is None if apply has recorded it already."""
        metadata.keep(old, new)
        strategies.merge_string_data(new)
        defaults.default(new)
        strategies.before_update(resource, old, new, subresource, self.allocator)
        wrong = validation.validate_changed(resource, old, new)
        wrong += validation.validate_update(resource, old, new, subresource)
        wrong += metadata.new_finalizers(old, new)
        self._check(resource, new, wrong)
        admission.validate(self.storage, resource, new, old)
        if owner is not None:
            record_update(self._schema(resource), old, new, owner, timestamp(self.now()))
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if same_but_for_times(old, new):
            return old
        if dry_run:
            return new
        if deletion.finished(new):
            self.storage.remove(resource, key)
            return new
        return self.storage.put(resource, key, new)

    def _check(self, resource: Resource, obj: Object, wrong: Sequence[Cause]) -> None:
        if wrong:
            raise invalid(resource.group, resource.kind, obj["metadata"].get("name", ""), wrong)

    def _resource(self, obj: Object) -> Resource:
        try:
            return resource_of(obj)
        except KeyError:
            told = f"{obj.get('apiVersion')}, Kind={obj.get('kind')}"
            raise bad_request(f"no kind is registered for {told}") from None

    def _schema(self, resource: Resource) -> Schema:
        return schema_for(resource.model)

    def _key(self, resource: Resource, meta: Object) -> Key:
        return (meta.get("namespace", "") if resource.namespaced else None, meta.get("name", ""))

    def _decoded(
        self, resource: Resource, obj: Object, *, applied: bool = False, known: Object | None = None
    ) -> Object:
        """The object in the server's own form; ApiError for what it can't hold.

        What equals a part of the `known` object, which is stored, is in that form.
        """
        decoder = Decoder()
        kept = {key: value for key, value in obj.items() if known and key in known and known[key] == value}
        try:
            decoded = decoder.structure(self._schema(resource), obj, kept=clone(kept))
        except Undecodable as wrong:
            if applied:
                about = metadata.about(resource, obj)
                raise internal(f"failed to convert new typed object ({about}) to object: {wrong}") from None
            raise bad_request(metadata.cannot_handle(resource, str(wrong))) from None
        if decoder.unknown:
            unknown = ", ".join(f'unknown field "{path}"' for path in decoder.unknown)
            raise bad_request(metadata.cannot_handle(resource, f"strict decoding error: {unknown}"))
        return decoded
