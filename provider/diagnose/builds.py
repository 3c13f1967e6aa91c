"""From a failed build's last words to its cause, at the user's own line of the Dockerfile."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from provider.diagnose import exits, steps
from provider.diagnose.builders import BUILD_MACHINE, BUILDERS, CODE, RUN_FAILED
from provider.diagnose.images import IMAGES
from provider.diagnose.steps import Step
from provider.diagnose.table import Finding, Match
from provider.diagnose.tools import TOOLS

DIAGNOSED_LINES = 200
"""How much of a log's end is looked at: npm says what is wrong some hundred lines before its end."""
LAST_LINES = 20
"""Where a step's own word about the machine stands."""
_IMAGE = re.compile(
    r"docker://(?P<a>\S+?): |retrieve image (?P<b>\S+?): |GET https?://(?P<c>[^/\s]+)/v2/(?P<d>\S+)/manifests/"
    r"(?P<e>[^\s:]+)"
    r"|short-name \"(?P<f>[^\"]+)\"|from image (?P<g>\S+?)(?:: |$)|pinging container registry (?P<h>\S+?): "
)
_QUOTED = re.compile(r"(?<!\w)'([^']+)'")
PODMANS_OWN = 125
"""The exit code by which Podman says that it failed itself."""
_INTERNAL = re.compile(
    r"under \"[^\"]*\": |^Error: building at STEP \"[^\"]*\": (?=\S)| &imagebuilder\.Step\{.*|\S*/state/builds/\w+/"
    r"(?:tree/?)?|/kaniko/buildcontext/?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What is known of a build that failed.

    Args:
        said: the builder's own last word.
        log: the log's last lines, `DIAGNOSED_LINES` of them.
        exit_code: the builder's, or the step's.
        pulling: it ended while a base image was pulled.
        path: the Dockerfile's in the repository.
        text: the Dockerfile as the user wrote it; "" where it can't be had.
        context: the build context's folder in the repository.
        memory: what builds may use.
        submodules: the paths of the repository's submodules, whose files no build has.
    """

    said: str
    log: Sequence[str]
    exit_code: int | None
    path: str
    text: str
    pulling: bool = False
    context: str = "."
    memory: str = ""
    submodules: Sequence[str] = ()

    @property
    def file(self) -> str:
        """The Dockerfile's path, without what it need not have."""
        return self.path.removeprefix("./")


def cause(build: Build) -> Finding:
    """Why the build failed.

    What the builder itself says counts first, for a step may write anything; what a step wrote, only once the builder
    says that it failed.
    """
    of = steps.steps(build.text)
    found, image = BUILDERS.find([build.said]), IMAGES.find([build.said])
    if image is not None and (build.pulling or found is None):
        return _base_image(build, of, image)
    step = steps.reached(of, build.log, build.said)
    if found is None:
        return _unknown(build, step)
    if found.case.reason == RUN_FAILED:
        output = steps.output_of(build.log)
        found = BUILD_MACHINE.find(output[-LAST_LINES:]) or TOOLS.find(output) or found
    return _submodule(build, of, found) or _finding(build, of, _step_of(of, found, step), found)


def place(path: str, text: str, message: str) -> str:
    """`Dockerfile:3`, where a message quotes what stands there; else the Dockerfile alone."""
    file, of = path.removeprefix("./"), steps.steps(text)
    for quoted in _QUOTED.findall(message):
        if (step := steps.quoting(of, quoted)) is not None:
            return f"{file}:{step.line}"
    return file


def _finding(build: Build, of: Sequence[Step], step: Step | None, found: Match) -> Finding:
    where = f"{build.file}:{step.line}" if step is not None else build.file
    code = found.values.get("code") or build.exit_code
    facts = {
        "where": where,
        "step": step.shown if step is not None else "the step",
        "path": build.file,
        "context": build.context,
        "memory": build.memory or "a limit",
        "line": found.line,
        "nearest": _nearest(found.values.get("word", "")),
        "stages": f" ({', '.join(named)})" if (named := steps.stages(of)) else "",
        "code_means": f" with {exits.told(int(code))}" if code else "",
    }
    located = f"{where}: {step.shown}" if step is not None else ""
    return Finding(
        code=found.case.code or CODE,
        reason=found.case.reason,
        message=f"The build failed at {located or build.file}: {_told(build, found)}",
        hint=found.hint(facts),
        evidence=(
            located,
            _exit(build),
            _clean(found.line),
            _clean(build.said) if found.line not in build.said else "",
        ),
        whose=found.case.whose,
        retryable=found.case.retryable,
    )


def _base_image(build: Build, of: Sequence[Step], found: Match) -> Finding:
    """Why a base image could not be had; the FROM that names it."""
    named = _IMAGE.search(build.said)
    groups = named.groupdict() if named else {}
    image = next((groups[key] for key in "abfgh" if groups.get(key)), "")
    if groups.get("d"):
        image = f"{groups['c']}/{groups['d']}{'@' if groups['e'].startswith('sha256') else ':'}{groups['e']}"
    step = steps.naming(of, image)
    where = f"{build.file}:{step.line}" if step is not None else build.file
    facts = {"where": where, "image": image or "the base image"}
    located = f"{where}: {step.shown}" if step is not None else build.file
    return Finding(
        code=found.case.code or CODE,
        reason=found.case.reason,
        message=f"The base image of {located} could not be had: {_clean(build.said)}",
        hint=found.hint(facts),
        evidence=(located, _clean(build.said)),
        whose=found.case.whose,
        retryable=found.case.retryable,
    )


def _unknown(build: Build, step: Step | None) -> Finding:
    """Nothing that is known fits: where it ended, and what was said."""
    where = f"{build.file}:{step.line}: {step.shown}" if step is not None else build.file
    said = _clean(build.said or (build.log[-1] if build.log else "no output"))
    return Finding(
        code=CODE,
        reason="BuildFailed",
        message=f"The build failed at {where}: {said}",
        hint=f"What that means is not known here; it is the builder's own word about {where}. The log's tail has more.",
        evidence=(where, _exit(build), said),
    )


def _submodule(build: Build, of: Sequence[Step], found: Match) -> Finding | None:
    """A file that is missing because it is a submodule's, whose files no build has."""
    missing = found.values.get("file", "").lstrip("./")
    module = next((one for one in build.submodules if missing == one or missing.startswith(f"{one}/")), None)
    if module is None:
        return None
    step = _step_of(of, found, steps.reached(of, build.log, build.said))
    where = f"{build.file}:{step.line}" if step is not None else build.file
    return Finding(
        code=CODE,
        reason="SubmoduleNotFetched",
        message=f"The build failed at {where}: {missing} is of the submodule {module}, whose files builds do not have.",
        hint=f"{where}: take the files of {module} into the repository instead of .gitmodules, or fetch them in a RUN.",
        evidence=(f".gitmodules: {module}", _clean(found.line)),
    )


def _step_of(of: Sequence[Step], found: Match, step: Step | None) -> Step | None:
    """Where a cause is. What is wrong with the file itself is said before any step begins, by an image or a word."""
    if image := found.values.get("image"):
        return steps.naming(of, image) or step
    word = found.values.get("word", "").upper()
    named = [one for one in of if word and one.word == word]
    return named[0] if step is None and len(named) == 1 else step


def _told(build: Build, found: Match) -> str:
    """What was said of it: the words that were found, or what a step wrote last, where they only say that it failed."""
    output = _before(steps.output_of(build.log), build.said)
    if found.case.reason == RUN_FAILED and output:
        return f"{exits.told(build.exit_code)}: {_clean(output[-1])}"
    return _clean(found.line)


def _before(output: Sequence[str], said: str) -> list[str]:
    """What a step wrote before the builder had its last word."""
    end = next((index for index, line in enumerate(output) if line and said.startswith(line[:200])), len(output))
    return [line for line in output[:end] if line.strip()]


def _exit(build: Build) -> str:
    """The exit code, where it is a step's."""
    return exits.told(build.exit_code) if build.exit_code not in {None, PODMANS_OWN} else ""


def _nearest(word: str) -> str:
    """`; RUN is`, where a word that is no instruction looks like one that is."""
    close = difflib.get_close_matches(word.upper(), steps.WORDS, n=1)
    return f"; {close[0]} is" if close else ""


def _clean(line: str) -> str:
    """A builder's line without the folders of this platform, and what only its makers can read."""
    return _INTERNAL.sub("", line[:2000]).strip()[:300]
