"""Faults of builds, on the engine: what the Dockerfile says, what a RUN step does, which image it starts from.

Tools that the base image does not have are played by scripts that write what the real ones wrote (`tests.samples`).
"""

from __future__ import annotations

from collections.abc import Mapping

from provider.demo.git_server import Content, File
from provider.demo.world import World
from tests.e2e.apps import app_files
from tests.e2e.helpers import deployed
from tests.faults.fault import Fault
from tests.samples import sample

BUILD_MEMORY = "96Mi"


def build(
    name: str,
    dockerfile: str,
    reason: str,
    *names: str,
    files: Mapping[str, Content] | None = None,
    code: str = "kaniko_build_failed",
    whose: str = "user",
) -> Fault[World]:
    """A Dockerfile that can't be built; `{base}` in it is the base image, `{host}` its registry."""

    async def cause(world: World) -> object:
        text = dockerfile.replace("{base}", world.base_image).replace("{host}", world.stack.registry.address)
        given = app_files(name, world.base_image) | {"Dockerfile": text} | dict(files or {})
        return await deployed(world, name, files=given, timeout=200.0)

    return Fault(name, cause, code, reason, whose, names)


def tool(name: str, row: str, command: str, reason: str, *, code: int = 1, whose: str = "user") -> Fault[World]:
    """A RUN step whose tool says what the real one said; it stands on line 5, and the hint has to say so."""
    seen = sample("tools", row)
    program = command.split()[0]
    files: dict[str, Content] = {
        f"tools/{program}": File(f"#!/bin/sh\ncat /bin/{program}.said >&2\nexit {code}\n", "100755"),
        f"tools/{program}.said": "\n".join(seen.lines) + "\n",
    }
    dockerfile = f"# As the real one says it\nFROM {{base}}\n\nCOPY tools /bin/\nRUN {command}\n"
    names = (one.replace("Dockerfile:7", "Dockerfile:5") for one in seen.names)
    return build(name, dockerfile, reason, *{"Dockerfile:5", *names}, files=files, whose=whose)


OUTSIDE = File("../../../../../../etc/passwd", "120000")
SCRIPT = "#!/bin/sh\r\necho hi\r\n"

BUILDS: tuple[Fault[World], ...] = (
    # ------------------------------------------------------------------- the Dockerfile itself
    build("unknown-instruction", "FROM {base}\n\n\nRUNN make\n", "DockerfileInvalid", "Dockerfile:4", "RUNN", "RUN is"),
    build("no-from", "COPY a /\n", "DockerfileInvalid", "Dockerfile", "FROM"),
    build("one-argument", "FROM {base}\nCOPY www\n", "DockerfileInvalid", "Dockerfile:2", "COPY"),
    build("env-form", "FROM {base}\nENV ONLY\n", "DockerfileInvalid", "Dockerfile:2", "ENV"),
    build("link-out", "", "DockerfileNotFound", "spec.entrypoint.path", files={"Dockerfile": OUTSIDE}),
    build(
        "mount", "FROM {base}\nRUN --mount=type=cache,target=/x true\n", "MountNotAllowed", "Dockerfile:2", "--mount"
    ),
    build("escape", "# escape=`\nFROM {base}\n", "DockerfileInvalid", "Dockerfile", "escape"),
    build("user-unknown", "FROM {base}\nUSER nosuch\nRUN true\n", "UserUnknown", "Dockerfile:3", "nosuch"),
    build(
        "stage-unknown",
        "FROM {base} AS build\nRUN true\n\nFROM {base}\nCOPY --from=biuld /bin/sh /x\n",
        "StageUnknown",
        "Dockerfile:5",
        "biuld",
        "build",
    ),
    # ------------------------------------------------------------------------------- COPY, ADD
    build("copy-missing", "FROM {base}\nCOPY not-there /\n", "SourceMissing", "Dockerfile:2", "not-there"),
    build("copy-pattern", "FROM {base}\nCOPY *.lock /\n", "SourceMissing", "Dockerfile:2", "*.lock"),
    build(
        "copy-ignored",
        "FROM {base}\nCOPY www /www\n",
        "SourceIgnored",
        "Dockerfile:2",
        ".dockerignore",
        "www",
        files={".dockerignore": "www\n"},
    ),
    build(
        "copy-outside", "FROM {base}\nCOPY ../x /\n", "SourceOutside", "Dockerfile:2", "spec.entrypoint.buildContext"
    ),
    build(
        "copy-from-stage",
        "FROM {base} AS build\nRUN true\nFROM {base}\nCOPY --from=build /dist /x\n",
        "SourceMissing",
        "Dockerfile:4",
        "/dist",
        "build",
    ),
    build(
        "add-url", "FROM {base}\nADD http://nohost.invalid/x /x\n", "SourceMissing", "Dockerfile:2", "nohost.invalid"
    ),
    build(
        "submodule",
        "FROM {base}\nCOPY vendor/lib /lib\n",
        "SubmoduleNotFetched",
        "Dockerfile:2",
        "vendor/lib",
        files={".gitmodules": '[submodule "lib"]\n\tpath = vendor/lib\n\turl = https://github.com/acme/lib\n'},
    ),
    # ----------------------------------------------------------------------------- base images
    build("base-absent", "FROM {host}/base/absent:1\n", "BaseImageNotFound", "Dockerfile:1", "base/absent:1"),
    build("base-host", "FROM nohost.invalid/a:1\n", "BaseImageNotFound", "Dockerfile:1", "nohost.invalid"),
    build(
        "base-away",
        "# why\nFROM 127.0.0.1:1/a:1\n",
        "PullFailed",
        "Dockerfile:2",
        "127.0.0.1:1/a:1",
        code="registry_unreachable",
        whose="platform",
    ),
    build("base-local", "FROM dir:/etc\n", "BaseImageNotAllowed", "Dockerfile:1"),
    build("base-of-another", "FROM {host}/previews/theirs:1\n", "BaseImageNotAllowed", "Dockerfile:1"),
    build("base-unknown", "FROM $IMAGE\n", "BaseImageUnknown", "Dockerfile:1", "ARG"),
    # ------------------------------------------------------------------------------ RUN, really
    build("run", "FROM {base}\nRUN true\nRUN echo wrong-here; exit 3\n", "RunFailed", "Dockerfile:3", "exit code 3"),
    build(
        "run-of-many-lines",
        "# one\nFROM {base} AS one\nRUN true\n\nFROM {base}\nRUN echo a && \\\n  # why\n  echo b && \\\n  exit 4\n",
        "RunFailed",
        "Dockerfile:6",
        "exit code 4",
    ),
    build("run-tool", "FROM {base}\nRUN npmx ci\n", "ToolMissing", "Dockerfile:2", "npmx"),
    build("run-program", 'FROM {base}\nRUN ["/nope", "ci"]\n', "ToolMissing", "Dockerfile:2", "/nope"),
    build("run-mode", "FROM {base}\nCOPY www/index.html /x.sh\nRUN /x.sh\n", "NotExecutable", "Dockerfile:3", "chmod"),
    build(
        "run-line-ends",
        "FROM {base}\nCOPY x.sh /\nRUN /x.sh\n",
        "InterpreterMissing",
        "Dockerfile:3",
        ".gitattributes",
        files={"x.sh": File(SCRIPT, "100755")},
    ),
    build("run-file", "FROM {base}\nRUN cat requirements.txt\n", "FileMissing", "Dockerfile:2", "requirements.txt"),
    build(
        "run-memory",
        "FROM {base}\nRUN x=$(cat /dev/zero | tr '\\0' x)\n",
        "OutOfMemory",
        "Dockerfile:2",
        "BUILD_MEMORY",
        BUILD_MEMORY,
    ),
    build(
        "run-disk", "FROM {base}\nRUN echo x > /dev/full\n", "DiskFull", "Dockerfile:2", "BUILD_DISK", whose="platform"
    ),
    # -------------------------------------------------------------------------- RUN, real words
    tool("npm-lock-stale", "npm-lock-stale", "npm ci", "LockFileOutOfDate"),
    tool("npm-network", "dns-away", "npm ci", "NetworkUnreachable", whose="platform"),
    tool("npm-tool", "tool", "npm run build", "ToolMissing", code=127),
    tool("pip-requirements", "pip-requirements", "pip install -r requirements.txt", "FileMissing"),
    tool("go-error", "go-error", "go build ./...", "CompileError"),
    tool("cargo-lock", "cargo-lock", "cargo build --locked", "LockFileOutOfDate", code=101),
    tool("yarn-lock", "yarn-berry-lock", "yarn install --immutable", "LockFileOutOfDate"),
    tool("poetry-lock", "poetry-lock", "poetry install", "LockFileOutOfDate"),
    tool("bundler-ruby", "bundler-ruby", "bundle install", "ToolVersion", code=18),
    tool("composer-extension", "composer-extension", "composer install", "ToolMissing", code=2),
    tool("apk-package", "apk-package", "apk add redis-tools", "PackageNotFound"),
    tool("apt-package", "apt-package", "apt-get install -y x1-nosuch", "PackageNotFound", code=100),
)
