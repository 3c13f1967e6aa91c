"""What package managers write: Poetry, Bundler, Composer, apk. `{where}` is the step's line."""

from __future__ import annotations

from provider.diagnose.table import Case

PACKAGES_MORE = (
    # ------------------------------------------------------------------------ Poetry
    Case(
        "poetry-lock",
        r"pyproject\.toml changed significantly since poetry\.lock was last generated",
        "LockFileOutOfDate",
        "{where}: poetry.lock does not agree with pyproject.toml: run `poetry lock` and commit poetry.lock.",
    ),
    Case(
        "poetry-no-pyproject",
        r"Poetry could not find a pyproject\.toml file in",
        "FileMissing",
        "{where}: there is no pyproject.toml in the image's folder by then: COPY pyproject.toml and poetry.lock before"
        " that line, or set WORKDIR to where they are.",
    ),
    Case(
        "poetry-version",
        r"depends on (?P<package>\S+ \([^)]+\)) which doesn't match any versions, version solving failed",
        "PackageNotFound",
        "{where}: the package index has no {package}: correct its name or version in pyproject.toml, and commit"
        " poetry.lock.",
    ),
    Case(
        "poetry-conflict",
        r"because \S+ depends on (?:both )?\S+ \(.*, version solving failed",
        "DependenciesConflict",
        "{where}: pyproject.toml asks for versions that exclude each other (the log names them): loosen one of them,"
        " and commit poetry.lock.",
    ),
    Case(
        "poetry-python",
        r"(?:Current Python version \(|currently activated Python version )(?P<found>[\d.]+)\)? is not"
        r" (?:allowed|supported) by the project \((?P<wanted>[^)]+)\)",
        "ToolVersion",
        "{where}: pyproject.toml wants Python {wanted}, the base image has {found}: change the image after FROM, or the"
        " version in pyproject.toml.",
    ),
    Case(
        "poetry-root",
        r"The current project could not be installed: (?P<what>.*)",
        "FileMissing",
        "{where}: Poetry installs the project itself, which is not there by then ({what}): write `poetry install"
        " --no-root`, or COPY the sources before that line.",
    ),
    # ----------------------------------------------------------------------- Bundler
    Case(
        "bundler-gemfile",
        r"Could not locate Gemfile",
        "FileMissing",
        "{where}: there is no Gemfile in the image's folder by then: COPY Gemfile and Gemfile.lock before that line, or"
        " set WORKDIR to where they are.",
    ),
    Case(
        "bundler-lock-missing",
        r"(?:deployment setting|--deployment flag|frozen setting) requires a (?:Gemfile\.lock|lockfile)",
        "LockFileMissing",
        "{where}: there is no Gemfile.lock: run `bundle install`, commit Gemfile.lock, and COPY it before that line.",
    ),
    Case(
        "bundler-lock",
        r"(?:gemfile|Gemfile|path gems|sources) changed(?:$|, but the lockfile can't be updated because)|"
        r"in deployment mode after changing",
        "LockFileOutOfDate",
        "{where}: Gemfile.lock does not agree with Gemfile: run `bundle install` and commit Gemfile.lock.",
    ),
    Case(
        "bundler-ruby",
        r"Your Ruby version is (?P<found>[\w.]+), but your Gemfile specified (?P<wanted>.+)",
        "ToolVersion",
        "{where}: Gemfile wants Ruby {wanted}, the base image has {found}: change the image after FROM, or the `ruby`"
        " line of Gemfile.",
    ),
    Case(
        "bundler-gem",
        r"Could not find gem '(?P<package>[^']+)'",
        "PackageNotFound",
        "{where}: there is no gem {package}: correct its name or version in Gemfile, or the `source` that has it.",
    ),
    Case(
        "bundler-native",
        r"An error occurred while installing (?P<package>\S+) \([^)]*\), and Bundler cannot",
        "ToolMissing",
        "{where}: the gem {package} is compiled, and that failed: install a compiler and the libraries that it needs"
        " before that line (Debian: `apt-get install -y build-essential` and the library's -dev package).",
    ),
    # ---------------------------------------------------------------------- Composer
    Case(
        "composer-json",
        r"Composer could not find a composer\.json file in",
        "FileMissing",
        "{where}: there is no composer.json in the image's folder by then: COPY composer.json and composer.lock before"
        " that line, or set WORKDIR to where they are.",
    ),
    Case(
        "composer-extension",
        r"requires? (?:PHP extension )?ext-(?P<tool>\S+) \S+ (?:->|but) it is missing from your system",
        "ToolMissing",
        "{where}: a package needs PHP's extension {tool}, which the image does not have: install it before that line"
        " (in an image php:…: `docker-php-ext-install {tool}`).",
    ),
    Case(
        "composer-php",
        r"requires? php (?P<wanted>.+) -> your php version \((?P<found>[\w.+~-]+)[^)]*\) does not satisfy",
        "ToolVersion",
        "{where}: a package wants PHP {wanted}, the base image has {found}: change the image after FROM, or the"
        " package's version in composer.json.",
    ),
    Case(
        "composer-lock",
        r"[Pp]ackage \"[^\"]+\" is (?:not present in the lock file|in the lock file as)",
        "LockFileOutOfDate",
        "{where}: composer.lock does not agree with composer.json: run `composer update --lock` and commit"
        " composer.lock.",
    ),
    Case(
        "composer-package",
        r"Root composer\.json requires (?P<package>\S+?),? .*(?:it could not be found in any version|found .* but it"
        r" does not match the constraint)|Could not find (?:a matching version of )?package (?P<package2>\S+)",
        "PackageNotFound",
        "{where}: there is no such version of {package}: correct its name or version in composer.json, and commit"
        " composer.lock.",
    ),
    Case(
        "composer-platform",
        r"Your lock file does not contain a compatible set of packages",
        "DependenciesConflict",
        "{where}: what composer.lock holds does not go with this image (the log says why): run `composer update` with"
        " the image's PHP, and commit composer.lock.",
    ),
    Case(
        "composer-unzip",
        r"The zip extension and unzip/7z commands are both missing",
        "ToolMissing",
        "{where}: Composer can't unpack what it gets: install unzip before that line (Debian: `apt-get install -y"
        " unzip`).",
    ),
    # --------------------------------------------------------------------------- apk
    Case(
        "apk-root",
        r"ERROR: Unable to lock database: Permission denied",
        "ToolMisused",
        "{where}: apk installs as root alone: write `USER root` before that line, and the user's name after it.",
    ),
    Case(
        "apk-version",
        r"breaks: world\[(?P<package>[^\]=<>~]+)=(?P<version>[^\]]+)\]",
        "PackageNotFound",
        "{where}: apk has no {package}={version} any more, Alpine keeps the newest alone: drop the version, or write"
        " `{package}~=` with its first numbers.",
    ),
    Case(
        "apk-package",
        r"^\s*(?P<package>[\w.+-]+) \(no such package\)",
        "PackageNotFound",
        "{where}: apk knows no {package}: correct its name; packages have other names on Alpine than on Debian.",
    ),
)
