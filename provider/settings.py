"""One frozen `Settings`: the only reader of the environment.

Every field is an environment variable of the same name in upper case. Names marked (platform) in the
contract's "Environment" are fixed. Values are checked at start; an error names the variable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    Field,
    IPvAnyNetwork,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
"""What a quantity may be here: Kubernetes's grammar without its rarer forms."""

SHORTEST_TOKEN = 16


class Settings(BaseSettings):
    """The provider's configuration; seconds and bytes unless a name says otherwise."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    # The bus.
    nats_url: str = Field("nats://127.0.0.1:4222", description="NATS server; user and password may stand in it.")
    nats_ca_file: Path | None = Field(None, description="CA for the NATS server's certificate.")
    nats_client_cert: Path | None = Field(None, description="Client certificate for mutual TLS.")
    nats_client_key: Path | None = Field(None, description="Key of the client certificate.")
    nats_user: str = Field("", description="User of NATS_PASSWORD_FILE.")
    nats_password_file: Path | None = Field(None, description="File with the user's password for NATS.")
    nats_token_file: Path | None = Field(None, description="File with a token for NATS.")
    nats_nkey_file: Path | None = Field(None, description="File with the seed of a user's nkey for NATS.")
    nats_credentials_file: Path | None = Field(None, description="File with a user's JWT and seed, as `nsc` writes it.")
    nats_inbox_prefix: str = Field(
        "_INBOX", pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", description="Begins the subjects of our own inboxes."
    )
    subject_prefix: str = Field("x1.provider.preview", description="Subjects below which the provider listens.")
    platform_id: str = Field("", description="Whose records these are; default: the value of PREVIEW_DOMAIN.")

    # Where clone credentials come from.
    api_url: str = Field("", description="Base URL of the platform's API server.")
    api_internal_token: SecretStr = Field(SecretStr(""), description="Sent as X-Internal-Token to the API server.")
    api_timeout: PositiveFloat = Field(10.0, description="Seconds for the credentials endpoint's answer.")
    git_base_url: str = Field("https://github.com", description="Base of clone URLs: http(s) or file.")
    git_timeout: PositiveFloat = Field(120.0, description="Seconds for one git operation.")
    git_max_bytes: PositiveInt = Field(1 << 30, description="Largest pack that is fetched, in bytes.")

    # What is built and run where.
    platform: Literal["auto", "container", "kubernetes"] = Field(
        "auto", description="What runs previews; `auto`: `kubernetes` inside a cluster, else `container`."
    )
    registry_address: str = Field("x1-registry:5000", description="host:port of the image registry.")
    registry_pull_address: str = Field(
        "", description="host:port by which nodes pull from the registry; default: REGISTRY_ADDRESS."
    )
    registry_insecure: bool = Field(True, description="The registry speaks plain HTTP.")
    registry_auth_file: Path | None = Field(
        None, description="Credentials for the registry, as `docker login` writes them; read anew at each request."
    )
    preview_domain: str = Field("preview.local.x1agent.dev", description="Wildcard domain of the previews.")
    public_port: int = Field(443, ge=1, le=65535, description="Port of the public URLs.")
    ingress_address: str = Field("", description="host:port that the URL check connects to instead of what DNS says.")
    public_ca_file: Path | None = Field(
        None, description="CA of the public certificates; default: the ingress's own, on a cluster the system's."
    )
    share_base_url: str = Field("", description="Value of `from: preview.share_base_url`.")
    preview_namespace: str = Field("x1-previews", description="Namespace of the objects of previews.")
    ingress_class: str = Field("nginx", description="`ingressClassName` of the previews' Ingress objects.")
    tls_secret_name: str = Field("x1agent-wildcard", description="TLS secret with the domain's wildcard certificate.")
    alias_cluster_issuer: str = Field(
        "", description="cert-manager ClusterIssuer for alias hosts; empty: their TLS secrets come from elsewhere."
    )
    state_dir: Path = Field(
        Path("/var/lib/x1-preview"), description="Folder for git caches, builds and secret bundles."
    )
    container_host: str = Field(
        "unix:///run/podman/podman.sock", description="Socket of the container engine's service."
    )
    containers_conf: Path | None = Field(None, description="Podman's own variable; given to builds.")
    containers_storage_conf: Path | None = Field(None, description="Podman's own variable; given to builds.")
    containers_registries_conf: Path | None = Field(None, description="Podman's own variable; given to builds.")
    caddy_admin_url: str = Field("http://127.0.0.1:2019", description="Caddy's admin API.")
    caddy_listen: str = Field(":443", description="Where Caddy serves previews.")
    caddy_access_address: str = Field(
        "127.0.0.1:2020",
        pattern=r"^$|^[^/@\s]+:[0-9]{1,5}$",
        description="host:port (UDP) to which Caddy tells of visits; empty: they do not count.",
    )

    # The cluster, where PLATFORM is `kubernetes`.
    kubernetes_service_host: str = Field("", description="Set by Kubernetes inside a cluster.")
    kubeconfig: Path | None = Field(None, description="The cluster's client configuration, outside of one.")
    ingress_controller: Literal["auto", "nginx", "traefik", "plain"] = Field(
        "auto", description="Whose annotations are written; `auto`: by INGRESS_CLASS. `plain`: nobody's."
    )
    ingress_namespace: str = Field("ingress-nginx", description="Namespace of the ingress: it alone reaches previews.")
    unschedulable_grace: PositiveFloat = Field(60.0, description="How long a pod may wait for a node.")
    build_namespace: str = Field("x1agent", description="Namespace of build Jobs.")
    build_service_account: str = Field("", description="Service account of build pods; its token is not mounted.")
    build_registry_secret: str = Field(
        "", description="Secret of BUILD_NAMESPACE (kubernetes.io/dockerconfigjson) with which builds pull and push."
    )
    kaniko_image: str = Field("ghcr.io/osscontainertools/kaniko:v1.28.5", description="The image that builds.")
    kaniko_flags: tuple[str, ...] = Field((), description="Further flags for Kaniko, as a JSON list.")
    build_cpu: str = Field("2", pattern=QUANTITY, description="CPU limit of a build pod, a Kubernetes quantity.")
    build_disk: str = Field("10Gi", pattern=QUANTITY, description="Disk of a build pod, a Kubernetes quantity.")
    build_node_selector: dict[str, str] = Field({}, description="Labels of nodes for builds, as JSON.")
    build_tolerations: tuple[dict[str, str | int], ...] = Field((), description="Tolerations of build pods, as JSON.")
    build_runtime_class: str = Field("", description="RuntimeClass of build pods.")
    build_keep_seconds: PositiveInt = Field(600, description="How long a finished build Job is kept.")
    registry_maps: tuple[str, ...] = Field((), description="Kaniko's `--registry-map` values, as a JSON list.")
    registry_mirrors: tuple[str, ...] = Field((), description="Kaniko's `--registry-mirror` values, as a JSON list.")

    # What is allowed.
    strict_spec: bool = Field(False, description="Unknown fields of a spec are errors.")
    missing_secrets: Literal["warn", "fail"] = Field("warn", description="What a secret that nobody sent does.")
    private_networks: tuple[IPvAnyNetwork, ...] = Field(
        (), description="Networks that previews may not reach either, as a JSON list: of pods with public addresses."
    )
    read_only_root: bool = Field(False, description="Previews run with a read-only root file system.")
    pod_security: Literal["baseline", "restricted"] = Field("baseline", description="`restricted` adds runAsNonRoot.")
    preview_pids: PositiveInt = Field(256, description="Most processes in one preview; on an engine.")
    build_memory: str = Field("2Gi", pattern=QUANTITY, description="Memory of a build; on an engine, of a RUN step.")
    build_pids: PositiveInt = Field(1024, description="Most processes in one build; on an engine.")
    deploys_at_once: PositiveInt = Field(100, description="Most deploys at once; one that waits for a build is none.")
    builds_at_once: NonNegativeInt = Field(
        0, description="Most builds at once; 0: on an engine one more than there are CPUs, on a cluster 10."
    )
    builds_per_repository: NonNegativeInt = Field(
        0, description="Most builds of one repository at once; 0: one less than BUILDS_AT_ONCE."
    )
    queue_length: PositiveInt = Field(500, description="Most deploys that wait; beyond, requests get `queue_full`.")

    policy_file: Path | None = Field(
        None, description="Who may deploy what, read again on change; none: everybody all."
    )
    platform_hosts: tuple[str, ...] = Field(
        (), description="Hosts that no alias may be or be below, as a JSON list, beside those of the other settings."
    )
    approval_seconds: float = Field(
        86400.0, gt=0, le=129600, description="How long a deploy waits for its approval; 36 hours at most."
    )

    # How long previews live.
    preview_ttl_seconds: NonNegativeInt = Field(
        86400, description="How long a preview lives from its last access; 0: for ever. A request may say otherwise."
    )
    preview_ttl_max: NonNegativeInt = Field(
        0, description="The longest that a request may ask for, it gets no more; 0: any time, also for ever."
    )
    failed_ttl_seconds: PositiveInt = Field(3600, description="The same of a preview that never was up.")
    expiry_warning_seconds: PositiveFloat = Field(
        3600.0, description="How long before its end that is announced; a quarter of its time to live at most."
    )
    branch_check_seconds: PositiveFloat = Field(600.0, description="How often the branches of a repository are listed.")
    branch_grace_seconds: PositiveFloat = Field(
        3600.0, description="How long a branch has to be gone until its previews are removed."
    )

    # Deadlines.
    budget_seconds: PositiveFloat = Field(1140.0, description="From arrival to answer; a request may ask for less.")
    resolve_timeout: PositiveFloat = Field(150.0, description="Deadline of the resolve phase.")
    admit_timeout: PositiveFloat = Field(30.0, description="Deadline of the admit phase.")
    build_timeout: PositiveFloat = Field(900.0, description="Deadline of the build phase; the builder enforces it too.")
    deploy_timeout: PositiveFloat = Field(60.0, description="Deadline of the deploy phase.")
    rollout_timeout: PositiveFloat = Field(120.0, description="Deadline of the rollout phase.")
    verify_timeout: PositiveFloat = Field(30.0, description="Deadline of the verify phase.")
    verify_successes: PositiveInt = Field(2, description="Successes in a row that the URL check wants.")
    verify_interval: PositiveFloat = Field(
        0.25, description="Most seconds between attempts; the first pauses are shorter."
    )
    reply_deadline: PositiveFloat = Field(1200.0, description="How long a reply is repeated until an inbox takes it.")

    # What is kept true when nobody asks.
    reconcile_seconds: PositiveFloat = Field(
        300.0, description="How often all that runs is compared with the records, beside what the platform tells."
    )
    sweep_seconds: PositiveFloat = Field(600.0, description="How often what no record needs is looked for.")
    sweep_grace: PositiveFloat = Field(
        900.0, description="How long it is left alone, from when a provider first saw that nothing needs it."
    )
    keep_images: PositiveInt = Field(
        20, description="Images of a preview that are kept in the registry; more only where its record names them."
    )

    build_log_bytes: int = Field(
        16 << 20, ge=1 << 16, description="Most of one build's log that is kept: of a longer one, beginning and end."
    )
    build_logs_bytes: int = Field(
        256 << 20, ge=1 << 20, description="Room for the logs of all builds, compressed; the oldest go."
    )
    build_logs_seconds: PositiveFloat = Field(604800.0, description="How long the log of a build is kept.")

    # The provider itself.
    instance_name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]{0,63}$",
        description="This process's name among the providers; default: a new one. Whoever has it next takes its place.",
    )
    lease_seconds: PositiveFloat = Field(
        9.0, description="How long a provider may be silent before the others take over its deploys."
    )
    http_address: str = Field(
        "127.0.0.1:0",
        description="host:port of /healthz, /readyz, /metrics and the dashboard; no host: every address; port 0: any.",
    )
    dashboard_token: SecretStr = Field(
        SecretStr(""),
        description="Opens the dashboard; 16 characters at least. Without it there is none but on loopback.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    otel_exporter_otlp_endpoint: str = Field(
        "", description="OpenTelemetry's own: URL of a collector for spans (OTLP over HTTP); needs the extra `otel`."
    )
    log_format: Literal["auto", "json", "text"] = Field("auto", description="`auto`: text on a terminal, else JSON.")

    @field_validator("git_base_url", "api_url", "caddy_admin_url", "share_base_url")
    @classmethod
    def _without_trailing_slash(cls, value: str) -> str:
        return value.rstrip("/")

    def secrets(self) -> frozenset[str]:
        """What is secret of the settings themselves."""
        urls = map(urlsplit, self.nats_url.split(","))
        passwords = (url.password or url.username for url in urls)  # a name alone is a token
        own = (self.api_internal_token.get_secret_value(), self.dashboard_token.get_secret_value())
        values = {*own, *(unquote(one) for one in passwords if one)}
        return frozenset(values - {""})

    @field_validator("git_base_url")
    @classmethod
    def _git_scheme(cls, value: str) -> str:
        if not value.startswith(("https://", "http://", "file://")):
            raise ValueError("must start with https://, http:// or file://")
        if "@" in value.removeprefix("https://").removeprefix("http://").partition("/")[0]:
            raise ValueError("must not hold credentials: they would show in process arguments")
        return value

    @field_validator("dashboard_token")
    @classmethod
    def _long_token(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < SHORTEST_TOKEN:
            raise ValueError(f"must have {SHORTEST_TOKEN} characters at least")
        return value

    @model_validator(mode="after")
    def _one_way_to_the_bus(self) -> Self:
        ways = ("nats_credentials_file", "nats_nkey_file", "nats_token_file", "nats_password_file")
        given = [name.upper() for name in ways if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are set: choose one")
        if bool(self.nats_user) != (self.nats_password_file is not None):
            raise ValueError("NATS_USER and NATS_PASSWORD_FILE go together")
        return self

    @model_validator(mode="after")
    def _defaults_from_others(self) -> Self:
        own_cluster = "kubernetes" if self.kubernetes_service_host else "container"
        derived = {
            "platform_id": self.platform_id or self.preview_domain,
            "registry_pull_address": self.registry_pull_address or self.registry_address,
            "platform": own_cluster if self.platform == "auto" else self.platform,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        return self
