"""The policy: its file, what its names match, and that a decision is never laxer than its rule."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.errors import Code, Permanent, Whose
from provider.models import DeployRecord, PreviewState, StoredRequest
from provider.platforms import dockerfile, hosts
from provider.policy import Asked, Breach, Counts, Policy, Rule, WatchedPolicy, decide, load, patterns
from provider.policy.decide import time_to_live
from provider.settings import Settings
from provider.spec import SMALLEST_SPEC, quantities
from provider.spec import load as load_spec
from provider.store import reducers
from provider.store.lifetime import Policy as Lifetime
from provider.store.records import Reducer
from provider.store.resting import at_rest, lacking
from tests.unit.test_reducers import FAILURE, LATER, URL, admit, apply, deploy, revision

HEAD = "apiVersion: x1agent.io/v1\nkind: PreviewPolicy\n"
FULL = (
    HEAD
    + """
default: hold
rules:
  - name: main
    repositories: [acme/*]
    branches: [main, release/**]
    action: allow
    beyond: hold
    entrypoints: [dockerfile]
    limits: {cpu: 2, memory: 2Gi, ephemeralStorage: 1Gi, ttlSeconds: 60, previewsPerRepository: 2}
    secrets: ["SHOP_*"]
    aliasHosts: ["*.acme.dev", shop.example.com]
    baseImages: [docker.io/library, ghcr.io/acme]
    egress: none
"""
)


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(Permanent) as caught:
        load(text)
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_REQUEST, "PolicyInvalid")
    assert caught.value.whose is Whose.PLATFORM
    return caught.value.evidence


# ------------------------------------------------------------------------------- the file


def test_every_field_is_read() -> None:
    policy = load(FULL)
    (rule,) = policy.rules
    assert (policy.default, rule.beyond, rule.egress, rule.limits.cpu) == ("hold", "hold", "none", "2")
    assert policy.rule_for("Acme/Shop", "release/1/2") is rule
    assert policy.rule_for("acme/shop", "other").name == "default"
    assert load(HEAD).rule_for("a/b", "c").action == "deny", "what no rule is about is denied"


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ("{name: a, action: allow, limts: {cpu: 1}}", ("rules[0].limts (line 4): is unknown; did you mean `limits`?",)),
        ("{name: a, action: alow}", ('rules[0].action (line 4): found "alow"; allowed: allow, deny or hold',)),
        (
            "{name: default, action: allow, secrets: , limits: {memory: lots}}",
            (
                'rules[0].name (line 4): found "default", which is the name of what no rule is about',
                "rules[0].secrets (line 4): has nothing after it; allowed: a value, or the field left out",
                'rules[0].limits.memory (line 4): found "lots"; allowed: a Kubernetes quantity above zero',
            ),
        ),
        (
            "{name: a, action: allow, baseImages: [nginx]}",
            ('rules[0].baseImages[0] (line 4): found "nginx"; allowed: a',),
        ),
        (
            "{name: a, action: allow, aliasHosts: ['*']}",
            ('rules[0].aliasHosts[0] (line 4): found "*"; allowed: a host',),
        ),
    ],
)
def test_every_mistake_is_told_with_its_place(rule: str, lines: tuple[str, ...]) -> None:
    found = mistakes(f"{HEAD}rules:\n  - {rule}\n")
    assert len(found) == len(lines), found
    assert [line for line in lines if not any(one.startswith(line) for one in found)] == []


@pytest.mark.parametrize("text", ["", "[]", "a: &x [*x]", "apiVersion: x1agent.io/v1", "\0", "x" * 70_000])
def test_what_is_no_policy_is_told(text: str) -> None:
    assert mistakes(text)


KEYS = st.sampled_from(["rules", "name", "limits", "cpu", "action", "default", "secrets", "x"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)


@given(st.recursive(LEAVES, lambda one: st.lists(one, max_size=3) | st.dictionaries(KEYS, one, max_size=4)))
def test_no_text_is_more_than_a_mistake(data: object) -> None:
    with suppress(Permanent):
        assert isinstance(load(yaml.safe_dump(data, allow_unicode=True)), Policy)


# -------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("acme/shop", "acme/*", True),
        ("acme/shop/x", "acme/*", False),
        ("release/1/2", "release/**", True),
        ("release", "release/**", False),
        ("a.b", "a?b", False),
        ("a\nb", "**", True),
        ("mainly", "main", False),
        ("x" * 240, "*x" * 90, True),
        ("x" * 240 + "y", "*x" * 90, False),
    ],
)
def test_globs(name: str, pattern: str, fits: bool) -> None:
    assert patterns.matches(name, [pattern]) is fits


@pytest.mark.parametrize(
    ("image", "prefix", "fits"),
    [
        ("nginx", "docker.io/library", True),
        ("nginx:1.2@sha256:" + "0" * 64, "docker.io", True),
        ("acme/nginx", "docker.io/library", False),
        ("index.docker.io/nginx", "docker.io/library/nginx", True),
        ("ghcr.io/acme/base:1", "ghcr.io/acme", True),
        ("ghcr.io/acmes/base", "ghcr.io/acme", False),
        ("GHCR.io/acme/base", "ghcr.io/acme", True),
        ("ghcr.io.evil.example/acme/base", "ghcr.io", False),
        ("localhost:5000/base:1", "localhost:5000", True),
        ("localhost:50001/base:1", "localhost:5000", False),
        ("localhost/base", "docker.io", False),
    ],
)
def test_base_images(image: str, prefix: str, fits: bool) -> None:
    assert patterns.matches_image(image, [prefix]) is fits


@pytest.mark.parametrize(
    "text",
    [
        "FROM good\nRUN cat <<'E\\'\nE\\\nFROM evil\n",
        "FROM good\nRUN true \\\\\nFROM evil\n",
        "FROM good\nRUN true \\\n\x1c# no comment\nFROM evil\n",
        "ARG TARGETOS\nFROM ${TARGETOS:-good}/x\n",
        "ARG A=evil\nARG A=good\nFROM $A\n",
        "FROM good\nRUN --mount=from=evil,target=/x true\n",
    ],
)
def test_a_dockerfile_that_others_may_read_otherwise_is_refused(text: str) -> None:
    with pytest.raises(dockerfile.NotAllowed):
        dockerfile.images_as_is(text, {})


def test_a_plain_dockerfile_says_what_it_needs() -> None:
    text = "ARG V=1\nFROM good:$V AS build\nRUN a && \\\n  b # FROM evil\n"
    text += "FROM other\nCOPY --from=build /a /a\nCOPY --from=third /b /b\n"
    assert dockerfile.images_as_is(text, {}) == ("good:1", "other", "third")


# ----------------------------------------------------------------------------- decisions

NAMES = st.sampled_from(["A", "B_1", "SHOP_X"])
QUANTITIES = st.sampled_from(["100m", "1", "2", "1Gi", "3Gi"])
RULES = st.builds(
    Rule,
    name=st.just("r"),
    action=st.sampled_from(["allow", "deny", "hold"]),
    beyond=st.sampled_from(["deny", "hold"]),
    branches=st.sampled_from([("**",), ("main",), ("other",)]),
    secrets=st.none() | st.lists(st.sampled_from(["A", "SHOP_*"]), max_size=2).map(tuple),
    aliasHosts=st.none() | st.just(("*.acme.dev",)) | st.just(()),
    baseImages=st.none() | st.just(("docker.io/library",)),
    limits=st.fixed_dictionaries(
        {
            "memory": st.none() | QUANTITIES,
            "ttlSeconds": st.none() | st.integers(1, 100),
            "previewsPerRepository": st.none() | st.integers(0, 3),
        }
    ),
)
ASKED = st.builds(
    Asked,
    repo_full_name=st.just("acme/shop"),
    branch=st.sampled_from(["main", "dev"]),
    limits=QUANTITIES.map(lambda memory: (("memory", memory),)),
    ttl_seconds=st.none() | st.integers(0, 200),
    secrets=st.lists(NAMES, max_size=3).map(tuple),
    alias_hosts=st.lists(st.sampled_from(["a.acme.dev", "b.example"]), max_size=2).map(tuple),
    base_images=st.lists(st.sampled_from(["nginx", "ghcr.io/x/y"]), max_size=2).map(tuple),
)
COUNTS = st.builds(Counts, of_repository=st.none() | st.integers(0, 4))


def within(rule: Rule, asked: Asked, counts: Counts) -> bool:
    """The same question, asked limit by limit."""
    limits, allowed = rule.limits, {*(rule.secrets or ()), *(("SHOP_X",) if "SHOP_*" in (rule.secrets or ()) else ())}
    memory = quantities.amount(dict(asked.limits)["memory"]) or Decimal(0)
    return all(
        [
            limits.memory is None or memory <= (quantities.amount(limits.memory) or 0),
            limits.ttl_seconds is None or asked.ttl_seconds is None or 0 < asked.ttl_seconds <= limits.ttl_seconds,
            limits.previews_per_repository is None
            or counts.of_repository is None
            or counts.of_repository < limits.previews_per_repository,
            rule.secrets is None or all(map(allowed.__contains__, asked.secrets)),
            rule.alias_hosts is None or all(host == "a.acme.dev" and rule.alias_hosts for host in asked.alias_hosts),
            rule.base_images is None or set(asked.base_images) <= {"nginx"},
        ]
    )


@settings(max_examples=200)
@given(st.lists(RULES, max_size=3), st.sampled_from(["allow", "deny", "hold"]), ASKED, COUNTS)
def test_a_decision_is_what_the_first_rule_says(rules: list[Rule], default: str, asked: Asked, counts: Counts) -> None:
    policy = Policy.model_validate(
        {"apiVersion": "x1agent.io/v1", "kind": "PreviewPolicy", "default": default, "rules": rules}
    )
    decision = decide(policy, asked, counts)
    rule = next((one for one in rules if one.branches in (("**",), (asked.branch,))), None)
    if rule is None:
        assert (decision.action, decision.breaches, decision.rule.name) == (default, (), "default")
        return
    assert decision.rule == rule
    if rule.action == "deny":
        assert decision.action == "deny"
    elif within(rule, asked, counts):
        assert (decision.action, decision.breaches) == (rule.action, ())
    else:
        assert decision.action == rule.beyond
        assert decision.breaches
        assert all(one.allowed and one.asked for one in decision.breaches)


@given(RULES, st.integers(0, 200))
def test_for_ever_is_longer_than_any_ceiling(rule: Rule, seconds: int) -> None:
    most = rule.limits.ttl_seconds
    breach = time_to_live(rule, seconds)
    assert (breach is not None) is (most is not None and not 0 < seconds <= most)


def test_what_a_request_asks_for_is_what_its_spec_says() -> None:
    text = SMALLEST_SPEC + "  env: [{name: A, from: 'secret:SHOP_A'}, {name: B, from: 'secret:B'}]\n"
    text += "  resources: {limits: {memory: 4Gi}}\n"
    request = StoredRequest(
        repo_full_name="acme/shop",
        branch="main",
        extra_env_names=("B",),
        secret_names=("OTHER",),
        ttl_seconds=0,
        alias_hosts=("x.example",),
    )
    asked = Asked.of(request, load_spec(text, extra_env_names=frozenset({"B"})).spec, ("nginx", "quay.io/x"))
    decision = decide(load(FULL), asked, Counts(of_repository=2, of_session=0))
    assert decision.action == "hold"
    assert decision.breaches == (
        Breach("limits.memory", "2Gi", "4Gi"),
        Breach("limits.ttlSeconds", "1 to 60", "0 (for ever)"),
        Breach("limits.previewsPerRepository", "2", "one more than 2"),
        Breach("secrets", "SHOP_*", "OTHER"),
        Breach("aliasHosts", "*.acme.dev, shop.example.com", "x.example"),
        Breach("baseImages", "docker.io/library, ghcr.io/acme", "quay.io/x"),
    )


# ------------------------------------------------------------------------- reading it again


def mounted(folder: Path, text: str, version: str) -> Path:
    """A ConfigMap's mount: the file is a link through `..data`, which is swapped for another folder's."""
    (folder / version).mkdir(parents=True)
    (folder / version / "policy.yaml").write_text(text)
    (folder / "new").symlink_to(version)
    (folder / "new").rename(folder / "..data")
    file = folder / "policy.yaml"
    if not file.is_symlink():
        file.symlink_to("..data/policy.yaml")
    return file


async def test_a_swapped_mount_is_read_again_and_a_bad_one_is_not_taken(tmp_path: Path) -> None:
    watched = WatchedPolicy(mounted(tmp_path, HEAD + "default: allow\n", "..1"))
    watched.open()
    assert watched.current is not None
    mounted(tmp_path, HEAD + "default: hold\n", "..2")
    await watched.once()
    assert watched.current.default == "hold"
    mounted(tmp_path, HEAD + "default: whatever\n", "..3")
    await watched.once()
    assert watched.current.default == "hold"
    assert "the last good one is kept (0 rules, default hold)" in watched.detail
    assert watched.problem is not None
    (tmp_path / "..data").unlink()
    await watched.once()
    assert watched.problem.reason == "PolicyUnreadable"
    mounted(tmp_path, HEAD + "default: deny\n", "..4")
    await watched.once()
    assert "kept" not in watched.detail
    assert load(HEAD + "default: deny\n") == watched.current


def test_without_a_good_file_nothing_begins(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="cannot be read: No such file"):
        WatchedPolicy(tmp_path / "absent").open()
    none = WatchedPolicy()
    none.open()
    assert none.current is None


# ------------------------------------------------------------------------------ the record


def held(of: DeployRecord) -> Reducer:
    return reducers.held(of, URL, LATER)


def test_a_held_deploy_changes_nothing_but_that_it_is_the_newest() -> None:
    first, second = deploy("d-1", 1), deploy("d-2", 2)
    serving = apply(None, admit(first), reducers.succeeded(first, revision(first)))
    waiting = apply(serving, held(second))
    assert (waiting.state, waiting.newest.deploy_id) == (PreviewState.AWAITING_APPROVAL, "d-2")
    unchanged = {"state", "newest", "last_access", "warned_at"}
    assert waiting.model_dump(exclude=unchanged) == serving.model_dump(exclude=unchanged)
    assert at_rest(waiting), "what serves is looked after"
    assert apply(waiting, lacking(waiting.generation, FAILURE)).state is PreviewState.AWAITING_APPROVAL


def test_an_approved_deploy_is_admitted_as_any_other() -> None:
    first, second = deploy("d-1", 1), deploy("d-2", 2)
    for before in (None, apply(None, admit(first), reducers.succeeded(first, revision(first)))):
        waiting = apply(before, held(second))
        going = apply(waiting, admit(second))
        assert (going.state, going.generation) == (PreviewState.PROVISIONING, waiting.generation + 1)
        assert (going.alias_hosts, going.ttl_seconds, going.newest.inputs) == (("a.example",), 60, "in")


def test_a_later_deploy_takes_the_place_of_one_that_waits() -> None:
    first, second = deploy("d-1", 1), deploy("d-2", 2)
    later = apply(None, held(first), admit(second))
    assert (later.state, later.newest.deploy_id) == (PreviewState.PROVISIONING, "d-2")
    for again in (admit(first, "other"), held(first)):
        with pytest.raises(Permanent) as caught:
            again(later)
        assert caught.value.code is Code.SUPERSEDED


def test_what_waits_outlives_the_usual_time() -> None:
    waiting = apply(None, held(deploy("d-1", 1)))
    policy = Lifetime(ttl=60, longest=0, failed=60, warning=1, busy=60, held=7200)
    end = policy.expires_at(waiting)
    assert end is not None
    assert (end - waiting.last_access).total_seconds() == 7200


def test_an_older_record_is_read() -> None:
    record = deploy("d-1", 1)
    older = record.model_dump(mode="json", exclude={"egress", "approval"})
    read = DeployRecord.model_validate(older)
    assert (read, read.held, read.approved, read.egress) == (record, False, False, "internet")


# --------------------------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        ("a.b.preview.test", "below preview.test"),
        ("preview.test", "preview.test, which"),
        ("git.example.com", "git.example.com"),
        ("x.git.example.com", "below git.example.com"),
        ("registry.example.com", "registry.example.com"),
        ("bus.example.com", "bus.example.com"),
        ("app.example.com", "app.example.com"),
    ],
)
def test_platform_hosts_are_nobodys_to_have(host: str, whose: str) -> None:
    own = Settings(
        preview_domain="preview.test",
        git_base_url="https://git.example.com",
        registry_address="registry.example.com:5000",
        nats_url="nats://user:password@bus.example.com:4222, other:4222",
        platform_hosts=("app.example.com",),
    )
    hosts.check_reserved(["shop.example.com", "my-app.preview.test"], own, "my-app")
    with pytest.raises(Permanent) as caught:
        hosts.check_reserved([host], own, "my-app")
    assert caught.value.reason == "HostReserved"
    assert whose in caught.value.message
