"""Any file as a spec or a policy: every mistake of it, or objects that both platforms take as they are meant."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from provider import policy, spec
from provider.errors import Code, PreviewError
from provider.models import Bundle, Revision, now
from provider.platforms import dockerfile
from provider.platforms.container import workload
from provider.platforms.kubernetes import objects
from provider.render import Release, public_path, render
from provider.settings import Settings
from tests.fuzz.hostile import JSON

FUZZ = settings.get_profile("fuzz")
OWN = Settings(platform_id="fuzz")
ODD = ["{{ 7*7 }}", "{% raw %}", "a: b", "- x", "'", '"', "\n", "\0", "$(NAME)", "`id`", "--flag", "../x", "&a [*a]"]
USUAL = ["app", "A", "/x", "./Dockerfile", "1Gi", "200m", "secret:A", "dep:0.url", "preview.self_url", "yes", "1e9", ""]
TEXT = st.sampled_from(ODD) | st.sampled_from(USUAL) | st.text(max_size=12)
ENV = st.fixed_dictionaries({"name": st.sampled_from(["A", "B"]) | TEXT}, optional={"value": TEXT, "from": TEXT})
ENTRYPOINT = st.fixed_dictionaries(
    {"kind": st.just("dockerfile") | TEXT, "path": st.just("./Dockerfile") | TEXT},
    optional={"buildContext": st.just(".") | TEXT, "args": st.dictionaries(st.just("A") | TEXT, TEXT, max_size=2)},
)
RUNTIME = st.fixed_dictionaries(
    {"port": st.just(3000) | JSON},
    optional={"path": TEXT, "healthcheck": st.dictionaries(st.just("path") | TEXT, TEXT, max_size=2)},
)
LIMITS = st.dictionaries(st.sampled_from(["cpu", "memory"]), TEXT)
VOLUME = st.fixed_dictionaries({"name": TEXT, "kind": st.sampled_from(["emptyDir", "tmpfs"]), "mountPath": TEXT})
BODY = st.fixed_dictionaries(
    {"entrypoint": ENTRYPOINT, "runtime": RUNTIME},
    optional={
        "env": st.lists(ENV, max_size=3),
        "resources": st.fixed_dictionaries({}, optional={"limits": LIMITS}),
        "volumes": st.lists(VOLUME, max_size=2),
        "ingress": st.fixed_dictionaries({}, optional={"additionalHeaders": st.dictionaries(TEXT, TEXT, max_size=2)}),
        "anything": JSON,
    },
)
SPECS = st.fixed_dictionaries(
    {
        "apiVersion": st.just("x1agent.io/v1"),
        "kind": st.just("PreviewSpec"),
        "metadata": st.fixed_dictionaries({"name": st.just("app") | TEXT}),
        "spec": BODY,
    }
)


@settings(FUZZ, max_examples=5 * FUZZ.max_examples)
@given(document=SPECS | JSON, as_json=st.booleans())
def test_a_spec_is_all_its_mistakes_or_objects_that_say_what_it_says(document: Any, as_json: bool) -> None:
    text = json.dumps(document) if as_json else yaml.safe_dump(document, allow_unicode=True)
    try:
        loaded = spec.load(text)
    except PreviewError as error:
        if error.code is not Code.INVALID_PREVIEW_SPEC or not error.evidence:
            raise
        return
    with suppress(PreviewError):  # what is valid, but not deployed yet
        spec.check_supported(loaded.spec)
        deployable(loaded.spec)


def deployable(found: spec.Spec) -> None:
    """Its values stand in the objects as they are, and nothing else of it does."""
    secrets = spec.secret_refs(found)
    bundle = Bundle(name="b", checksum="0", keys=secrets) if secrets else None
    release = Release("acme/app", "main", "a" * 40, "r/previews/app@sha256:" + "0" * 64, bundle)
    manifests = render(found, release, OWN)
    assert [one["kind"] for one in manifests] == ["Deployment", "Service", "Ingress"]
    assert {one["metadata"]["name"] for one in manifests} == {found.slug}
    revision = Revision(
        generation=1,
        deploy_id="d",
        commit_sha="a" * 40,
        branch="main",
        image="i",
        digest="d",
        inputs="",
        bundle=bundle,
        manifests=manifests,
        made_at=now(),
    )
    work = workload.workload(revision, dict.fromkeys(secrets, "value"))
    meant = {one.name: one.value for one in found.body.env if one.value is not None}
    assert meant.items() <= work.environment.items()
    workload.engine_config(work, labels={}, network="n", address="10.0.0.2", pids=1)
    assert public_path(found).startswith("/")
    with suppress(PreviewError):
        for _, body in objects.objects(revision, OWN):
            json.dumps(body)


@FUZZ
@given(text=st.text(max_size=300) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_spec_and_a_policy_or_its_mistakes(text: str) -> None:
    for load in (spec.load, policy.load):
        with suppress(PreviewError):
            load(text)


WORDS = ["FROM", "ARG", "COPY", "--from=", "RUN", "<<EOF", "scratch", "A", "=", "$A", "${A:-x}", "#", "AS", "\\", "\n"]
PARTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=20)


@FUZZ
@given(parts=PARTS)
def test_any_dockerfile_is_read_or_refused(parts: list[str]) -> None:
    text = " ".join(parts)
    for read in (dockerfile.read, dockerfile.images_as_is):
        with suppress(dockerfile.NotAllowed):
            read(text, {"A": "b"})
