"""Volumes of a pod."""

from __future__ import annotations

from tests.cluster.standin import names
from tests.cluster.standin.checks import duplicate, forbidden, invalid, must_name, one_of, required
from tests.cluster.standin.quantities import amount
from tests.cluster.standin.status import Cause
from tests.cluster.standin.values import Object, items, mapping

# What each kind of volume has to name.
NEEDED = {"secret": "secretName", "configMap": "name", "persistentVolumeClaim": "claimName", "hostPath": "path"}
MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def volumes(path: str, found: list[Object]) -> list[Cause]:
    wrong, seen = [], set()
    for index, volume in enumerate(found):
        place = f"{path}[{index}]"
        wrong += must_name(names.dns_label, f"{place}.name", volume.get("name"))
        if volume.get("name") in seen:
            wrong.append(duplicate(f"{place}.name", volume["name"]))
        seen.add(volume.get("name"))
        sources = [key for key in volume if key != "name"]
        wrong += [forbidden(f"{place}.{key}", "may not specify more than 1 volume type") for key in sources[1:]]
        wrong += _source(place, volume)
    return wrong


def _source(path: str, volume: Object) -> list[Cause]:
    wrong = [
        required(f"{path}.{kind}.{key}")
        for kind, key in NEEDED.items()
        if kind in volume and not mapping(volume, kind).get(key)
    ]
    wrong += _empty_dir(f"{path}.emptyDir", mapping(volume, "emptyDir"))
    for kind in ("secret", "configMap", "downwardAPI", "projected"):
        source = mapping(volume, kind)
        mode = source.get("defaultMode")
        if mode is not None and not 0 <= mode <= 0o777:
            wrong.append(invalid(f"{path}.{kind}.defaultMode", mode, MODE))
        if kind in ("secret", "configMap"):
            wrong += _items(f"{path}.{kind}.items", items(source, "items"))
    return wrong


def _empty_dir(path: str, source: Object) -> list[Cause]:
    wrong, medium = [], source.get("medium") or ""
    if not medium.startswith("HugePages"):
        wrong += one_of(f"{path}.medium", medium, ("", "Memory"))
    if amount(source.get("sizeLimit", 0)) < 0:
        wrong.append(forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity"))
    return wrong


def _items(path: str, found: list[Object]) -> list[Cause]:
    wrong = []
    for index, item in enumerate(found):
        place = f"{path}[{index}]"
        if not item.get("key"):
            wrong.append(required(f"{place}.key"))
        file = item.get("path", "")
        if not file:
            wrong.append(required(f"{place}.path"))
        elif file.startswith("/"):
            wrong.append(invalid(f"{place}.path", file, "must be a relative path"))
        elif ".." in file.split("/"):
            wrong.append(invalid(f"{place}.path", file, "must not contain '..'"))
    return wrong
