"""Derived names: the contract's shapes, always valid, always unique."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider import names

LONGEST = "a" + "b" * 62
SHA = "0123456789abcdef0123456789abcdef01234567"
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

slugs = st.just("a") | st.text("ab0-", max_size=61).map(lambda middle: f"a{middle}z")
long_slugs = st.text("ab-", min_size=1, max_size=12).map(lambda tail: "a" + "b" * 49 + tail + "z")
shas = st.text("0123456789abcdef", min_size=40, max_size=40)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (names.host("app", "preview.test"), "app.preview.test"),
        (names.url("app", "preview.test"), "https://app.preview.test"),
        (names.url("app", "preview.test", 8443), "https://app.preview.test:8443"),
        (names.image("reg:5000", "app", SHA), "reg:5000/previews/app:0123456789ab"),
        (names.image_by_digest("reg:5000", "app", "sha256:1"), "reg:5000/previews/app@sha256:1"),
        (names.build_job("app", SHA), "preview-build-app-01234567"),
        (names.secret_bundle("app", 3), "preview-secrets-app-g3"),
        (names.container("app", 3), "app-g3"),
        (names.network("app"), "x1-preview-app"),
        # The first 16 hex digits of `printf www.example.com | sha256sum`.
        (names.alias_tls_secret("app", "www.example.com"), "alias-app-80fc0fb9266db7b8"),
    ],
)
def test_the_shapes_of_the_contract(name: str, expected: str) -> None:
    assert name == expected


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        *(("a", True), ("a-b", True), (LONGEST, True), (LONGEST + "b", False), ("", False), ("A", False)),
        *(("1a", False), ("a-", False), ("-a", False), ("a_b", False), ("a.b", False), ("a\n", False)),
    ],
)
def test_slugs(text: str, valid: bool) -> None:
    assert names.is_slug(text) is valid


def derived(slug: str, sha: str, generation: int, alias: str) -> list[str]:
    return [
        names.build_job(slug, sha),
        names.secret_bundle(slug, generation),
        names.container(slug, generation),
        names.network(slug),
        names.alias_tls_secret(slug, alias),
    ]


@pytest.mark.parametrize("slug", ["a", LONGEST, LONGEST[:-1], "a" + "-" * 61 + "z"])
def test_derived_names_of_any_length_are_dns_labels(slug: str) -> None:
    made = derived(slug, SHA, 10**6, "www.example.com")
    assert all(DNS_LABEL.fullmatch(name) for name in made)
    assert len(set(made)) == len(made)


def test_a_name_is_cut_only_when_it_has_to_be() -> None:
    assert names.fit("x" * 63) == "x" * 63
    assert len(names.fit("x" * 64)) == 63


@settings(max_examples=80)
@given(slugs, shas, st.integers(0, 10**6))
def test_derived_names_are_valid_and_the_same_each_time(slug: str, sha: str, generation: int) -> None:
    made = derived(slug, sha, generation, f"{slug[:20].rstrip('-')}.example.com")
    assert all(DNS_LABEL.fullmatch(name) for name in made)
    assert made == derived(slug, sha, generation, f"{slug[:20].rstrip('-')}.example.com")


@settings(max_examples=80)
@given(st.sets(slugs | long_slugs, min_size=2, max_size=6), shas, st.integers(0, 99))
def test_different_slugs_never_share_a_name(some: set[str], sha: str, generation: int) -> None:
    for kind in zip(*(derived(slug, sha, generation, "www.example.com") for slug in some), strict=True):
        assert len(set(kind)) == len(some)


@settings(max_examples=50)
@given(st.sets(st.integers(0, 10**6), min_size=2, max_size=5))
def test_generations_of_the_longest_slug_never_share_a_name(generations: set[int]) -> None:
    assert len({names.secret_bundle(LONGEST, one) for one in generations}) == len(generations)
    assert len({names.container(LONGEST, one) for one in generations}) == len(generations)


def test_alias_hosts_of_the_longest_slug_never_share_a_tls_secret() -> None:
    hosts = [f"h{index}.example.com" for index in range(100)]
    assert len({names.alias_tls_secret(LONGEST, host) for host in hosts}) == 100
