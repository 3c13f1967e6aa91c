"""Watches, each of what happened already: what is selected, what the events are, which versions can be watched from.

Each lasts until its timeout, so that they stand in several scenarios, which run side by side.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.differential.objects import config_map, pod
from tests.cluster.differential.steps import Json, Scenario, Step, create, delete, listing, read, replace, watch

VERSION = "metadata.resourceVersion"


def _history() -> Iterator[Step]:
    """One object comes and goes, into a selection and out of it; another is just there."""
    yield create(201, "a made", "configmaps", config_map("a", labels={"x": "1"}), keep={"since": VERSION})
    yield create(201, "b made", "configmaps", config_map("b"))
    yield replace(200, "a changed", "configmaps", config_map("a", {"a": "2"}, labels={"x": "1"}))
    yield replace(200, "a loses its label", "configmaps", config_map("a", {"a": "2"}))
    yield replace(200, "a gets it back", "configmaps", config_map("a", {"a": "3"}, labels={"x": "1"}))
    yield replace(200, "a the same: no event", "configmaps", config_map("a", {"a": "3"}, labels={"x": "1"}))
    yield delete(200, "a deleted", "configmaps", "a")


def _selected() -> Iterator[Step]:
    yield from _history()
    yield watch("all since", "configmaps", "${since}")
    yield watch("by label", "configmaps", "${since}", labelSelector="x=1")
    yield watch("by missing label", "configmaps", "${since}", labelSelector="!x")
    yield watch("by name", "configmaps", "${since}", fieldSelector="metadata.name=a")
    yield watch("in all namespaces", "configmaps", "${since}", space="", fieldSelector="metadata.namespace=${ns}")
    yield watch("of another namespace", "configmaps", "${since}", space="${other}")
    yield watch("a bad selector", "configmaps", "${since}", code=400, labelSelector="x in")
    yield watch("a bad field", "configmaps", "${since}", code=400, fieldSelector="data.a=1")


def _versions() -> Iterator[Step]:
    yield from _history()
    yield watch("from 0: what is there", "configmaps", "0", fieldSelector="metadata.name=b")
    yield watch("without a version", "configmaps", "", fieldSelector="metadata.name=b")
    yield watch("a version that is too old", "configmaps", "1")
    yield watch("a version of the future", "configmaps", "99999999999")
    yield watch("a version that is no number", "configmaps", "abc", code=500)
    initial: Json = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    yield watch("with what is there first", "configmaps", "", fieldSelector="metadata.name=b", **initial)


def _ways() -> Iterator[Step]:
    yield from _history()
    yield watch("with bookmarks", "configmaps", "${since}", allowWatchBookmarks="true", timeoutSeconds="4")
    yield watch("with a limit", "configmaps", "${since}", limit="1")
    one = {"watch": "true", "resourceVersion": "${since}", "timeoutSeconds": "1"}
    yield read(200, "of one object by its path", "configmaps", "b", query=one)
    yield listing(200, "watch is 1", "configmaps", query={**one, "watch": "1", "fieldSelector": "metadata.name=b"})
    yield create(201, "pod made", "pods", pod("p"), keep={"since": VERSION})
    yield delete(200, "pod deleted", "pods", "p")
    yield watch("pod, all since", "pods", "${since}")


SCENARIOS = (
    Scenario("watches", tuple(_selected())),
    Scenario("watches-from", tuple(_versions())),
    Scenario("watches-by", tuple(_ways())),
)
