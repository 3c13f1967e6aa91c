"""Faults of what runs, on the engine: it ends, listens elsewhere, answers badly, may not do what it wants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from provider.demo.git_server import Content, File
from provider.demo.world import World
from tests.e2e.apps import IMPATIENT, app_files, merged
from tests.e2e.helpers import deployed
from tests.faults.fault import Fault
from tests.samples import sample

NOT_READY = "deployment_not_ready"
PATIENT = {"runtime": {"healthcheck": {"initialDelaySeconds": 0, "periodSeconds": 2, "failureThreshold": 10}}}
"""For an app that ends again and again, which is seen long before."""
SERVER = ["httpd", "-f", "-p", "8080", "-h", "/www"]


def app(
    name: str,
    reason: str,
    *names: str,
    command: str | None = None,
    cmd: list[str] | None = None,
    user: str = "",
    spec: Mapping[str, Any] | None = None,
    files: Mapping[str, Content] | None = None,
    runs: bool = False,
    code: str = NOT_READY,
    whose: str = "user",
    **fields: Any,
) -> Fault[World]:
    """An app that does not get well.

    Args:
        name: see `Fault`, as for what is not named here.
        reason: its.
        names: its.
        code: its.
        whose: its.
        command: a shell's, in the place of the server.
        cmd: what runs instead, as it stands in CMD; [] leaves that out.
        user: the user in the Dockerfile.
        spec: merged into its spec.
        files: committed beside the others, and in /app.
        runs: it does not end by itself, so that it need not be waited for.
        fields: of the request.
    """
    run = ["sh", "-c", command] if command is not None else SERVER if cmd is None else cmd

    async def cause(world: World) -> object:
        lines = [f"FROM {world.base_image}", "COPY . /app", "COPY www /www"]
        lines += [f"USER {user}"] if user else []
        lines += [f"CMD {json.dumps(run)}"] if run else []
        hurry = IMPATIENT if runs else PATIENT
        given = app_files(name, world.base_image, spec_extra=merged(hurry, spec or {}))
        given["Dockerfile"] = "\n".join(lines) + "\n"
        return await deployed(world, name, files=given | dict(files or {}), timeout=200.0, **fields)

    return Fault(name, cause, code, reason, whose, names)


def says(name: str, row: str, reason: str, *, exit_code: int = 1) -> Fault[World]:
    """An app that ends with what a real one said."""
    seen = sample("apps", row)
    text = "\n".join(seen.lines) + "\n"
    names = tuple(one.replace("3000", "8080") for one in seen.names)
    command = f"cat /www/said >&2; exit {exit_code}"
    return app(name, reason, *names, command=command, files={"www/said": text})


def health(path: str) -> dict[str, Any]:
    """A spec that is asked for its health there."""
    return {"runtime": {"healthcheck": {"path": path}}}


def check(name: str, reason: str, *names: str, whose: str = "user", **asked: Any) -> Fault[World]:
    """An acceptance check that fails."""
    return app(name, reason, *names, code="verify_failed", whose=whose, acceptance=[{"path": "/", **asked}])


LOOP = File("#!/bin/sh\nprintf 'Status: 302 Found\\r\\nLocation: /cgi-bin/loop\\r\\n\\r\\n'\n", "100755")
ERROR = File("#!/bin/sh\nprintf 'Status: 500 Oh no\\r\\nContent-Type: text/plain\\r\\n\\r\\nout of luck'\n", "100755")
SLOW = File("#!/bin/sh\nsleep 60\n", "100755")
SECRET = {"env": [{"name": "API_TOKEN", "from": "secret:PARTNER_TOKEN"}]}
SMALL = {"resources": {"limits": {"memory": "16Mi"}}}
TINY_DISK = {"volumes": [{"name": "data", "kind": "tmpfs", "mountPath": "/data", "sizeLimit": "64Ki"}]}

APPS: tuple[Fault[World], ...] = (
    # -------------------------------------------------------------------------------- it ends
    app("crash", "CrashLoop", "log's tail", command="echo out of luck; exit 3"),
    app("ends-well", "CrashLoop", "CMD", "foreground", command="echo done"),
    app(
        "memory",
        "OutOfMemory",
        "spec.resources.limits.memory",
        "16Mi",
        spec=SMALL,
        command="x=$(cat /dev/zero | tr '\\0' x)",
    ),
    app("no-program", "CommandNotFound", "`node`", "CMD", cmd=["node", "server.js"]),
    app("no-mode", "CommandNotExecutable", "/app/x.sh", "chmod +x", cmd=["/app/x.sh"], files={"x.sh": "#!/bin/sh\n"}),
    app("no-command", "NoCommand", "CMD", "Dockerfile", cmd=[]),
    app("no-user", "UserUnknown", "`nosuch`", "USER", user="nosuch", cmd=["sh"]),
    app("no-tool", "CommandNotFound", "`gunicorn`", "CMD", command="gunicorn app:app"),
    app(
        "not-a-program",
        "WrongArchitecture",
        "/app/x",
        "#!/bin/sh",
        cmd=["/app/x"],
        files={"x": File("\x00\x01not a program", "100755")},
    ),
    app("needs-root", "NeedsRoot", "chown", "USER 1000", command="chown nobody /tmp"),
    app(
        "may-not-write",
        "PermissionDenied",
        "/etc",
        "chown -R 1000",
        "spec.volumes",
        user="nobody",
        command="echo x > /etc/app.conf",
    ),
    app(
        "volume-full",
        "DiskFull",
        "spec.volumes[].sizeLimit",
        spec=TINY_DISK,
        command="dd if=/dev/zero of=/data/x bs=1024 count=200 || exit 1",
    ),
    app(
        "setting-missing",
        "SettingMissing",
        "DATABASE_URL",
        "spec.env",
        command=': "${DATABASE_URL:?is not set}"',
    ),
    app(
        "secret-empty",
        "SecretMissing",
        "PARTNER_TOKEN",
        "secret_values",
        "API_TOKEN",
        spec=SECRET,
        command=': "${API_TOKEN:?is empty}"',
    ),
    says("node-module", "node-module", "ModuleMissing"),
    says("node-no-database", "service", "ServiceUnreachable"),
    says("node-permission", "permission", "PermissionDenied"),
    # ---------------------------------------------------------------------- it listens elsewhere
    app(
        "other-port",
        "ListensOnAnotherPort",
        "9999",
        "spec.runtime.port",
        "8080",
        command="exec httpd -f -p 9999",
        runs=True,
    ),
    app(
        "loopback",
        "ListensOnLoopback",
        "127.0.0.1:8080",
        "0.0.0.0:8080",
        command="exec httpd -f -p 127.0.0.1:8080",
        runs=True,
    ),
    app("nowhere", "ListensNowhere", "8080", "0.0.0.0:8080", command="exec sleep 1000", runs=True),
    app(
        "other-protocol",
        "WrongProtocol",
        "8080",
        "spec.runtime.protocol",
        command="while true; do echo SSH-2.0-x | nc -l -p 8080; done",
        runs=True,
    ),
    # ---------------------------------------------------------------------------- it answers badly
    app(
        "health-404", "Unhealthy", "/absent", "404", "spec.runtime.healthcheck.path", spec=health("/absent"), runs=True
    ),
    app(
        "health-500",
        "Unhealthy",
        "/cgi-bin/ill",
        "500",
        "spec.runtime.healthcheck.path",
        spec=health("/cgi-bin/ill"),
        files={"www/cgi-bin/ill": ERROR},
        runs=True,
    ),
    app(
        "health-silent",
        "Unhealthy",
        "/cgi-bin/slow",
        "timeoutSeconds",
        spec=merged(health("/cgi-bin/slow"), {"runtime": {"healthcheck": {"timeoutSeconds": 1}}}),
        files={"www/cgi-bin/slow": SLOW},
        runs=True,
    ),
    app(
        "redirect-loop",
        "RedirectLoop",
        "/cgi-bin/loop",
        "spec.runtime.healthcheck.path",
        code="verify_failed",
        spec=health("/cgi-bin/loop"),
        files={"www/cgi-bin/loop": LOOP},
    ),
    app(
        "root-404",
        "CheckFailed",
        "GET /",
        "404",
        "spec.runtime.path",
        code="verify_failed",
        spec={"runtime": {"path": "/", "healthcheck": {"path": "/healthz"}}},
        files={"www/healthz": "ok\n", "www/index.html": None},
    ),
    check("check-status", "CheckFailed", "GET /", "acceptance[0]", status=201),
    check("check-body", "CheckFailed", "GET /", "acceptance[0]", "welcome", body_contains="welcome"),
    check("check-json", "CheckFailed", "GET /", "acceptance[0]", json={"ok": True}),
    check("check-header", "CheckFailed", "GET /", "acceptance[0]", "X-Version", header={"X-Version": "2"}),
    app(
        "check-404",
        "CheckFailed",
        "GET /api",
        "404",
        "acceptance[1]",
        code="verify_failed",
        acceptance=[{"path": "/"}, {"path": "/api"}],
    ),
)
