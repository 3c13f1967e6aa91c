"""The bus of `manifests/components/nats`, as it is installed: the users that it knows, and what each of them may do."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from nats.aio.client import Client

from provider.bus.connection import connect, has_jetstream
from provider.demo.processes import Server, clean_environment, free_port
from provider.errors import Permanent
from provider.settings import Settings
from provider.store import open_store
from tests.cluster.kustomize import FOLDER, built, named

COMPONENT = FOLDER / "components" / "nats"
USERS = ("provider", "client", "observer", "approver")
ODD = "12 k} # $HOME"
"""A password that would be something else in nats-server's configuration, were it not in quotes."""


@dataclass(frozen=True)
class Bus:
    """The bus, and the passwords that the installer made."""

    address: str
    folder: Path
    passwords: dict[str, str]

    def settings(self, user: str, password: str | None = None, **more: Any) -> Settings:
        """Of a process that connects as that user."""
        file = self.folder / f"{user}-password"
        file.write_text(self.passwords[user] if password is None else password)
        url = f"nats://{self.address}"
        return Settings(
            nats_url=url, nats_user=user, nats_password_file=file, nats_inbox_prefix=f"_INBOX.{user}", **more
        )


@pytest.fixture(scope="module")
async def bus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bus]:
    """A real nats-server with the configuration of the ConfigMap, and the environment of the StatefulSet."""
    folder = tmp_path_factory.mktemp("installed-bus")
    objects = built("overlays/nats")
    pod = named(objects, "StatefulSet", "nats")["spec"]["template"]["spec"]
    (config,) = (one["configMap"]["name"] for one in pod["volumes"] if one["name"] == "config")
    for name, text in named(objects, "ConfigMap", config)["data"].items():
        (folder / name).write_text(text.replace("store_dir: /data", f"store_dir: {folder}"))
    passwords = {**_made(), "observer": ODD}
    address = f"127.0.0.1:{free_port()}"
    assert pod["containers"][0]["args"] == ["--config", "/etc/nats/nats.conf"]
    own = ("--addr", "127.0.0.1", "--port", address.rpartition(":")[2], "--http_port", "0")
    server = Server(
        name="nats",
        argv=("nats-server", *own, "--config", str(folder / "nats.conf")),
        ready=r"Server is ready",
        folder=folder,
        env={**clean_environment(folder), **_environment(pod["containers"][0]["env"], passwords)},
    )
    await server.start()
    yield Bus(address, folder, passwords)
    await server.stop()


def _made() -> dict[str, str]:
    """The passwords that `users` makes."""
    text = subprocess.run([COMPONENT / "users"], capture_output=True, text=True, check=True).stdout
    secrets = [one for one in yaml.safe_load_all(text) if one]
    assert {(one["metadata"]["namespace"], one["type"]) for one in secrets} == {("x1agent", "kubernetes.io/basic-auth")}
    assert all(one["metadata"]["name"] == f"nats-{one['stringData']['username']}" for one in secrets)
    return {one["stringData"]["username"]: one["stringData"]["password"] for one in secrets}


def _environment(env: list[dict[str, Any]], passwords: dict[str, str]) -> dict[str, str]:
    """A container's variables, as the kubelet makes them."""
    made: dict[str, str] = {}
    for one in env:
        if "valueFrom" in one:
            wanted = one["valueFrom"]["secretKeyRef"]
            assert wanted["key"] == "password"
            made[one["name"]] = passwords[wanted["name"].removeprefix("nats-")]
        else:
            made[one["name"]] = re.sub(r"\$\((\w+)\)", lambda found: made[found[1]], one["value"])
    return made


def test_the_passwords_are_new_each_time_and_long() -> None:
    first, second = _made(), _made()
    assert set(first) == set(USERS)
    assert len({*first.values(), *second.values()}) == 2 * len(USERS)
    assert all(re.fullmatch("[0-9a-f]{48}", one) for one in first.values())


async def test_the_provider_is_one_of_its_users(bus: Bus) -> None:
    """By what stands in its Deployment, with the Secret of its own alone."""
    pod = named(built("overlays/nats"), "Deployment", "x1-preview-provider")["spec"]["template"]["spec"]
    told = {one["name"]: one.get("value", "") for one in pod["containers"][0]["env"]}
    (mounted,) = (one["mountPath"] for one in pod["containers"][0]["volumeMounts"] if one["name"] == "nats")
    (secret,) = (one["secret"]["secretName"] for one in pod["volumes"] if one["name"] == "nats")
    assert (told["NATS_PASSWORD_FILE"], secret) == (f"{mounted}/password", f"nats-{told['NATS_USER']}")
    assert told["NATS_INBOX_PREFIX"] == f"_INBOX.{told['NATS_USER']}"
    nc = await connect(bus.settings(told["NATS_USER"]), lambda: None)
    try:
        assert await has_jetstream(nc)
        store = await open_store(nc, "x1_provider_preview", "here")
        assert await store.previews() == []
    finally:
        await nc.close()


async def test_nobody_else_gets_in(bus: Bus) -> None:
    for wrong in (Settings(nats_url=f"nats://{bus.address}"), bus.settings("client", "wrong")):
        with pytest.raises(Permanent, match="refused the credentials"):
            await connect(wrong, lambda: None)


@pytest.mark.parametrize(("user", "subject"), [
    ("client", "x1.provider.preview.provision"),
    ("observer", "x1.provider.preview.status"),
    ("approver", "x1.provider.preview.approve"),
    ("provider", "x1.audit.preview"),
])  # fmt: skip
async def test_each_user_has_the_permissions_of_its_name(bus: Bus, user: str, subject: str) -> None:
    others = {"x1.provider.preview.provision", "x1.provider.preview.approve", "x1.audit.preview", "x1.other"} - {
        subject
    }
    refused = ""

    async def failed(error: Exception) -> None:
        nonlocal refused
        refused += str(error).lower()

    nc = Client()
    await nc.connect(
        f"nats://{bus.address}", user=user, password=bus.passwords[user], error_cb=failed, allow_reconnect=False
    )
    try:
        for one in (subject, *others):
            await nc.publish(one, b"{}")
        await nc.flush()
        await nc.flush()
    finally:
        await nc.close()
    assert {one for one in (subject, *others) if f'publish to "{one}"' in refused} == others
