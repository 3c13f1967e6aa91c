"""What an app's last words mean, and those of an engine that could not start it.

`{file}` and the like are what the words name; the image is built by the Dockerfile, and runs by the preview.yaml.
"""

from __future__ import annotations

from provider.diagnose.table import SHELL, Case, Table
from provider.errors import Code

_NAME = r"[A-Z][A-Z0-9]*_[A-Z0-9_]+"
_VOLUME = "spec.volumes: [{{name: data, kind: emptyDir, mountPath: {folder}}}] in .x1agent/preview.yaml"

APPS = Table(
    Case(
        "read-only",
        r"EROFS: read-only file system, \w+ '(?P<file>[^']+)'|(?i:read-only file system): '(?P<file2>[^']+)'"
        r"|(?P<file3>/[^\s:'’\"]+)[’'\"]?: (?i:read-only file system)|(?i:read-only file system)",
        "ReadOnlyRoot",
        "The image's files can't be written here (READ_ONLY_ROOT): let {file} stand in a volume, "
        + _VOLUME
        + ", or make"
        " the app write to one.",
    ),
    Case(
        "needs-root",
        r"(?P<what>(?:chown|chgrp|setgid|setuid|setgroups|initgroups|su-exec|gosu|sudo|su|seteuid|setegid|mount"
        r"|fchown)\b"
        r"[^\n]*?(?:[Oo]peration not permitted|[Mm]ust be run as root|no new privileges)[^\n]*)",
        "NeedsRoot",
        "The app changes owners or users at its start ({what}), which no preview may: no capabilities, no new"
        " privileges. In the Dockerfile do it while building (`RUN chown -R 1000 /path`), and end with `USER 1000`.",
    ),
    Case(
        "port-permission",
        r"(?:listen EACCES: permission denied \S*?|bind\(\) to \S*?|bind: permission denied \S*?):(?P<bound>\d+)\b",
        "PortNotAllowed",
        "The app may not listen on port {bound}: make it listen on spec.runtime.port {port}, above 1024, or leave USER"
        " as it is.",
    ),
    Case(
        "port-taken",
        r"EADDRINUSE|(?i:address already in use)",
        "PortTaken",
        "The app starts two servers on one port (the evidence names it): start it once only, or give the other another"
        " port than spec.runtime.port {port}.",
    ),
    Case(
        "permission",
        r"EACCES: permission denied, \w+ '(?P<file>[^']+)'|Permission denied: '(?P<file2>[^']+)'"
        r"|(?P<file3>/[^\s:'’\"]+)[’'\"]?: Permission denied|open\(\) \"(?P<file4>[^\"]+)\" failed \(13",
        "PermissionDenied",
        "The app's user may not write {file}: in the Dockerfile make it that user's before USER"
        " (`RUN mkdir -p {folder} && chown -R 1000 {folder}`), or take a volume: " + _VOLUME + ".",
    ),
    Case(
        "disk",
        r"(?i)no space left on device|ENOSPC",
        "DiskFull",
        "The app found a disk full: raise spec.volumes[].sizeLimit or spec.resources.ephemeralStorage in"
        " .x1agent/preview.yaml, or write less.",
    ),
    Case(
        "heap",
        r"JavaScript heap out of memory",
        "OutOfMemory",
        "Node ran into its own limit of memory: set NODE_OPTIONS=--max-old-space-size=… in spec.env, below"
        " spec.resources.limits.memory ({memory}), and raise both if need be.",
    ),
    Case(
        "architecture",
        r"exec (?P<file>\S+): exec format error|cannot execute binary file",
        "WrongArchitecture",
        "{file} is for another kind of machine, or a script without a first line like `#!/bin/sh`: build it for the"
        " platform's machines (FROM without --platform), or add that line.",
    ),
    Case(
        "library",
        r"error while loading shared libraries: (?P<library>\S+?):|version `(?P<library2>GLIBC_[\d.]+)' not found",
        "LibraryMissing",
        "The image lacks {library}: install it in the Dockerfile's last stage, or let that stage start FROM the"
        " image in which the app is built.",
    ),
    Case(
        "node-module",
        r"Error: Cannot find module '(?P<module>[^']+)'",
        "ModuleMissing",
        'The image has no `{module}`: add it to "dependencies" (not "devDependencies") of package.json, or COPY what is'
        " built to where CMD in the Dockerfile looks for it.",
    ),
    Case(
        "python-module",
        r"ModuleNotFoundError: No module named '(?P<module>[^']+)'",
        "ModuleMissing",
        "The image has no Python module `{module}`: add its package to requirements.txt, or COPY it in the Dockerfile.",
    ),
    Case(
        "script",
        r"can't open (?:file )?'(?P<file>[^']+)': (?:\[Errno 2\] )?No such file|Unable to access jarfile "
        r"(?P<file2>\S+)",
        "FileMissing",
        "The image has no {file}: COPY it in the Dockerfile, or correct CMD and WORKDIR there.",
    ),
    Case(
        "tool",
        rf"{SHELL}(?P<tool>[\w./+-]+): (?:command )?not found",
        "CommandNotFound",
        "The image has no `{tool}`: install it in the Dockerfile's last stage, or correct CMD (or ENTRYPOINT) there.",
    ),
    Case(
        "setting-python",
        r"^KeyError: '(?P<name>[A-Z][A-Z0-9_]{2,})'",
        "SettingMissing",
        "The app wants the environment variable {name}: add {{name: {name}, value: …}} or {{name: {name}, from:"
        " secret:{name}}} to spec.env in .x1agent/preview.yaml.",
    ),
    Case(
        "setting",
        rf"(?i:missing|required|undefined|invalid)[^\n]{{0,30}}?(?i:env|variable|setting|config)[^\n]{{0,30}}?\b"
        rf"(?P<name>{_NAME})\b"
        rf"|\b(?P<name2>{_NAME})\b[^\n]{{0,12}}?(?i:is required|not set|must be set|is missing|is undefined"
        rf"|unbound variable)",
        "SettingMissing",
        "The app wants the environment variable {name}: add {{name: {name}, value: …}} or {{name: {name}, from:"
        " secret:{name}}} to spec.env in .x1agent/preview.yaml.",
    ),
    Case(
        "service",
        r"ECONNREFUSED (?P<address>[\w.:\[\]-]+:\d+)|(?i:connection refused)[^\n]*?(?P<address2>[\w.-]+:\d{2,5})"
        r"|(?P<address3>[\w.-]+:\d{2,5})[^\n]*?(?i:connection refused)",
        "ServiceUnreachable",
        "The app needs what should answer at {address}, and nothing does: a preview is one container, without a"
        " database"
        " beside it. Set the address of one in spec.env of .x1agent/preview.yaml, or let the app start without it.",
    ),
)

STARTS = Table(
    Case(
        "command",
        r"exec: \\?\"(?P<program>[^\"\\]+)\\?\": (?:executable file not found|stat [^\n]*no such file)"
        r"|executable file `(?P<program2>[^`]+)` not found",
        "CommandNotFound",
        "The image has no program `{program}`: correct CMD (or ENTRYPOINT) in the Dockerfile, or install it in"
        " its last stage.",
    ),
    Case(
        "command-permission",
        r"exec: \\?\"(?P<program>[^\"\\]+)\\?\": permission denied",
        "CommandNotExecutable",
        "{program} may not be run: commit it as executable (`git update-index --chmod=+x`), or write"
        " `RUN chmod +x {program}` in the Dockerfile.",
    ),
    Case(
        "command-none",
        r"no command or entrypoint provided|no command specified",
        "NoCommand",
        'The image says nothing of what to run: end the Dockerfile with CMD, for example `CMD ["npm", "start"]`.',
    ),
    Case(
        "user-unknown",
        r"unable to find user (?P<user>\S+?):",
        "UserUnknown",
        "The image has no user `{user}`: write `RUN adduser {user}` in the Dockerfile before USER, or a number.",
    ),
    Case(
        "user-root",
        r"runAsNonRoot and image will run as root",
        "ImageRunsAsRoot",
        "The image runs as root, which POD_SECURITY=restricted does not allow: end the Dockerfile with `USER 1000`, and"
        " make what it writes that user's.",
    ),
    Case(
        "user-named",
        r"runAsNonRoot and image has non-numeric user \((?P<user>[^)]+)\)",
        "ImageRunsAsRoot",
        "Nobody can tell whether the user `{user}` is root: write its number after USER in the Dockerfile.",
    ),
    Case(
        "secret",
        r"secret \\?\"(?P<secret>[^\"\\]+)\\?\" not found|couldn't find key (?P<secret2>\S+) in Secret",
        "BundleGone",
        "The preview's secrets are gone ({secret}): deploy again with them, in `secret_values` and `extra_env`.",
        code=Code.SECRET_MISSING,
    ),
    Case(
        "mount",
        r"mounting [^\n]* at \"(?P<path>/[^\"]+)\"[^\n]*: (?P<what>not a directory|read-only file system"
        r"|no such file or directory)",
        "MountFailed",
        "{path} can't be mounted ({what}): correct spec.volumes[].mountPath in .x1agent/preview.yaml.",
    ),
)
