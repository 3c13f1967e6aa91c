"""`.ci/kind` where kind can't be had: it names all that is missing, and touches nothing. And the demo's git host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from provider.demo.processes import Server, clean_environment, free_port, run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("what", ["up", "demo", "test", "down"])
def test_what_is_missing_for_kind_is_named(what: str, tmp_path: Path) -> None:
    for program in ("bash", "dirname", "readlink", "realpath"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    (tmp_path / "docker").write_text("#!/bin/bash\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    done = subprocess.run(
        [ROOT / ".ci" / "kind", what], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    missing = "kind", "openssl", "curl", "a Docker engine that answers (docker info)"
    assert done.stderr.splitlines() == ["Missing for kind:", *(f"  {one}" for one in missing)]
    assert done.stdout == ""


def test_an_order_that_is_none_is_refused() -> None:
    done = subprocess.run([ROOT / ".ci" / "kind", "start"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: .ci/kind up | demo | test | down\n")


def test_the_certificate_is_one_for_every_preview_by_an_authority_of_its_own(tmp_path: Path) -> None:
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if not Path(one, "mkcert").exists())
    for _ in range(2):  # a second run keeps it
        subprocess.run(
            [ROOT / ".ci" / "kind", "certificates"], env={"PATH": path, "KIND_STATE": str(tmp_path)}, check=True
        )
    made = tmp_path / "certificates"
    for host, fine in (("shop.preview.local.x1agent.dev", True), ("preview.local.x1agent.dev", False)):
        check = ("openssl", "verify", "-purpose", "sslserver", "-verify_hostname", host, "-CAfile")
        done = subprocess.run([*check, made / "ca.crt", made / "tls.crt"], capture_output=True, check=False)
        assert (done.returncode == 0) == fine, done.stderr


async def test_the_demos_git_host_serves_the_sample(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    host = Server(
        name="git-host",
        argv=(sys.executable, "-m", "provider.demo.git_host", address, str(tmp_path), "docker.io/library/busybox:1.37"),
        ready=r"demo/hello\.git serves [0-9a-f]{40}",
        folder=tmp_path,
        env={**clean_environment(tmp_path), "PYTHONPATH": str(ROOT)},
        address=address,
    )
    for _ in range(2):  # a second start finds what the first one made
        await host.start()
        target = tmp_path / "clone"
        status, output = await run(
            *("git", "clone", "--quiet", f"http://{address}/demo/hello.git", str(target)),
            env=clean_environment(tmp_path),
            timeout=20,
        )
        await host.stop()
        assert status == 0, output
        assert "docker.io/library/busybox:1.37" in (target / ".x1agent" / "preview.yaml").read_text()
        shutil.rmtree(target)
