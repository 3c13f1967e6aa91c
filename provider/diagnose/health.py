"""What the words of a failed probe mean, the kubelet's as those of our own prober. `{field}` is the health path's."""

from __future__ import annotations

from provider.diagnose.table import Case, Table

HEALTH = Table(
    Case(
        "health-redirects",
        r"stopped after \d+ redirects",
        "Unhealthy",
        "{path} redirects for ever: let it answer itself, or set {field} in .x1agent/preview.yaml to a path that does.",
    ),
    Case(
        "health-absent",
        r"(?:statuscode: |answered )(?P<status>404|410)",
        "Unhealthy",
        "{path} answers {status}: set {field} in .x1agent/preview.yaml to a path that the app has, or add it to the"
        " app.",
    ),
    Case(
        "health-forbidden",
        r"(?:statuscode: |answered )(?P<status>401|403|407)",
        "Unhealthy",
        "{path} answers {status}, and probes have no credentials: set {field} in .x1agent/preview.yaml to a path that"
        " needs none.",
    ),
    Case(
        "health-error",
        r"(?:statuscode: |answered )(?P<status>5\d\d)",
        "Unhealthy",
        "{path} answers {status}: the log's tail may say why. Mend the app, or set {field} in .x1agent/preview.yaml"
        " to a"
        " path that needs nothing else to be well.",
    ),
    Case(
        "health-status",
        r"(?:statuscode: |answered )(?P<status>\d{3})",
        "Unhealthy",
        "{path} answers {status} to GET: make it answer below 400, or set {field} in .x1agent/preview.yaml to a path"
        " that"
        " does.",
    ),
    Case(
        "health-silent",
        r"deadline exceeded|did not answer within|Client\.Timeout",
        "Unhealthy",
        "The app takes connections on port {port}, but does not answer {path} in {timeout} s: make it answer sooner, or"
        " raise spec.runtime.healthcheck.timeoutSeconds in .x1agent/preview.yaml.",
    ),
    Case(
        "health-tls",
        r"malformed HTTP response|illegal request line|server gave HTTP|Server disconnected"
        r"|HTTP/1\.x transport connection broken"
        r"|EOF|connection reset|RemoteProtocolError|peer closed",
        "WrongProtocol",
        "What listens on port {port} does not speak plain HTTP: serve it there without TLS (the ingress has that), or"
        " set"
        " spec.runtime.protocol in .x1agent/preview.yaml (http2 for h2c and gRPC).",
    ),
    Case(
        "health-refused",
        r"connection refused|All connection attempts failed|Connect call failed",
        "ListensNowhere",
        "Nothing listens on spec.runtime.port {port}: make the app listen on 0.0.0.0:{port}, or correct the port in"
        " .x1agent/preview.yaml.",
    ),
)
