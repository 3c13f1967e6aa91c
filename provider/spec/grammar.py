"""The grammar of `.x1agent/preview.yaml`: one frozen model a mapping, with defaults, limits and descriptions.

Only what a single field may hold stands here; what fields must be to each other stands in `rules`.
The descriptions are what an editor shows, by way of the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from provider.spec import fields, quantities
from provider.spec.fields import EnvName, FreeText, Quantity, RepoPath, Slug, UrlPath, UrlPrefix, Value, Whole

EntrypointKind = Literal["dockerfile", "compose", "helm", "kustomize", "manifest"]
DependencyKind = Literal["postgres", "redis", "mcp"]
DEPENDENCY_FIELDS: dict[str, tuple[str, ...]] = {
    "postgres": ("url", "host", "port", "database", "user", "password"),
    "redis": ("url", "host", "port", "password"),
    "mcp": ("url", "name"),
}
SELF_URL = "preview.self_url"
SHARE_BASE_URL = "preview.share_base_url"
SECRET_PREFIX = "secret:"  # noqa: S105 - a word of the grammar
FROM_FORMS = ("literal", "secret:<NAME>", SELF_URL, SHARE_BASE_URL, "dep:<index>.<field>")
FROM = rf"literal|secret:{fields.SECRET}|preview\.self_url|preview\.share_base_url|dep:[0-9]{{1,4}}\.[A-Za-z_]{{1,32}}"
From = fields.pattern(
    FROM, f"{', '.join(FROM_FORMS[:-1])} or {FROM_FORMS[-1]}; NAME: 1 to 64 letters, digits and `_`, no digit first"
)


class Part(BaseModel):
    """Base of every mapping. Unknown fields are ignored here: `unknown` finds them for a warning or an error."""

    model_config = ConfigDict(frozen=True, extra="ignore", serialize_by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, data: Any) -> Any:
        """YAML makes null of `env:` with nothing after it; that means what leaving it out means."""
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class Metadata(Part):
    """Who the preview is."""

    name: Slug = Field(description="The preview's slug: its host is `<name>.<preview domain>`.", examples=["my-app"])
    description: FreeText | None = Field(None, description="Free text for people.")


class Entrypoint(Part):
    """What is built or installed."""

    kind: EntrypointKind = Field(description="How the app comes to life.")
    path: RepoPath = Field(
        description="The Dockerfile (compose file, chart, …), relative to the repository's root.",
        examples=["./Dockerfile"],
    )
    build_context: RepoPath = Field(
        ".",
        alias="buildContext",
        description="dockerfile only: the build's context, relative to the repository's root.",
    )
    args: dict[EnvName, Value] | None = Field(
        None, description="dockerfile: build arguments; helm: values; compose: substitution."
    )


class Healthcheck(Part):
    """How the app says that it is ready and alive."""

    path: UrlPath = Field("/", description="Asked on the app directly; below 400 is healthy.")
    initial_delay_seconds: Annotated[int, Whole(0, 3600)] = Field(
        15,
        alias="initialDelaySeconds",
        description="Seconds until the first check; left out, the app is ready as soon as it answers.",
    )
    period_seconds: Annotated[int, Whole(1, 3600)] = Field(
        10, alias="periodSeconds", description="Seconds between checks."
    )
    timeout_seconds: Annotated[int, Whole(1, 3600)] = Field(
        3, alias="timeoutSeconds", description="Seconds that an answer may take."
    )
    failure_threshold: Annotated[int, Whole(1, 1000)] = Field(
        3, alias="failureThreshold", description="Failures in a row that count."
    )

    @property
    def delay_given(self) -> bool:
        """Whether the file sets `initialDelaySeconds`: only then it is honoured to the second."""
        return "initial_delay_seconds" in self.model_fields_set


class Runtime(Part):
    """How the running app is reached."""

    port: Annotated[int, Whole(1, 65535)] = Field(description="The port that the app listens on.", examples=[3000])
    protocol: Literal["http", "http2", "tcp"] = Field("http", description="What the app speaks on its port.")
    path: UrlPrefix = Field("/", description="Root path that the app serves.")
    healthcheck: Healthcheck = Field(Healthcheck(), description="Readiness and liveness.")

    @property
    def prefix(self) -> str:
        """The path prefix without a trailing slash; empty when the app serves the whole host."""
        return self.path.rstrip("/")


class Dependency(Part):
    """Something that the app needs beside it."""

    kind: DependencyKind = Field(description="What is needed.")
    shared: StrictBool = Field(False, description="One instance for several previews.")
    name: FreeText | None = Field(None, description="mcp only: which server.")
    required: StrictBool = Field(True, description="The preview fails without it.")
    provides: tuple[EnvName, ...] = Field((), description="Environment variables that it sets by itself.")


class EnvVar(Part):
    """One environment variable: `value`, or `from`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["value"], "not": {"required": ["from"]}},
                {"required": ["value", "from"], "properties": {"from": {"const": "literal"}}},
                {
                    "required": ["from"],
                    "not": {"required": ["value"]},
                    "properties": {"from": {"not": {"const": "literal"}}},
                },
            ]
        }
    )

    name: EnvName = Field(description="The variable's name.", examples=["LOG_LEVEL"])
    value: Value | None = Field(None, description="Its value; numbers and booleans arrive as they are written.")
    from_: Annotated[str, From] | None = Field(
        None, alias="from", description=f"Where its value comes from: {From.allowed}."
    )

    @property
    def secret(self) -> str | None:
        """The name of the secret that it refers to."""
        source = self.from_ or ""
        return source.removeprefix(SECRET_PREFIX) if source.startswith(SECRET_PREFIX) else None


class Requests(Part):
    """What is reserved for the app."""

    cpu: Quantity = Field("200m", description="Cores.")
    memory: Quantity = Field("512Mi", description="Bytes.")


class Limits(Part):
    """The most that the app may take."""

    cpu: Quantity = Field("1", description="Cores.")
    memory: Quantity = Field("1Gi", description="Bytes.")


class Resources(Part):
    """CPU, memory and disk."""

    requests: Requests = Field(Requests(), description="What is reserved.")
    limits: Limits = Field(Limits(), description="The most that is given.")
    ephemeral_storage: Quantity = Field(
        "512Mi", alias="ephemeralStorage", description="Disk for logs, written files and emptyDir volumes, in bytes."
    )

    def effective(self, name: Literal["cpu", "memory"]) -> tuple[str, str]:
        """Request and limit of one resource, with the default moved where only the other one was given.

        A file that asks for 2Gi and says nothing of limits wants 2Gi, not an error about our default limit of
        1Gi: a request above the default limit lifts the limit to it, a limit below the default request lowers
        the request to it. Two given values that contradict each other never get here (see `rules`).
        """
        request: str = getattr(self.requests, name)
        limit: str = getattr(self.limits, name)
        if (quantities.amount(request) or 0) <= (quantities.amount(limit) or 0):
            return request, limit
        given = request if name in self.requests.model_fields_set else limit
        return given, given


class Volume(Part):
    """Scratch space that a restart of the preview empties."""

    name: fields.VolumeName = Field(description="Its name, once in the file.")
    kind: Literal["emptyDir", "tmpfs"] = Field(description="emptyDir: on disk; tmpfs: in memory, counts as memory.")
    mount_path: fields.MountPath = Field(alias="mountPath", description="Where the app sees it.", examples=["/data"])
    size_limit: Quantity | None = Field(None, alias="sizeLimit", description="The most that it may hold, in bytes.")


class Ingress(Part):
    """What happens between the public URL and the app."""

    strip_path: StrictBool = Field(
        True, alias="stripPath", description="With a `runtime.path` prefix: the app gets paths without the prefix."
    )
    additional_headers: dict[fields.HeaderName, fields.HeaderValue] | None = Field(
        None, alias="additionalHeaders", description="Headers that every response gets."
    )


class Body(Part):
    """Everything below `spec`."""

    entrypoint: Entrypoint = Field(description="What is built or installed.")
    runtime: Runtime = Field(description="How the running app is reached.")
    dependencies: tuple[Dependency, ...] = Field((), description="What the app needs beside it.")
    env: tuple[EnvVar, ...] = Field((), description="The app's environment.")
    resources: Resources = Field(Resources(), description="CPU, memory and disk.")
    volumes: tuple[Volume, ...] = Field((), description="Scratch space.")
    ingress: Ingress = Field(Ingress(), description="Between the public URL and the app.")


class Spec(Part):
    """A preview of this repository, as `.x1agent/preview.yaml` describes it."""

    api_version: Literal["x1agent.io/v1"] = Field(alias="apiVersion", description="Version of this grammar.")
    kind: Literal["PreviewSpec"] = Field(description="Always PreviewSpec.")
    metadata: Metadata = Field(description="Who the preview is.")
    body: Body = Field(alias="spec", description="What runs and how.")

    @property
    def slug(self) -> str:
        """The preview's name."""
        return self.metadata.name


assert set(DEPENDENCY_FIELDS) == set(get_args(DependencyKind))
