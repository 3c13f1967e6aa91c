"""Secret values in the cluster: staged under the deploy, then an immutable bundle of the generation.

Bundles belong to the preview's anchor and go with it. What is watched of Secrets is their metadata alone: values come
into this process with requests that it handles itself, and to be masked: those of a deploy that it takes over, and
those of an app whose log is asked for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets

from provider import names, render
from provider.errors import Code, Permanent, Whose
from provider.models import Bundle, SecretValues
from provider.platforms.bundles import gone
from provider.platforms.kubernetes.api import Api, Object
from provider.platforms.kubernetes.fence import GENERATION, PLATFORM, Anchors
from provider.platforms.kubernetes.refusals import Refused, refused
from provider.platforms.kubernetes.resources import SECRETS
from provider.platforms.kubernetes.watches import Watches, annotation

KEY_NAME = "x1-preview-checksum-key"
STAGED = render.PREFIX + "staged"
EXTRA_ENV_KEY = render.EXTRA_ENV_KEY


class SecretObjects:
    """Staged values and bundles as Secrets of PREVIEW_NAMESPACE."""

    def __init__(self, *, api: Api, watches: Watches, anchors: Anchors, platform_id: str) -> None:
        self._api = api
        self._watches = watches
        self._anchors = anchors
        self._platform_id = platform_id
        self._staged: dict[str, dict[str, str]] = {}
        self._key: bytes | None = None

    async def stage(self, staged: str, values: SecretValues) -> str:
        """Keep a request's values; returns their keyed checksum, "" when there are none."""
        if not values:
            return ""
        plain = {name: value.get_secret_value() for name, value in values.secrets.items()}
        plain |= {EXTRA_ENV_KEY + name: value.get_secret_value() for name, value in values.extra_env.items()}
        body = self._body(names.staged_secret(staged), {STAGED: staged}, plain)
        await self._make(body)
        self._staged[staged] = plain
        return await self._checksum(plain)

    async def drop(self, staged: str) -> None:
        """Forget staged values; "" are none."""
        self._staged.pop(staged, None)
        if staged:
            await self._delete(names.staged_secret(staged))

    async def bundle(
        self, staged: str, slug: str, generation: int, secret_names: tuple[str, ...], reuse: tuple[Bundle, ...]
    ) -> Bundle | None:
        """The bundle of the staged values that the spec uses; one of `reuse` where nothing changed."""
        values = await self._wanted(staged, secret_names)
        if not values:
            return None
        checksum = await self._checksum(values)
        for earlier in reuse:
            if earlier.checksum == checksum and self._watches.secrets.get(earlier.name) is not None:
                return earlier
        owner = await self._anchors.reserve(slug, generation)
        name = names.secret_bundle(slug, generation)
        body = self._body(name, {GENERATION: str(generation)}, values)
        body["immutable"] = True
        body["metadata"]["labels"]["app"] = slug
        body["metadata"]["ownerReferences"] = [owner]
        await self._make(body)
        self._staged.pop(staged, None)  # should it be needed again, the cluster has it
        return Bundle(name=name, checksum=checksum, keys=tuple(sorted(values)))

    async def values(self, staged: str, bundles: tuple[str, ...]) -> frozenset[str]:
        """The values that are staged under that name, and those of bundles. Raises `secret_missing`."""
        found = [await self._plain(staged)]
        for name in bundles:
            if (one := await self._api.get(SECRETS, name)) is None:
                raise gone(name)
            found.append(_values(one))
        return frozenset(value for values in found for value in values.values())

    async def remove_bundles(
        self, slug: str, keep: frozenset[str] = frozenset(), up_to: int | None = None
    ) -> list[str]:
        """Remove a preview's bundles of generations up to `up_to` (None: all) but those of `keep`; their names."""
        leaving = self.bundles(slug, keep, up_to)
        for name in leaving:
            await self._delete(name)
        return leaving

    def bundles(self, slug: str, keep: frozenset[str] = frozenset(), up_to: int | None = None) -> list[str]:
        """The names of a preview's bundles of generations up to `up_to` (None: all) but those of `keep`."""
        return sorted(
            found["metadata"]["name"]
            for found in self._watches.secrets.of(slug)
            if found["metadata"]["name"] not in keep
            and annotation(found, PLATFORM) == self._platform_id
            and (up_to is None or int(annotation(found, GENERATION) or 0) <= up_to)
        )

    async def _wanted(self, staged: str, secret_names: tuple[str, ...]) -> dict[str, str]:
        values = await self._plain(staged)
        extra = {key: value for key, value in values.items() if key.startswith(EXTRA_ENV_KEY)}
        return {name: values[name] for name in secret_names if name in values} | extra

    async def _plain(self, staged: str) -> dict[str, str]:
        """What is staged under that name: also by the process that had this deploy before us, however lately."""
        known = self._staged.get(staged)
        if known is not None or not staged:
            return known or {}
        found = await self._api.get(SECRETS, names.staged_secret(staged))  # a watch may not show it yet
        return _values(found) if found is not None else {}

    async def _make(self, body: Object) -> None:
        """Create a Secret that nobody else makes; one that is there already was made by an earlier try."""
        name = body["metadata"]["name"]
        for _ in range(2):
            try:
                self._watches.secrets.put(await self._api.create(SECRETS, body))
            except Refused as error:
                if error.reason != "AlreadyExists":
                    raise refused(error, f"secret {name}") from error
                present = await self._api.get(SECRETS, name)
                if present is not None and _same(present, body):
                    return
                if present is not None and annotation(present, PLATFORM) != self._platform_id:
                    break
                await self._api.delete(SECRETS, name)  # of a generation that was lost with its records
            else:
                return
        raise Permanent(
            Code.CONFLICT, f"Somebody else has a Secret {name}.", reason="SecretTaken", whose=Whose.PLATFORM,
            hint="Remove it, or give this provider a PREVIEW_NAMESPACE of its own.",
        )  # fmt: skip

    async def _delete(self, name: str) -> None:
        await self._api.delete(SECRETS, name)
        self._watches.secrets.forget(name)

    def _body(self, name: str, annotations: dict[str, str], values: dict[str, str]) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": self._api.namespace(SECRETS),
                "labels": {"app.kubernetes.io/managed-by": render.MANAGED_BY},
                "annotations": {PLATFORM: self._platform_id, **annotations},
            },
            "type": "Opaque",
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
        }

    async def _checksum(self, values: dict[str, str]) -> str:
        """Keyed, so that a record's checksum tells nothing of a short secret."""
        canonical = json.dumps(values, sort_keys=True).encode()
        return hmac.new(await self._checksum_key(), canonical, hashlib.sha256).hexdigest()[:32]

    async def _checksum_key(self) -> bytes:
        """Made once for the namespace, by whichever provider needs it first."""
        if self._key is None:
            body = self._body(KEY_NAME, {}, {"key": secrets.token_hex(32)})
            try:
                found = await self._api.get(SECRETS, KEY_NAME) or await self._api.create(SECRETS, body)
            except Refused as error:
                if error.reason != "AlreadyExists":
                    raise refused(error, f"secret {KEY_NAME}") from error
                found = await self._api.get(SECRETS, KEY_NAME) or body
            self._key = _values(found)["key"].encode()
        return self._key


def _values(found: Object) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}


def _same(present: Object, wanted: Object) -> bool:
    """Whether an earlier try made just this: same values, below the same anchor."""

    def owners(one: Object) -> list[str]:
        return [owner["uid"] for owner in one["metadata"].get("ownerReferences", [])]

    return (present.get("data") or {}) == wanted["data"] and owners(present) == owners(wanted)
