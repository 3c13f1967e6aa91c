"""Templates and static files: the only reader of both. Whatever is put into a page is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

import jinja2

from provider.dashboard.views import readable, web_address

HERE = "provider.dashboard"
CONTENT_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Pages:
    """Renders them."""

    def __init__(self) -> None:
        self._jinja = jinja2.Environment(
            loader=jinja2.PackageLoader(HERE),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=_finalized,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._jinja.filters |= {
            "day": _day,
            "iso": lambda moment: moment.astimezone(UTC).isoformat(timespec="seconds"),
            "web_address": web_address,
        }

    def render(self, template: str, /, **values: Any) -> str:
        """The page, or the part of one, that the template makes of these values; each that it names must be there."""
        return self._jinja.get_template(template).render(values)

    def section(self, name: str, values: Mapping[str, Any]) -> str:
        """A part of a preview's page."""
        return self.render(f"sections/{name}.html", **values)


def static_files() -> dict[str, tuple[bytes, str]]:
    """What pages load from here: content and content type by name."""
    files = [one for one in resources.files(HERE).joinpath("static").iterdir() if one.is_file()]
    return {one.name: (one.read_bytes(), CONTENT_TYPES[PurePosixPath(one.name).suffix]) for one in files}


def source_hash(text: str) -> str:
    """How a content security policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _finalized(value: object) -> object:
    """What others wrote is shown without control characters; markup of our own (macros) is left as it is."""
    return readable(value) if type(value) is str else value


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%-d %b %Y, %H:%M UTC")
