# The provider's image: `docker build --tag x1-preview-provider:0.1.0 .`, on any Debian with Python and venv;
# the lock is made for Python 3.11.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
# For builders that do not reach PyPI: pip's own settings.
ARG PIP_INDEX_URL PIP_NO_INDEX PIP_FIND_LINKS
# `runtime`, or `otel`: with what sends spans.
ARG WITH=runtime
WORKDIR /src
COPY requirements-${WITH}.lock ./
RUN python3 -m venv /opt/x1-preview \
 && /opt/x1-preview/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements-${WITH}.lock
COPY pyproject.toml README.md LICENSE ./
COPY provider provider
COPY templates templates
RUN /opt/x1-preview/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
 && rm -rf /opt/x1-preview/lib/python3*/site-packages/pip /opt/x1-preview/lib/python3*/site-packages/setuptools

FROM ${BASE}
RUN command -v git >/dev/null && test -e /etc/ssl/certs/ca-certificates.crt \
 || { apt-get update && apt-get install --yes --no-install-recommends git ca-certificates && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /opt/x1-preview /opt/x1-preview
ENV PATH=/opt/x1-preview/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["preview"]
CMD ["serve"]
