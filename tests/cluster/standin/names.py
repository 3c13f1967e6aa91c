"""The forms that names, labels, ports and variables must have, with the server's words for those that don't."""

from __future__ import annotations

import re
from collections.abc import Callable

Check = Callable[[str], list[str]]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_KEY = "[-._a-zA-Z0-9]+"


def _told(rule: str, pattern: str, *examples: str) -> str:
    shown = ",  or ".join(f"'{example}'" for example in examples)
    return f"{rule} (e.g. {shown}, regex used for validation is '{pattern}')"


def too_long(limit: int) -> str:
    return f"must be no more than {limit} characters"


def dns_label(value: str) -> list[str]:
    wrong = [too_long(63)] if len(value) > 63 else []
    if not re.fullmatch(_LABEL, value):
        if re.fullmatch(_SUBDOMAIN, value):
            return [*wrong, "must not contain dots"]
        rule = (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
            "and must start and end with an alphanumeric character"
        )
        wrong.append(_told(rule, _LABEL, "my-name", "123-abc"))
    return wrong


def dns_label_1035(value: str) -> list[str]:
    wrong = [too_long(63)] if len(value) > 63 else []
    if not re.fullmatch(_LABEL_1035, value):
        rule = (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
            "start with an alphabetic character, and end with an alphanumeric character"
        )
        wrong.append(_told(rule, _LABEL_1035, "my-name", "abc-123"))
    return wrong


def dns_subdomain(value: str) -> list[str]:
    wrong = [too_long(253)] if len(value) > 253 else []
    if not re.fullmatch(_SUBDOMAIN, value):
        rule = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character"
        )
        wrong.append(_told(rule, _SUBDOMAIN, "example.com"))
    return wrong


def wildcard_subdomain(value: str) -> list[str]:
    if not re.fullmatch(rf"\*\.{_SUBDOMAIN}", value):
        rule = (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist "
            "of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
        )
        return [_told(rule, rf"\*\.{_SUBDOMAIN}", "*.example.com")]
    return [too_long(253)] if len(value) > 253 else []


def path_segment(value: str) -> list[str]:
    """Names of RBAC's kinds: anything that can stand in a path."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{character}'" for character in "/%" if character in value]


def qualified_name(value: str) -> list[str]:
    """Keys of labels and annotations: an optional prefix that is a subdomain, then a name of 63 characters."""
    prefix, slash, name = value.rpartition("/")
    rule = (
        "name part must consist of alphanumeric characters, '-', '_' or '.', "
        "and must start and end with an alphanumeric character"
    )
    if "/" in prefix:
        extra = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        whole = rule.replace("name part", "a qualified name")
        told = _told(whole, _QUALIFIED, "MyName", "my.name", "123-abc")
        return [f"{told} {extra}"]
    wrong = []
    if slash and not prefix:
        wrong.append("prefix part must be non-empty")
    elif slash:
        wrong += [f"prefix part {told}" for told in dns_subdomain(prefix)]
    if not name:
        wrong.append("name part must be non-empty")
    elif len(name) > 63:
        wrong.append("name part must be no more than 63 bytes")
    if not re.fullmatch(_QUALIFIED, name):
        wrong.append(_told(rule, _QUALIFIED, "MyName", "my.name", "123-abc"))
    return wrong


def label_value(value: str) -> list[str]:
    wrong = ["must be no more than 63 bytes"] if len(value) > 63 else []
    if not re.fullmatch(_VALUE, value):
        rule = (
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character"
        )
        told = _told(rule, _VALUE, "MyValue", "my_value", "12345")
        wrong.append(told)
    return wrong


def config_key(value: str) -> list[str]:
    """Keys of ConfigMaps and Secrets."""
    wrong = [too_long(253)] if len(value) > 253 else []
    if not re.fullmatch(_KEY, value):
        rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        told = _told(rule, _KEY, "key.name", "KEY_NAME", "key-name")
        wrong.append(told)
    elif value in (".", "..") or value.startswith(".."):
        wrong.append("must not be '.'" if value == "." else "must not be '..'" if value == ".." else DOTS)
    return wrong


DOTS = "must not start with '..'"


def env_name(value: str) -> list[str]:
    """Names of environment variables: since 1.34 everything printable but `=`."""
    if not re.fullmatch(r"[ -<>-~]+", value):
        return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]
    return []


def port_name(value: str) -> list[str]:
    wrong = []
    if len(value) > 15:
        wrong.append("must be no more than 15 characters")
    if not re.fullmatch("[-a-z0-9]+", value):
        wrong.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        wrong.append("must contain at least one letter (a-z)")
    if "--" in value:
        wrong.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        wrong.append("must not begin or end with a hyphen")
    return wrong


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


NAME_OF: dict[str, Check] = {
    "Namespace": dns_label,
    "Service": dns_label,
    "Role": path_segment,
    "RoleBinding": path_segment,
    "ClusterRole": path_segment,
    "ClusterRoleBinding": path_segment,
}


def name_check(kind: str) -> Check:
    """The check of an object's own name."""
    return NAME_OF.get(kind, dns_subdomain)
