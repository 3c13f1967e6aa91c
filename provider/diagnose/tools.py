"""What the output of a RUN step means; here compilers and shells. `{where}` is the step's line.

Network first: the later words of npm and pip hide it. Then package managers, for what they call fails in turn.
"""

from __future__ import annotations

from provider.diagnose.network import NETWORK
from provider.diagnose.packages import PACKAGES
from provider.diagnose.packages_more import PACKAGES_MORE
from provider.diagnose.table import SHELL, Case, Table

_C_FILE = r"(?P<file>[\w./+-]+\.(?:c|cc|cpp|cxx|h|hpp|m))"

TOOLS = Table(
    *NETWORK,
    *PACKAGES,
    *PACKAGES_MORE,
    # --------------------------------------------------------------------- compilers
    Case(
        "header",
        r"fatal error: (?P<header>\S+): No such file or directory",
        "HeaderMissing",
        "{where}: the compiler finds no {header}: install the package that has it before that line"
        " (Debian: the library's -dev package).",
    ),
    Case(
        "c-error",
        _C_FILE + r":(?P<line>\d+):(?:\d+:)? error: (?P<what>.*)",
        "CompileError",
        "{file}:{line}: {what}. Fix that, and commit it; it was compiled at {where}.",
    ),
    Case(
        "rust-error",
        r"^error(?:\[E\d+\])?: (?P<what>.*)\n\s+--> (?P<file>\S+?):(?P<line>\d+)",
        "CompileError",
        "{file}:{line}: {what}. Fix that, and commit it; it was compiled at {where}.",
    ),
    Case(
        "go-error",
        r"^(?:\./)?(?P<file>[\w./-]+\.go):(?P<line>\d+):\d+: (?P<what>.*)",
        "CompileError",
        "{file}:{line}: {what}. Fix that, and commit it; it was compiled at {where}.",
    ),
    Case(
        "typescript-error",
        r"(?P<file>[\w./@-]+\.tsx?)[(:](?P<line>\d+)[,:]\d+\)?(?::| -) error (?P<what>TS\d+: .*)",
        "CompileError",
        "{file}:{line}: {what} Fix that, and commit it; it was compiled at {where}.",
    ),
    Case(
        "make-target",
        r"make: \*\*\* No rule to make target '(?P<target>[^']+)'",
        "FileMissing",
        "{where}: make knows no `{target}`: COPY the Makefile and what it needs before that line, or correct the"
        " target's name.",
    ),
    # ------------------------------------------------------------------------ shells
    Case(
        "interpreter",
        rf"{SHELL}(?P<file>\.{{0,2}}/\S+): not found",
        "InterpreterMissing",
        "{where}: {file} is not there, or its first line names an interpreter that is not (also `sh\\r`, of a file with"
        " Windows line ends: save it with LF, or add `*.sh text eol=lf` to .gitattributes).",
    ),
    Case(
        "tool",
        rf"{SHELL}(?P<tool>[\w.+-]+): (?:command )?not found",
        "ToolMissing",
        "{where}: the image has no `{tool}`: install it before that line (for a tool of package.json or"
        " requirements.txt: install those first), or correct its name.",
    ),
    Case(
        "exec-tool",
        r"exec: \\?\"(?P<tool>[^\"\\]+)\\?\": (?:stat |executable file not found)",
        "ToolMissing",
        "{where}: the image has no `{tool}`: install it before that line, or correct its name.",
    ),
    Case(
        "make-tool",
        r"make: (?P<tool>[\w./+-]+): No such file or directory",
        "ToolMissing",
        "{where}: the Makefile calls `{tool}`, which the image does not have: install it before that line.",
    ),
    Case(
        "not-executable",
        rf"{SHELL}(?P<file>\.{{0,2}}/\S+): Permission denied",
        "NotExecutable",
        "{where}: {file} may not be run: commit it as executable (`git update-index --chmod=+x`), or write"
        " `RUN chmod +x {file}` before that line.",
    ),
    Case(
        "git-credentials",
        r"could not read (?:Username|Password) for '(?P<url>[^']+)'",
        "CredentialsRefused",
        "{where}: the step clones {url}, and builds have no git credentials: take it into the repository, or publish it"
        " as a package.",
    ),
    Case(
        "file",
        r"(?:cat|cp|mv|cd|ls|chmod|chown|tar|sed|head|rm|ln|stat|sh|can't open|cannot (?:stat|access|open))"
        r"[^\n]*?[ '\"‘](?P<file>[\w./@+-]+)[’'\"]?: (?:\[Errno 2\] )?No such file or directory",
        "FileMissing",
        "{where}: there is no {file} in the image by then: COPY it before that line, or correct its name.",
    ),
)
