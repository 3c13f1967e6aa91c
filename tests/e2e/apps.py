"""Small apps for end-to-end tests: they build without a RUN step, and answer within milliseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from provider.demo.git_server import Content, File

Json = dict[str, Any]

IMPATIENT: Json = {"runtime": {"healthcheck": {"initialDelaySeconds": 0, "periodSeconds": 1, "failureThreshold": 1}}}
"""An app that is not ready after 3 s is given up."""


def spec_of(name: str, *, port: int = 8080, spec_extra: Mapping[str, Any] | None = None) -> str:
    """A spec as JSON, which is YAML; `spec_extra` is merged into its `spec`."""
    body = {
        "entrypoint": {"kind": "dockerfile", "path": "./Dockerfile"},
        "runtime": {"port": port, "healthcheck": {"periodSeconds": 1}},
    }
    document = {
        "apiVersion": "x1agent.io/v1",
        "kind": "PreviewSpec",
        "metadata": {"name": name},
        "spec": merged(body, spec_extra or {}),
    }
    return json.dumps(document, indent=1)


def merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> Json:
    """`base` with `extra` in it, mapping by mapping."""
    result = dict(base)
    for name, value in extra.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result


def app_files(
    name: str,
    base_image: str,
    *,
    body: str = "hello\n",
    port: int = 8080,
    dockerfile_extra: str = "",
    spec_extra: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> dict[str, Content]:
    """The smallest app that serves `body`, and its environment at /cgi-bin/env; builds without a RUN step."""
    serve = json.dumps(["sh", "-c", command] if command else ["httpd", "-f", "-p", str(port), "-h", "/www"])
    dockerfile = f"FROM {base_image}\n{dockerfile_extra}\nCOPY www /www\nCMD {serve}\n"
    return {
        ".x1agent/preview.yaml": spec_of(name, port=port, spec_extra=spec_extra),
        "Dockerfile": dockerfile,
        "www/index.html": body,
        "www/cgi-bin/env": cgi("env"),
    }


def cgi(script: str) -> File:
    """A script that httpd runs; what it prints is the page."""
    return File(f"#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n{script}\n", "100755")
