"""What package managers write: npm, yarn, pnpm, pip, Go, Cargo, apt, Maven. `{where}` is the step's line.

Those of more languages are in `packages_more`.
"""

from __future__ import annotations

from provider.diagnose.table import Case

PACKAGES = (
    # ------------------------------------------------------------- npm, yarn, pnpm
    Case(
        "npm-lock-missing",
        r"npm (?:error|ERR!).*can only install with an existing package-lock\.json",
        "LockFileMissing",
        "{where}: `npm ci` needs a package-lock.json: run `npm install`, commit package-lock.json, and COPY it before"
        " that line.",
    ),
    Case(
        "npm-lock-stale",
        r"npm (?:error|ERR!).*can only install packages when your package\.json and package-lock\.json",
        "LockFileOutOfDate",
        "{where}: package-lock.json does not agree with package.json: run `npm install` and commit package-lock.json.",
    ),
    Case(
        "npm-script",
        r"npm (?:error|ERR!) Missing script: \"(?P<script>[^\"]+)\"",
        "ScriptMissing",
        '{where}: package.json has no script `{script}`: add it under "scripts", or correct its name at {where}.',
    ),
    Case(
        "npm-peers",
        r"npm (?:error|ERR!) code ERESOLVE",
        "DependenciesConflict",
        "{where}: package.json asks for versions that exclude each other (the log names them): change one of them in"
        " package.json, and commit package-lock.json.",
    ),
    Case(
        "npm-version",
        r"No matching version found for (?P<package>\S+?)\.?$",
        "PackageNotFound",
        "{where}: there is no {package}: correct its version in package.json.",
    ),
    Case(
        "npm-package",
        r"npm (?:error|ERR!) 404 .*'(?P<package>[^']+)' (?:could not be found|is not in)",
        "PackageNotFound",
        "{where}: the registry has no {package}, or not for everybody: correct its name in package.json, or COPY an"
        " .npmrc that has a token (as a build arg) before that line.",
    ),
    Case(
        "npm-json",
        r"npm (?:error|ERR!) code EJSONPARSE",
        "FileInvalid",
        "{where}: package.json is no valid JSON; the evidence says where. Correct it.",
    ),
    Case(
        "npm-no-package-json",
        r"npm (?:error|ERR!).*Could not read package\.json",
        "FileMissing",
        "{where}: there is no package.json in the image's folder by then: COPY package.json (and package-lock.json)"
        " before that line, or set WORKDIR to where it is.",
    ),
    Case(
        "npm-engine",
        r"npm (?:error|ERR!) code EBADENGINE",
        "ToolVersion",
        '{where}: package.json\'s "engines" wants another version of Node than the base image has: change the image'
        ' after FROM, or "engines".',
    ),
    Case(
        "yarn-lock",
        r"Your lockfile needs to be updated, but yarn was run with",
        "LockFileOutOfDate",
        "{where}: yarn.lock does not agree with package.json: run `yarn install` and commit yarn.lock.",
    ),
    Case(
        "yarn-berry-lock",
        r"The lockfile would have been modified by this install",
        "LockFileOutOfDate",
        "{where}: yarn.lock does not agree with package.json: run `yarn install` and commit yarn.lock.",
    ),
    Case(
        "yarn-package",
        r"error Couldn't find package \"(?P<package>[^\"]+)\" on the|YN0035: │ (?P<package2>\S+): Package not found",
        "PackageNotFound",
        "{where}: the registry has no {package}, or not for everybody: correct its name in package.json, or give the"
        " step a token for the registry (as a build arg).",
    ),
    Case(
        "yarn-version",
        r"error Couldn't find any versions for \"(?P<package>[^\"]+)\" that"
        r"|YN0082: │ (?P<package2>\S+): No candidates",
        "PackageNotFound",
        "{where}: there is no such version of {package}: correct it in package.json, and commit yarn.lock.",
    ),
    Case(
        "yarn-script",
        r"error Command \"(?P<script>[^\"]+)\" not found\.|Couldn't find a script named \"(?P<script2>[^\"]+)\"",
        "ScriptMissing",
        '{where}: package.json has no script `{script}`: add it under "scripts", or correct its name at {where}.',
    ),
    Case(
        "yarn-engine",
        r"The engine \"(?P<tool>[^\"]+)\" is incompatible with this module\. Expected version \"(?P<wanted>[^\"]+)\"",
        "ToolVersion",
        "{where}: a package wants {tool} {wanted}, which the base image does not have: change the image after FROM, or"
        ' "engines" in package.json.',
    ),
    Case(
        "yarn-no-package-json",
        r"Couldn't find a package\.json file in|Usage Error: No project found in|ERR_PNPM_NO_PKG_MANIFEST",
        "FileMissing",
        "{where}: there is no package.json in the image's folder by then: COPY package.json (and the lock file) before"
        " that line, or set WORKDIR to where it is.",
    ),
    Case(
        "pnpm-package",
        r"(?P<package>\S+) is not in the npm registry, or you have no permission to fetch it",
        "PackageNotFound",
        "{where}: the registry has no {package}, or not for everybody: correct its name in package.json, or give the"
        " step a token for the registry (as a build arg).",
    ),
    Case(
        "pnpm-script",
        r"ERR_PNPM_NO_SCRIPT\s+Missing script: (?P<script>\S+)",
        "ScriptMissing",
        '{where}: package.json has no script `{script}`: add it under "scripts", or correct its name at {where}.',
    ),
    Case(
        "pnpm-lock-missing",
        r"ERR_PNPM_NO_LOCKFILE",
        "LockFileMissing",
        "{where}: there is no pnpm-lock.yaml: run `pnpm install`, commit pnpm-lock.yaml, and COPY it before that line.",
    ),
    Case(
        "pnpm-lock-stale",
        r"ERR_PNPM_OUTDATED_LOCKFILE",
        "LockFileOutOfDate",
        "{where}: pnpm-lock.yaml does not agree with package.json: run `pnpm install` and commit pnpm-lock.yaml.",
    ),
    Case(
        "node-heap",
        r"JavaScript heap out of memory",
        "OutOfMemory",
        "{where}: Node ran into its own limit of memory: set NODE_OPTIONS=--max-old-space-size=… (below BUILD_MEMORY,"
        " {memory}) before that line, or build with less.",
    ),
    Case(
        "node-module",
        r"Error: Cannot find module '(?P<module>[^']+)'",
        "ModuleMissing",
        "{where}: Node finds no `{module}`: add it to package.json's dependencies, or COPY the file before that line.",
    ),
    # ------------------------------------------------------------------------ Python
    Case(
        "pip-requirements",
        r"Could not open requirements file:.*No such file or directory: '(?P<file>[^']+)'",
        "FileMissing",
        "{where}: there is no {file} in the image's folder by then: COPY {file} before that line, or correct its name.",
    ),
    Case(
        "pip-line",
        r"ERROR: Invalid requirement: (?P<what>'[^']+')",
        "FileInvalid",
        "{where}: {what} in the requirements file is no requirement (`name==version` is): correct that line of it.",
    ),
    Case(
        "pip-version",
        r"Could not find a version that satisfies the requirement (?P<package>\S+) .*\(from versions: [^n)]",
        "PackageNotFound",
        "{where}: there is no {package} for this Python: correct the version in requirements.txt or pyproject.toml, or"
        " take another Python after FROM.",
    ),
    Case(
        "pip-package",
        r"Could not find a version that satisfies the requirement (?P<package>\S+) .*\(from versions: none\)",
        "PackageNotFound",
        "{where}: the package index gave no version of {package}: correct its name in requirements.txt or"
        " pyproject.toml, or the index (PIP_INDEX_URL), if one is set.",
    ),
    Case(
        "pip-conflict",
        r"ERROR: Cannot install .*because these package versions have conflicting dependencies",
        "DependenciesConflict",
        "{where}: requirements exclude each other (the log names them): loosen one of them in requirements.txt.",
    ),
    Case(
        "pip-hash",
        r"THESE PACKAGES DO NOT MATCH THE HASHES",
        "LockFileOutOfDate",
        "{where}: a package is not the one that requirements.txt has the hash of: make the hashes anew"
        " (`pip-compile --generate-hashes`), and find out why it changed.",
    ),
    Case(
        "pip-python",
        r"Package '(?P<package>[^']+)' requires a different Python: (?P<found>\S+) not in '(?P<wanted>[^']+)'",
        "ToolVersion",
        "{where}: {package} needs Python {wanted}, the base image has {found}: change the image after FROM, or"
        " requires-python in pyproject.toml.",
    ),
    Case(
        "pip-managed",
        r"error: externally-managed-environment",
        "ToolMisused",
        "{where}: Debian's Python takes no packages from pip: make a virtual environment first"
        " (`python3 -m venv /venv`, then `/venv/bin/pip install …`), or take an image python:… after FROM.",
    ),
    Case(
        "python-compiler",
        r"error: (?:\[Errno 2\] No such file or directory: '|command ')(?P<tool>[\w.+-]*(?:cc|\+\+|cargo"
        r"|rustc)[\w.-]*)'",
        "ToolMissing",
        "{where}: a package is compiled, and the image has no {tool}: install it before that line"
        " (Debian: `apt-get install -y build-essential`), or take the base image that is not slim.",
    ),
    Case(
        "python-module",
        r"ModuleNotFoundError: No module named '(?P<module>[^']+)'",
        "ModuleMissing",
        "{where}: Python finds no `{module}`: add the package that has it to requirements.txt, or COPY the file before"
        " that line.",
    ),
    # ---------------------------------------------------------------------------- Go
    Case(
        "go-sum",
        r"missing go\.sum entry",
        "LockFileOutOfDate",
        "{where}: go.sum lacks a module: run `go mod tidy`, commit go.mod and go.sum, and COPY both before that line.",
    ),
    Case(
        "go-no-require",
        r"(?:cannot find module providing package|no required module provides package) (?P<package>[^\s:;]+)",
        "PackageNotFound",
        "{where}: go.mod requires no module that has {package}: run `go mod tidy`, and commit go.mod and go.sum.",
    ),
    Case(
        "go-no-mod",
        r"go\.mod file not found|does not contain main module",
        "FileMissing",
        "{where}: there is no go.mod in the image's folder by then: COPY go.mod (and go.sum) before that line, or set"
        " WORKDIR to where it is.",
    ),
    Case(
        "go-version",
        r"module requires Go (?P<wanted>[\d.]+)|requires go >= (?P<wanted2>[\d.]+)",
        "ToolVersion",
        "{where}: go.mod wants Go {wanted}, which the base image does not have: change the image after FROM,"
        " or the `go` line of go.mod.",
    ),
    # -------------------------------------------------------------------------- Rust
    Case(
        "cargo-lock",
        r"(?:because|but) --(?:locked|frozen) was passed",
        "LockFileOutOfDate",
        "{where}: Cargo.lock is missing or does not agree with Cargo.toml: run `cargo generate-lockfile`, commit"
        " Cargo.lock, and COPY it before that line.",
    ),
    Case(
        "cargo-manifest",
        r"could not find `Cargo\.toml` in",
        "FileMissing",
        "{where}: there is no Cargo.toml in the image's folder by then: COPY Cargo.toml before that line, or set"
        " WORKDIR to where it is.",
    ),
    Case(
        "cargo-version",
        r"rustc (?P<found>[\d.]+) is not supported by the following package",
        "ToolVersion",
        "{where}: a package needs a newer Rust than {found}: change the image after FROM, or the package's version in"
        " Cargo.toml.",
    ),
    Case(
        "cargo-linker",
        r"error: linker `(?P<tool>[^`]+)` not found",
        "ToolMissing",
        "{where}: the image has no linker {tool}: install it before that line (Debian: `apt-get install -y gcc`).",
    ),
    # --------------------------------------------------------------------------- apt
    Case(
        "apt-package",
        r"E: Unable to locate package (?P<package>\S+)",
        "PackageNotFound",
        "{where}: apt knows no {package}: correct its name; and write `apt-get update && apt-get install -y …` as one"
        " RUN, for an image has no lists of its own.",
    ),
    Case(
        "apt-version",
        r"E: Version '(?P<version>[^']+)' for '(?P<package>[^']+)' was not found",
        "PackageNotFound",
        "{where}: apt has no {package}={version}: drop the version, or take one that `apt-cache policy {package}`"
        " shows.",
    ),
    # ------------------------------------------------------------------------- Maven
    Case(
        "maven-pom",
        r"there is no POM in this directory",
        "FileMissing",
        "{where}: there is no pom.xml in the image's folder by then: COPY pom.xml before that line, or set WORKDIR.",
    ),
    Case(
        "maven-dependency",
        r"Could not resolve dependencies for project .*the artifact (?P<package>\S+)|Could not find artifact "
        r"(?P<package2>\S+)",
        "PackageNotFound",
        "{where}: Maven got no {package}: correct its version in pom.xml, or the repositories there.",
    ),
)
