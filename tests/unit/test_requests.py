"""Requests: whatever comes in, the answer is a request or an error that names every problem and no secret."""

import json
import string
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.bus import requests
from provider.bus.queries import TouchRequest
from provider.errors import Code, InvalidRequest, PreviewError
from provider.models import AcceptanceCheck, PreviewState, ProvisionRequest
from provider.names import is_branch

SMALLEST = {"repo_full_name": "acme/app", "branch": "main"}
SECRET = "hunter2-not-for-anyone"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)
some_fields = st.dictionaries(st.sampled_from(sorted(ProvisionRequest.model_fields)), json_values)


def refused(body: dict[str, object]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        requests.provision_request(body)
    return caught.value


class TestProvision:
    def test_the_smallest_request(self) -> None:
        request = requests.provision_request(SMALLEST)
        assert (request.wait, request.alias_hosts, request.installation_id) == ("ready", (), None)

    def test_every_required_field_that_is_absent_null_or_empty_is_named(self) -> None:
        bodies: list[dict[str, object]] = [{}, {"branch": None}, {"repo_full_name": "", "branch": ""}]
        for body in bodies:
            error = refused(body)
            assert error.code is Code.MISSING_FIELDS
            assert "repo_full_name, branch" in error.message

    def test_other_problems_stand_beside_missing_fields(self) -> None:
        error = refused({"branch": "main", "ttl_seconds": -1})
        assert error.code is Code.MISSING_FIELDS
        assert error.evidence == ("ttl_seconds: found -1, allowed greater than or equal to 0",)

    def test_null_is_absent(self) -> None:
        nulls = dict.fromkeys(ProvisionRequest.model_fields) | SMALLEST
        assert requests.provision_request(nulls) == requests.provision_request(SMALLEST)

    def test_null_inside_a_check_is_absent(self) -> None:
        body = {**SMALLEST, "acceptance": [{"path": "/", "method": None, "status": None}]}
        assert requests.provision_request(body).acceptance[0].method == "GET"

    def test_all_problems_at_once_with_path_found_and_allowed(self) -> None:
        error = refused(
            {
                "repo_full_name": "nope",
                "branch": "a..b",
                "commit_sha": "xyz",
                "wait": "now",
                "budget_seconds": 1141,
                "acceptance": [{"path": "/", "body_matches": "("}, {"path": "/", "stauts": 200}],
            }
        )
        assert error.code is Code.INVALID_REQUEST
        paths = [line.split(":")[0] for line in error.evidence]
        assert sorted(paths) == [
            "acceptance[0].body_matches",
            "acceptance[1].stauts",
            "branch",
            "budget_seconds",
            "commit_sha",
            "repo_full_name",
            "wait",
        ]
        assert "wait: found \"now\", allowed 'ready' or 'accepted'" in error.evidence

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("repo_full_name", "a/b/c"),
            ("repo_full_name", "../b"),
            ("branch", "-x"),
            ("commit_sha", "abcdef"),
            ("commit_sha", "a" * 41),
            ("installation_id", True),
            ("installation_id", "7"),
            ("installation_id", 1.5),
            ("alias_hosts", ["localhost"]),
            ("alias_hosts", "example.com"),
            ("session_id", "a.b"),
            ("session_id", "*"),
            ("deploy_id", "a b"),
            ("deploy_id", "a" * 65),
            ("ttl_seconds", -1),
            ("ttl_seconds", 10**12),
            ("budget_seconds", 0.5),
            ("notify", "yes"),
            ("reply_to", "a.*"),
            ("reply_to", "a.>"),
            ("reply_to", "$JS.API.STREAM.DELETE.x"),
            ("reply_to", "a b"),
            ("preview_yaml", "x" * (128 * 1024 + 1)),
            ("preview_yaml", {"a": 1}),
            ("acceptance", [{"path": "no-slash"}]),
            ("acceptance", [{"path": "/", "header": {"X": "a\r\nb"}}]),
        ],
    )
    def test_a_value_outside_the_contract_is_refused(self, field: str, value: object) -> None:
        error = refused({**SMALLEST, field: value})
        assert error.code is Code.INVALID_REQUEST
        assert len(error.evidence) == 1
        assert error.evidence[0].startswith(field)
        assert len(error.evidence[0]) < 300

    def test_values_are_normalised(self) -> None:
        request = requests.provision_request({**SMALLEST, "commit_sha": "ABCDEF0", "alias_hosts": ["App.Example.COM"]})
        assert (request.commit_sha, request.alias_hosts) == ("abcdef0", ("app.example.com",))

    def test_unknown_fields_are_warnings_with_the_nearest_name(self) -> None:
        body = {**SMALLEST, "comit_sha": "abcdef0", "qqqqqq": 1}
        requests.provision_request(body)
        first, second = requests.unknown_fields(body)
        assert first == "Unknown field 'comit_sha' was ignored; did you mean 'commit_sha'?"
        assert second == "Unknown field 'qqqqqq' was ignored."

    def test_many_unknown_fields_are_counted(self) -> None:
        warnings = requests.unknown_fields({f"field_{number}": 1 for number in range(1000)})
        assert len(warnings) == requests.MAX_WARNINGS + 1


class TestSecrets:
    @pytest.mark.parametrize(
        "fields",
        [
            {"secret_values": SECRET},
            {"secret_values": [SECRET]},
            {"secret_values": {SECRET: "x"}},
            {"secret_values": {"A": [SECRET]}},
            {"secret_values": {"A": {"deep": SECRET}}},
            {"secret_values": {"A": SECRET + "\0"}},
            {"extra_env": {"A": SECRET * 10_000}},
            {"extra_env": {"A": 5, "B": SECRET}},
            {"extra_env": {f"A{number}": SECRET for number in range(300)}},
            {"secret_values": {f"A{number}": SECRET * 2000 for number in range(10)}},
            {"repo_full_name": f"https://x-access-token:{SECRET}@github.com/acme/app"},
        ],
    )
    def test_no_refusal_shows_one(self, fields: dict[str, object]) -> None:
        error = refused({**SMALLEST, **fields})
        assert SECRET not in f"{error!r} {error} {error.evidence} {error.hint} {error.__cause__!r}"
        assert error.__suppress_context__

    def test_a_secret_never_shows_in_the_request_or_what_is_kept_of_it(self) -> None:
        request = requests.provision_request({**SMALLEST, "secret_values": {"A": SECRET}, "extra_env": {"B": SECRET}})
        stored = requests.to_stored(request, "keyed")
        assert SECRET not in f"{request!r} {request.model_dump_json()} {stored.model_dump_json()}"
        assert (stored.secret_names, stored.extra_env_names, stored.secrets_checksum) == (("A",), ("B",), "keyed")
        assert requests.secret_values(request).secrets["A"].get_secret_value() == SECRET

    def test_stored_requests_survive_the_store(self) -> None:
        body = {**SMALLEST, "acceptance": [{"path": "/", "json": {"a": 1}, "body_matches": "a+"}]}
        stored = requests.to_stored(requests.provision_request(body))
        assert type(stored).model_validate_json(stored.model_dump_json(by_alias=True)) == stored
        assert stored.acceptance == (AcceptanceCheck(path="/", json_={"a": 1}, body_matches="a+"),)


class TestFingerprint:
    @staticmethod
    def of(body: Mapping[str, object], checksum: str = "") -> str:
        return requests.to_stored(requests.provision_request(body), checksum).fingerprint()

    def test_is_the_same_for_the_same_work(self) -> None:
        assert self.of(SMALLEST) == self.of({**SMALLEST, "wait": "accepted", "deploy_id": "x", "reply_to": "a.b"})

    @pytest.mark.parametrize("change", [{"branch": "dev"}, {"secret_values": {"A": "1"}}, {"alias_hosts": ["a.b"]}])
    def test_differs_for_other_work(self, change: dict[str, object]) -> None:
        assert self.of({**SMALLEST, **change}) != self.of(SMALLEST)

    def test_knows_secret_values_only_by_their_keyed_checksum(self) -> None:
        one, two = ({**SMALLEST, "secret_values": {"A": value}} for value in ("1", "2"))
        assert self.of(one, "keyed") == self.of(two, "keyed")
        assert self.of(one, "keyed") != self.of(one, "other")


class TestOthers:
    def test_slug(self) -> None:
        assert requests.query(TouchRequest, {"slug": "my-app", "x": 1}).slug == "my-app"
        for body, code in [({}, Code.MISSING_FIELDS), ({"slug": "A"}, Code.INVALID_REQUEST)]:
            with pytest.raises(InvalidRequest) as caught:
                requests.query(TouchRequest, body)
            assert caught.value.code is code

    def test_deploy_or_slug(self) -> None:
        assert requests.deploy_or_slug_request({"deploy_id": "d1", "slug": None}).deploy_id == "d1"
        for body, code in [({}, Code.MISSING_FIELDS), ({"slug": "a", "deploy_id": "b"}, Code.INVALID_REQUEST)]:
            with pytest.raises(InvalidRequest) as caught:
                requests.deploy_or_slug_request(body)
            assert caught.value.code is code

    def test_list(self) -> None:
        assert requests.list_request({}).limit == 100
        assert requests.list_request({"state": "ready", "limit": 500}).state is PreviewState.READY
        for body in ({"limit": 0}, {"limit": 501}, {"state": "no"}, {"limit": "5"}):
            with pytest.raises(InvalidRequest):
                requests.list_request(body)


class TestDecode:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b"[]",
            b'"x"',
            b"null",
            b"\xff\xfe",
            b'{"a": NaN}',
            b'{"a": Infinity}',
            b'{"a": 1e999}',
            b'{"a": 1, "a": 2}',
            b'{"a": "\\ud800"}',
            b'{"\\ud800": 1}',
            b'{"a": ' + b"9" * 5000 + b"}",
            b'{"a":' * 40 + b"1" + b"}" * 40,
            b"[" * 100_000,
            b'{"a": "' + b"x" * requests.MAX_BYTES + b'"}',
        ],
        ids=range(16),
    )
    def test_refuses(self, data: bytes) -> None:
        with pytest.raises(InvalidRequest) as caught:
            requests.decode(data)
        assert caught.value.code is Code.BAD_REQUEST_DECODE
        assert len(caught.value.message) < 200

    def test_takes_an_object(self) -> None:
        assert requests.decode('{"a": ["ü", "\\ud83d\\ude00", 1.5]}'.encode()) == {"a": ["ü", "😀", 1.5]}

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        with suppress(PreviewError):
            assert isinstance(requests.decode(data), dict)


@given(json_values)
def test_whatever_json_comes_only_preview_errors_go(value: object) -> None:
    with suppress(PreviewError):
        requests.provision_request(requests.decode(json.dumps(value).encode()))


@given(some_fields)
def test_whatever_stands_in_a_field_only_preview_errors_go(fields: dict[str, object]) -> None:
    for parse in (
        requests.provision_request,
        partial(requests.query, TouchRequest),
        requests.deploy_or_slug_request,
        requests.list_request,
    ):
        with suppress(PreviewError):
            parse({**SMALLEST, **fields})


class TestBranches:
    @pytest.mark.parametrize("text", ["main", "feature/x", "a.b", "ü", "x@y", "release-1.2", "a" * 244, "@a"])
    def test_git_takes(self, text: str) -> None:
        assert is_branch(text)

    @pytest.mark.parametrize(
        "text",
        ["", "@", "HEAD", "-a", "/a", "a/", "a//b", "a..b", ".a", "a/.b", "a.", "a.lock", "a.lock/b", "a@{b", "a" * 245]
        + [f"a{char}b" for char in " ~^:?*[\\\n\0\x7f\ud800"],
    )
    def test_git_refuses(self, text: str) -> None:
        assert not is_branch(text)

    @given(st.text(string.printable, max_size=20))
    def test_never_raises(self, text: str) -> None:
        is_branch(text)
