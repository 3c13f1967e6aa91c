"""Secret values on this machine: files that only the provider can read.

Values are staged under the deploy before its record exists, become an immutable bundle of the
generation at admit, and go when no kept revision needs them (design.md, "State, fencing, secrets").
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

from provider import names, render
from provider.models import Bundle, SecretValues

ENV_PREFIX = render.EXTRA_ENV_KEY


class SecretFiles:
    """Staged values and bundles below one folder; every file has mode 0600."""

    def __init__(self, folder: Path) -> None:
        self._staged = folder / "staged"
        self._bundles = folder / "bundles"
        self._key_file = folder / "checksum.key"
        for path in (folder, self._staged, self._bundles):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def stage(self, staged: str, values: SecretValues) -> str:
        """Keep a request's values; returns their keyed checksum, "" when there are none."""
        if not values:
            return ""
        plain = {
            "secrets": {name: value.get_secret_value() for name, value in values.secrets.items()},
            "extra_env": {name: value.get_secret_value() for name, value in values.extra_env.items()},
        }
        _write(self._staged / f"{staged}.json", plain)
        return self._checksum(plain)

    def drop(self, staged: str) -> None:
        """Forget staged values."""
        (self._staged / f"{staged}.json").unlink(missing_ok=True)

    def staged(self) -> frozenset[str]:
        """The names of everything that is staged."""
        return frozenset(path.stem for path in self._staged.glob("*.json"))

    def bundles(self) -> list[tuple[str, str, int]]:
        """Name, slug and generation of every bundle."""
        found = [(path.stem, json.loads(path.read_text())) for path in sorted(self._bundles.glob("*.json"))]
        return [(name, str(bundle["slug"]), int(bundle["generation"])) for name, bundle in found]

    def drop_bundle(self, name: str) -> None:
        """Remove a bundle."""
        self._path(name).unlink(missing_ok=True)

    def remove_drafts(self) -> None:
        """Remove what a killed provider was just writing; nobody may write meanwhile."""
        for folder in (self._staged, self._bundles):
            for draft in folder.glob("*.json.new"):
                draft.unlink(missing_ok=True)

    def bundle(
        self, staged: str, slug: str, generation: int, secret_names: tuple[str, ...], reuse: tuple[Bundle, ...]
    ) -> Bundle | None:
        """The bundle of the staged values that the spec uses; one of `reuse` where nothing changed."""
        values = self._wanted(staged, secret_names)
        if not values:
            return None
        checksum = self._checksum(values)
        for earlier in reuse:
            if earlier.checksum == checksum and self._path(earlier.name).exists():
                return earlier
        name = names.secret_bundle(slug, generation)
        _write(self._path(name), {"slug": slug, "generation": generation, "values": values})
        return Bundle(name=name, checksum=checksum, keys=tuple(sorted(values)))

    def values(self, name: str) -> dict[str, str] | None:
        """A bundle's values, or None if it is gone."""
        try:
            return dict(json.loads(self._path(name).read_text())["values"])
        except FileNotFoundError:
            return None

    def remove_bundles(self, slug: str, keep: frozenset[str] = frozenset(), up_to: int | None = None) -> list[str]:
        """Remove a preview's bundles of generations up to `up_to` (None: all) but those of `keep`; their names."""
        removed = []
        for path in sorted(self._bundles.glob("*.json")):
            bundle = json.loads(path.read_text())
            old = up_to is None or bundle["generation"] <= up_to
            if bundle["slug"] == slug and path.stem not in keep and old:
                path.unlink()
                removed.append(path.stem)
        return removed

    def staged_values(self, staged: str) -> dict[str, str]:
        """What is staged under that name."""
        try:
            found = json.loads((self._staged / f"{staged}.json").read_text())
        except FileNotFoundError:
            return {}
        return {**found["secrets"], **{ENV_PREFIX + name: value for name, value in found["extra_env"].items()}}

    def _wanted(self, staged: str, secret_names: tuple[str, ...]) -> dict[str, str]:
        try:
            values = json.loads((self._staged / f"{staged}.json").read_text())
        except FileNotFoundError:
            return {}
        wanted = {name: values["secrets"][name] for name in secret_names if name in values["secrets"]}
        return wanted | {ENV_PREFIX + name: value for name, value in values["extra_env"].items()}

    def _checksum(self, values: object) -> str:
        """Keyed, so that a record's checksum tells nothing of a short secret."""
        canonical = json.dumps(values, sort_keys=True).encode()
        return hmac.new(self._key(), canonical, hashlib.sha256).hexdigest()[:32]

    def _key(self) -> bytes:
        if not self._key_file.exists():
            _write(self._key_file, secrets.token_hex(32))
        return self._key_file.read_bytes()

    def _path(self, name: str) -> Path:
        return self._bundles / f"{name}.json"


def _write(path: Path, content: object) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    draft = path.with_name(path.name + ".new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
