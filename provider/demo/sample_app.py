"""The sample app that `preview demo` commits and deploys, and its two ways to fail.

The files lie in `sample/` as they are committed, but for `{{placeholders}}` that are filled here. What no
commit can know of itself is filled later: the build stamps its time, and the running app its commit sha
(environment variable `COMMIT_SHA`, sent with the request as `extra_env`) and its URL.
"""

from __future__ import annotations

import html
import re
from importlib.resources import files

NAME = "hello"
ACCENT = "#6d5dfc"
BROKEN_ACCENT = "#e5484d"
BROKEN_MESSAGE = "Rework the checkout"
BROKEN_LOG = "error TS2304"
UNHEALTHY_MESSAGE = "Move to the new database"
UNHEALTHY_LOG = "cannot connect to the database"
PATIENCE = "failureThreshold: 3"
# An explicit delay leaves no startup probe: what never answers is given up when liveness would end it, which
# is twice the delay plus three periods a failure. So nobody waits long to see it fail.
LITTLE_PATIENCE = "initialDelaySeconds: 1\n      failureThreshold: 1"
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
SPEC_PATH = ".x1agent/preview.yaml"
COMMITTED = (SPEC_PATH, "Dockerfile", "build.sh", "app/page.html", "app/healthz", "app/cgi-bin/index.cgi")


def sample_files(
    base_image: str,
    *,
    commit_message: str = "Say hello",
    story: str = "A commit became an image, a container and this address.",
    accent: str = ACCENT,
    name: str = NAME,
) -> dict[str, str]:
    """The app's files: path in the repository → content.

    Args:
        base_image: what the Dockerfile starts from (see `push_base_image`).
        commit_message: the page's headline; its first line is what a person reads first.
        story: what the page says just happened; an empty line starts a new paragraph.
        accent: the page's colour as `#rrggbb`: another colour shows another version at a glance.
        name: the preview's name (`metadata.name`), and so its host.

    Raises:
        ValueError: `accent` is not a colour, or `base_image` or `name` would break the YAML they go into.
    """
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", accent):
        raise ValueError(f"accent must look like #6d5dfc, not {accent!r}")
    if not re.fullmatch(r"[\w.:/@-]+", base_image) or not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(f"base_image must be an image reference and name a slug, not {base_image!r} and {name!r}")
    values = {
        "name": name,
        "base_image": base_image,
        "title": name.replace("-", " ").capitalize(),
        "message": html.escape(commit_message.partition("\n")[0]),
        "story": _paragraphs(story),
        "accent_hex": accent.removeprefix("#"),
        "patience": PATIENCE,
    }
    return {path: _filled(path, values) for path in COMMITTED}


def broken_build_files(base_image: str, *, name: str = NAME) -> dict[str, str]:
    """The app with a mistake that its build finds: the build fails, and its log says where."""
    good = sample_files(base_image, commit_message=BROKEN_MESSAGE, accent=BROKEN_ACCENT, name=name)
    return {**good, "build.sh": _filled("build.broken.sh", {"name": name})}


def never_healthy_files(base_image: str, *, name: str = NAME) -> dict[str, str]:
    """The app as one that builds and starts, but answers 503 for ever and says why in its log.

    It is given up after 5 s.
    """
    good = sample_files(base_image, commit_message=UNHEALTHY_MESSAGE, accent=BROKEN_ACCENT, name=name)
    del good["app/healthz"]
    spec = good[SPEC_PATH].replace(PATIENCE, LITTLE_PATIENCE)
    return {**good, SPEC_PATH: spec, "app/cgi-bin/index.cgi": _filled("app/cgi-bin/index.unhealthy.cgi", {})}


def _paragraphs(text: str) -> str:
    parts = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    return "\n".join(f"    <p>{html.escape(part)}</p>" for part in parts)


def _filled(path: str, values: dict[str, str]) -> str:
    """A file of `sample/`; a placeholder without a value is a KeyError."""
    text = files("provider.demo").joinpath("sample", *path.split("/")).read_text(encoding="utf-8")
    return PLACEHOLDER.sub(lambda found: values[found.group(1)], text)
