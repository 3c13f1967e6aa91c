"""Lists, selectors, pages, metadata only, logs, and requests that no route, method or format fits."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.differential.objects import changed, config_map, pod, secret
from tests.cluster.differential.steps import (
    METADATA,
    METADATA_LIST,
    Scenario,
    Step,
    apply,
    at,
    create,
    delete,
    listing,
    read,
    replace,
)

VERSION = "metadata.resourceVersion"


def _asked(title: str, code: int, resource: str = "configmaps", **query: str) -> Step:
    return listing(code, title, resource, query=query)


def _selectors() -> Iterator[Step]:
    for name, labels in {"a": {"x": "1", "y": "1"}, "b": {"x": "2"}, "c": {}, "d": {"x": "1", "l/z": "q"}}.items():
        yield create(201, f"{name} made", "configmaps", config_map(name, labels=labels))
    selectors = (
        *("x=1", "x==1", "x!=1", "x", "!x", "x in (1,2)", "x notin (1)", "x=1,y", "x=1,y!=1", "x=", "l/z=q", " x = 1 "),
        *("x>1", "x<2", "x in (1, 2),!y"),
    )
    for selector in selectors:
        yield _asked(f"labels {selector}", 200, labelSelector=selector)
    for selector in ("x in 1", "x=1,,y", "=1", "x in (", "a b=c", "x=" + "v" * 64, "x=a/b", "x>a"):
        yield _asked(f"bad labels {selector[:20]}", 400, labelSelector=selector)
    for selector in (
        "metadata.name=a",
        "metadata.name!=a",
        "metadata.namespace=${ns}",
        "metadata.name=a,metadata.namespace=x",
    ):
        yield _asked(f"fields {selector}", 200, fieldSelector=selector)
    for selector in ("data.a=1", "metadata.name", "metadata.name in (a)"):
        yield _asked(f"bad fields {selector}", 400, fieldSelector=selector)
    yield _asked("both", 200, labelSelector="x=1", fieldSelector="metadata.name=d")
    yield create(201, "pod made", "pods", pod("p", labels={"app": "p"}))
    fields = ("status.phase=Pending", "status.phase!=Pending", "spec.nodeName=", "spec.restartPolicy=Always")
    for selector in fields:
        yield _asked(f"pods {selector}", 200, "pods", fieldSelector=selector)
    yield _asked("pods bad field", 400, "pods", fieldSelector="spec.image=a")
    yield _asked("deployments bad field", 400, "deployments", fieldSelector="spec.replicas=0")
    yield create(201, "secret made", "secrets", {**secret("s"), "type": "x1agent.io/bundle"})
    yield _asked("secrets by type", 200, "secrets", fieldSelector="type=x1agent.io/bundle")
    yield _asked("jobs by success", 200, "jobs", fieldSelector="status.successful=0")
    yield listing(200, "in all namespaces", "configmaps", space="", query={"fieldSelector": "metadata.namespace=${ns}"})


def _pages() -> Iterator[Step]:
    for name in "abcde":
        yield create(201, f"{name} made", "secrets", secret(name, labels={"page": "1"}), keep={"seen": VERSION})
    chosen = {"labelSelector": "page=1"}
    token = {"next": "metadata.continue"}
    yield listing(200, "first page", "secrets", query={"limit": "2"}, keep=token)
    yield listing(
        200, "second page", "secrets", query={"limit": "2", "continue": "${next}"}, keep={"last": token["next"]}
    )
    yield delete(200, "one of the rest deleted", "secrets", "e")
    yield listing(200, "last page, as it was", "secrets", query={"limit": "2", "continue": "${last}"})
    yield listing(200, "by label", "secrets", query={"limit": "3", **chosen}, keep=token)
    yield listing(200, "by label, the rest", "secrets", query={"limit": "3", "continue": "${next}", **chosen})
    yield listing(200, "limit larger than all", "secrets", query={"limit": "500"})
    yield listing(200, "no limit", "secrets", query={"limit": "0"})
    yield listing(400, "limit that is no number", "secrets", query={"limit": "two"})
    yield listing(400, "bad token", "secrets", query={"limit": "2", "continue": "abc"})
    yield listing(
        400, "token and version", "secrets", query={"limit": "2", "continue": "${next}", "resourceVersion": "5"}
    )
    yield listing(200, "version 0", "secrets", query={"resourceVersion": "0", **chosen})
    yield listing(400, "version that is no number", "secrets", query={"resourceVersion": "abc"})
    yield listing(
        200,
        "at least a version",
        "secrets",
        query={"resourceVersion": "${seen}", "resourceVersionMatch": "NotOlderThan"},
    )
    yield listing(
        200, "just at a version", "secrets", query={"resourceVersion": "${seen}", "resourceVersionMatch": "Exact"}
    )
    yield listing(
        410, "just at a forgotten version", "secrets", query={"resourceVersion": "1", "resourceVersionMatch": "Exact"}
    )
    yield listing(
        422, "a match that is none", "secrets", query={"resourceVersion": "1", "resourceVersionMatch": "About"}
    )
    yield listing(504, "a version of the future", "secrets", query={"resourceVersion": "99999999999"})
    exact = {"resourceVersionMatch": "Exact"}
    yield listing(422, "exact without a version", "secrets", query=exact)
    yield listing(200, "the empty list", "jobs")


def _metadata() -> Iterator[Step]:
    def only(code: int, title: str, kind: str, **query: str) -> Step:
        return listing(code, title, "secrets", query=query, headers={"Accept": kind})

    yield create(201, "made", "secrets", secret("a", labels={"l": "1"}), keep={"since": VERSION})
    yield create(201, "another", "secrets", secret("b"))
    yield only(200, "metadata of a list", METADATA_LIST)
    yield only(200, "metadata by label", METADATA_LIST, labelSelector="l=1")
    yield only(200, "metadata of a page", METADATA_LIST, limit="1")
    yield read(200, "metadata of one", "secrets", "a", headers={"Accept": METADATA})
    yield read(404, "metadata of none", "secrets", "absent", headers={"Accept": METADATA})
    yield only(406, "one kind for a list", METADATA)
    yield read(406, "a list for one", "secrets", "a", headers={"Accept": METADATA_LIST})
    yield only(200, "or all of it", f"{METADATA_LIST}, application/json")
    yield replace(200, "changed", "secrets", secret("a", {"k": "w"}))
    yield replace(200, "metadata of a replacement", "secrets", secret("b", {"k": "w"}), headers={"Accept": METADATA})
    yield apply(201, "metadata of an apply", "secrets", secret("c"), headers={"Accept": METADATA})
    yield delete(200, "metadata of a deletion", "secrets", "c", headers={"Accept": METADATA})
    asked = {"watch": "true", "resourceVersion": "${since}", "timeoutSeconds": "1"}
    yield only(200, "metadata in a watch", METADATA, **asked)
    yield only(200, "metadata in a watch, as a list", METADATA_LIST, **asked)


def _logs() -> Iterator[Step]:
    two = changed(pod("p"), "spec.containers", [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}])
    yield create(201, "made, never scheduled", "pods", pod("lonely"))
    yield create(201, "made with two containers", "pods", two)
    yield read(404, "of a pod that is not there", "pods", "absent", sub="log")
    yield read(404, "the same, following", "pods", "absent", sub="log", query={"follow": "true"})
    yield read(204, "of one on no node", "pods", "lonely", sub="log")
    yield read(400, "of a container that is none", "pods", "lonely", sub="log", query={"container": "other"})
    yield read(400, "without saying which", "pods", "p", sub="log")
    wrong = {
        "negative tail": (422, {"tailLines": "-1"}),
        "no seconds": (422, {"sinceSeconds": "0"}),
        "since twice": (422, {"sinceSeconds": "1", "sinceTime": "2026-01-01T00:00:00Z"}),
        "no bytes": (422, {"limitBytes": "0"}),
        "tail that is no number": (400, {"tailLines": "x"}),
        "time that is none": (400, {"sinceTime": "yesterday"}),
    }
    for title, (code, query) in wrong.items():
        yield read(code, title, "pods", "lonely", sub="log", query=query)


def _protocol() -> Iterator[Step]:
    def ask(code: int, title: str, method: str, path: str, **more: str) -> Step:
        body = more.pop("body", None)
        headers = {key.replace("_", "-"): value for key, value in more.items()}
        return Step(title=title, code=code, method=method, path=path, body=body, headers=headers)

    yield create(201, "made", "configmaps", config_map("cm"))
    yield ask(404, "no such path", "GET", "/nothing")
    yield ask(404, "no such group", "GET", "/apis/nothing.test/v1/namespaces/${ns}/things")
    yield ask(404, "no such version", "GET", "/apis/apps/v1beta9/namespaces/${ns}/deployments")
    yield ask(404, "no such resource", "GET", "/api/v1/namespaces/${ns}/things")
    yield ask(404, "no such resource, one of it", "GET", "/api/v1/namespaces/${ns}/things/a")
    yield ask(404, "no such subresource", "GET", at("configmaps", "cm", "log"))
    yield ask(405, "PUT to a collection", "PUT", at("configmaps"), body="{}")
    yield ask(405, "PATCH of a collection", "PATCH", at("configmaps"), body="{}")
    yield ask(405, "POST to an object", "POST", at("configmaps", "cm"), body="{}")
    yield ask(405, "POST in all namespaces", "POST", "/api/v1/configmaps", body="{}")
    yield ask(406, "HTML wanted", "GET", at("configmaps", "cm"), Accept="text/html")
    yield ask(200, "anything wanted", "GET", at("configmaps", "cm"), Accept="*/*")
    yield ask(200, "JSON or HTML wanted", "GET", at("configmaps", "cm"), Accept="text/html, application/json;q=0.9")
    yield ask(415, "text sent", "POST", at("configmaps"), body="hello", Content_Type="text/plain")
    yield ask(
        415, "a form sent", "POST", at("configmaps"), body="a=b", Content_Type="application/x-www-form-urlencoded"
    )
    yield ask(200, "pretty", "GET", at("configmaps", "cm") + "?pretty=true")
    yield ask(200, "an unknown option", "GET", at("configmaps", "cm") + "?bogus=1")
    yield create(422, "dry run of another kind", "configmaps", config_map("x"), query={"dryRun": "Some"})
    yield create(422, "manager with a newline", "configmaps", config_map("x"), query={"fieldManager": "a\nb"})
    yield ask(400, "a bad escape in the query", "GET", at("configmaps") + "?limit=%zz")
    for path in ("/api/v1", "/apis/apps/v1", "/apis/batch/v1", "/apis/networking.k8s.io/v1"):
        yield ask(200, f"discovery of {path}", "GET", path)
    yield ask(200, "discovery of groups", "GET", "/apis")
    yield ask(200, "discovery of versions", "GET", "/api")
    yield ask(200, "version", "GET", "/version")
    yield ask(200, "ready", "GET", "/readyz")
    yield ask(401, "a token that is none", "GET", at("configmaps"), Authorization="Bearer nothing")


SCENARIOS = (
    Scenario("selectors", tuple(_selectors())),
    Scenario("pages", tuple(_pages())),
    Scenario("metadata-only", tuple(_metadata())),
    Scenario("logs", tuple(_logs())),
    Scenario("protocol", tuple(_protocol())),
)
