"""What steps write of a network that does not give what they ask for. `{where}` is the step's line."""

from __future__ import annotations

from provider.diagnose.table import Case
from provider.errors import Whose

PUBLIC = (
    r"(?P<host>(?:[\w-]+\.)*(?:npmjs\.org|yarnpkg\.com|pypi\.org|pythonhosted\.org|golang\.org|crates\.io"
    r"|rust-lang\.org|debian\.org|ubuntu\.com|alpinelinux\.org|github\.com|githubusercontent\.com|maven\.org"
    r"|maven\.apache\.org|rubygems\.org|packagist\.org|nodejs\.org|docker\.io|ghcr\.io|quay\.io|gcr\.io))"
)
_HOST = r"(?P<host>[\w-]+(?:\.[\w-]+)+)"
_UNKNOWN = (
    r"(?:getaddrinfo ENOTFOUND|Could not resolve host(?:name)?:?|Could not resolve '?|Failed to resolve '?"
    r"|unable to resolve host address \W?|dial tcp: lookup|bad address '?|Temporary failure resolving '?) ?"
)

NETWORK = (
    Case(
        "dns-away",
        r"EAI_AGAIN (?P<host>\S+)|Temporary failure in name resolution|Temporary failure resolving",
        "NetworkUnreachable",
        "{where}: the builds' name server did not answer; check the builds' network (DNS, egress), then ask again.",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "dns-of-a-public-host",
        _UNKNOWN + PUBLIC + r"\b",
        "NetworkUnreachable",
        "{where}: builds can't look up {host}, which the world knows; give the builds' network DNS and a way out"
        " (or a proxy: build args HTTP_PROXY and HTTPS_PROXY in spec.entrypoint.args).",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "dns-of-a-host",
        _UNKNOWN + _HOST,
        "HostUnknown",
        "{where}: no name server knows {host}: correct that name where the step has it from (the step itself, .npmrc,"
        " pip.conf, PIP_INDEX_URL, GOPROXY, .cargo/config.toml, sources.list).",
    ),
    Case(
        "refused-on-localhost",
        r"(?:ECONNREFUSED|[Cc]onnect(?:ion)? (?:to|refused).*|Failed to connect to) ?(?P<address>127\.0\.0\.1"
        r"|localhost|::1)[: ]"
        r"(?:port )?(?P<port>\d+)",
        "LocalhostInBuild",
        "{where}: in a RUN step {address} is the step itself, where nothing listens on port {port}: use the address"
        " by which other machines reach that service, or do at the app's start what needs it.",
    ),
    Case(
        "refused",
        r"(?:ECONNREFUSED|ETIMEDOUT|ECONNRESET|EHOSTUNREACH|ENETUNREACH|Failed to connect to|[Cc]onnection (?:refused"
        r"|timed out|reset)"
        r"|Network is unreachable|i/o timeout|NewConnectionError|Could not reach host|temporary error \(try again)",
        "NetworkUnreachable",
        "{where}: a server that the step needs could not be reached from the builds' network: the line in the evidence"
        " names it. Check that it is up, and that builds may reach it.",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "untrusted",
        r"SELF_SIGNED_CERT_IN_CHAIN|self[- ]signed certificate|CERTIFICATE_VERIFY_FAILED|SSL certificate problem"
        r"|certificate signed by unknown authority|unable to get local issuer",
        "CertificateUntrusted",
        "{where}: the image does not trust the server's certificate: install ca-certificates before that line, or COPY"
        " the authority of your proxy or registry and run update-ca-certificates.",
    ),
)
