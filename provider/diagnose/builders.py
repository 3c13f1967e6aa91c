"""What a builder's own last word means: Podman's `Error: …`, Kaniko's `error building image: …`.

`{where}` is the line of the instruction at which the build ended, `{step}` its text.
"""

from __future__ import annotations

from provider.diagnose.table import Case, Table
from provider.errors import Code, Whose

RUN_FAILED = "RunFailed"

BUILDERS = Table(
    # ------------------------------------------------------- of the machine, not of the Dockerfile
    Case(
        "disk",
        r"(?i)no space left on device",
        "DiskFull",
        "{where}: the builder's disk was full. On a cluster raise BUILD_DISK; on one machine free space in STATE_DIR"
        " and"
        " the engine's storage (`podman system prune`). Smaller layers help, too.",
        Whose.PLATFORM,
    ),
    Case(
        "killed",
        r"signal: killed|exit status 137\b",
        "OutOfMemory",
        "{where} was killed, most likely for its memory: builds have {memory} (BUILD_MEMORY). Let `{step}` use less"
        " (fewer parallel jobs, NODE_OPTIONS=--max-old-space-size), or have BUILD_MEMORY raised.",
    ),
    # ------------------------------------------------------------------------ Kaniko's clone
    Case(
        "clone-submodule",
        r"(?i)source context:[^\n]*submodule",
        "SubmoduleNotFetched",
        "A submodule could not be cloned: correct its url in .gitmodules, or take its files into the repository.",
    ),
    Case(
        "clone-credentials",
        r"(?i)source context:[^\n]*(?:authentication required|authorization failed)",
        "CredentialsRefused",
        "The git host refused the clone credentials: check that the installation (`installation_id`) covers"
        " `repo_full_name`, and may read its contents.",
    ),
    Case(
        "clone-repository",
        r"(?i)source context:[^\n]*repository not found",
        "RepositoryNotFound",
        "Check `repo_full_name`, and that `installation_id` covers it; GIT_BASE_URL is the host that is asked.",
    ),
    Case(
        "clone-commit",
        r"(?i)source context:[^\n]*(?:couldn't find remote ref|reference not found|object not found)",
        "CommitGone",
        "The branch or commit went away while it was built: push it again, or deploy what is there now (`branch`,"
        " `commit_sha`).",
    ),
    Case(
        "dockerfile-absent",
        r"(?i)error resolving dockerfile path",
        "DockerfileNotFound",
        "Make spec.entrypoint.path in .x1agent/preview.yaml name the Dockerfile, or commit one as {path}.",
    ),
    # ------------------------------------------------------------------------ the Dockerfile
    Case(
        "instruction",
        r"(?i)unknown instruction: \"?(?P<word>[^\s\"]+)",
        "DockerfileInvalid",
        "{where}: `{word}` is no instruction of a Dockerfile{nearest}.",
    ),
    Case(
        "no-from",
        r"(?i)no FROM statement found|no build stage in current context|file with no instructions",
        "DockerfileInvalid",
        "{path} has no FROM, or something before it: begin it with `FROM <image>`.",
    ),
    Case(
        "parse",
        r"dockerfile parse error on line (?P<at>\d+): (?P<what>[^\n]*)",
        "DockerfileInvalid",
        "{path}:{at}: {what}. Correct that line.",
    ),
    Case(
        "stage",
        r"short-name \"(?P<image>[^\"]+)\" did not resolve",
        "StageUnknown",
        "{where}: `{image}` is no earlier stage{stages} and no full name of an image: correct it, or write the image"
        " with its registry (docker.io/library/{image}).",
    ),
    Case(
        "target",
        r"(?P<image>\S+) is not a valid target build stage",
        "StageUnknown",
        "{path} has no stage `{image}`{stages}: name one with `FROM … AS {image}`, or correct the name.",
    ),
    Case(
        "user",
        r"unknown user error looking up user \"(?P<user>[^\"]+)\"",
        "UserUnknown",
        "{where}: the image has no user `{user}`: write `RUN adduser {user}` (or useradd) before USER, or a number.",
    ),
    Case(
        "arity",
        r"(?P<word>[A-Z]+) (?:requires at least|must have|requires exactly|takes) (?P<what>[^\n]*arguments?)",
        "DockerfileInvalid",
        "{where}: {word} needs {what}: write it so (`COPY source destination`, `ENV NAME=value`).",
    ),
    # -------------------------------------------------------------------------- COPY and ADD
    Case(
        "copy-ignored",
        r"no items matching glob \"[^\"]*/tree/(?P<file>[^\"]+)\" copied \(\d+ filtered out using [^)]*/"
        r"(?P<ignore>[\w.]+)\)",
        "SourceIgnored",
        "{where}: `{file}` is kept out by {ignore}: take it out of there (or add `!{file}`).",
    ),
    Case(
        "copy-outside",
        r"possible escaping context directory error[^\n]*stat: \[?\"/?(?P<file>[^\"]+)\""
        r"|forbidden path outside the build context: (?P<file2>\S+)",
        "SourceOutside",
        "{where}: `{file}` is outside the build context, `{context}`: move it inside, or set"
        " spec.entrypoint.buildContext to a folder that holds it.",
    ),
    Case(
        "copy-from",
        r"STEP \"(?:COPY|ADD) [^\"]*--from=(?P<stage>[^\s\"]+)[^\n]*copier: stat: \[?\"/?(?P<file>[^\"]+)\"",
        "SourceMissing",
        "{where}: `{stage}` has no /{file}: correct the path, or make the step there write it.",
    ),
    Case(
        "copy",
        r"copier: stat: \[?\"/?(?P<file>[^\"]+)\"\]?: no such file"
        r"|failed to get fileinfo for (?:/kaniko/buildcontext/)?(?P<file2>[^\s:]+): ",
        "SourceMissing",
        "{where}: there is no `{file}` in the build context, `{context}`: commit it, correct the path, or set"
        " spec.entrypoint.buildContext to the folder that has it.",
    ),
    Case(
        "copy-nothing",
        r"(?i)no source files were specified|copy failed",
        "SourceMissing",
        "{where}: nothing in the build context, `{context}`, is what COPY or ADD names there: commit it, or correct the"
        " path.",
    ),
    Case(
        "add-url",
        r"(?:reading|Get) \"(?P<url>https?://[^\"]+)\"",
        "SourceMissing",
        "{where}: {url} could not be fetched; the evidence says why. Correct the address, or commit the file.",
    ),
    # --------------------------------------------------------------------------------- RUN
    Case(
        "run",
        r"(?:while running runtime|waiting for process to exit): exit status (?P<code>\d+)|failed to execute command",
        RUN_FAILED,
        "{where}: `{step}` failed{code_means}. Fix it there; the log's tail ends with what it wrote.",
    ),
    Case(
        "main",
        r"parsing main Dockerfile: \S+: (?P<what>[^\n]*)",
        "DockerfileInvalid",
        "{where}: {what}. Correct that line.",
    ),
)

BUILD_MACHINE = Table(
    Case(
        "disk-of-a-step",
        r"(?i)no space left on device",
        "DiskFull",
        "{where}: `{step}` found the disk full: {line}. On a cluster raise BUILD_DISK; on one machine free space in"
        " STATE_DIR and the engine's storage. Writing less there helps, too.",
        Whose.PLATFORM,
    ),
    Case(
        "memory-of-a-step",
        r"(?m)^container exited on killed$|^Killed$|signal: killed",
        "OutOfMemory",
        "{where}: `{step}` was killed, most likely for its memory: builds have {memory} (BUILD_MEMORY). Let it use less"
        " (fewer parallel jobs, NODE_OPTIONS=--max-old-space-size), or have BUILD_MEMORY raised.",
    ),
)
"""What a step's own output says of the machine: it counts more than what the tools made of it."""

CODE = Code.KANIKO_BUILD_FAILED
