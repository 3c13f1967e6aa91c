"""What the answer of a public URL means, or that there is none. `{check}` is what was asked, `{fix}` the field."""

from __future__ import annotations

from provider.diagnose.table import Case, Table
from provider.errors import Whose

NO_ANSWER = Table(
    Case(
        "public-dns",
        r"Name or service not known|No address associated|Temporary failure in name resolution|nodename nor servname",
        "DnsFailed",
        "No name server knows {host}: make *.{domain} (PREVIEW_DOMAIN) resolve to the ingress, or set INGRESS_ADDRESS.",
        Whose.PLATFORM,
    ),
    Case(
        "public-expired",
        r"certificate has expired",
        "CertificateInvalid",
        "The certificate of {host} has expired: renew what TLS_SECRET_NAME names.",
        Whose.PLATFORM,
    ),
    Case(
        "public-hostname",
        r"Hostname mismatch|certificate is not valid for",
        "CertificateInvalid",
        "The certificate that answers is not for {host}: TLS_SECRET_NAME has to hold one for *.{domain}, in the"
        " namespace of the previews.",
        Whose.PLATFORM,
    ),
    Case(
        "public-untrusted",
        r"CERTIFICATE_VERIFY_FAILED",
        "CertificateInvalid",
        "The certificate of {host} is signed by nobody that is trusted here: set PUBLIC_CA_FILE to its authority, or"
        " TLS_SECRET_NAME to a certificate that the world trusts.",
        Whose.PLATFORM,
    ),
    Case(
        "public-tls",
        r"\[SSL: |SSLError|TLSV1_ALERT|WRONG_VERSION_NUMBER",
        "TlsFailed",
        "What answers for {host} speaks no TLS, or has no certificate for it: check INGRESS_ADDRESS ({connect}) and"
        " TLS_SECRET_NAME.",
        Whose.PLATFORM,
    ),
    Case(
        "public-refused",
        r"All connection attempts failed|[Cc]onnection refused|Connect call failed",
        "IngressAway",
        "Nothing listens where the ingress should ({connect}): check INGRESS_ADDRESS and PUBLIC_PORT, and that the"
        " ingress runs.",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "public-silent",
        r"no answer within",
        "NoAnswer",
        "{check} got no answer at all: if the app takes that long, make it answer sooner; if nothing else answers"
        " either, check the ingress ({connect}).",
        Whose.PLATFORM,
    ),
)
"""Where the public URL gave no answer at all."""

_OWN = (
    r"(?:<center>nginx</center>|(?:Bad Gateway|Service (?:Temporarily )?Unavailable|Gateway Time-?out)"
    r"|no healthy upstream"
    r"|no available server|without x-preview-commit)"
)
"""By what an answer is known to be the ingress's own."""
INGRESS = Table(
    Case(
        "ingress-404",
        r"^status 404[^\n]*(?:default backend - 404|<center>nginx</center>|404 page not found"
        r"|without x-preview-commit)",
        "IngressHasNoRoute",
        "That 404 is the ingress's own: it knows no {host}. Check INGRESS_CLASS and INGRESS_CONTROLLER, and that it"
        " watches the previews' namespace (PREVIEW_NAMESPACE).",
        Whose.PLATFORM,
    ),
    Case(
        "ingress-502",
        rf"^status 502[^\n]*{_OWN}",
        "GatewayError",
        "The ingress reached the app, but got no answer from it: the app has to speak spec.runtime.protocol"
        " ({protocol}) on spec.runtime.port, and not end while it answers {check}; the log's tail is the app's.",
    ),
    Case(
        "ingress-503",
        rf"^status 503[^\n]*{_OWN}",
        "GatewayError",
        "The ingress has nobody to ask for {host}: ask again; if it stays so, check the preview's Service and its"
        " endpoints in PREVIEW_NAMESPACE, and the ingress's log.",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "ingress-504",
        rf"^status 504[^\n]*{_OWN}",
        "GatewayError",
        "The app did not answer {check} as soon as the ingress wants: make it answer sooner, or change {fix}.",
    ),
)
"""Where the ingress may have answered in the app's place."""

CHECKS = Table(
    Case(
        "check-redirects",
        r"redirects for ever",
        "RedirectLoop",
        "{check} redirects in a circle: the app sees X-Forwarded-Proto https and X-Forwarded-Host {host}; let it take"
        " them as they are, or change {fix}.",
    ),
    Case(
        "check-commit",
        r"^x-preview-commit: ",
        "OldRevision",
        "{host} is still answered by another revision: ask again; if it stays so, look at the ingress's log.",
        Whose.PLATFORM,
        retryable=True,
    ),
    Case(
        "check-404",
        r"^status 404",
        "CheckFailed",
        "{check} answers 404: add that path to the app, or change {fix}.",
    ),
    Case(
        "check-auth",
        r"^status (?P<status>401|403|407)",
        "CheckFailed",
        "{check} answers {status}, and the check has no credentials: let it through, or change {fix}.",
    ),
    Case(
        "check-5xx",
        r"^status (?P<status>5\d\d)",
        "CheckFailed",
        "{check} answers {status}: the log's tail may say why. Mend the app, or change {fix}.",
    ),
)
"""Where it is the app's answer that is wrong; `{fix}` is changed otherwise."""
